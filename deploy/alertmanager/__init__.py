"""Generated Kubernetes and Helm files; ``python -m deploy.kubernetes`` writes them."""

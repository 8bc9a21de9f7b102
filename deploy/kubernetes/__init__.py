"""What Kubernetes and Helm deploy: ``python -m deploy.kubernetes`` writes those files that are made of others."""

"""The rules of Prometheus, written as code: ``python -m deploy.prometheus`` writes the rule files."""

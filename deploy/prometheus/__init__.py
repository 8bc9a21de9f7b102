"""Prometheus rules as code; ``python -m deploy.prometheus`` writes the rule files."""

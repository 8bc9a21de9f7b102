"""Prometheus exporter for the logs of Late, every log counted exactly once."""

__version__ = "0.1.0"

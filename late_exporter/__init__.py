"""Prometheus exporter for the logs of Zernio (formerly Late), with each log counted once."""

__version__ = "0.1.0"
__revision__ = "unknown"
__url__ = "https://github.com/late-exporter/late-exporter"

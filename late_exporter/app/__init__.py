"""The exporter put together."""

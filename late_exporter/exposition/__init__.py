"""The bodies of the metrics endpoint."""

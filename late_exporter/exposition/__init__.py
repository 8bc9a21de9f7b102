"""Bodies of the metrics endpoint."""

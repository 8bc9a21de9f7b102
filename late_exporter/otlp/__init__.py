"""Push the metrics by OTLP. Only ``client`` and ``conversion`` import OpenTelemetry, which is an optional package."""

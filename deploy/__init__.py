"""What runs late-exporter and watches it."""

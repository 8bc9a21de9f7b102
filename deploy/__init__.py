"""Deployment files of late-exporter and the code that generates them."""

"""Web server."""

"""The command that compares counts with the API."""

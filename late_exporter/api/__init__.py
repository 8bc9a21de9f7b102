"""The client of the Late API."""

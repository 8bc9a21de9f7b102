"""The client of the Zernio API."""

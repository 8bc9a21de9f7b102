"""The command ``audit``."""

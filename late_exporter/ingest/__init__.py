"""Reads log lists and records what is new."""

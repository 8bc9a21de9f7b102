"""Delivery of log events from the outbox to standard output or a file."""

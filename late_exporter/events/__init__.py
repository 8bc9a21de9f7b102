"""Delivery of log events from the outbox to an output: standard output, a file, or a receiver over HTTP."""

"""The commands: one module per command, which is imported only if the command runs."""

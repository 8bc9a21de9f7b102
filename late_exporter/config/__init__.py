"""Options, their sources and their types."""

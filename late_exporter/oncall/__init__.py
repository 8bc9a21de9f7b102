"""What the person on call asks Late: what became of a post, and which logs there are."""

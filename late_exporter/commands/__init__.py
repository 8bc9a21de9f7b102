"""What the person on call asks: what became of a post, which logs there are, and whether the counters are right."""

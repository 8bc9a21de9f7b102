"""What the person on call asks Late and the state: whether the counters are right."""

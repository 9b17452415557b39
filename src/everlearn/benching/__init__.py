"""What `everlearn bench` measures on the user's machine: ratios of two timings taken directly after each other."""

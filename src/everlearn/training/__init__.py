"""Training: the one visible loop, optimisers and schedules, the two protocols."""

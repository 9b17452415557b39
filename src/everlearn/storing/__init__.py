"""A learner as it lies on disk: numbered generations, read with suspicion and written so that a crash costs nothing."""

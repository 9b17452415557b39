"""Experiments: what is to be run, running it, and what lies on disk."""

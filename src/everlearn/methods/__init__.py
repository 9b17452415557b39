"""Methods: how new tasks are learned; one paper, one file."""

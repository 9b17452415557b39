"""Records of runs for TensorBoard and MLflow (`everlearn[track]`)."""

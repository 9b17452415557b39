"""Search of hyper-parameters on validation images, with Optuna (`everlearn[tune]`)."""

"""Training: stages, checkpoints, and what each kind of model does in a step."""

"""Training: the run folder, the stages, and their evaluation."""

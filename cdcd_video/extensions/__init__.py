"""Your own processes, contrastive terms, metrics and baselines: one file each, see docs/extending.md."""

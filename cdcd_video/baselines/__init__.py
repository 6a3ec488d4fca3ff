"""Baselines: other predictors of the next frame, with the denoiser's number of parameters and on the same data."""

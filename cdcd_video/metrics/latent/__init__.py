"""The study of the latent space: clusters, paths, and frames between frames."""

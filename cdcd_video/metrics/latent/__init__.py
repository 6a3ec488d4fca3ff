"""The latent space seen: clusters, paths, what lies between two frames."""

"""Pure mathematics of the contrast: embeddings in, nats out."""

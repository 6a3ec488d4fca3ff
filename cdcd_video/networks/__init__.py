"""The networks: transformer blocks, the denoiser and what conditions it, CLIP's towers, the codec."""

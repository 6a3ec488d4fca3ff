"""Other ways to predict the next frame, of the denoiser's size and on the same data: what ours is compared with."""

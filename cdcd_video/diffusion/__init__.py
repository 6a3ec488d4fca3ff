"""The discrete diffusion as pure mathematics: tensors and an explicit generator in, tensors out.

Start with `process`: what corrupts a frame's codes and how that is undone exactly. `bound` is what training minimises,
`sampler` walks back from the earlier frame's codes to the next frame's, `schedule` says how fast and draws the times.
"""

"""Discrete diffusion as pure mathematics: tensors and random numbers in, tensors out.

Start with `process`, the forward process and its posteriors. `loss` is what training minimises, `sampler` is the reverse
process, `schedule` has the noise schedules and the times of training.
"""

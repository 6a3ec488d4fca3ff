"""Benchmarks: what steps, losses, samples and data cost, on this machine."""

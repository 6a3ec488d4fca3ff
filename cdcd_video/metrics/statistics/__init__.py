"""Intervals, paired tests, and comparisons of saved evaluations."""

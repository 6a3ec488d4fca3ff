"""Metrics with their references and confidence intervals."""

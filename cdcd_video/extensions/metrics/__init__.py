"""Metrics of your own: `NAME.py` registers NAME in `METRICS`; see docs/extending.md."""

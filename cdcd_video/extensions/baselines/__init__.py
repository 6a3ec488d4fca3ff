"""Baselines of your own: `NAME.py` registers NAME in `BASELINES`; see docs/extending.md."""

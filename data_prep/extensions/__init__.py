"""Dataset recipes of your own: `NAME.py` registers NAME in `RECIPES`; see docs/extending.md."""

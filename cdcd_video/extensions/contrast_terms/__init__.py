"""Contrastive terms of your own: `NAME.py` registers NAME in `CONTRAST_TERMS`; see docs/extending.md."""

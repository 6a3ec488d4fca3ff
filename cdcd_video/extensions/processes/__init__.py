"""Forward processes of your own: `NAME.py` registers NAME in `PROCESSES`; see docs/extending.md."""

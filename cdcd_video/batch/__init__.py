"""Many videos at once: every row of a table of prompts, with one or several seeds, and a grid of them."""

"""A run: its folder, its stages one after the other, and what is looked at while they go."""

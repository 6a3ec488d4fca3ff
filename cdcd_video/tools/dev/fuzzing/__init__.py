"""Feeds broken inputs to everything that reads a file or a word of the user's, and counts what is not a clear error."""

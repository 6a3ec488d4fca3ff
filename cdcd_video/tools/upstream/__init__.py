"""Upstream CDCD out of a user's own checkout, and its training loss written out plainly."""

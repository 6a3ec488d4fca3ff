"""Clips: the built-in worlds, folders of real ones, images, and the cache of codes."""

"""Distances between sets of videos, with their intervals."""

"""Entrances that are run as modules, and what `train.py --dry-run` prints."""

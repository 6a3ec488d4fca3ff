"""Prepares videos and captions for training: `python -m data_prep --help`."""

"""Videos and sentences in, a prepared folder out: `python -m data_prep --help`."""

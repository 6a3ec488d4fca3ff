"""The commands of `cdcd-video`; `train.py`, `inference.py` and `evaluate.py` of a checkout are three of them."""

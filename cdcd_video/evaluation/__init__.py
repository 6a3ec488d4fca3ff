"""What `evaluate.py` runs: a model or its videos under a protocol, with real videos and feature networks."""

from cdcd_video.evaluation.evaluator import Benchmark
from cdcd_video.evaluation.from_files import prepare_videos
from cdcd_video.evaluation.from_model import prepare

__all__ = ["Benchmark", "prepare", "prepare_videos"]

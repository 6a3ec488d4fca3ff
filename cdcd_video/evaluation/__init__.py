"""Where a system, a protocol, real videos and feature networks meet: what `evaluate.py` runs."""

from cdcd_video.evaluation.evaluator import Benchmark
from cdcd_video.evaluation.from_files import prepare_videos
from cdcd_video.evaluation.from_model import prepare

__all__ = ["Benchmark", "prepare", "prepare_videos"]

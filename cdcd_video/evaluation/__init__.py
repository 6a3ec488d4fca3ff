"""Where a system, a protocol, real videos and feature networks meet: what `evaluate.py` runs."""

from cdcd_video.benchmark.bench import Benchmark
from cdcd_video.benchmark.drawn import prepare
from cdcd_video.benchmark.foreign import prepare_videos

__all__ = ["Benchmark", "prepare", "prepare_videos"]

"""The only place that changes weights: steps, averages, checkpoints, logs. It never knows what a code or a mask is."""

from cdcd_video.engine.checkpoint import latest, load_weights
from cdcd_video.engine.loop import TrainResult, train
from cdcd_video.engine.optim import TrainSettings
from cdcd_video.engine.train_step import Task

__all__ = ["Task", "TrainResult", "TrainSettings", "latest", "load_weights", "train"]

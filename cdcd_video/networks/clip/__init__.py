"""Frozen CLIP towers, from a folder or from the Hub's cache by name."""

from cdcd_video.networks.clip.clip_files import ClipFiles, find
from cdcd_video.networks.clip.frozen_clip import FrozenClip, VisionStates, split_words, unit, vision_states
from cdcd_video.networks.clip.random_clip import STAND_IN, mark_of

__all__ = [
    "STAND_IN",
    "ClipFiles",
    "FrozenClip",
    "VisionStates",
    "find",
    "mark_of",
    "split_words",
    "unit",
    "vision_states",
]

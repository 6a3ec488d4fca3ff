"""Frozen CLIP towers: from a folder, or by the name of a published one that lies in the Hub's cache."""

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

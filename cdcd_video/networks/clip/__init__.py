"""Frozen CLIP towers: from a folder, or by the name of a published one that lies in the Hub's cache."""

from cdcd_video.pretrained.files import ClipFiles, find
from cdcd_video.pretrained.stand_in import STAND_IN, mark_of
from cdcd_video.pretrained.tower import FrozenClip, VisionStates, split_words, unit, vision_states

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

"""The words of the world "sprites", and which combinations of them are held out of training."""

import math
from typing import Literal

Split = Literal["train", "val", "heldout"]
Version = Literal["v1", "v2", "open"]
VERSIONS: tuple[Version, ...] = ("v1", "v2", "open")

SHAPES = ("circle", "square", "triangle", "star")
COLOURS = {
    "red": (232, 48, 52),
    "green": (56, 190, 76),
    "blue": (56, 108, 250),
    "yellow": (252, 216, 48),
    "purple": (176, 72, 226),
    "cyan": (64, 216, 230),
    "orange": (252, 138, 32),
    "white": (246, 246, 246),
}
"""Colour word to RGB in 0..255."""
SIZES = {"small": 6.0, None: 7.8, "large": 9.6}
"""Size word to the mean nominal radius; None is the size when no word is said."""
ADVERBS = (None, "slowly", "quickly")
SPLITS: tuple[Split, ...] = ("train", "val", "heldout")
BACKGROUNDS = ("plain", "gradient", "stripes", "checker", "blobs")
WIDER_BACKGROUNDS = ("noise", "photo")
"""Kinds of ground that only the second world has; "photo" needs a folder of pictures."""

_DIAGONAL = math.sqrt(0.5)
DIRECTIONS = {
    "moves left": (-1.0, 0.0),
    "moves right": (1.0, 0.0),
    "moves up": (0.0, -1.0),
    "moves down": (0.0, 1.0),
    "moves up and left": (-_DIAGONAL, -_DIAGONAL),
    "moves up and right": (_DIAGONAL, -_DIAGONAL),
    "moves down and left": (-_DIAGONAL, _DIAGONAL),
    "moves down and right": (_DIAGONAL, _DIAGONAL),
}
"""Motion words to the way that is gone, x to the right and y down."""
BOUNCES = {"bounces left and right": (-1.0, 0.0), "bounces up and down": (0.0, -1.0)}
"""Motion words to the way that is gone first."""
CIRCLES = {"circles clockwise": 1.0, "circles counterclockwise": -1.0}
"""Motion words to the sense of turning."""

STRAIGHT_MOTIONS = tuple(DIRECTIONS)
BOUNCE_MOTIONS = tuple(BOUNCES)
CIRCLE_MOTIONS = tuple(CIRCLES)
SIZE_MOTIONS = ("grows", "shrinks")
VERBS = {"moves": STRAIGHT_MOTIONS, "bounces": BOUNCE_MOTIONS, "circles": CIRCLE_MOTIONS}
"""The verb of a sentence that leaves the direction out, to the motions that it allows."""
MOTIONS = (*STRAIGHT_MOTIONS, *BOUNCE_MOTIONS, *CIRCLE_MOTIONS, *SIZE_MOTIONS, "spins", "stays still")

VOCABULARY = tuple(
    sorted({"the", "and", "small", "large", "slowly", "quickly", *SHAPES, *COLOURS, *" ".join(MOTIONS).split()})
)
"""Every word a caption can hold."""

HELD_OUT_COLOUR_SHAPE = (("purple", "circle"), ("orange", "square"), ("cyan", "triangle"), ("green", "star"))
HELD_OUT_SHAPE_MOTION = (
    ("circle", "bounces up and down"),
    ("square", "moves down and left"),
    ("triangle", "circles counterclockwise"),
    ("star", "moves up"),
)
"""Combinations never seen in "train" and "val"; every colour, shape and motion is seen there in others."""

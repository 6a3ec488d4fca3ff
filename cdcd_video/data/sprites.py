"""The built-in world "sprites": captioned moving shapes whose truth is known exactly.

A scene is one or two flat shapes on a quiet background, and the sentence that says what they do. What happens is a
deterministic function of the first frame and the sentence: position, size and angle are closed forms of the time in
seconds, so a scene can be rendered at any frame rate, and the same first frame with another sentence has its own truth.

Here are the names that others use. `sprites_words` holds the words, `sprites_scene` what a scene is, `sprites_motion`
where things are at a time, `sprites_sampling` the drawing of scenes and of other sentences, `sprites_mirror` mirror images of
scenes, `sprites_open` sentences that leave the direction out; `sprites_render` makes pictures of them.
"""

from cdcd_video.data.sprites_mirror import is_mirrored, mirrored, with_mirrored_change
from cdcd_video.data.sprites_motion import GAP_PX, SPEED_PX_S, Truth, truth
from cdcd_video.data.sprites_open import futures, sampled_futures
from cdcd_video.data.sprites_sampling import OPEN_SHARE, counterfactual, exchanged_caption, sample_scene, with_motion
from cdcd_video.data.sprites_scene import (
    AREA,
    OUTER_RADIUS,
    SQUARE_HALF_SIDE,
    SQUARE_VIEW,
    SYMMETRY,
    VIEW_PX,
    Background,
    Scene,
    SpriteObject,
    World,
    caption_of,
    held_out,
)
from cdcd_video.data.sprites_words import (
    ADVERBS,
    BACKGROUNDS,
    CIRCLE_MOTIONS,
    COLOURS,
    HELD_OUT_COLOUR_SHAPE,
    HELD_OUT_SHAPE_MOTION,
    MOTIONS,
    SHAPES,
    SIZE_MOTIONS,
    SIZES,
    SPLITS,
    STRAIGHT_MOTIONS,
    VERBS,
    VOCABULARY,
    Split,
)

__all__ = [
    "ADVERBS",
    "AREA",
    "BACKGROUNDS",
    "CIRCLE_MOTIONS",
    "COLOURS",
    "GAP_PX",
    "HELD_OUT_COLOUR_SHAPE",
    "HELD_OUT_SHAPE_MOTION",
    "MOTIONS",
    "OPEN_SHARE",
    "OUTER_RADIUS",
    "SHAPES",
    "SIZES",
    "SIZE_MOTIONS",
    "SPEED_PX_S",
    "SPLITS",
    "SQUARE_HALF_SIDE",
    "SQUARE_VIEW",
    "STRAIGHT_MOTIONS",
    "SYMMETRY",
    "VERBS",
    "VIEW_PX",
    "VOCABULARY",
    "Background",
    "Scene",
    "Split",
    "SpriteObject",
    "Truth",
    "World",
    "caption_of",
    "counterfactual",
    "exchanged_caption",
    "futures",
    "held_out",
    "is_mirrored",
    "mirrored",
    "sample_scene",
    "sampled_futures",
    "truth",
    "with_mirrored_change",
    "with_motion",
]

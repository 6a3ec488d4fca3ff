"""What a scene of the world "sprites" is: its objects, background and caption; the shapes; the dials of the world.

Lengths are pixels of the view, x to the right and y down, with the first pixel's centre at (0.5, 0.5). The view has 64x64 px, or
the sides that the world says: shapes, speeds and margins are the same in a wider one.
"""

import dataclasses
import hashlib
import math
from pathlib import Path

import numpy as np

from cdcd_video.data.sprites_words import (
    BACKGROUNDS,
    COLOURS,
    HELD_OUT_COLOUR_SHAPE,
    HELD_OUT_SHAPE_MOTION,
    MOTIONS,
    SHAPES,
    VERBS,
    VERSIONS,
    WIDER_BACKGROUNDS,
    Split,
)
from cdcd_video.errors import UserError

VIEW_PX = 64
"""Side of the square view, in the unit of every length of a scene."""
SQUARE_VIEW = (VIEW_PX, VIEW_PX)

# Geometry per shape in units of the nominal radius. The sizes are a compromise: about equal weight to the eye, yet a
# large star that moves quickly for the whole window still fits between the edges of the view.
SQUARE_HALF_SIDE = 0.88
TRIANGLE_CIRCUMRADIUS = 1.25
STAR_CIRCUMRADIUS = 1.22
STAR_INNER = 0.5  # radius of the notches over that of the tips
OUTER_RADIUS = {
    "circle": 1.0,
    "square": SQUARE_HALF_SIDE * math.sqrt(2),
    "triangle": TRIANGLE_CIRCUMRADIUS,
    "star": STAR_CIRCUMRADIUS,
}
"""Circumscribed radius of each shape, in nominal radii."""
AREA = {
    "circle": math.pi,
    "square": 4 * SQUARE_HALF_SIDE**2,
    "triangle": 0.75 * math.sqrt(3) * TRIANGLE_CIRCUMRADIUS**2,
    "star": 5 * STAR_INNER * math.sin(math.pi / 5) * STAR_CIRCUMRADIUS**2,
}
"""Area of each shape at nominal radius 1."""
SYMMETRY = {"circle": 0, "square": 4, "triangle": 3, "star": 5}
"""Turns by 1/n of a full turn leave the shape unchanged; 0 where any turn does."""


@dataclasses.dataclass(frozen=True)
class World:
    """The dials of the world; the default is the full one.

    Attributes:
      max_objects: 1 or 2.
      two_object_share: share of scenes with two objects, 0..1, where `max_objects` allows it.
      motions, shapes, colours, backgrounds: which words and kinds may occur.
      sizes, adverbs: whether size words and adverbs occur.
      num_frames, fps: the window in which objects never touch each other.
      version: "v1" is the first world, frozen for the published tables: dark grounds, bare shapes in eight fixed colours.
        "v2" has grounds from black to white, outlines, wobbling contours and shades of the colours. "open" has the scenes
        of "v2", of which half of the captions that name a direction leave it out.
      photographs: files of pictures for grounds of the kind "photo".
      view: width and height of the view, px; objects bounce off and stop at its true sides.
      motion_weights: how often the split "train" has a motion, as a multiple of a straight move; a motion that is not named
        keeps the second world's own weight. The first world has none.
    """

    max_objects: int = 2
    two_object_share: float = 0.4
    motions: tuple[str, ...] = MOTIONS
    shapes: tuple[str, ...] = SHAPES
    colours: tuple[str, ...] = tuple(COLOURS)
    sizes: bool = True
    adverbs: bool = True
    backgrounds: tuple[str, ...] = BACKGROUNDS
    num_frames: int = 16
    fps: float = 8.0
    version: str = "v1"
    photographs: tuple[str, ...] = ()
    view: tuple[float, float] = SQUARE_VIEW
    motion_weights: tuple[tuple[str, int], ...] = ()

    def __post_init__(self):
        if self.version not in VERSIONS:
            raise UserError(f"sprites: version must be one of {', '.join(VERSIONS)}, got {self.version!r}.")
        grounds = BACKGROUNDS if self.version == "v1" else (*BACKGROUNDS, *WIDER_BACKGROUNDS)
        for name, known in (
            ("motions", MOTIONS),
            ("shapes", SHAPES),
            ("colours", tuple(COLOURS)),
            ("backgrounds", grounds),
        ):
            words = tuple(getattr(self, name))
            object.__setattr__(self, name, words)  # a list from a config would not be hashable
            if not words or len(set(words) & set(known)) < len(words):
                raise UserError(f"sprites: {name} must be one or more different ones of {known}; got {words}.")
        if self.max_objects not in (1, 2):
            raise UserError(f"sprites: max_objects must be 1 or 2, got {self.max_objects}.")
        if not 0 <= self.two_object_share <= 1:
            raise UserError(f"sprites: two_object_share must lie in 0..1, got {self.two_object_share}.")
        odd = [motion for motion, weight in self.motion_weights if motion not in MOTIONS or weight < 1]
        if odd or (self.motion_weights and self.version == "v1"):
            raise UserError(
                f"sprites: motion_weights are 1 or more, for {MOTIONS} of the worlds v2 and open; got {self.motion_weights}"
                f" for {self.version}."
            )
        if not min(self.view) > 0:
            raise UserError(f"sprites: the sides of the view must be above 0, got {self.view}.")
        if self.num_frames < 1 or not self.fps > 0:
            raise UserError(f"sprites: need num_frames >= 1 and fps > 0, got {self.num_frames} and {self.fps}.")

    @property
    def times_s(self) -> np.ndarray:
        """Times of the window's frames in seconds, float64 (num_frames,)."""
        return np.arange(self.num_frames) / self.fps

    def described(self) -> dict[str, object]:
        """The dials as JSON values; one that is newer than the first world is left out where it has no effect."""
        newer = {"version": "v1", "photographs": (), "view": SQUARE_VIEW, "motion_weights": ()}
        values = {name: value for name, value in dataclasses.asdict(self).items() if newer.get(name, self) != value}
        if self.photographs:  # by what they show: where they lie changes nothing
            values["photographs"] = [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in self.photographs]
        return values


@dataclasses.dataclass(frozen=True)
class Look:
    """How one object of the second world is drawn, beyond what its sentence says.

    Attributes:
      rgb: colour of its area, 0..255, near the one that its colour word names.
      outline_rgb: colour of its outline, 0..255.
      outline_px: width of the outline, inside the contour; 0 for none.
      wobble: amplitude of the contour's deviation over the nominal radius.
      seed: stream of the deviation, which turns and grows with the object.
      is_mirrored: whether the deviation is drawn with left and right exchanged.
    """

    rgb: tuple[float, float, float]
    outline_rgb: tuple[float, float, float] = (0.0, 0.0, 0.0)
    outline_px: float = 0.0
    wobble: float = 0.0
    seed: int = 0
    is_mirrored: bool = False


@dataclasses.dataclass(frozen=True)
class SpriteObject:
    """One object: what the sentence says of it, and where it starts.

    Attributes:
      size, colour, shape, motion, adverb: words of the caption; `size` and `adverb` are None where not said.
      x, y: centre at time 0, in px.
      radius: nominal radius at time 0, in px (see `OUTER_RADIUS` and `AREA` for what it means to each shape).
      look: how it is drawn; None for a bare shape in the colour that its word names.
    """

    colour: str
    shape: str
    motion: str
    x: float
    y: float
    radius: float
    size: str | None = None
    adverb: str | None = None
    look: Look | None = None

    @property
    def rgb(self) -> np.ndarray:
        """Colour of its area in 0..255, float32 (3,)."""
        return np.array(self.look.rgb if self.look else COLOURS[self.colour], dtype=np.float32)

    @property
    def phrase(self) -> str:
        """This object's part of the caption."""
        return self._phrase(self.motion)

    @property
    def open_phrase(self) -> str:
        """The same without the direction, where the motion has one."""
        return self._phrase(self.open_motion)

    @property
    def open_motion(self) -> str:
        """The motion without its direction: one of `VERBS`, or the motion itself where it has none."""
        verb = self.motion.split()[0]
        return verb if verb in VERBS else self.motion

    def _phrase(self, motion: str) -> str:
        words = ("the", self.size, self.colour, self.shape, motion, self.adverb)
        return " ".join(word for word in words if word)


@dataclasses.dataclass(frozen=True)
class Background:
    """A static background: two RGB colours in 0..1 and the pattern between them, or a photograph.

    Attributes:
      kind: one of `BACKGROUNDS` or `WIDER_BACKGROUNDS`.
      first, second: the two colours ("plain" shows the first alone; "noise" and "photo" are centred on the first).
      angle_rad, period_px, phase: direction, wavelength and offset (0..1) of the pattern; of "noise", the side of its cells.
      seed: stream of the waves that make up "blobs", and of "noise".
      contrast: of "noise", the standard deviation of each channel in 0..1; of "photo", what it is multiplied by.
      path, window: of "photo", the file, and the part of it that is seen: left, top and its size over the largest possible.
      is_mirrored: whether the picture is shown with left and right exchanged; so are the scenes of `sprites_mirror`.
      view: width and height of what is seen of it, px: those of the world's view.
    """

    kind: str
    first: tuple[float, float, float]
    second: tuple[float, float, float]
    angle_rad: float = 0.0
    period_px: float = 16.0
    phase: float = 0.0
    seed: int = 0
    contrast: float = 0.0
    path: str = ""
    window: tuple[float, float, float] = (0.0, 0.0, 1.0)
    is_mirrored: bool = False
    view: tuple[float, float] = SQUARE_VIEW


@dataclasses.dataclass(frozen=True)
class Scene:
    """A first frame and the sentence that says what happens next.

    Attributes:
      is_open: whether the caption leaves out the direction of every object that has one. What the objects do is then one
        of the futures that the caption allows.
    """

    objects: tuple[SpriteObject, ...]
    background: Background
    caption: str
    seed: int
    index: int
    split: Split
    is_open: bool = False

    @property
    def view(self) -> tuple[float, float]:
        """Width and height of the view, px."""
        return self.background.view


def caption_of(objects: tuple[SpriteObject, ...], is_open: bool = False) -> str:
    """The sentence for these objects, e.g. "the small red circle moves right and the blue square stays still".

    Args:
      objects: in the order of the sentence.
      is_open: whether directions are left out, as in "the small red circle moves and the blue square stays still".
    """
    return " and ".join(sprite.open_phrase if is_open else sprite.phrase for sprite in objects)


def held_out(sprite: SpriteObject) -> tuple[str, ...]:
    """Which kinds of held-out combination an object shows: of "colour-shape" and "shape-motion", none, one or both."""
    kinds = []
    if (sprite.colour, sprite.shape) in HELD_OUT_COLOUR_SHAPE:
        kinds.append("colour-shape")
    if (sprite.shape, sprite.motion) in HELD_OUT_SHAPE_MOTION:
        kinds.append("shape-motion")
    return tuple(kinds)

"""The real videos of an evaluation: those that are sampled again from their first frame, and others to compare sets with."""

import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from cdcd_video.config import FitMode
from cdcd_video.data import sprites
from cdcd_video.data.sprites import Scene, World
from cdcd_video.data.sprites_render import render
from cdcd_video.errors import UserError
from cdcd_video.metrics.measurements import EvalVideo, Measurement, at_scale, measure_scene, scene_groups

VideoFrames = UInt8[np.ndarray, "F H W 3"]

MIRRORED = "-mirrored"
"""Suffix of the name of a scene's mirror image."""
MOST_SCENES_PER_PAIR = 50
"""A world in which a smaller share of the scenes has a mirror image is refused."""
COUNTERFACTUAL_SYSTEMS = ("counterfactual", "sentence-ignored")
"""Systems that are measured by another caption than that of the scene."""


@runtime_checkable
class EvalDataset(Protocol):
    """Real videos of one length and rate, by number.

    `size_px` is the side of square frames throughout; patches and objects of other frames are as large as in such a square.

    Attributes:
      eval_videos: the videos to be sampled.
      captions: for each system that is sampled, a caption per video; those of `wrong`, where there are any, say otherwise than
        the video, for `caption_margin`.
      num_others: how many other real videos there are, for comparisons of sets.
      other_names: their names.
      compared: numbers of the sampled videos whose clip is not among the others.
      digest: SHA-256 (hex) that differs wherever scenes, clips or captions do.
    """

    eval_videos: Sequence[EvalVideo]
    captions: Mapping[str, Sequence[str]]
    num_others: int
    other_names: Sequence[str]
    compared: Sequence[int]
    digest: str

    def bucket(self, video: int) -> int:
        """Which of `Protocol.sizes` a video has, by number; only videos of one size are sampled together."""
        return 0

    def real_video(self, video: int, size_px: int) -> VideoFrames:
        """The true video; frame 0 is given to the model."""

    def other(self, number: int, size_px: int) -> VideoFrames:
        """A real video of another scene or clip."""

    def measure(self, video: int, system: str, frames: VideoFrames) -> Iterator[Measurement]:
        """Metrics of a system's video that need more than pixels, such as the true scene; none for clips."""


@runtime_checkable
class Clips(Protocol):
    """Captioned clips of one size; `data.store` holds them."""

    size_px: int
    """Side of square frames; other frames have patches of the same size."""
    fps: float
    mode: FitMode
    """How frames were made square."""

    def __len__(self) -> int:
        """Number of clips."""

    def name(self, clip: int) -> str:
        """Name of a clip, unique among these."""

    def num_frames(self, clip: int) -> int:
        """Number of frames of a clip."""

    def captions(self, clip: int) -> tuple[str, ...]:
        """The captions of a clip, at least one."""

    def caption(self, clip: int) -> str:
        """The first caption of a clip."""

    def frames(self, clip: int, frames: Sequence[int]) -> np.ndarray:
        """Some frames of a clip, uint8 (F, H, W, 3)."""

    def digest(self) -> str:
        """SHA-256 (hex) that differs wherever captions or pixels do."""


# Scenes -----------------------------------------------------------------------------------------------------------


def choose_scenes(
    seed: int,
    num: int,
    split: sprites.Split,
    world: World,
    num_frames: int,
    fps: float,
    *,
    first: int = 0,
    step: int = 1,
) -> tuple[list[Scene], World]:
    """The first scenes of a split, and their world, extended to the length of the videos where it is shorter.

    Args:
      first, step: every how many-th scene from which on, where others have other sizes.
    """
    last_s = (num_frames - 1) / fps
    world = dataclasses.replace(world, num_frames=max(world.num_frames, math.ceil(last_s * world.fps) + 1))
    indices = range(first, first + num * step, step)
    return [sprites.sample_scene(seed, index, split, world=world) for index in indices], world


def choose_pairs(
    seed: int,
    num: int,
    num_others: int,
    split: sprites.Split,
    world: World,
    num_frames: int,
    fps: float,
    *,
    first: int = 0,
    step: int = 1,
) -> tuple[list[Scene], list[Scene], World]:
    """The first scenes of a split that have a mirror image, each followed by it; other scenes; and their world.

    Args:
      num: of scenes, an even number.
      num_others: of the scenes after those.
      seed, split, world, num_frames, fps, first, step: as for `choose_scenes`.

    Raises:
      UserError: too few scenes of the world have a mirror image.
    """
    _, world = choose_scenes(seed, 0, split, world, num_frames, fps)
    pairs: list[Scene] = []
    indices = itertools.count(first, step)
    for tried, index in enumerate(indices):
        if len(pairs) >= num:
            break
        if tried >= MOST_SCENES_PER_PAIR * (num // 2):
            raise UserError(
                "too few scenes of this world have a mirror image (none that spins or bounces left and right has);"
                " allow more motions, or set scenes: single in the protocol"
            )
        scene = sprites.sample_scene(seed, index, split, world=world)
        image = sprites.mirrored(scene)
        pairs += [scene, image] if image else []
    others = range(index, index + num_others * step, step)
    return pairs, [sprites.sample_scene(seed, number, split, world=world) for number in others], world


class SceneDataset(EvalDataset):
    """Scenes of the built-in world, rendered at any size and rate.

    Args:
      scenes: the scenes to be sampled. A mirror image counts as a video of the clip of the scene that it is of.
      others: other scenes, for comparisons of sets.
      num_frames, fps: of the videos.
      world: the world of the scenes, whose words make the other captions; None means the full one.
      seed: of the other captions.
    """

    def __init__(
        self,
        scenes: Sequence[Scene],
        others: Sequence[Scene] = (),
        *,
        num_frames: int,
        fps: float,
        world: World | None = None,
        seed: int = 0,
    ):
        self.scenes, self.others, self.num_others = list(scenes), list(others), len(others)
        self.times = np.arange(num_frames) / fps
        self.other_names = [_name_of(scene) for scene in others]
        self.eval_videos = [
            EvalVideo(_name_of(scene) + MIRRORED * sprites.is_mirrored(scene), _name_of(scene), scene_groups(scene))
            for scene in scenes
        ]
        self.compared = range(len(scenes))
        self.counterfactuals = [_other_sentence(scene, seed, world or World()) for scene in scenes]
        self.captions = {
            "model": [scene.caption for scene in scenes],
            "counterfactual": [scene.caption for scene in self.counterfactuals],
        }
        self.captions["wrong"] = [
            sprites.exchanged_caption(scene) or other.caption
            for scene, other in zip(self.scenes, self.counterfactuals, strict=True)
        ]
        # Seed, split and numbers are in the protocol. A few pixels catch a change of the renderer.
        captions = [scene.caption for scene in (*scenes, *others)]
        last = hashlib.sha256(b"".join(render(scene, self.times[-1:]).tobytes() for scene in scenes[:4])).hexdigest()
        content = {"world": (world or World()).described(), "captions": captions, "pixels": last}
        self.digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def real_video(self, video: int, size_px: int) -> VideoFrames:
        """The scene with its own caption."""
        return render(self.scenes[video], self.times, size_px)

    def other(self, number: int, size_px: int) -> VideoFrames:
        """Another scene of the split."""
        return render(self.others[number], self.times, size_px)

    def measure(self, video: int, system: str, frames: VideoFrames) -> Iterator[Measurement]:
        """The sprites metrics, by the scene's caption; by the other caption for `COUNTERFACTUAL_SYSTEMS`."""
        scene, eval_video = self.scenes[video], self.eval_videos[video]
        if system not in COUNTERFACTUAL_SYSTEMS:
            yield from measure_scene(eval_video, frames, scene, self.times)
            return
        other = self.counterfactuals[video]
        is_kept = [old == new for old, new in zip(scene.objects, other.objects, strict=True)]
        yield from measure_scene(
            eval_video, frames, other, self.times, ["kept" if kept else "changed" for kept in is_kept]
        )


def _name_of(scene: Scene) -> str:
    return f"sprites-{scene.seed}-{scene.split}-{scene.index:06d}"


def _other_sentence(scene: Scene, seed: int, world: World) -> Scene:
    """The scene with another sentence; that of a mirror image is the mirrored one, where there is such a sentence."""
    if sprites.is_mirrored(scene) and (original := sprites.mirrored(scene)):
        found = sprites.with_mirrored_change(scene, original, _other_sentence(original, seed, world), world=world)
        if found:
            return found
    rng = np.random.Generator(np.random.Philox(key=[scene.seed, seed], counter=[0, 0, 0, scene.index]))
    try:
        return sprites.counterfactual(scene, rng, world=world)
    except UserError:  # a small world may have no other motion that fits; the full one does
        return sprites.counterfactual(scene, rng)


# Clips ------------------------------------------------------------------------------------------------------------


def choose_clips(clips: Clips, num: int, num_frames: int, size_px: int) -> list[int]:
    """The first clips that are long enough.

    Raises:
      UserError: the clips have another size, or none is long enough.
    """
    if clips.size_px != size_px:
        raise UserError(
            f"the clips are {clips.size_px} px, but {size_px} px are needed; prepare them with --size-px {size_px}"
        )
    chosen = [clip for clip in range(len(clips)) if clips.num_frames(clip) >= num_frames][:num]
    if not chosen:
        longest = max(clips.num_frames(clip) for clip in range(len(clips)))
        raise UserError(f"no clip has {num_frames} frames in one shot (the longest has {longest}); lower --num-frames")
    return chosen


class ClipDataset(EvalDataset):
    """Prepared clips: the first are sampled again from their first frame, the next are the other real videos.

    Where there are too few for both, the last clips serve as both. They are then left out of the sampled set, so that no video
    is compared with its own true video.

    Args:
      clips: where they are.
      num, num_others: how many of each; the attributes `eval_videos` and `num_others` have what was found.
      num_frames, stride: frames of a video, and every how many-th of the clip's.
      size_px: that of the clips as stored.
      captions_per_video: how many captions of each clip are sampled from, as far as it has them.
      resize: the filter for other sizes.

    Raises:
      UserError: the clips have another size, or none is long enough.
    """

    def __init__(
        self,
        clips: Clips,
        num: int,
        num_others: int,
        *,
        num_frames: int,
        stride: int = 1,
        size_px: int,
        captions_per_video: int = 1,
        resize: str = "area",
    ):
        fitting = choose_clips(clips, num + num_others, (num_frames - 1) * stride + 1, size_px)
        self.clips, self._resize, self._frames = clips, resize, range(0, num_frames * stride, stride)
        chosen, there = fitting[:num], len(fitting)
        self.num_others = min(num_others, max(there - len(chosen), there // 2))
        self._others = fitting[there - self.num_others :]
        self.other_names = [clips.name(clip) for clip in self._others]
        sampled = [(clip, caption) for clip in chosen for caption in clips.captions(clip)[:captions_per_video]]
        self.captions = {"model": [caption for _, caption in sampled]}
        self._sampled = [clip for clip, _ in sampled]
        self.eval_videos = [EvalVideo(self._name(video), clips.name(clip)) for video, clip in enumerate(self._sampled)]
        self.compared = [video for video, clip in enumerate(self._sampled) if clip not in self._others]
        self.num_chosen = len(chosen)
        self.digest = clips.digest()

    def real_video(self, video: int, size_px: int) -> VideoFrames:
        """The clip as it is stored, resized."""
        return self._at(self._sampled[video], size_px)

    def other(self, number: int, size_px: int) -> VideoFrames:
        """Another clip of the split."""
        return self._at(self._others[number], size_px)

    def measure(self, video: int, system: str, frames: VideoFrames) -> Iterator[Measurement]:
        """None: of a clip only the pixels are known."""
        yield from ()

    def _at(self, clip: int, size_px: int) -> VideoFrames:
        return at_scale(self.clips.frames(clip, self._frames), size_px, self.clips.size_px, self._resize)

    def _name(self, video: int) -> str:
        clip = self._sampled[video]
        place = video - self._sampled.index(clip)
        return self.clips.name(clip) + (f"#{place + 1}" if place else "")

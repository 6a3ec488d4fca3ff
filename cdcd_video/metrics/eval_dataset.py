"""The real videos of an evaluation: those that are drawn again from their first frame, and others to compare sets with."""

import dataclasses
import hashlib
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
from cdcd_video.metrics.measurements import EvalVideo, Seen, measure_scene, resized, scene_groups

Film = UInt8[np.ndarray, "F S S 3"]

SENTENCE_ROWS = ("counterfactual", "sentence-ignored")
"""Rows that are judged by another sentence than the scene's own."""


@runtime_checkable
class EvalDataset(Protocol):
    """Real videos of one length and rate, by number.

    Attributes:
      subjects: the videos to be drawn.
      captions: for each row that is drawn, a sentence per video.
      num_others: real videos that are compared with.
      other_names: what they are called.
      compared: numbers of the drawn videos none of whose clips is among the others.
      digest: SHA-256 (hex) that differs wherever scenes, clips or captions do.
    """

    subjects: Sequence[EvalVideo]
    captions: Mapping[str, Sequence[str]]
    num_others: int
    other_names: Sequence[str]
    compared: Sequence[int]
    digest: str

    def film(self, video: int, size_px: int) -> Film:
        """How a video to be drawn really goes on; frame 0 is what is given."""

    def other(self, number: int, size_px: int) -> Film:
        """A real video of another scene or clip."""

    def measure(self, video: int, row: str, frames: Film) -> Iterator[Seen]:
        """What a judge who knows more than pixels sees in a row's video; nothing where there is none."""


@runtime_checkable
class Clips(Protocol):
    """Captioned clips; `data.store` holds them."""

    size_px: int
    fps: float
    mode: FitMode
    """How frames that were not square were made so."""

    def __len__(self) -> int:
        """How many there are."""

    def name(self, clip: int) -> str:
        """What to call a clip; unique among these."""

    def num_frames(self, clip: int) -> int:
        """Frames of a clip."""

    def captions(self, clip: int) -> tuple[str, ...]:
        """The clip's sentences, at least one."""

    def caption(self, clip: int) -> str:
        """The first of them."""

    def frames(self, clip: int, frames: Sequence[int]) -> np.ndarray:
        """Some frames of a clip, uint8 (F, H, W, 3)."""

    def digest(self) -> str:
        """SHA-256 (hex) that differs wherever captions or pixels do."""


class PartialDataset:
    """Some of the videos of a footage, compared with the same others.

    Args:
      whole: the footage.
      videos: numbers of those that are left.
    """

    def __init__(self, whole: EvalDataset, videos: Sequence[int]):
        self._whole, self._videos = whole, list(videos)
        self.subjects = [whole.subjects[video] for video in videos]
        self.captions = {row: [captions[video] for video in videos] for row, captions in whole.captions.items()}
        self.num_others, self.other_names = whole.num_others, whole.other_names
        self.compared = [place for place, video in enumerate(videos) if video in whole.compared]
        self.digest = hashlib.sha256(json.dumps([whole.digest, self._videos]).encode()).hexdigest()

    def film(self, video: int, size_px: int) -> Film:
        """How one of them really goes on."""
        return self._whole.film(self._videos[video], size_px)

    def other(self, number: int, size_px: int) -> Film:
        """A real video of another scene or clip."""
        return self._whole.other(number, size_px)

    def measure(self, video: int, row: str, frames: Film) -> Iterator[Seen]:
        """What the footage sees."""
        yield from self._whole.measure(self._videos[video], row, frames)


# Scenes -----------------------------------------------------------------------------------------------------------


def choose_scenes(
    seed: int, num: int, split: sprites.Split, world: World, num_frames: int, fps: float
) -> tuple[list[Scene], World]:
    """The first scenes of a split, and the world they are from: made to last as long as the videos, where it did not."""
    last_s = (num_frames - 1) / fps
    world = dataclasses.replace(world, num_frames=max(world.num_frames, math.ceil(last_s * world.fps) + 1))
    return [sprites.sample_scene(seed, index, split, world=world) for index in range(num)], world


class SceneDataset:
    """Scenes of the built-in world, rendered at any size and rate.

    Args:
      scenes: what is drawn.
      others: scenes that are compared with.
      num_frames, fps: of the videos.
      world: the one the scenes are from, whose words make the other sentences; None means the full one.
      seed: of the other sentences.
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
        names, self.other_names = ([_name_of(scene) for scene in side] for side in (scenes, others))
        self.subjects = [EvalVideo(name, name, scene_groups(scene)) for name, scene in zip(names, scenes, strict=True)]
        self.compared = range(len(scenes))
        self.retold = [_other_sentence(scene, seed, world or World()) for scene in scenes]
        self.captions = {
            "model": [scene.caption for scene in scenes],
            "counterfactual": [scene.caption for scene in self.retold],
        }
        # Seed, split and numbers are the protocol's; a few pixels notice a change of the renderer.
        told = [scene.caption for scene in (*scenes, *others)]
        last = hashlib.sha256(b"".join(render(scene, self.times[-1:]).tobytes() for scene in scenes[:4])).hexdigest()
        content = {"world": dataclasses.asdict(world or World()), "captions": told, "pixels": last}
        self.digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def film(self, video: int, size_px: int) -> Film:
        """The scene with its own sentence."""
        return render(self.scenes[video], self.times, size_px)

    def other(self, number: int, size_px: int) -> Film:
        """Another scene of the split."""
        return render(self.others[number], self.times, size_px)

    def measure(self, video: int, row: str, frames: Film) -> Iterator[Seen]:
        """Whether objects do what the sentence says; the other sentence for `SENTENCE_ROWS`."""
        scene, subject = self.scenes[video], self.subjects[video]
        if row not in SENTENCE_ROWS:
            yield from measure_scene(subject, frames, scene, self.times)
            return
        retold = self.retold[video]
        is_kept = [old == new for old, new in zip(scene.objects, retold.objects, strict=True)]
        yield from measure_scene(
            subject, frames, retold, self.times, ["kept" if kept else "changed" for kept in is_kept]
        )


def _name_of(scene: Scene) -> str:
    return f"sprites-{scene.seed}-{scene.split}-{scene.index:06d}"


def _other_sentence(scene: Scene, seed: int, world: World) -> Scene:
    rng = np.random.Generator(np.random.Philox(key=[scene.seed, seed], counter=[0, 0, 0, scene.index]))
    try:
        return sprites.counterfactual(scene, rng, world=world)
    except UserError:  # a small world may know no other motion that fits; the full one does
        return sprites.counterfactual(scene, rng)


# Clips ------------------------------------------------------------------------------------------------------------


def choose_clips(clips: Clips, num: int, num_frames: int, size_px: int) -> list[int]:
    """The first clips that are long enough.

    Raises:
      UserError: the frames are not of the size wanted, or no clip is long enough.
    """
    if clips.size_px != size_px:
        raise UserError(
            f"the clips are {clips.size_px} px and {size_px} px are wanted; prepare them with --size-px {size_px}"
        )
    chosen = [clip for clip in range(len(clips)) if clips.num_frames(clip) >= num_frames][:num]
    if not chosen:
        longest = max(clips.num_frames(clip) for clip in range(len(clips)))
        raise UserError(f"no clip has {num_frames} frames in one shot, the longest has {longest}; lower --num-frames")
    return chosen


class ClipDataset:
    """Prepared clips: some are drawn again from their first frame, the next ones are compared with.

    Where there are too few for both, the last ones are both drawn and compared with; sets are then made of the rest
    alone, so that no video is ever compared with its own truth.

    Args:
      clips: where they are.
      num, num_others: how many are wanted of each kind; see `subjects` and `num_others` for how many there are.
      num_frames, stride: frames of a video, and every how many-th of the clip's.
      size_px: side of the frames as stored.
      captions_per_video: how many of each clip's captions are drawn from, as far as it has them.
      resize: how frames are brought to another size.

    Raises:
      UserError: the clips are of another size, or none is long enough.
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
        drawn = [(clip, told) for clip in chosen for told in clips.captions(clip)[:captions_per_video]]
        self.captions = {"model": [told for _, told in drawn]}
        self._drawn = [clip for clip, _ in drawn]
        self.subjects = [EvalVideo(self._name(video), clips.name(clip)) for video, clip in enumerate(self._drawn)]
        self.compared = [video for video, clip in enumerate(self._drawn) if clip not in self._others]
        self.num_chosen = len(chosen)
        self.digest = clips.digest()

    def film(self, video: int, size_px: int) -> Film:
        """The clip as it is stored."""
        return resized(self.clips.frames(self._drawn[video], self._frames), size_px, self._resize)

    def other(self, number: int, size_px: int) -> Film:
        """Another clip of the split."""
        return resized(self.clips.frames(self._others[number], self._frames), size_px, self._resize)

    def measure(self, video: int, row: str, frames: Film) -> Iterator[Seen]:
        """Nobody knows more of a clip than its pixels."""
        yield from ()

    def _name(self, video: int) -> str:
        clip = self._drawn[video]
        place = video - self._drawn.index(clip)
        return self.clips.name(clip) + (f"#{place + 1}" if place else "")

"""Images with several captions for the study of the latent space, and the true videos as far as they are known.

On sprites every caption has a true video of its own, at any time. A clip has one; its other captions are those of other clips.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, UInt8

from cdcd_video.data import sprites
from cdcd_video.data.sprites import Scene, Split, World
from cdcd_video.data.sprites_render import render, render_object_mask
from cdcd_video.errors import UserError
from cdcd_video.metrics import sprites_metrics
from cdcd_video.metrics.eval_dataset import Clips, choose_clips
from cdcd_video.metrics.measurements import at_view_size

SCENES_TRIED = 50
"""Scenes that are tried for each that is needed, before an error says that the world has too few captions."""


@runtime_checkable
class Cases(Protocol):
    """S images with C captions each.

    Attributes:
      captions: the captions; the first of each image is its own.
      num_true: how many captions of each image, from the first, have a known true video.
      finest_fps: highest frame rate at which the true videos are known.
      bank_size: real videos of other images.
    """

    captions: tuple[tuple[str, ...], ...]
    num_true: int
    finest_fps: float
    bank_size: int

    def real_video(self, image: int, caption: int, times_s: np.ndarray) -> UInt8[np.ndarray, "F H W 3"]:
        """The true video of an image and one of its first `num_true` captions."""

    def bank(self, number: int, times_s: np.ndarray) -> UInt8[np.ndarray, "F H W 3"]:
        """A real video of another image."""

    def objects(self, image: int, caption: int, times_s: np.ndarray) -> Bool[np.ndarray, "F H W"] | None:
        """Pixels that any object covers; None where they are not known."""

    def measure(
        self, image: int, caption: int, times_s: np.ndarray, frames: UInt8[np.ndarray, "F H W 3"]
    ) -> dict[str, Float[np.ndarray, " F"]]:
        """Metrics that need the true scene, by name, one value per frame; empty for clips."""


class SpritesCases:
    """Scenes of the built-in world, each with other captions of the same first frame.

    Args:
      seed: of the scenes and of the choice of captions.
      num_images, captions_per_image: S and C; scenes with fewer than C possible captions are skipped.
      num_frames, fps: of the videos; objects do not meet for their length.
      split: "val", "heldout" or "train".
      world: its words make the captions, and its view the shape of the frames; None means the full one.
      size_px: side of square frames; those of another view have the same scale.
      bank_size: further scenes that serve as real videos of other images.

    Raises:
      UserError: the world has too few captions.
    """

    finest_fps = float("inf")

    def __init__(
        self,
        seed: int,
        num_images: int,
        captions_per_image: int,
        *,
        num_frames: int = 16,
        fps: float = 8.0,
        split: Split = "val",
        world: World | None = None,
        size_px: int = sprites.VIEW_PX,
        bank_size: int = 64,
    ):
        world = world or World()
        lasting = int(np.ceil((num_frames - 1) / fps * world.fps)) + 1
        world = dataclasses.replace(world, num_frames=max(world.num_frames, lasting))
        chosen, index = [], itertools.count()
        while len(chosen) < num_images:
            scene = sprites.sample_scene(seed, next(index), split, world=world)
            others = other_captions(scene, captions_per_image - 1, seed, world)
            if len(others) == captions_per_image - 1:
                chosen.append((scene, *others))
            elif scene.index > SCENES_TRIED * num_images:
                raise UserError(
                    f"only {len(chosen)} scenes of this world have {captions_per_image} captions; lower"
                    " --captions-per-image or --num-images"
                )
        self.scenes: tuple[tuple[Scene, ...], ...] = tuple(chosen)
        self.captions = tuple(tuple(scene.caption for scene in image) for image in chosen)
        self.num_true, self.bank_size, self.size_px = captions_per_image, bank_size, size_px
        first = next(index)
        self._bank = [sprites.sample_scene(seed, first + number, split, world=world) for number in range(bank_size)]

    def real_video(self, image: int, caption: int, times_s: np.ndarray) -> UInt8[np.ndarray, "F H W 3"]:
        """The scene with that caption, at any times."""
        return render(self.scenes[image][caption], times_s, self.size_px)

    def bank(self, number: int, times_s: np.ndarray) -> UInt8[np.ndarray, "F H W 3"]:
        """Another scene with its own caption."""
        return render(self._bank[number], times_s, self.size_px)

    def objects(self, image: int, caption: int, times_s: np.ndarray) -> Bool[np.ndarray, "F H W"]:
        """Pixels that any object covers, even partly."""
        scene = self.scenes[image][caption]
        known = sprites.truth(scene, times_s)
        masks = [
            render_object_mask(
                sprite.shape,
                known.centres[place],
                known.radii[place],
                known.angles_rad[place],
                self.size_px,
                view=scene.view,
            )
            for place, sprite in enumerate(scene.objects)
        ]
        return np.max(masks, axis=0) > 0

    def measure(
        self, image: int, caption: int, times_s: np.ndarray, frames: UInt8[np.ndarray, "F H W 3"]
    ) -> dict[str, Float[np.ndarray, " F"]]:
        """Position error in px over the objects that were found, and overlap with the true shape (0 where lost)."""
        # The metrics track objects through a video: two true frames at the end allow a single frame.
        scene, after = self.scenes[image][caption], times_s[-1] + np.array([0.1, 0.2])
        whole = np.concatenate([at_view_size(frames, scene), render(scene, after)])
        found = sprites_metrics.score(whole, scene, np.concatenate([times_s, after]))
        away, overlap = found.position_error_px[:, : len(frames)], found.identity_iou[:, : len(frames)]
        is_found = ~np.isnan(away)
        errors = np.nan_to_num(away).sum(axis=0) / np.maximum(is_found.sum(axis=0), 1)
        return {"position_error": np.where(is_found.any(axis=0), errors, np.nan), "identity_iou": overlap.mean(axis=0)}


class ClipsCases:
    """Prepared clips, each with its own caption and those of other clips.

    Args:
      clips: where they are.
      num_images, captions_per_image: S and C.
      num_frames: frames of the videos.
      fps: of the clips.
      size_px: that of the model, and of the clips.
      bank_size: further clips that serve as real videos of other images; fewer where there are no more.

    Raises:
      UserError: the clips have another size, or too few are long enough or differ in their captions.
    """

    num_true = 1

    def __init__(
        self,
        clips: Clips,
        num_images: int,
        captions_per_image: int,
        *,
        num_frames: int,
        fps: float,
        size_px: int,
        bank_size: int = 64,
    ):
        chosen = choose_clips(clips, num_images + bank_size, num_frames, size_px)
        if len(chosen) < num_images:
            raise UserError(
                f"only {len(chosen)} clips have {num_frames} frames, fewer than --num-images {num_images}; lower --num-images or"
                " --num-frames"
            )
        self.clips, self.finest_fps = clips, float(fps)
        self._chosen, self._bank = chosen[:num_images], chosen[num_images:]
        self.bank_size = len(self._bank)
        distinct = list(dict.fromkeys(clips.caption(clip) for clip in self._chosen))
        if len(distinct) < captions_per_image:
            raise UserError(
                f"these {num_images} clips have {len(distinct)} different captions; set --captions-per-image to at most that"
            )
        places = [distinct.index(clips.caption(clip)) for clip in self._chosen]
        self.captions = tuple(
            tuple(distinct[(place + step) % len(distinct)] for step in range(captions_per_image)) for place in places
        )

    def real_video(self, image: int, caption: int, times_s: np.ndarray) -> UInt8[np.ndarray, "F H W 3"]:
        """The clip itself, at its own frames."""
        return self._frames(self._chosen[image], times_s)

    def bank(self, number: int, times_s: np.ndarray) -> UInt8[np.ndarray, "F H W 3"]:
        """Another clip."""
        return self._frames(self._bank[number], times_s)

    def objects(self, image: int, caption: int, times_s: np.ndarray) -> None:
        """Not known."""
        return

    def measure(
        self, image: int, caption: int, times_s: np.ndarray, frames: UInt8[np.ndarray, "F H W 3"]
    ) -> dict[str, Float[np.ndarray, " F"]]:
        """None: of a clip only the pixels are known."""
        return {}

    def _frames(self, clip: int, times_s: np.ndarray) -> np.ndarray:
        return self.clips.frames(clip, np.rint(np.asarray(times_s) * self.finest_fps).astype(int).tolist())


def other_captions(scene: Scene, num: int, seed: int, world: World) -> Sequence[Scene]:
    """Up to `num` scenes with the same first frame, bit for bit, and other captions: other motions before other speeds."""
    rng = np.random.Generator(np.random.Philox(key=[seed, scene.seed], counter=[0, 0, 0, scene.index]))
    found: dict[tuple[int, str], list[Scene]] = {}
    for place, motion in itertools.product(range(len(scene.objects)), world.motions):
        for adverb in sprites.ADVERBS if world.adverbs else (None,):
            other = sprites.with_motion(scene, place, motion, adverb, world=world)
            is_known = other and (scene.split == "heldout" or not sprites.held_out(other.objects[place]))
            if is_known and motion != scene.objects[place].motion:
                found.setdefault((place, motion), []).append(other)
    motions = [list(rng.permutation(np.array(speeds, dtype=object))) for speeds in found.values()]
    motions = [motions[number] for number in rng.permutation(len(motions))]
    in_turn = itertools.chain.from_iterable(itertools.zip_longest(*motions))
    return [other for other in in_turn if other is not None][:num]

"""A model that knows the scenes, for tests of what judges models."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cdcd_video.data import sprites
from cdcd_video.data.sprites import Scene
from cdcd_video.data.sprites_render import render
from cdcd_video.metrics.protocol import Protocol


class Oracle:
    """Draws the truth of the sentence it is given, or of the one it expects (deaf), or nothing at all (frozen)."""

    def __init__(
        self,
        scenes: Sequence[Scene],
        *,
        size_px: int = 64,
        is_deaf: bool = False,
        is_frozen: bool = False,
        protocol: Protocol | None = None,
    ):
        self.size_px, self.is_deaf, self.is_frozen = size_px, is_deaf, is_frozen
        self.protocol = protocol or Protocol(fps=8.0)
        self.scenes = {render(scene, np.zeros(1), size_px)[0].tobytes(): scene for scene in scenes}
        self.batches: list[int] = []

    def sample(
        self,
        starts: np.ndarray,
        captions: Sequence[str],
        params: Any,
        seeds: Sequence[int],
        progress: Callable[[int], None] | None = None,
    ) -> np.ndarray:
        """Renders; a drawing that says how many frames at what rate is heeded, else the protocol is."""
        self.batches.append(len(starts))
        length = (params.num_frames, params.fps) if params else (self.protocol.num_frames, self.protocol.rate)
        times = np.arange(length[0]) / length[1]
        videos = []
        for start, caption, _ in zip(starts, captions, seeds, strict=True):
            scene = self.scenes[start.tobytes()]
            told = scene if self.is_deaf else _obeying(scene, caption)
            videos.append(
                np.repeat(start[None], len(times), 0) if self.is_frozen else render(told, times, self.size_px)
            )
        if progress:
            progress(len(starts) * (len(times) - 1))
        return np.stack(videos)

    def encode(self, frames: np.ndarray) -> np.ndarray:
        """Pixels are the codes."""
        return frames.reshape(len(frames), -1)

    def decode(self, codes: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Likewise."""
        return codes.reshape(*codes.shape[:2], *starts.shape[1:]).copy()


def _obeying(scene: Scene, caption: str) -> Scene:
    phrases = caption.split(" and the ")
    phrases = [phrases[0], *(f"the {phrase}" for phrase in phrases[1:])]
    objects = []
    for sprite, phrase in zip(scene.objects, phrases, strict=True):
        said = {(m, a): " ".join(filter(None, (m, a))) for m in sprites.MOTIONS for a in sprites.ADVERBS}
        motion, adverb = max((key for key, words in said.items() if phrase.endswith(words)), key=lambda k: len(said[k]))
        objects.append(dataclasses.replace(sprite, motion=motion, adverb=adverb))
    return dataclasses.replace(scene, objects=tuple(objects))

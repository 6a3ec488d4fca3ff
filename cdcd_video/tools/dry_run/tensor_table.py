"""A table of tensors: name, shape in letters and in numbers, type, meaning."""

import re

import numpy as np
from torch import Tensor

SCALARS = {
    "loss": "the weighted sum of the terms",
    "grad_norm": "Euclidean norm of the whole gradient, before clipping",
    "clip_nats": "nats: CLIP's symmetric InfoNCE",
    "retrieval": "fraction of frames whose own caption is the nearest in the batch",
    "temperature": "learned temperature of the cosines",
    "reconstruction": "L1 + 4 L2 of the decoded frame, weighted towards changes",
    "still": "mean squared difference of latents where the two frames are equal",
    "embed": "1 - cosine of embed(codes) and CLIP's own embedding",
    "eye_nats": "nats: symmetric InfoNCE between true steps and their captions",
    "eye_wins": "fraction of steps whose own caption is the nearest, and the reverse",
    "perceptual": "LPIPS of the decoded frame and the true one",
    "adversarial": "minus the output of the critic for the decoded frame",
    "critic": "hinge loss of the critic on true and decoded frames",
    "psnr_db": "dB, decoded frame against the true one",
    "bound": "nats per token: the variational bound L_vb",
    "auxiliary": "nats per token: -log p(x0 | x_t), weighted towards changes",
    "auxiliary_changed": "nats per token, over codes that change",
    "auxiliary_still": "nats per token, over codes that stay",
    "right_changed": "accuracy of the most likely code, over codes that change",
    "velocity_squared": "squared error of the velocity, of a value normalised per channel",
    "x0_squared_changed": "squared error of x0, over values of codes that change",
    "x0_squared_still": "squared error of x0, over values of codes that stay",
    "nll": "nats per token: -log p(code | codes before it)",
    "nll_changed": "nats per token, over codes that change",
    "nll_still": "nats per token, over codes that stay",
    "frame_frame": "nats per frame: InfoNCE against the earlier frame",
    "frame_text": "nats per frame: InfoNCE against the caption",
    "frame_frame_wins": "fraction of frames whose earlier frame is the nearest",
    "frame_text_wins": "fraction of frames whose caption is the nearest",
    "frame_frame_temperature": "of the cosines, learned",
    "frame_text_temperature": "of the cosines, learned",
}
"""Descriptions of the scalars of a training step; nats are natural logarithms."""


class Table:
    """A table of tensors. A letter has one size in the whole table."""

    def __init__(self, **sizes: int):
        self.sizes = sizes
        self.rows: list[str] = []

    def add(self, name: str, tensor: Tensor | np.ndarray, letters: str, meaning: str) -> None:
        """Adds a tensor; a new letter gets its size from the tensor.

        Raises:
          AssertionError: the shape does not fit the letters.
        """
        shape = tuple(tensor.shape)
        words = letters.split()
        if len(words) != len(shape) or any(self._size(w, n) != n for w, n in zip(words, shape, strict=False)):
            raise AssertionError(f"{name} has the shape {shape} and was expected as ({letters}) with {self.sizes}")
        dtype = str(tensor.dtype).removeprefix("torch.")
        numbers = " x ".join(map(str, shape))
        self.rows.append(f"  {name:<19}({letters}){'':<{max(1, 12 - len(letters))}}{numbers:<21} {dtype:<9} {meaning}")

    def render(self, scalars: dict[str, Tensor]) -> str:
        """The table as text, with the scalars of the step below."""
        lines = list(self.rows)
        for name, value in scalars.items():
            dtype = str(value.dtype).removeprefix("torch.")
            lines.append(f"  {name:<19}(){'':<12}{'':<21} {dtype:<9} {SCALARS.get(name, '')}".rstrip())
        lines.append("  " + ", ".join(f"{letter} = {size}" for letter, size in self.sizes.items()))
        return "\n".join(lines)

    def _size(self, word: str, found: int) -> int:
        times, letter = re.fullmatch(r"(\d*)([A-Za-z]*)", word).groups()
        if not letter:
            return int(times)
        return int(times or 1) * self.sizes.setdefault(letter, found // int(times or 1))

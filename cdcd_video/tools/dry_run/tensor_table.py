"""A table of tensors: name, shape in letters and in numbers, type, meaning."""

import re

import numpy as np
from torch import Tensor

SCALARS = {
    "loss": "what is differentiated: the weighted sum of the terms",
    "grad_norm": "Euclidean norm of the whole gradient, before clipping",
    "clip_nats": "nats: CLIP's symmetric InfoNCE",
    "retrieval": "share of frames whose own caption wins in the batch",
    "temperature": "learned temperature of the cosines",
    "reconstruction": "L1 + 4 L2 of the drawn frame, weighted towards what changed",
    "still": "mean squared difference of latents where the two frames are alike",
    "embed": "1 - cosine of embed(codes) and CLIP's own embedding",
    "eye_nats": "nats: symmetric InfoNCE between true steps and their sentences",
    "eye_wins": "share of steps whose own sentence is the nearest, and the reverse",
    "perceptual": "LPIPS of the drawn frame and the true one",
    "adversarial": "minus what the critic thinks of the drawn frame",
    "critic": "what the critic pays: hinge of true and drawn frames",
    "psnr_db": "dB, drawn frame against the true one",
    "bound": "nats per token: the variational bound L_vb",
    "auxiliary": "nats per token: -log p(x0 | x_t), weighted towards what changes",
    "auxiliary_changed": "nats per token, over codes that change",
    "auxiliary_still": "nats per token, over codes that stay",
    "right_changed": "share of the changed codes whose likeliest code is right",
    "velocity_squared": "squared error of the velocity, of a value normalised per channel",
    "x0_squared_changed": "squared error of x0, over values of codes that change",
    "x0_squared_still": "squared error of x0, over values of codes that stay",
    "nll": "nats per token: -log p(code | codes before it)",
    "nll_changed": "nats per token, over codes that change",
    "nll_still": "nats per token, over codes that stay",
    "frame_frame": "nats per frame: InfoNCE against the earlier frame",
    "frame_text": "nats per frame: InfoNCE against the caption",
    "frame_frame_wins": "share of frames whose earlier frame is the nearest",
    "frame_text_wins": "share of frames whose caption is the nearest",
    "frame_frame_temperature": "of the cosines, learned",
    "frame_text_temperature": "of the cosines, learned",
}
"""What the scalars of a training step mean; nats are natural logarithms."""


class Table:
    """Rows of tensors. A letter has one size throughout a table; a tensor that breaks this is a mistake of ours."""

    def __init__(self, **sizes: int):
        self.sizes = sizes
        self.rows: list[str] = []

    def add(self, name: str, tensor: Tensor | np.ndarray, letters: str, meaning: str) -> None:
        """Adds a tensor; a letter that has no size yet takes the one found."""
        shape = tuple(tensor.shape)
        words = letters.split()
        if len(words) != len(shape) or any(self._size(w, n) != n for w, n in zip(words, shape, strict=False)):
            raise AssertionError(f"{name} has the shape {shape} and was expected as ({letters}) with {self.sizes}")
        dtype = str(tensor.dtype).removeprefix("torch.")
        numbers = " x ".join(map(str, shape))
        self.rows.append(f"  {name:<19}({letters}){'':<{max(1, 12 - len(letters))}}{numbers:<21} {dtype:<9} {meaning}")

    def told(self, scalars: dict[str, Tensor]) -> str:
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

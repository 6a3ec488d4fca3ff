"""A model asked for its latents: frames in, latents out, and back; any number of leading dimensions."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from cdcd_video.engine.runtime import seed_for

SPACES = ("embedding", "codes")
BATCH_FRAMES = 64

Progress = Callable[[int], None]
Drawn = Int[np.ndarray, "*n N"] | Float[np.ndarray, "*n P V"]
"""What a way of drawing gives: codes, or the code vectors themselves."""


class LatentModel:
    """A model, asked for latents in any number of leading dimensions."""

    def __init__(self, pipe: Any, progress: Progress):
        self.pipe, self.progress = pipe, progress
        self.codec = pipe.model.codec
        self.device = self.codec.table.device

    @property
    def digest(self) -> str:
        """SHA-256 of what makes a latent of a frame and a frame of a latent: CLIP's file, and the codec's weights."""
        whole = hashlib.sha256(self.pipe.model.clip.digest.encode())
        for name, values in sorted(self.codec.state_dict().items()):
            whole.update(name.encode() + values.cpu().numpy().tobytes())
        return whole.hexdigest()

    @torch.no_grad()
    def latents(self, frames: UInt8[np.ndarray, "*n H W 3"]) -> Float[np.ndarray, "*n P V"]:
        """Latents before they are rounded to codes."""
        parts = []
        for part in _parts(frames.reshape(-1, *frames.shape[-3:])):
            seen = self.pipe.model.clip.encode_image(_pixels(part, self.device), self.codec.cfg.layers)
            parts.append(self.codec.quantize(seen.patches)[0].cpu().numpy())
            self.progress(len(part))
        return np.concatenate(parts).reshape(*frames.shape[:-3], *parts[0].shape[1:])

    @torch.no_grad()
    def codes_of(self, latents: Float[np.ndarray, "*n P V"]) -> Int[np.ndarray, "*n N"]:
        """Latents rounded to codes."""
        flat = torch.from_numpy(latents.reshape(-1, *latents.shape[-2:]).astype(np.float32)).to(self.device)
        codes = self.codec.quantizer(flat.unflatten(-1, (self.codec.groups, -1))).codes.flatten(1)
        return codes.cpu().numpy().reshape(*latents.shape[:-2], -1)

    @torch.no_grad()
    def values(self, drawn: Drawn) -> Float[np.ndarray, "*n P V"]:
        """Codes to their vectors; a baseline that walks in the vectors themselves has them already."""
        if np.issubdtype(drawn.dtype, np.floating):
            return drawn
        flat = torch.from_numpy(drawn.reshape(-1, drawn.shape[-1])).to(self.device)
        found = self.codec.values(flat).float().cpu().numpy()
        return found.reshape(*drawn.shape[:-1], *found.shape[1:])

    @torch.no_grad()
    def points(self, drawn: Drawn, space: str) -> Float[np.ndarray, "*n D"]:
        """Codes, or code vectors, as points of a space."""
        values = self.values(drawn)
        if space == "codes":
            return values.reshape(*values.shape[:-2], -1)
        flat = torch.from_numpy(values.reshape(-1, *values.shape[-2:])).to(self.device)
        found = torch.cat([self.codec.embed_head(part) for part in flat.split(BATCH_FRAMES)]).cpu().numpy()
        return found.reshape(*values.shape[:-2], -1)

    def sample(
        self,
        starts: UInt8[np.ndarray, "S C H W 3"],
        captions: Sequence[Sequence[str]],
        params: Any,
        seed: int,
        batch_size: int,
    ) -> Int[np.ndarray, "S C F N"] | Float[np.ndarray, "S C F P V"]:
        """Latents of drawn videos, as the model walks: codes, or code vectors.

        A video's random stream depends on its image and sentence alone.
        """
        num_images, num_captions = starts.shape[:2]
        told = [caption for row in captions for caption in row[:num_captions]]
        seeds = [seed_for(seed, "latents", i, c) for i in range(num_images) for c in range(num_captions)]
        flat, parts = starts.reshape(-1, *starts.shape[2:]), []
        for begin in range(0, len(told), batch_size):
            part = slice(begin, begin + batch_size)
            parts.append(self.pipe.roll_out(flat[part], told[part], params, seeds[part], self.progress).cpu().numpy())
        codes = np.concatenate(parts)
        return codes.reshape(num_images, num_captions, *codes.shape[1:])

    @torch.no_grad()
    def decode(
        self, values: Float[np.ndarray, "F P V"], start: UInt8[np.ndarray, "H W 3"]
    ) -> UInt8[np.ndarray, "F H W 3"]:
        """Code vectors, or anything between them, beside the video's starting frame, as frames."""
        decoder, parts = self.codec.decoder, []
        beside = _pixels(start[None], self.device)
        for part in _parts(values):
            features = decoder.start_features(beside.expand(len(part), -1, -1, -1))
            drawn = decoder(torch.from_numpy(part).float().to(self.device), features).clamp(0, 1).float()
            parts.append(drawn.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy())
            self.progress(len(part))
        return np.concatenate(parts)


def _parts(rows: np.ndarray) -> Iterator[np.ndarray]:
    return (rows[begin : begin + BATCH_FRAMES] for begin in range(0, len(rows), BATCH_FRAMES))


def _pixels(frames: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(frames)).to(device).permute(0, 3, 1, 2).float().div(255)

"""Encodes frames to latents and decodes them, with any number of leading dimensions."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from cdcd_video.engine.runtime import seed_for
from cdcd_video.records import Grid

SPACES = ("embedding", "codes")
BATCH_FRAMES = 64

Progress = Callable[[int], None]
Latents = Int[np.ndarray, "*n N"] | Float[np.ndarray, "*n P V"]
"""Samples of a model: codes, or for some baselines code vectors."""


class LatentModel:
    """Latents of a model, with any number of leading dimensions."""

    def __init__(self, pipe: Any, progress: Progress):
        self.pipe, self.progress = pipe, progress
        self.codec = pipe.model.codec
        self.device = self.codec.table.device

    @property
    def digest(self) -> str:
        """SHA-256 of the file of CLIP and the weights of the codec."""
        whole = hashlib.sha256(self.pipe.model.clip.digest.encode())
        for name, values in sorted(self.codec.state_dict().items()):
            whole.update(name.encode() + values.cpu().numpy().tobytes())
        return whole.hexdigest()

    @torch.no_grad()
    def latents(self, frames: UInt8[np.ndarray, "*n H W 3"]) -> Float[np.ndarray, "*n P V"]:
        """Latents before they are rounded to codes."""
        parts = []
        for part in _parts(frames.reshape(-1, *frames.shape[-3:])):
            grid = self.codec.grid_of(*part.shape[1:3])
            encoded = self.pipe.model.clip.encode_image(_pixels(part, self.device), self.codec.cfg.layers, grid)
            parts.append(self.codec.quantize(encoded.patches)[0].cpu().numpy())
            self.progress(len(part))
        return np.concatenate(parts).reshape(*frames.shape[:-3], *parts[0].shape[1:])

    @torch.no_grad()
    def codes_of(self, latents: Float[np.ndarray, "*n P V"]) -> Int[np.ndarray, "*n N"]:
        """Latents rounded to codes."""
        flat = torch.from_numpy(latents.reshape(-1, *latents.shape[-2:]).astype(np.float32)).to(self.device)
        codes = self.codec.quantizer(flat.unflatten(-1, (self.codec.groups, -1))).codes.flatten(1)
        return codes.cpu().numpy().reshape(*latents.shape[:-2], -1)

    @torch.no_grad()
    def values(self, latents: Latents) -> Float[np.ndarray, "*n P V"]:
        """The vectors of codes; samples that are vectors already are returned unchanged."""
        if np.issubdtype(latents.dtype, np.floating):
            return latents
        flat = torch.from_numpy(latents.reshape(-1, latents.shape[-1])).to(self.device)
        found = self.codec.values(flat).float().cpu().numpy()
        return found.reshape(*latents.shape[:-1], *found.shape[1:])

    @torch.no_grad()
    def points(self, latents: Latents, space: str, grid: Grid | None = None) -> Float[np.ndarray, "*n D"]:
        """Codes, or code vectors, as points of a space.

        Args:
          grid: rows and columns of the frames' patches; None for the square grid.
        """
        values = self.values(latents)
        if space == "codes":
            return values.reshape(*values.shape[:-2], -1)
        flat = torch.from_numpy(values.reshape(-1, *values.shape[-2:])).to(self.device)
        found = torch.cat([self.codec.embed_head(part, grid) for part in flat.split(BATCH_FRAMES)]).cpu().numpy()
        return found.reshape(*values.shape[:-2], -1)

    def sample(
        self,
        starts: UInt8[np.ndarray, "S C H W 3"],
        captions: Sequence[Sequence[str]],
        params: Any,
        seed: int,
        batch_size: int,
    ) -> Int[np.ndarray, "S C F N"] | Float[np.ndarray, "S C F P V"]:
        """Latents of sampled videos: codes, or code vectors.

        The random numbers of a video depend on its image and caption alone.
        """
        num_images, num_captions = starts.shape[:2]
        flat_captions = [caption for image in captions for caption in image[:num_captions]]
        seeds = [seed_for(seed, "latents", i, c) for i in range(num_images) for c in range(num_captions)]
        flat, parts = starts.reshape(-1, *starts.shape[2:]), []
        for begin in range(0, len(flat_captions), batch_size):
            part = slice(begin, begin + batch_size)
            parts.append(
                self.pipe.roll_out(flat[part], flat_captions[part], params, seeds[part], self.progress).cpu().numpy()
            )
        codes = np.concatenate(parts)
        return codes.reshape(num_images, num_captions, *codes.shape[1:])

    @torch.no_grad()
    def decode(
        self, values: Float[np.ndarray, "F P V"], start: UInt8[np.ndarray, "H W 3"]
    ) -> UInt8[np.ndarray, "F H W 3"]:
        """Decodes code vectors, or points between them, given the first frame of the video."""
        decoder, parts = self.codec.decoder, []
        beside = _pixels(start[None], self.device)
        for part in _parts(values):
            features = decoder.start_features(beside.expand(len(part), -1, -1, -1))
            decoded = decoder(torch.from_numpy(part).float().to(self.device), features).clamp(0, 1).float()
            parts.append(decoded.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy())
            self.progress(len(part))
        return np.concatenate(parts)


def _parts(rows: np.ndarray) -> Iterator[np.ndarray]:
    return (rows[begin : begin + BATCH_FRAMES] for begin in range(0, len(rows), BATCH_FRAMES))


def _pixels(frames: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(frames)).to(device).permute(0, 3, 1, 2).float().div(255)

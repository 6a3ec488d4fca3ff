"""The networks of a config, built for stand-in clips."""

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cdcd_video.config import Config
from cdcd_video.data.cache import CodeCache
from cdcd_video.data.cache_blocks import Encoder
from cdcd_video.data.cache_writer import write_cache
from cdcd_video.model import build_codec, build_denoiser
from cdcd_video.networks.clip import FrozenClip
from cdcd_video.networks.clip import built_in as builtin_clip
from cdcd_video.networks.codec.frame_codec import Codec
from cdcd_video.networks.denoiser import Denoiser
from cdcd_video.tools.dry_run.shape_only import shape_only
from cdcd_video.tools.dry_run.trial_clips import BlackClips, ClipFacts
from cdcd_video.training import stage_order
from cdcd_video.training.latent_encoder import FrameEncoder


class Line:
    """The networks of a config, the cache of its stages, and the list of stages.

    Args:
      config: the resolved config.
      data: facts of its clips.
      folder: for CLIP and the cache of the stand-in clips.
    """

    def __init__(self, config: Config, data: ClipFacts, folder: Path):
        self.config = config
        self.notes: list[str] = []
        """Notes on the CLIP."""
        self.clip = self._clip(data.captions, folder)
        self.clip_bytes = sum(file.stat().st_size for file in (folder / "clip").glob("*"))
        lengths = self.clip.tokenize(data.captions)[1].sum(1)
        longest, self.num_words = data.captions[int(lengths.argmax())], int(lengths.max())
        self.clips = BlackClips(config.data.size_px, data.fps, data.longest, longest)
        self.codec, self.denoiser = self.fresh_codec_and_denoiser()
        self.cache = self._cache(folder / "cache")

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages of the config, in order."""
        return stage_order.stages_of(self.config)

    def fresh_clip(self) -> nn.Module:
        """An untrained CLIP; only where the config has its own."""
        cfg = self.config.clip
        return builtin_clip.build_clip(cfg, self.config.data.size_px, cfg.vocabulary, self.tokenizer.eos_token_id)

    def fresh_codec_and_denoiser(self) -> tuple[Codec, Denoiser]:
        """An untrained codec, and the denoiser (or the baseline in its place) for its codes."""
        codec = build_codec(self.config, self.clip)
        return codec, build_denoiser(self.config, codec, self.clip.text_width)

    def _clip(self, captions: Sequence[str], folder: Path) -> FrozenClip:
        cfg = self.config.clip
        if cfg.kind == "pretrained":
            clip, self.notes = shape_only(cfg.folder, captions)
            return clip
        self.tokenizer = builtin_clip.train_tokenizer(captions, cfg.vocabulary, cfg.max_tokens)
        return FrozenClip(builtin_clip.save_clip(self.fresh_clip(), self.tokenizer, captions, folder / "clip"))

    def _cache(self, folder: Path) -> CodeCache:
        def encode(frames: Tensor) -> Tensor:
            return torch.zeros(len(frames), self.codec.num_tokens, dtype=torch.int64)

        with contextlib.redirect_stderr(io.StringIO()):  # no progress bars for eight black clips
            frame_encoder = FrameEncoder(self.config, self.clip, self.codec, torch.device("cpu"))
            facts: dict[str, Any] = dict(data="black", num_items=len(self.clips), fps=self.clips.fps, max_frames=None)
            encoder = Encoder(encode, self.clip.encode_text)
            write_cache(
                folder,
                self.clips,
                encoder,
                frame_encoder.plan(**facts, recipe={}),
                frame_encoder.space(),
                split="train",
            )
        return CodeCache(folder)

"""Stages that are trained on frames, as tasks of the engine: CLIP, the codec, and its decoder in a stage of its own."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cdcd_video.config import Config
from cdcd_video.data.buckets import buckets_of, mean_figures, sampled_bucket
from cdcd_video.data.pairs import load_frames, sample_pairs
from cdcd_video.data.shots import Shots
from cdcd_video.data.store import Clips
from cdcd_video.engine import distributed
from cdcd_video.engine.runtime import to_device
from cdcd_video.metrics.features.networks import lpips_network
from cdcd_video.metrics.latent.space import space_metrics
from cdcd_video.networks.clip import FrozenClip
from cdcd_video.networks.clip.built_in import PIXEL_MEAN, PIXEL_STD, clip_objective
from cdcd_video.networks.codec.codec_loss import codec_objective, decoder_objective
from cdcd_video.networks.codec.frame_codec import Codec
from cdcd_video.networks.codec.perceptual import Critic, Picture
from cdcd_video.records import FramePair, LossTerms
from cdcd_video.training.codec_metrics import codec_metrics_of
from cdcd_video.training.stage_settings import step_rng

ClipBatch = tuple[Tensor, Tensor, Tensor, Tensor]
"""Frames (B, 3, H, W), token ids and which of them are words (B, L), and the number of each caption (B,)."""


def clip_lengths(clips: Clips) -> np.ndarray:
    """Frames of each clip."""
    return np.array([clips.num_frames(clip) for clip in range(len(clips))])


def picture_of(config: Config, critic: Critic | None, device: torch.device) -> Picture | None:
    """The perceptual and adversarial terms; None if neither has a weight.

    Raises:
      UserError: LPIPS has a weight and its network is missing.
    """
    cfg = config.picture
    if not cfg.perceptual and critic is None:
        return None
    network = lpips_network(cfg.trunk, device) if cfg.perceptual else None
    distance = (lambda decoded, truth: network(decoded, truth).flatten()) if network else None
    return Picture(cfg, distance, critic)


class ClipStage:
    """Trains the built-in CLIP on single frames and their captions."""

    name = "clip"

    def __init__(self, model: nn.Module, tokenizer, config: Config, clips: Clips, val: Clips, device: torch.device):
        self.model: Any = model.to(device)  # a `CLIPModel`: importing it takes seconds
        self.tokenizer, self.config, self.clips, self.val = tokenizer, config, clips, val
        self.batch_size, self.device = config.train.clip.batch_size, device
        self.buckets = buckets_of(clips)
        self.lengths = [clip_lengths(bucket) for bucket in self.buckets]

    def batch(self, step: int) -> ClipBatch:
        """Random frames of random clips, each with one of its captions."""
        rng = step_rng(self.config.seed, self.name, step)
        place = sampled_bucket(self.buckets, rng)
        clips, lengths = self.buckets[place], self.lengths[place]
        clip = rng.integers(len(clips), size=self.batch_size)
        return self._examples(clips, clip, np.floor(rng.random(self.batch_size) * lengths[clip]), rng)

    def objective(self, batch: ClipBatch, generator: torch.Generator) -> LossTerms:
        return clip_objective(self.model, *batch, distributed.collectives())

    def evaluate(self) -> dict[str, float]:
        """Loss and retrieval among 128 validation clips."""
        found, buckets = [], buckets_of(self.val)
        for val in buckets:
            rng = step_rng(self.config.seed, "clip-val", 0)
            clip = np.arange(min(128 // len(buckets), len(val)))
            examples = self._examples(val, clip, np.zeros(len(clip)), rng)
            terms = clip_objective(self.model, *examples, distributed.collectives())
            found.append({"val_clip_nats": float(terms.total), "val_retrieval": float(terms.parts["retrieval"])})
        return mean_figures(found)

    def _examples(self, clips: Clips, clip: np.ndarray, frame: np.ndarray, rng: np.random.Generator) -> ClipBatch:
        captions = [clips.captions(int(c))[rng.integers(len(clips.captions(int(c))))] for c in clip]
        number = {caption: i for i, caption in enumerate(sorted(set(captions)))}
        clip, frame, captions = distributed.own(clip), distributed.own(frame), distributed.own(captions)
        (images,) = load_frames(clips, clip, frame, device=self.device)
        tokens = self.tokenizer(
            captions,
            padding=True,
            truncation=True,
            max_length=self.model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        )
        caption = torch.tensor([number[caption] for caption in captions])
        size, square = self.model.config.vision_config.image_size, self.config.data.size_px
        if images.shape[-2:] == (square, square) and square != size:
            images = nn.functional.interpolate(images, size=(size, size), mode="bicubic", antialias=True).clamp(0, 1)
        mean, std = (torch.tensor(value, device=self.device).view(3, 1, 1) for value in (PIXEL_MEAN, PIXEL_STD))
        ids, mask = tokens.input_ids, tokens.attention_mask.bool()
        ids, mask, caption = (to_device(tensor, self.device) for tensor in (ids, mask, caption))
        return (images - mean) / std, ids, mask, caption


class CodecStage:
    """Trains projection, quantiser, decoder and embed head on pairs of frames; CLIP is frozen."""

    name = "codec"
    pictures: Callable[[], Any]

    def __init__(self, codec: Codec, clip: FrozenClip, config: Config, clips: Clips, val: Clips, device: torch.device):
        self.codec, self.clip, self.config, self.clips, self.val = codec.to(device), clip, config, clips, val
        self.model: nn.Module = self.codec
        self.batch_size, self.device = config.train.codec.batch_size, device
        self.picture = picture_of(config, None, device)
        self.buckets = buckets_of(clips)
        self.shots = [Shots.of_clips(bucket) for bucket in self.buckets]

    def batch(self, step: int) -> FramePair:
        """Two random frames of a shot, and its first."""
        rng = step_rng(self.config.seed, self.name, step)
        place = sampled_bucket(self.buckets, rng)
        clips = self.buckets[place]
        pairs = sample_pairs(self.shots[place], self.batch_size, rng, max_gap=None, start_share=0.1)
        rows = map(distributed.own, (pairs.clip, pairs.first, pairs.source, pairs.target))
        pair = FramePair(*load_frames(clips, *rows, device=self.device))
        return self._with_sentences(pair, clips, pairs.clip, rng) if self.has_contrast else pair

    @property
    def has_contrast(self) -> bool:
        """Whether the objective needs clips and captions."""
        return bool(self.config.codec.frame_frame or self.config.codec.frame_text)

    def objective(self, batch: FramePair, generator: torch.Generator) -> LossTerms:
        return codec_objective(self.codec, self.clip, batch, self.picture, distributed.collectives())

    def evaluate(self) -> dict[str, float]:
        """Metrics of the codec and of its latent space on 48 validation clips."""
        buckets = buckets_of(self.val)
        found = [
            codec_metrics_of(
                self.codec,
                self.clip,
                val,
                num_clips=48 // len(buckets),
                look=lambda at: space_metrics(at.embedding, at.values, at.text_embedding),
            )
            for val in buckets
        ]
        return mean_figures(found)

    def _with_sentences(self, pair: FramePair, clips: Clips, clip: np.ndarray, rng: np.random.Generator) -> FramePair:
        """Adds captions; sampled after the frames, which are therefore the same without captions."""
        captions = [clips.captions(int(c)) for c in clip]
        sentences = [known[rng.integers(len(known))] for known in captions]
        number = {caption: i for i, caption in enumerate(sorted(set(sentences)))}
        sentences, clip = distributed.own(sentences), distributed.own(clip)
        caption = torch.tensor([number[one] for one in sentences], device=self.device)
        own, row = np.unique(sentences, return_inverse=True)
        read = self.clip.encode_text(own.tolist()).embedding[row]
        return replace(pair, clip=torch.from_numpy(clip).to(self.device), caption=caption, caption_embedding=read)


class DecoderStage(CodecStage):
    """Trains the decoder further, with fixed codes. The denoiser needs only the codes, so the two can train in parallel."""

    name = "decoder"
    has_contrast = False

    def __init__(
        self,
        codec: Codec,
        clip: FrozenClip,
        config: Config,
        clips: Clips,
        val: Clips,
        device: torch.device,
        critic: Critic | None = None,
    ):
        super().__init__(codec, clip, config, clips, val, device)
        self.batch_size = config.train.decoder.batch_size
        codec.requires_grad_(False)
        codec.decoder.requires_grad_(True)
        if critic is not None:  # trained and checkpointed with the codec, but not part of it
            self.model = nn.ModuleDict({"codec": codec, "critic": critic.to(device)})
            self.picture = picture_of(config, critic, device)

    def objective(self, batch: FramePair, generator: torch.Generator) -> LossTerms:
        self.codec.quantizer.eval()  # a learned codebook changes in training mode, even without gradients
        return decoder_objective(self.codec, self.clip, batch, self.picture, distributed.collectives())

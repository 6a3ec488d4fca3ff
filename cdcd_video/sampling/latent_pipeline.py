"""A trained model at work on batches: frames -> codes -> one reverse process per frame, all in latent space -> frames."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int, UInt8
from torch import Tensor

from cdcd_video.config import SamplingParams
from cdcd_video.engine.precision import PRECISIONS, Precision, for_sampling, precision_of
from cdcd_video.engine.runtime import device_for, generator
from cdcd_video.kernels.threads import threads
from cdcd_video.model import Model
from cdcd_video.networks.conditioning import with_dropped_captions
from cdcd_video.networks.next_frame import CodePrediction, Likelihood, NextFrame
from cdcd_video.records import Grid, TextStates
from cdcd_video.sampling.captions import Caption, CaptionSchedule
from cdcd_video.sampling.code_sampler import DiscreteSampler
from cdcd_video.sampling.notes import threads_of
from cdcd_video.sampling.roll_out import SampledFrame, roll_out
from cdcd_video.sampling.teacher_forced import nats_of_true_frames
from cdcd_video.storage.memory import user_error_when_out

DECODE_BATCH = 64
"""Frames decoded at a time."""
Frames = UInt8[np.ndarray, "B H W 3"]
OnFrame = Callable[[int, Tensor], Tensor | None] | None
"""Called with the number of a sampled frame, from 1 on, and its latents; returns others to go on from, or None."""
Progress = Callable[[int], None] | None
Seeds = Sequence[int]
Start = UInt8[np.ndarray, "_ _ 3"]
"""A starting frame at the size of its video; those of several videos may differ."""
Text = Caption | CaptionSchedule
Texts = Sequence[Text]
OUT_OF_MEMORY = ("sampling a video", "use fewer frames, a smaller batch or a smaller model")
Pipeline = TypeVar("Pipeline", bound="LatentPipeline")


class LatentPipeline:
    """A model that encodes frames, samples the latents of the next ones, and decodes them.

    Attributes:
      sampler: samples the next frame; the discrete diffusion, or the baseline that the config names.
      precision: of the matrix products while sampling and decoding; starting frames are encoded in fp32, as in training.
      num_threads: CPU threads of one operation while sampling; None: what torch is set to. The caller's own setting is
        restored afterwards. Last bits depend on it, so it follows from the model alone.
      checkpoint: name or path that the model was loaded by.
    """

    def __init__(self, model: Model, precision: Precision = "fp32"):
        self.model, self.precision, self.checkpoint = model, precision, model.config.name
        self.num_threads = threads_of(model)
        self._precision_follows_device = False
        self.sampler: NextFrame = (
            DiscreteSampler(model.denoiser, model.process, model.codec, model.config)
            if model.config.baseline is None
            else model.denoiser
        )

    @property
    def size_px(self) -> int:
        """Side of the frames, where they are square; frames of other shapes have patches of the same size."""
        return self.model.config.data.size_px

    @property
    def has_likelihood(self) -> bool:
        """Whether `nll` exists; a baseline on continuous values has none."""
        return isinstance(self.sampler, Likelihood)

    @property
    def takes_last(self) -> bool:
        """Whether a last frame can be given beside the first."""
        return self.model.config.diffusion.last_share > 0

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.codec.table.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the matrix products while sampling: float32 or bfloat16. Weights are float32 always."""
        return next(dtype for dtype, precision in PRECISIONS.items() if precision == self.precision)

    def to(
        self: Pipeline,
        device: str | torch.device | torch.dtype | None = None,
        dtype: torch.dtype | None = None,
    ) -> Pipeline:
        """Moves the weights, and sets the precision of the matrix products; in place.

        Args:
          device: where to; a dtype in its place is taken for `dtype`, as by `torch.nn.Module.to`.
          dtype: float32 or bfloat16. Without it the precision stays as it is; one that `from_pretrained` chose by the device
            is chosen anew.

        Returns:
          The pipeline itself.

        Raises:
          UserError: there is no such device, or sampling has no such precision.
        """
        if isinstance(device, torch.dtype):
            device, dtype = None, device if dtype is None else dtype
        precision = self.precision if dtype is None else precision_of(dtype)
        if device is not None:
            place = device_for(device)
            with user_error_when_out(f"moving the model to {place}", "choose a smaller one"):
                for module in (self.model.clip, self.model.codec, self.model.denoiser):
                    module.to(place)
            if self._precision_follows_device and dtype is None:
                precision = for_sampling(place)
        self.precision, self._precision_follows_device = precision, self._precision_follows_device and dtype is None
        return self

    @user_error_when_out(*OUT_OF_MEMORY)
    @torch.no_grad()
    def sample(
        self,
        starts: Frames,
        captions: Texts,
        params: SamplingParams,
        seeds: Seeds,
        progress: Progress = None,
        *,
        negatives: Sequence[str] = (),
        on_frame: OnFrame = None,
        lasts: Frames | None = None,
    ) -> UInt8[np.ndarray, "B F H W 3"]:
        """Samples a batch of videos; each has its own random stream, so none depends on the others.

        Args:
          starts: starting frames at the model's size.
          captions, seeds: one per video.
          params: its own seed is unused.
          progress: called with the number of videos after every frame.
          negatives: captions that guidance leads away from, one per video or none at all; "" is the empty caption.
          on_frame: see `OnFrame`.
          lasts: last frames at the model's size, which are then given and not sampled; None where there are none.
        """
        with threads(self.num_threads):
            sampled = list(self.sampled_frames(starts, captions, params, seeds, progress, negatives, on_frame, lasts))
            frames = self.decode(torch.stack([self.values(frame.to_decode) for frame in sampled], 1), starts, params)
        frames[:, 0] = starts
        if lasts is not None:
            frames[:, -1] = lasts
        return frames

    @user_error_when_out(*OUT_OF_MEMORY)
    @torch.no_grad()
    def roll_out(
        self,
        starts: Frames,
        captions: Texts,
        params: SamplingParams,
        seeds: Seeds,
        progress: Progress = None,
        *,
        negatives: Sequence[str] = (),
        on_frame: OnFrame = None,
        lasts: Frames | None = None,
    ) -> Int[Tensor, "B F N"] | Float[Tensor, "B F P V"]:
        """`sample` in latent space, autoregressively: no frame is decoded and encoded again in between.

        Returns codes (B, F, N), or code values (B, F, P, V) of a baseline on those.
        """
        with threads(self.num_threads):
            sampled = self.sampled_frames(starts, captions, params, seeds, progress, negatives, on_frame, lasts)
            return torch.stack([frame.latents for frame in sampled], 1)

    def _parts(
        self,
        start: Start,
        caption: Text,
        params: SamplingParams,
        progress: Progress,
        negatives: Sequence[str] = (),
        on_frame: OnFrame = None,
        lasts: Frames | None = None,
    ) -> Iterator[UInt8[np.ndarray, "_ H W 3"]]:
        """One video, at most `DECODE_BATCH` frames at a time. Between two parts torch's number of threads is the caller's own."""
        streams = [params.seed], progress, negatives, on_frame, lasts
        sampled = self.sampled_frames(start[None], [caption], params, *streams)
        first, num_left = None, params.num_frames
        for number in itertools.count():
            with threads(self.num_threads), user_error_when_out(*OUT_OF_MEMORY):
                part = [self.values(frame.to_decode) for frame in itertools.islice(sampled, DECODE_BATCH)]
                if not part:
                    return
                first = part[0] if first is None else first
                frames = self.decode(torch.stack(part, 1), start[None], params, first)[0]
            if number == 0:
                frames[0] = start
            num_left -= len(frames)
            if lasts is not None and not num_left:
                frames[-1] = lasts[0]
            yield frames

    @torch.no_grad()
    def sampled_frames(
        self,
        starts: Frames,
        captions: Texts,
        params: SamplingParams,
        seeds: Seeds,
        progress: Progress,
        negatives: Sequence[str] = (),
        on_frame: OnFrame = None,
        lasts: Frames | None = None,
    ) -> Iterator[SampledFrame]:
        """`sample`, frame after frame and undecoded; the context of the caller is the thread's number of threads."""
        grid = self._grid_of(starts)
        with self._in_fp32():
            start = self.sampler.begin(self.encode(starts))
        streams = [generator(int(seed), "draw", device=start.device) for seed in seeds]
        schedules = [CaptionSchedule.of(caption) for caption in captions]
        negative, encode_text = self._negative_text(negatives), self.model.clip.encode_text
        last = None if lasts is None else self.encode(lasts)
        frames = roll_out(self.sampler, start, schedules, encode_text, params, streams, negative, last, grid)
        num_sampled = params.num_frames - (last is not None)
        replaced = None
        for number in range(params.num_frames):
            with self._autocast():  # never across a yield: the setting is the thread's
                frame = frames.send(replaced)
            if progress and number:
                progress(len(start))
            replaced = on_frame(number, frame.latents) if on_frame and 0 < number < num_sampled else None
            yield frame if replaced is None else SampledFrame(replaced, replaced)

    def _grid_of(self, frames: Frames) -> Grid:
        """Rows and columns of the patches of frames."""
        return self.model.codec.grid_of(*frames.shape[1:3])

    def _negative_text(self, negatives: Sequence[str]) -> TextStates | None:
        """Token states of negative captions; None where all are the empty caption."""
        if not any(sentence.strip() for sentence in negatives):
            return None
        with self._in_fp32():
            text = self.model.clip.encode_text(negatives)
        is_kept = torch.tensor([[float(bool(sentence.strip()))] for sentence in negatives], device=text.tokens.device)
        return with_dropped_captions(text, 0.5, is_kept)

    def _autocast(self) -> torch.autocast:
        """In bf16, matrix products in it; otherwise nothing."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def _in_fp32(self) -> torch.autocast:
        """Also where the caller has switched autocast on: the bits of a video depend on `precision` alone."""
        return torch.autocast(self.device.type, enabled=False)

    @user_error_when_out("computing a likelihood", "use a smaller model")
    @torch.no_grad()
    def nll(
        self, frames: UInt8[np.ndarray, "F H W 3"], caption: str, fps: float, seed: int
    ) -> Float64[np.ndarray, "F-1 N"]:
        """-log p(codes of a frame | codes of the true frame before it, first frame, caption, dt), from frame 1 on.

        Teacher-forced, without guidance and at temperature 1: sampling parameters play no part.

        Args:
          frames: a real video at the model's size.

        Returns:
          Nats per token. Of the discrete diffusion an estimated upper bound, see `DiscreteSampler.nll`; of a causal model exact.
        """
        assert isinstance(self.sampler, Likelihood)
        with threads(self.num_threads):
            codes, text = self.encode(frames), self.model.clip.encode_text([caption])
            given = (codes, text, fps, generator(int(seed), "nll", device=codes.device), self._grid_of(frames))
            return nats_of_true_frames(self.sampler.nll, *given).cpu().numpy()

    @user_error_when_out("comparing captions", "use a smaller model")
    def code_nats(
        self, frames: UInt8[np.ndarray, "F H W 3"], captions: Sequence[str], fps: float, seed: int
    ) -> tuple[Float64[np.ndarray, "C F-1 N"], Bool[np.ndarray, "F-1 N"]]:
        """`CodePrediction.code_nats` of the true codes under each caption, equally corrupted; and which codes change."""
        assert isinstance(self.sampler, CodePrediction)
        with threads(self.num_threads), torch.no_grad():
            codes, nats = self.encode(frames), []
            for text in (self.model.clip.encode_text([caption]) for caption in captions):
                given = (
                    codes,
                    text,
                    fps,
                    generator(int(seed), "code-nats", device=codes.device),
                    self._grid_of(frames),
                )
                nats.append(nats_of_true_frames(self.sampler.code_nats, *given))
            return torch.stack(nats).cpu().numpy(), (codes[1:] != codes[:-1]).cpu().numpy()

    @torch.no_grad()
    def encode(self, frames: Frames) -> Int[Tensor, "B N"]:
        """Frames at the model's size -> codes."""
        codec = self.model.codec
        with threads(self.num_threads), self._in_fp32():
            parts = np.array_split(frames, max(1, len(frames) // DECODE_BATCH))
            how = (codec.cfg.layers, self._grid_of(frames))
            states = (self.model.clip.encode_image(_as_tensor(part, self.device), *how) for part in parts)
            return torch.cat([codec.encode(found.patches) for found in states])

    def values(self, latents: Int[Tensor, "B N"] | Float[Tensor, "B P V"]) -> Float[Tensor, "B P V"]:
        """Code values of codes; values stay as they are."""
        return latents if latents.is_floating_point() else self.model.codec.values(latents)

    @torch.no_grad()
    def decode(
        self,
        latents: Int[Tensor, "B F N"] | Float[Tensor, "B F P V"],
        starts: Frames,
        params: SamplingParams | None = None,
        first: Int[Tensor, "B N"] | Float[Tensor, "B P V"] | None = None,
    ) -> UInt8[np.ndarray, "B F H W 3"]:
        """Codes of videos, or code values, and their starting frames -> frames.

        Args:
          params: `unchanged` of these, or of the model's defaults, says what becomes of patches that do not change.
          first: latents of the starting frames; those of frame 0 when not given.
        """
        codec, num_frames = self.model.codec, latents.shape[1]
        copies = (params or self.model.config.sample).unchanged == "copied"
        with threads(self.num_threads), self._autocast():
            start = _as_tensor(starts, latents.device).repeat_interleave(num_frames, 0)
            given = [latents.flatten(0, 1), start]
            if copies:
                given.append(self.values(latents[:, 0] if first is None else first).repeat_interleave(num_frames, 0))
            parts = zip(*(rows.split(DECODE_BATCH) for rows in given), strict=True)
            decoded = torch.cat([codec.decode_values(self.values(part), *others).float() for part, *others in parts])
            frames = decoded.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        return frames.reshape(*latents.shape[:2], *frames.shape[1:])


def _as_tensor(frames: Frames, device: torch.device) -> Tensor:
    return torch.from_numpy(frames).to(device).permute(0, 3, 1, 2).float().div(255)

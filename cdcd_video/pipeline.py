"""Sampling a video: image + caption -> codes -> one reverse process per frame, all in latent space -> frames -> Video."""

import itertools
import platform
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import PIL.Image
import torch
from jaxtyping import Float, Float64, Int, UInt8
from torch import Tensor

import cdcd_video
from cdcd_video.config import SamplingParams
from cdcd_video.data.images import as_array, fit
from cdcd_video.diffusion.sampler import has_order
from cdcd_video.engine.precision import Precision, for_sampling
from cdcd_video.engine.runtime import device_for, generator
from cdcd_video.errors import SamplingWarning, UserError
from cdcd_video.kernels.threads import threads
from cdcd_video.model import Model, load_model
from cdcd_video.networks.clip import STAND_IN
from cdcd_video.networks.next_frame import Likelihood, NextFrame
from cdcd_video.records import Video
from cdcd_video.sampling.captions import Caption, CaptionSchedule
from cdcd_video.sampling.code_sampler import DiscreteSampler
from cdcd_video.sampling.notes import advice, threads_of
from cdcd_video.sampling.roll_out import SampledFrame, roll_out
from cdcd_video.sampling.teacher_forced import nll_of_true_frames
from cdcd_video.storage.memory import user_error_when_out

DECODE_BATCH = 64
"""Frames decoded at a time."""
Image = str | Path | PIL.Image.Image | np.ndarray
"""A path, a Pillow image or a uint8 array."""
Frames = UInt8[np.ndarray, "B H W 3"]
Progress = Callable[[int], None] | None
Seeds = Sequence[int]
Start = UInt8[np.ndarray, "S S 3"]
"""A starting frame at the model's size."""
Text = Caption | CaptionSchedule
Texts = Sequence[Text]
_SAMPLING = ("sampling a video", "use fewer frames, a smaller batch or a smaller model")


class ImageToVideo:
    """The public face of a trained model: `pipe(image, "the red circle moves right")`.

    Attributes:
      sampler: samples the next frame; the discrete diffusion, or the baseline that the config names.
      precision: of the matrix products while sampling and decoding; starting frames are encoded in fp32, as in training.
      num_threads: CPU threads of one operation while sampling; None: what torch is set to. The caller's own setting is
        restored afterwards. Last bits depend on it, so it follows from the model alone.
    """

    def __init__(self, model: Model, precision: Precision = "fp32"):
        self.model, self.precision = model, precision
        self.num_threads = threads_of(model)
        self.sampler: NextFrame = (
            DiscreteSampler(model.denoiser, model.process, model.codec, model.config)
            if model.config.baseline is None
            else model.denoiser
        )

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path = "sprites",
        device: str = "auto",
        precision: Literal["auto", "bf16", "fp32"] = "auto",
    ) -> "ImageToVideo":
        """Loads a shipped model by name, or a model or run folder.

        Args:
          precision: `auto` is bf16 on a GPU that has it, and fp32 elsewhere.

        Raises:
          UserError: there is no such model or precision, or the model is damaged.
        """
        if precision not in ("auto", *get_args(Precision)):
            raise UserError(f"precision is {precision}; it must be auto, {' or '.join(get_args(Precision))}")
        where = device_for(device)
        return cls(load_model(name_or_path, where), for_sampling(where) if precision == "auto" else precision)

    @property
    def size_px(self) -> int:
        """Side of the frames."""
        return self.model.config.data.size_px

    @property
    def has_likelihood(self) -> bool:
        """Whether `nll` exists; a baseline on continuous values has none."""
        return isinstance(self.sampler, Likelihood)

    def defaults(self, **changes: Any) -> SamplingParams:
        """The model's own sampling parameters, with those that are given (and not None) changed.

        Raises:
          UserError: a value out of its range, or a parameter that the model does not have.
        """
        changes = {name: value for name, value in changes.items() if value is not None}
        params = self.model.config.sample.changed(**changes)
        baseline = self.model.config.baseline
        if baseline and (params.order != "ancestral" or params.contrast):
            raise UserError(
                f"the model is the baseline {baseline.kind}, which supports neither order nor contrast; leave both out"
            )
        if baseline:
            return params
        if params.order != "ancestral" and not has_order(self.model.process):
            kind = self.model.config.diffusion.process.kind
            raise UserError(f"order {params.order} needs the process mask, but the model uses {kind}; use ancestral")
        most = self.model.process.num_steps
        if most is not None and params.num_steps > most:
            raise UserError(f"{params.num_steps} steps are more than the model's chain has; use at most {most}")
        return params

    def warnings(self, caption: Text, params: SamplingParams, start: Start | None = None) -> list[str]:
        """Warnings before sampling, one sentence each; see `advice`.

        Raises:
          UserError: a caption that cannot be used.
        """
        return advice(self.model, CaptionSchedule.of(caption), params, start)

    def __call__(self, image: Image, text: Text, *, progress: Progress = None, **changes: Any) -> Video:
        """Samples one video.

        Args:
          image: the starting frame; made square and resized like the training frames (`data.mode`: crop the centre, or
            letterbox). One that has the model's size already is frame 0 of the video, unchanged.
          text: what happens; or [(frame, sentence), ...] for sentences that change along the video.
          progress: called with 1 after every frame.
          **changes: any field of `SamplingParams`.

        Returns:
          The video; `video.frames` is uint8 (F, H, W, 3).

        Raises:
          UserError: an image, caption or setting that cannot be used.

        Warns:
          SamplingWarning: each sentence of `warnings`.
        """
        params, text = self.defaults(**changes), CaptionSchedule.of(text)
        with user_error_when_out(*_SAMPLING):  # no decorator: warnings name the line that called
            start = self._begin(image, text, params)
            frames = np.concatenate(list(self._parts(start, text, params, progress)))
        return Video(frames, params.fps, self.settings(text, params))

    def stream(
        self, image: Image, text: Text, params: SamplingParams, progress: Progress = None
    ) -> Iterator[UInt8[np.ndarray, "_ H W 3"]]:
        """The same video part after part, each as soon as it is sampled, so that only one part is in memory.

        Args:
          image, text, progress: as for calling.
          params: of `defaults`.

        Yields:
          At most `DECODE_BATCH` frames, in order.

        Raises:
          UserError: an image or caption that cannot be used; raised by this call, not by the first part.

        Warns:
          SamplingWarning: as calling does.
        """
        captions = CaptionSchedule.of(text)
        return self._parts(self._begin(image, captions, params), captions, params, progress)

    def _begin(self, image: Image, captions: CaptionSchedule, params: SamplingParams) -> Start:
        """The starting frame at the model's size; warns on behalf of the caller of `__call__` or `stream`."""
        data = self.model.config.data
        start = fit(as_array(image), self.size_px, data.mode)
        for note in advice(self.model, captions, params, start):
            warnings.warn(note, SamplingWarning, stacklevel=3)
        return start

    def _parts(
        self, start: Start, captions: CaptionSchedule, params: SamplingParams, progress: Progress
    ) -> Iterator[UInt8[np.ndarray, "_ S S 3"]]:
        """`stream` of checked input. Between two parts torch's number of threads is the caller's own."""
        sampled = self._frames(start[None], [captions], params, [params.seed], progress)
        first = None
        for number in itertools.count():
            with threads(self.num_threads), user_error_when_out(*_SAMPLING):
                part = [self._values(frame.to_decode) for frame in itertools.islice(sampled, DECODE_BATCH)]
                if not part:
                    return
                first = part[0] if first is None else first
                frames = self.decode(torch.stack(part, 1), start[None], params, first)[0]
            if number == 0:
                frames[0] = start
            yield frames

    def settings(self, text: Text, params: SamplingParams) -> dict[str, Any]:
        """What is written beside a video: enough to sample it again."""
        return {
            "text": [[frame, sentence] for frame, sentence in CaptionSchedule.of(text).turns],
            **params.described(),
            "model": self.model.config.name,
            "model_sha256": self.model.digest,
            **({STAND_IN: self.model.clip.stand_in} if self.model.clip.stand_in else {}),
            "versions": {
                "cdcd_video": cdcd_video.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        }

    @user_error_when_out(*_SAMPLING)
    @torch.no_grad()
    def sample(
        self, starts: Frames, captions: Texts, params: SamplingParams, seeds: Seeds, progress: Progress = None
    ) -> UInt8[np.ndarray, "B F H W 3"]:
        """Samples a batch of videos; each has its own random stream, so none depends on the others.

        Args:
          starts: starting frames at the model's size.
          captions, seeds: one per video.
          params: its own seed is unused.
          progress: called with the number of videos after every frame.
        """
        with threads(self.num_threads):
            values = [
                self._values(frame.to_decode) for frame in self._frames(starts, captions, params, seeds, progress)
            ]
            frames = self.decode(torch.stack(values, 1), starts, params)
        frames[:, 0] = starts
        return frames

    @user_error_when_out(*_SAMPLING)
    @torch.no_grad()
    def roll_out(
        self, starts: Frames, captions: Texts, params: SamplingParams, seeds: Seeds, progress: Progress = None
    ) -> Int[Tensor, "B F N"] | Float[Tensor, "B F P V"]:
        """`sample` in latent space, autoregressively: no frame is decoded and encoded again in between.

        Returns codes (B, F, N), or code values (B, F, P, V) of a baseline on those.
        """
        with threads(self.num_threads):
            return torch.stack([frame.latents for frame in self._frames(starts, captions, params, seeds, progress)], 1)

    @torch.no_grad()
    def _frames(
        self, starts: Frames, captions: Texts, params: SamplingParams, seeds: Seeds, progress: Progress
    ) -> Iterator[SampledFrame]:
        """Frame after frame of `roll_out`, with what the decoder gets of each."""
        start = self.sampler.begin(self.encode(starts))
        streams = [generator(int(seed), "draw", device=start.device) for seed in seeds]
        schedules = [CaptionSchedule.of(caption) for caption in captions]
        frames = roll_out(self.sampler, start, schedules, self.model.clip.encode_text, params, streams)
        for number in range(params.num_frames):
            with self._autocast():  # never across a yield: the setting is the thread's
                frame = next(frames)
            if progress and number:
                progress(len(start))
            yield frame

    def _autocast(self) -> torch.autocast:
        """In bf16, matrix products in it; otherwise nothing."""
        device = self.model.codec.table.device.type
        return torch.autocast(device, torch.bfloat16, enabled=self.precision == "bf16")

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
            stream = generator(int(seed), "nll", device=codes.device)
            return nll_of_true_frames(self.sampler, codes, text, fps, stream).cpu().numpy()

    @torch.no_grad()
    def encode(self, frames: Frames) -> Int[Tensor, "B N"]:
        """Frames at the model's size -> codes."""
        codec = self.model.codec
        device = codec.table.device
        with threads(self.num_threads):
            rows = [
                codec.encode(self.model.clip.encode_image(_as_tensor(rows, device), codec.cfg.layers).patches)
                for rows in np.array_split(frames, max(1, len(frames) // DECODE_BATCH))
            ]
            return torch.cat(rows)

    def _values(self, latents: Int[Tensor, "B N"] | Float[Tensor, "B P V"]) -> Float[Tensor, "B P V"]:
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
                given.append(self._values(latents[:, 0] if first is None else first).repeat_interleave(num_frames, 0))
            parts = zip(*(rows.split(DECODE_BATCH) for rows in given), strict=True)
            decoded = torch.cat([codec.decode_values(self._values(part), *others).float() for part, *others in parts])
            frames = decoded.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        return frames.reshape(*latents.shape[:2], *frames.shape[1:])


def _as_tensor(frames: Frames, device: torch.device) -> Tensor:
    return torch.from_numpy(frames).to(device).permute(0, 3, 1, 2).float().div(255)

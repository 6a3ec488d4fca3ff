"""How it draws: image + sentence -> codes -> one reverse walk per frame, all in latent space -> frames -> Video."""

import itertools
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

import cdcd_video
from cdcd_video.contrast.guidance import closeness, tilted
from cdcd_video.data.images import as_array, fit
from cdcd_video.denoiser import Condition, Prepared
from cdcd_video.diffusion.categorical import guided
from cdcd_video.diffusion.sampler import WALKS, Denoise, has_order
from cdcd_video.engine.runtime import device_for, generator
from cdcd_video.errors import UserError
from cdcd_video.model import Model, load_model
from cdcd_video.objective import beside_empty
from cdcd_video.pretrained import STAND_IN
from cdcd_video.records import TextStates, Video
from cdcd_video.rivals.interface import NextFrame

Caption = str | Sequence[tuple[int, str]]
"""One sentence, or (frame, sentence) pairs: the sentence that holds from that frame on."""

MAX_FRAMES = 10_000
DECODE_BATCH = 64
"""Frames decoded at a time."""


@dataclass(frozen=True)
class Drawing:
    """Every dial of a drawing."""

    num_frames: int = 16
    fps: float = 8.0
    num_steps: int = 4
    """Reverse steps per frame."""
    guidance: float = 1.5
    """Classifier-free guidance (Ho & Salimans 2022, eq. 6, as 1 + w): 1 is off."""
    temperature: float = 0.5
    top_p: float = 1.0
    order: str = "ancestral"
    """Which codes settle first: one of `cdcd_video.diffusion.sampler.WALKS`."""
    contrast: float = 0.0
    """Strength of the contrast as guidance, in nats per nat of `cdcd_video.contrast.guidance.closeness`; 0 is off."""
    seed: int = 0

    def __post_init__(self):
        allowed = {
            "num_frames": (1 <= self.num_frames <= MAX_FRAMES, f"from 1 to {MAX_FRAMES}"),
            "fps": (0 < self.fps <= 240, "above 0 and at most 240"),
            "num_steps": (1 <= self.num_steps <= 1000, "from 1 to 1000"),
            "guidance": (0 <= self.guidance <= 100, "from 0 to 100"),
            "temperature": (0 <= self.temperature <= 10, "from 0 to 10"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "order": (self.order in WALKS, f"one of {', '.join(WALKS)}"),
            "contrast": (0 <= self.contrast <= 10_000, "from 0 to 10000"),
            "seed": (0 <= self.seed < 2**63, "from 0 to 2**63 - 1"),
        }
        for name, (is_good, words) in allowed.items():
            if not is_good:
                raise UserError(f"{name} is {getattr(self, name)}; it must be {words}")


class ImageToVideo:
    """The public face of a trained model: `pipe(image, "the red circle moves right")`.

    Args:
      model: a loaded model.
    """

    def __init__(self, model: Model):
        self.model = model
        self.way: NextFrame = CodeWalk(model) if model.config.rival is None else model.denoiser

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path = "sprites", device: str = "auto") -> "ImageToVideo":
        """Loads a shipped model by name, or a model or run folder.

        Raises:
          UserError: there is no such model, or it is damaged.
        """
        return cls(load_model(name_or_path, device_for(device)))

    @property
    def size_px(self) -> int:
        """Side of the frames."""
        return self.model.config.data.size_px

    def defaults(self, **changes: Any) -> Drawing:
        """The model's own drawing settings, with those that are given (and not None) changed.

        Raises:
          UserError: a setting out of its range, or one that the model's way of drawing does not have.
        """
        drawing = Drawing(**self.model.config.sample.model_dump())
        drawing = replace(drawing, **{name: value for name, value in changes.items() if value is not None})
        rival = self.model.config.rival
        if rival and (drawing.order != "ancestral" or drawing.contrast):
            raise UserError(
                f"the model is the rival {rival.kind}, which has no order of codes and no contrast; leave both out"
            )
        if rival:
            return drawing
        if drawing.order != "ancestral" and not has_order(self.model.process):
            kind = self.model.config.diffusion.process.kind
            raise UserError(f"order {drawing.order} needs the process mask, and the model's is {kind}; use ancestral")
        most = self.model.process.num_steps
        if most is not None and drawing.num_steps > most:
            raise UserError(f"{drawing.num_steps} steps are more than the model's chain has; use at most {most}")
        return drawing

    def warnings(self, caption: Caption, drawing: Drawing) -> list[str]:
        """What the user should be told before drawing; see `FrozenClip.check_caption`.

        Raises:
          UserError: a caption that cannot be drawn.
        """
        told = [told for _, text in _schedule(caption) for told in self.model.clip.check_caption(text)]
        late = [frame for frame, _ in _schedule(caption) if frame >= drawing.num_frames]
        if late:
            told.append(
                f"the caption that begins at frame {late[0]} is never reached: {drawing.num_frames} frames are drawn"
            )
        told += self._idle_dials(drawing)
        frame_s, data = 1 / drawing.fps, self.model.config.data
        fps = data.fps if data.kind == "sprites" else None
        most = self.model.config.diffusion.max_gap_frames(fps) if fps else 0
        if fps and not 1 / fps <= frame_s * 1.001 <= most / fps * 1.002:
            slowest = fps / most
            told.append(
                f"{drawing.fps:g} frames per second is outside what the model was trained on ({slowest:g} to {fps:g})"
            )
        return told

    def _idle_dials(self, drawing: Drawing) -> list[str]:
        """Dials that were turned and that the model's rival does not have."""
        rival, sample = self.model.config.rival, self.model.config.sample
        idle = {"gaussian": "top_p", "autoregressive": "num_steps"}.get(rival.kind) if rival else None
        if idle is None or getattr(drawing, idle) == getattr(sample, idle):
            return []
        return [f"{idle} is not looked at: the model is the rival {rival.kind}, which has none"]

    def __call__(
        self,
        image: str | Path | Image.Image | np.ndarray,
        text: Caption,
        *,
        progress: Callable[[int], None] | None = None,
        **changes: Any,
    ) -> Video:
        """Draws one video.

        Args:
          image: the starting frame: a path, a Pillow image or a uint8 array; made square and of the model's size as
            the frames were that it learned from (`data.mode`: crop the centre, or letterbox). One that has that size is frame
            0 of the video, unchanged.
          text: what happens; or [(frame, sentence), ...] for sentences that change along the way.
          progress: called with 1 after every frame.
          **changes: any field of `Drawing`.

        Returns:
          The video; `video.frames` is uint8 (F, H, W, 3).

        Raises:
          UserError: an image, caption or setting that cannot be used.
        """
        drawing = self.defaults(**changes)
        frames = np.concatenate(list(self.stream(image, text, drawing, progress)))
        return Video(frames, drawing.fps, self.settings(text, drawing))

    def stream(
        self,
        image: str | Path | Image.Image | np.ndarray,
        text: Caption,
        drawing: Drawing,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[UInt8[np.ndarray, "_ H W 3"]]:
        """The same video part after part, each as soon as it is drawn: never more than a part of the frames is in memory.

        Args:
          image, text, progress: as for calling.
          drawing: of `defaults`.

        Yields:
          At most `DECODE_BATCH` frames, in order.

        Raises:
          UserError: an image or caption that cannot be used.
        """
        self.warnings(text, drawing)
        data = self.model.config.data
        start = fit(as_array(image), self.size_px, "crop" if data.kind == "sprites" else data.mode)
        latents = self._latents(start[None], [text], drawing, [drawing.seed], progress)
        is_first = True
        while part := list(itertools.islice(latents, DECODE_BATCH)):
            frames = self.decode(torch.stack(part, 1), start[None])[0]
            if is_first:
                frames[0], is_first = start, False
            yield frames

    def settings(self, text: Caption, drawing: Drawing) -> dict[str, Any]:
        """What is written beside a video: enough to draw it again."""
        return {
            "text": [[frame, sentence] for frame, sentence in _schedule(text)],
            **asdict(drawing),
            "model": self.model.config.name,
            "model_sha256": self.model.digest,
            **({STAND_IN: self.model.clip.stand_in} if self.model.clip.stand_in else {}),
            "versions": {
                "cdcd_video": cdcd_video.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        }

    @torch.no_grad()
    def draw(
        self,
        starts: UInt8[np.ndarray, "B H W 3"],
        captions: Sequence[Caption],
        drawing: Drawing,
        seeds: Sequence[int],
        progress: Callable[[int], None] | None = None,
    ) -> UInt8[np.ndarray, "B F H W 3"]:
        """Draws a batch of videos; each has its own random stream, so none depends on the others.

        Args:
          starts: starting frames at the model's size.
          captions: one per video.
          drawing: settings; its seed is not looked at.
          seeds: one per video.
          progress: called with the number of videos after every frame.
        """
        codes = self.roll_out(starts, captions, drawing, seeds, progress)
        frames = self.decode(codes, starts)
        frames[:, 0] = starts
        return frames

    @torch.no_grad()
    def roll_out(
        self,
        starts: UInt8[np.ndarray, "B H W 3"],
        captions: Sequence[Caption],
        drawing: Drawing,
        seeds: Sequence[int],
        progress: Callable[[int], None] | None = None,
    ) -> Int[Tensor, "B F N"] | Float[Tensor, "B F P V"]:
        """Autoregressive in latent space: frame after frame, never decoded and encoded in between.

        Returns codes (B, F, N), or the code values (B, F, P, V) of a rival that walks in those.
        """
        return torch.stack(list(self._latents(starts, captions, drawing, seeds, progress)), 1)

    @torch.no_grad()
    def _latents(
        self,
        starts: UInt8[np.ndarray, "B H W 3"],
        captions: Sequence[Caption],
        drawing: Drawing,
        seeds: Sequence[int],
        progress: Callable[[int], None] | None,
    ) -> Iterator[Int[Tensor, "B N"] | Float[Tensor, "B P V"]]:
        """Frame after frame of `roll_out`."""
        model, way = self.model, self.way
        device = model.codec.table.device
        streams = [generator(int(seed), "draw", device=device) for seed in seeds]
        schedules = [dict(_schedule(caption)) for caption in captions]
        said = [schedule[0] for schedule in schedules]
        text = model.clip.read(said)
        source = first = way.begin(self.encode(starts))
        since = torch.zeros(len(source), device=device)
        gap = torch.full_like(since, 1 / drawing.fps)
        has_first = torch.ones(len(source), dtype=torch.bool, device=device)
        yield source
        for number in range(1, drawing.num_frames):
            turns = [number in schedule for schedule in schedules]
            if any(turns):  # the new sentence begins here: its first frame is the one we stand on
                said = [schedule.get(number, before) for schedule, before in zip(schedules, said, strict=True)]
                text = model.clip.read(said)
                is_turn = torch.tensor(turns, device=device)
                first = torch.where(is_turn.view(-1, *[1] * (source.ndim - 1)), source, first)
                since = torch.where(is_turn, 0.0, since)
            condition = Condition(source, first, has_first, gap, since, text)
            source = way.next_frame(condition, drawing, streams)
            since = since + gap
            if progress:
                progress(len(source))
            yield source

    @torch.no_grad()
    def encode(self, frames: UInt8[np.ndarray, "B H W 3"]) -> Int[Tensor, "B N"]:
        """Frames at the model's size -> codes."""
        codec = self.model.codec
        device = codec.table.device
        rows = [
            codec.encode(self.model.clip.see(_as_tensor(rows, device), codec.cfg.layers).patches)
            for rows in np.array_split(frames, max(1, len(frames) // DECODE_BATCH))
        ]
        return torch.cat(rows)

    @torch.no_grad()
    def decode(
        self, latents: Int[Tensor, "B F N"] | Float[Tensor, "B F P V"], starts: UInt8[np.ndarray, "B H W 3"]
    ) -> UInt8[np.ndarray, "B F H W 3"]:
        """Codes of whole videos, or code values, and their starting frames -> frames."""
        codec = self.model.codec
        decode = codec.decode_values if latents.is_floating_point() else codec.decode
        start = _as_tensor(starts, latents.device).repeat_interleave(latents.shape[1], 0)
        pairs = zip(latents.flatten(0, 1).split(DECODE_BATCH), start.split(DECODE_BATCH), strict=True)
        drawn = torch.cat([decode(part, beside).float() for part, beside in pairs])
        frames = drawn.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        return frames.reshape(*latents.shape[:2], *frames.shape[1:])


class CodeWalk:
    """Our way to the next frame: a reverse walk of the discrete diffusion, over codes."""

    def __init__(self, model: Model):
        self.denoiser, self.process, self.codec = model.denoiser, model.process, model.codec
        self._said: tuple[TextStates, int, tuple[tuple[Tensor, Tensor], ...]] | None = None

    def begin(self, codes: Int[Tensor, "B N"]) -> Int[Tensor, "B N"]:
        """The walk is over the codes themselves. No caption of an earlier video is remembered."""
        self._said = None
        return codes

    def next_frame(
        self, condition: Condition, dials: Drawing, streams: Sequence[torch.Generator]
    ) -> Int[Tensor, "B N"]:
        """From the law of the source to the next frame's codes."""
        denoise = self._guided(condition, dials.guidance)
        if dials.contrast:
            denoise = self._contrasted(denoise, condition, dials.contrast)
        return WALKS[dials.order](
            denoise,
            self.process,
            condition.source,
            dials.num_steps,
            streams,
            temperature=dials.temperature,
            top_p=dials.top_p,
        )

    def _guided(self, condition: Condition, scale: float):
        """The denoiser with guidance in one batch; what does not change along the walk is computed here, once."""
        denoiser, num = self.denoiser, len(condition.source)
        if scale == 1:
            prepared = self._prepared(condition, condition)
            return lambda x_t, t: denoiser(x_t, t, prepared)
        prepared = self._prepared(condition, beside_empty(condition))

        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            logits = denoiser(torch.cat([x_t, x_t]), torch.cat([t, t]), prepared)
            return guided(logits[:num], logits[num:], scale)

        return denoise

    def _prepared(self, condition: Condition, shown: Condition) -> Prepared:
        """What the denoiser makes of `shown`, which is `condition` or holds it; a caption is read once, while it holds."""
        known = self._said if self._said and self._said[0] is condition.text else None
        is_known = known is not None and known[1] == len(shown.source)
        prepared = self.denoiser.prepare(shown, known[2] if is_known else None)
        self._said = (condition.text, len(shown.source), prepared.keys_values)
        return prepared

    def _contrasted(self, denoise: Denoise, condition: Condition, strength: float) -> Denoise:
        """A denoiser tilted towards the earlier frame and the sentence, as the codec's `embed` sees the soft codes."""
        near = (self.codec.embed(condition.source), condition.text.embedding)

        def score(soft: Float[Tensor, "B N K"]) -> Float[Tensor, "B"]:
            return closeness(self.codec.embed_soft(soft), near)

        return lambda x_t, t: tilted(denoise(x_t, t), score, strength)


def _as_tensor(frames: UInt8[np.ndarray, "B H W 3"], device: torch.device) -> Tensor:
    return torch.from_numpy(frames).to(device).permute(0, 3, 1, 2).float().div(255)


def _schedule(caption: Caption) -> list[tuple[int, str]]:
    """A caption as (frame, sentence) pairs in order; the first begins at frame 0.

    Raises:
      UserError: no sentence for the beginning, two for one frame, or a frame below 0.
    """
    if isinstance(caption, str):
        return [(0, caption)]
    pairs = sorted((int(frame), sentence) for frame, sentence in caption)
    frames = [frame for frame, _ in pairs]
    if not pairs or frames[0] != 0:
        raise UserError('captions that change along the way must begin at frame 0, e.g. --text "0:..." --text "8:..."')
    if len(set(frames)) < len(frames):
        raise UserError(f"two captions begin at the same frame ({frames}); give each its own")
    return pairs

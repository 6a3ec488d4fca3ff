"""Frame after frame in latent space: from which earlier frame each one is sampled, and in how many hidden steps."""

import math
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cdcd_video.config import SamplingParams
from cdcd_video.networks.conditioning import Condition
from cdcd_video.networks.next_frame import ExpectedValues, NextFrame
from cdcd_video.records import Grid, LastFrame, TextStates
from cdcd_video.sampling.captions import CaptionSchedule


@dataclass(frozen=True)
class TimeGrid:
    """The instants at which latents are sampled.

    Attributes:
      step_s: seconds from one instant to the next.
      per_frame: instants per frame of the video; the last of them is decoded.
      back: instants from a source to its target, at most.
    """

    step_s: float
    per_frame: int
    back: int

    @classmethod
    def of(cls, params: SamplingParams) -> "TimeGrid":
        """Frames farther apart than `longest_gap_s` get hidden instants between them; sources lie `lookback_s` back."""
        frame_s = 1 / params.fps
        per_frame = max(1, math.ceil(frame_s / params.longest_gap_s - 1e-6)) if params.longest_gap_s else 1
        step_s = frame_s / per_frame
        return cls(step_s, per_frame, max(1, math.floor(params.lookback_s / step_s + 0.5)))


@dataclass(frozen=True)
class SampledFrame:
    """One frame of each video of a batch."""

    latents: Int[Tensor, "B N"] | Float[Tensor, "B P V"]
    """What the roll-out goes on from."""
    to_decode: Int[Tensor, "B N"] | Float[Tensor, "B P V"]
    """What the decoder gets."""


def roll_out(
    sampler: NextFrame,
    start: Int[Tensor, "B N"] | Float[Tensor, "B P V"],
    captions: Sequence[CaptionSchedule],
    encode_text: Callable[[list[str]], TextStates],
    params: SamplingParams,
    streams: Sequence[torch.Generator],
    negative: TextStates | None = None,
    last: Int[Tensor, "B N"] | None = None,
    grid: Grid | None = None,
) -> Generator[SampledFrame, Tensor | None, None]:
    """Samples every frame from the one `lookback_s` before it, never from before its own sentence began.

    Fewer generations lie between the first frame and the last than when each frame is sampled from the one before: less
    drift, and the same time between source and target at any frame rate. A frame that a sentence begins at is sampled from
    the frame before it, which is the first frame of that sentence.

    Args:
      sampler: samples a frame.
      start: latents of the starting frames, as `sampler` works on them.
      captions: one per video.
      encode_text: sentences -> states.
      params: number of frames, rate, `lookback_s`, `longest_gap_s`, `decoded`.
      streams: one per video.
      negative: captions that guidance leads away from; None: the empty caption.
      grid: rows and columns of the frames' patches; None for the square grid.
      last: latents of the last frames, which are then given and not sampled; all frames between are conditioned on both ends.

    Yields:
      The frames of the videos, the starting frames first. Latents that are sent back take the place of those sampled.
    """
    instants, device = TimeGrid.of(params), start.device
    plans = [dict(schedule.turns) for schedule in captions]
    sentences = [plan[0] for plan in plans]
    text, first = encode_text(sentences), start
    began = torch.zeros(len(start), dtype=torch.long, device=device)
    has_first = torch.ones(len(start), dtype=torch.bool, device=device)
    kept = deque([start], maxlen=instants.back)
    yield SampledFrame(start, start)
    end = (params.num_frames - 1) * instants.per_frame
    for instant in range(1, end + 1):
        if last is not None and instant == end:
            yield SampledFrame(last, last)
            return
        frame, passed = divmod(instant - 1, instants.per_frame)
        turns = [frame + 1 in plan for plan in plans]
        if not passed and any(turns):
            sentences = [plan.get(frame + 1, before) for plan, before in zip(plans, sentences, strict=True)]
            text = encode_text(sentences)
            is_turn = torch.tensor(turns, device=device)
            first = torch.where(is_turn.view(-1, *[1] * (start.ndim - 1)), kept[-1], first)
            began = torch.where(is_turn, instant - 1, began)
        at = (instant - torch.full_like(began, instants.back)).maximum(began)
        source = _rows_of(kept, instant - 1 - at)
        gap_s, age_s = (instant - at) * instants.step_s, (at - began) * instants.step_s
        until_s = torch.full_like(age_s, (end - instant) * instants.step_s).float()
        ending = None if last is None else LastFrame(last, has_first, until_s)
        condition = Condition(source, first, has_first, gap_s.float(), age_s.float(), text, negative, ending, grid)
        if params.decoded == "expected" and isinstance(sampler, ExpectedValues):
            latents, to_decode = sampler.next_frame_and_values(condition, params, streams)
        else:
            latents = to_decode = sampler.next_frame(condition, params, streams)
        replaced = (yield SampledFrame(latents, to_decode)) if passed == instants.per_frame - 1 else None
        kept.append(latents if replaced is None else replaced)


def _rows_of(kept: Sequence[Tensor], back: Int[Tensor, "B"]) -> Tensor:
    """For each video, the latents that were sampled so many instants before the newest."""
    if (back == back[0]).all():
        return kept[len(kept) - 1 - int(back[0])]
    return torch.stack(list(kept))[len(kept) - 1 - back, torch.arange(len(back), device=back.device)]

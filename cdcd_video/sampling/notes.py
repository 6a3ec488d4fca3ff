"""Warnings before sampling."""

import numpy as np
from jaxtyping import UInt8

from cdcd_video.config import SamplingParams
from cdcd_video.config.ranges import check_sentences
from cdcd_video.errors import UserError
from cdcd_video.kernels.threads import threads
from cdcd_video.model import Model
from cdcd_video.networks.codec.start_thresholds import round_trip_db, similarity
from cdcd_video.sampling.captions import CaptionSchedule
from cdcd_video.sampling.roll_out import TimeGrid
from cdcd_video.storage.numerals import significant

SMALL_FLOPS = 2e8
"""A few milliseconds of one core, about as long as a thread waits on a busy machine."""
UNUSED = ("solver",)
"""Sampling parameters that the discrete diffusion ignores."""
UNEVEN_GAP_S = 1 / 60
"""Clips with uneven frame times have gaps down to about this one."""


def advice(
    model: Model,
    captions: CaptionSchedule,
    params: SamplingParams,
    start: UInt8[np.ndarray, "H W 3"] | None = None,
    negative: str = "",
) -> list[str]:
    """Warnings before sampling, one sentence each; see `FrozenClip.check_caption`.

    Args:
      start: the starting frame at the model's size; None leaves it out.
      negative: the caption that guidance leads away from; "" is the empty caption.

    Raises:
      UserError: a caption that cannot be used.
    """
    check_sentences(captions.turns)
    notes = [note for _, text in captions.turns for note in model.clip.check_caption(text)]
    late = [frame for frame, _ in captions.turns if frame >= params.num_frames]
    if late:
        notes.append(
            f"the caption that begins at frame {late[0]} is never used: the video has {params.num_frames} frames"
        )
    if negative.strip():
        notes += [*model.clip.check_caption(negative), *_unused_negative(model, params)]
    notes += [*_unused_settings(model, params), *_other_rates(model, params), *_other_world(model, captions, start)]
    return list(dict.fromkeys(notes))


def advice_on_last(model: Model, params: SamplingParams) -> list[str]:
    """Warnings on a video that ends in a given frame.

    Raises:
      UserError: the model takes no last frame, or the video has no place for one.
    """
    config = model.config
    if not config.diffusion.last_share:
        raise UserError(
            f"the model {config.name} was not trained with last frames; leave the last frame out, or train a model with"
            " diffusion.last_share above 0, such as configs/sprites_more.yaml"
        )
    if params.num_frames < 2:
        raise UserError("a video from a first to a last frame has at least 2 frames; raise num_frames")
    length_s, data = (params.num_frames - 1) / params.fps, config.data
    longest_s = (data.num_frames - 1) / data.fps if data.kind == "sprites" else length_s
    if length_s <= longest_s * 1.001:
        return []
    return [
        f"the last frame comes {significant(length_s, 3)} s after the first, and the clips that the model was trained on have"
        f" {significant(longest_s, 3)} s, so the frames between may not lead to it; lower num_frames or raise fps"
    ]


def _unused_settings(model: Model, params: SamplingParams) -> list[str]:
    """Sampling parameters that differ from the model's own and that it ignores."""
    baseline, sample = model.config.baseline, model.config.sample
    kind = f"the baseline {baseline.kind}" if baseline else "a discrete diffusion"
    changed = [name for name in unused_by(model) if getattr(params, name) != getattr(sample, name)]
    return [f"{name} has no effect: the model is {kind}" for name in changed]


def unused_by(model: Model) -> tuple[str, ...]:
    """Sampling parameters that a model ignores."""
    baseline = model.config.baseline
    return baseline.unused if baseline else UNUSED


def _unused_negative(model: Model, params: SamplingParams) -> list[str]:
    """A negative prompt without guidance."""
    baseline = model.config.baseline
    if baseline and "guidance" in baseline.unused:
        return [f"negative_prompt has no effect: the model is the baseline {baseline.kind}"]
    if params.guidance == 1:
        return ["negative_prompt has no effect: guidance is 1, which is off; set guidance_scale above 1"]
    return []


def _other_rates(model: Model, params: SamplingParams) -> list[str]:
    """A time from source to target outside the training range."""
    data, grid = model.config.data, TimeGrid.of(params)
    if data.kind != "sprites":
        return []
    longest_s = model.config.diffusion.max_gap_frames(data.fps) / data.fps
    shortest_s = 1 / data.fps if data.frame_times == "even" else UNEVEN_GAP_S
    if shortest_s <= grid.step_s * grid.back * 1.001 and grid.step_s * grid.back <= longest_s * 1.002:
        return []
    slowest, fastest = 1 / longest_s, 1 / shortest_s
    return [f"{params.fps:g} frames per second is outside what the model was trained on ({slowest:g} to {fastest:g})"]


def _other_world(model: Model, captions: CaptionSchedule, start: UInt8[np.ndarray, "H W 3"] | None) -> list[str]:
    """A starting frame that is unlike the training frames, or that does not show what its sentence says."""
    least_db, least_similarity = model.start.least_db, model.start.least_similarity
    if start is None:
        return []
    like = (
        "such as those in examples/" if model.config.data.kind == "sprites" else "such as the first frames of its clips"
    )
    way_out = f"use a frame {like}, or train a model on clips like yours (docs/data.md)"
    with threads(threads_of(model)):
        if least_db is not None:
            found = float(round_trip_db(model.codec, model.clip, start[None])[0])
            if found < least_db:
                return [
                    f"the starting frame is unlike the training frames (the codec reconstructs it at {found:.1f} dB, and"
                    f" those at {least_db:.1f} dB or more), so the video may break down; {way_out}"
                ]
        if least_similarity is not None:
            found = float(similarity(model.clip, start[None], [captions.turns[0][1]], model.codec)[0])
            if found < least_similarity:
                return [
                    f"the starting frame does not seem to show what the caption says (CLIP finds a similarity of {found:.2f},"
                    f" and {least_similarity:.2f} or more in training data), so the video may ignore the caption or break"
                    f" down; name what is in the picture, or {way_out}"
                ]
    return []


def threads_of(model: Model) -> int | None:
    """CPU threads of an operation while sampling; None: as many as torch is set to.

    `num_threads` of the model's config, if it is set. Otherwise one for a small model, whose operations are shorter than the
    waiting of threads for each other on a busy machine. It follows from the model alone, never from the load or the batch,
    because last bits depend on it.
    """
    if model.config.num_threads:
        return model.config.num_threads
    # The largest product of a frame: both halves of guidance, from the width to four times the width.
    largest = 2 * model.codec.num_patches * 2 * 4 * model.config.denoiser.width**2
    return 1 if largest < SMALL_FLOPS else None

"""How a video is sampled: the settings, their defaults and their ranges, once, for configs, Python, the command line, records
and every model. Imports no torch.
"""

import argparse
from collections.abc import Collection
from typing import Annotated, Any, Literal, get_args

from cdcd_video.config.ranges import RANGES, check_settings, plain_number
from cdcd_video.config.section import Section
from cdcd_video.errors import UserError

FrameRate = Annotated[float, RANGES["fps"].field]
Order = Literal["ancestral", "confidence", "purity"]
"""Order in which codes are fixed: at random, the most confident first, or by purity. See
`cdcd_video.diffusion.sampler`."""


Decoded = Literal["sampled", "expected"]
Unchanged = Literal["decoded", "copied"]
Solver = Literal["euler", "heun"]
"""Method that integrates the velocity of a flow. See `cdcd_video.baselines.straight_path`."""

NEWER = ("top_k", "lookback_s", "longest_gap_s", "decoded", "unchanged", "solver")
"""Settings that came after the first records: told only where they are set."""


class SamplingParams(Section):
    """How a video is sampled; the values are the defaults."""

    num_frames: Annotated[int, RANGES["num_frames"].field] = 16
    fps: FrameRate = 8.0
    num_steps: Annotated[int, RANGES["num_steps"].field] = 4
    """Reverse steps per frame."""
    guidance: Annotated[float, RANGES["guidance"].field] = 1.0
    """Scale of classifier-free guidance (Ho & Salimans 2022, eq. 6, as 1 + w): 1 is off."""
    temperature: Annotated[float, RANGES["temperature"].field] = 0.3
    """Divides the logits; 0 takes the most likely code."""
    top_p: Annotated[float, RANGES["top_p"].field] = 1.0
    """Samples among the most likely codes with this share of the probability (Holtzman et al. 2020); 1 keeps all."""
    top_k: Annotated[int, RANGES["top_k"].field] = 0
    """Samples among this many of the most likely codes; 0 keeps all."""
    order: Order = "ancestral"
    """Order in which codes are fixed; orders other than ancestral need the process `mask`."""
    contrast: Annotated[float, RANGES["contrast"].field] = 0.0
    """Strength of contrastive guidance in the reverse process (Ouyang et al. 2023); 0 is exactly off."""
    lookback_s: Annotated[float, RANGES["lookback_s"].field] = 0.0
    """Seconds from the frame that a frame is sampled from to that frame, as far as its sentence reaches back; 0: one frame."""
    longest_gap_s: Annotated[float, RANGES["longest_gap_s"].field] = 0.0
    """Frames farther apart than this many seconds get hidden ones between them; 0: never."""
    decoded: Decoded = "sampled"
    """What the decoder gets: the sampled codes, or the values that were expected of them. Roll-outs go on from the former."""
    unchanged: Unchanged = "decoded"
    """Patches whose code values are those of the starting frame: decoded like the others, or copied from it."""
    solver: Solver = "euler"
    """For baselines with Gaussian noise: Euler's method, or Heun's, of second order, with two passes of the network a step."""
    seed: Annotated[int, RANGES["seed"].field] = 0

    def changed(self, **changes: Any) -> "SamplingParams":
        """These settings with some changed.

        Raises:
          UserError: a value out of its range.
          TypeError: there is no such setting.
        """
        if unknown := changes.keys() - type(self).model_fields.keys():
            raise TypeError(f"unknown setting: {', '.join(sorted(unknown))}")
        whole = {name for name in changes if name in RANGES and RANGES[name].is_whole}
        changes = {name: plain_number(value, is_whole=name in whole) for name, value in changes.items()}
        check_settings(changes)
        for name, known in (
            ("order", get_args(Order)),
            ("decoded", get_args(Decoded)),
            ("unchanged", get_args(Unchanged)),
            ("solver", get_args(Solver)),
        ):
            given = changes.get(name, known[0])
            if not isinstance(given, str) or given not in known:
                raise UserError(f"{name} is {given}; it must be one of {', '.join(known)}")
        return self.model_copy(update=changes)

    def described(self) -> dict[str, Any]:
        """The settings by name, as records and results hold them; one of `NEWER` only where it is set."""
        fields = type(self).model_fields
        return self.model_dump(exclude={name for name in NEWER if getattr(self, name) == fields[name].default})


_FLAGS: dict[str, tuple[str, type, str, str]] = {
    "num_frames": ("--num-frames", int, "F", "number of frames, including the first"),
    "fps": ("--fps", float, "FPS", "frames per second; sets how far things move per frame"),
    "num_steps": ("--steps", int, "S", "reverse steps per frame"),
    "guidance": ("--guidance", float, "G", "scale of classifier-free guidance; 1: off"),
    "temperature": ("--temperature", float, "T", "sampling temperature; 0: always the most likely code"),
    "top_p": ("--top-p", float, "P", "keep the most likely codes up to this total probability"),
    "top_k": ("--top-k", int, "K", "keep this many of the most likely codes; 0: all"),
    "order": ("--order", str, "ORDER", f"order in which codes are fixed: {', '.join(get_args(Order))}"),
    "contrast": ("--contrast", float, "C", "strength of contrastive guidance; 0: off"),
    "seed": ("--seed", int, "N", "random seed; another seed gives another video"),
    "lookback_s": ("--lookback", float, "S", "seconds back to the frame that a frame is sampled from; 0: one frame"),
    "longest_gap_s": ("--longest-gap", float, "S", "hidden frames fill longer gaps, in seconds; 0: never"),
    "unchanged": ("--unchanged", str, "HOW", f"patches that do not change: {', '.join(get_args(Unchanged))}"),
    "solver": ("--solver", str, "HOW", f"how a flow is integrated: {', '.join(get_args(Solver))}"),
    "decoded": ("--decoded", str, "WHAT", f"what is decoded: {', '.join(get_args(Decoded))} codes"),
}


def add_flags(parser: argparse.ArgumentParser, names: Collection[str] = tuple(_FLAGS)) -> None:
    """Adds settings to a command line. Their default is None, because the model has its own defaults."""
    for name in names:
        flag, kind, metavar, text = _FLAGS[name]
        default = SamplingParams.model_fields[name].default if name == "seed" else "the model's"
        parser.add_argument(flag, dest=name, type=kind, metavar=metavar, help=f"{text} (default: {default})")

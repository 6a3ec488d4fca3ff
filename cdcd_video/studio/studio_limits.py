"""What one visitor of the studio may ask of the machine. Imports no torch."""

import argparse
from dataclasses import dataclass, field, fields
from typing import Any

from cdcd_video.errors import UserError


def _limit(default: int, about: str) -> Any:
    return field(default=default, metadata={"about": about})


@dataclass(frozen=True)
class Limits:
    """Limits of the studio, with their defaults; each is an option of the command."""

    max_frames: int = _limit(128, "frames of a video")
    max_videos: int = _limit(9, "videos side by side")
    max_steps: int = _limit(100, "reverse steps per frame")
    max_seconds: int = _limit(300, "seconds that a request may take")
    max_megabytes: int = _limit(20, "megabytes of a file that is opened")
    max_waiting: int = _limit(16, "requests that may wait")
    at_once: int = _limit(2, "requests that are sampled at once, a frame of each in turn")
    keep_minutes: int = _limit(10, "minutes that pictures, videos and files are kept")

    def check(self, num_videos: int, num_frames: int, num_steps: int) -> None:
        """Refuses a request that is too large.

        Raises:
          UserError: says which limit was met.
        """
        for what, found, most in (
            ("videos side by side", num_videos, self.max_videos),
            ("frames", num_frames, self.max_frames),
            ("steps", num_steps, self.max_steps),
        ):
            if found > most:
                raise UserError(f"{found} {what} are more than this studio samples at once; ask for at most {most}")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds every limit to a command line."""
    for limit in fields(Limits):
        about = f"{limit.metadata['about']} (default: {limit.default})"
        parser.add_argument(_flag(limit.name), type=int, default=limit.default, metavar="N", help=about)


def from_flags(asked: dict[str, Any]) -> Limits:
    """The limits of a command line.

    Raises:
      UserError: one is below 1.
    """
    chosen = {limit.name: asked[limit.name] for limit in fields(Limits)}
    for name, value in chosen.items():
        if value < 1:
            raise UserError(f"{_flag(name)} is {value}; it must be at least 1")
    return Limits(**chosen)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"

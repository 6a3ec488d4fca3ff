"""What the pipeline returns: frames that can be saved, shown in a notebook, sliced, and sampled again."""

import base64
import html
import operator
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn, overload

import numpy as np
import PIL.Image
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from cdcd_video import video
from cdcd_video.config.ranges import RANGES
from cdcd_video.config.video_numbers import count_of, positive_rate
from cdcd_video.config.video_record import FrameRecord, Record, read_record
from cdcd_video.errors import UserError
from cdcd_video.storage.numerals import significant

_MOST_EXACT = 8 << 20
"""Bytes of pixels that a notebook gets exactly."""
_MOST_EMBEDDED = 16 << 20
"""Bytes of a file that goes into a notebook."""
_LEAST_WIDTH = 256
"""Smaller videos are enlarged to this width, in CSS pixels."""


_ELSEWHERE = MappingProxyType(
    {
        **dict.fromkeys(("shape", "size", "width", "height"), "video.frames.shape is (F, H, W, 3)"),
        **dict.fromkeys(("num_frames", "n_frames"), "it is len(video)"),
        **dict.fromkeys(("duration", "duration_s", "length"), "it is len(video) / video.fps seconds"),
        **dict.fromkeys(("seed", "guidance_scale", "num_inference_steps"), "video.settings has it"),
        **dict.fromkeys(("prompt", "text", "caption"), 'it is video.settings["text"]'),
        **dict.fromkeys(("numpy", "to_numpy", "array", "data", "video"), "the pixels are video.frames"),
        "videos": "it is one video, with its pixels in video.frames; a list of prompts gives a list of videos",
        **dict.fromkeys(("images", "image", "pil", "pil_images"), "use video.to_pil()"),
        **dict.fromkeys(("pt", "tensor", "torch"), "use video.to_tensor()"),
        **dict.fromkeys(
            ("show", "play", "display"),
            "a notebook plays a video that is the last value of a cell; save(path) writes it",
        ),
        **dict.fromkeys(("write", "export", "to_gif", "to_mp4", "to_video", "save_video"), "use save(path)"),
        **dict.fromkeys(("append", "concat"), "Video(numpy.concatenate([one, other]), fps) joins two"),
    }
)
"""What other objects have that hold a video, and where it is here."""


@dataclass(frozen=True, eq=False, repr=False)
class Video:
    """Frames, and the settings that reproduce them. `len`, an index and a loop are over frames; a slice is a video.

    Two videos are equal if their pixels and frame rates are.

    Raises:
      UserError: the frames are not uint8 pixels (F, H, W, 3), the rate is no number above 0, or the settings are no dictionary.
    """

    frames: UInt8[np.ndarray, "F H W 3"]
    fps: float
    settings: dict[str, Any] = field(default_factory=dict)
    """Sampling parameters, seed, hash of the model and versions; written beside the video. A slice keeps those of the whole."""
    made_with: dict[str, Any] | None = None
    """`checkpoint`, `device` and `threads` of a whole video of a model; None for a slice, and for frames of other origin."""

    def __post_init__(self) -> None:
        frames: Any = self.frames
        if isinstance(frames, np.ndarray) and frames.ndim == 4 and frames.shape[3] == 3 and frames.dtype == np.uint8:
            object.__setattr__(self, "fps", positive_rate(self.fps))
            if not isinstance(self.settings, Mapping):
                kind = type(self.settings).__name__
                raise UserError(f"the settings of a video are of the type {kind}; give a dictionary, or leave them out")
            return
        is_array = isinstance(frames, np.ndarray)
        found = f"an array {frames.shape} of {frames.dtype}" if is_array else f"of the type {type(frames).__name__}"
        raise UserError(
            f"the frames of a video are {found}; give uint8 pixels (F, H, W, 3), such as numpy.stack(images)"
        )

    def save(self, path: str | Path, *, scale: int = 1, recipe: bool = True) -> Path:
        """Writes mp4, gif, webp or a folder of PNG, by the suffix.

        Args:
          path: target, also below `~`; no suffix means a folder of PNG.
          scale: integer enlargement of small frames.
          recipe: whether the file carries what samples it again, for `load_recipe`; a video without `made_with` has none.

        Returns:
          The path written.

        Raises:
          UserError: see `video.save`; or the target is an open file.
        """
        if not isinstance(path, str | os.PathLike):
            raise UserError(
                f"a video is saved under a path, not in a {type(path).__name__}; to_bytes('.mp4') gives bytes"
            )
        path, scale = os.path.expanduser(path), count_of("scale", scale)
        held = self.record(scale).recipe() if recipe and self.made_with else ""
        return video.save(self.frames, path, self.fps, scale=scale, recipe=held)

    def to_bytes(self, suffix: str, *, scale: int = 1, recipe: bool = True) -> bytes:
        """The content of the file that `save` writes: ".mp4", ".gif" or ".webp".

        Raises:
          UserError: it is another suffix; or see `save`.
        """
        suffix = f".{suffix.removeprefix('.').lower()}" if isinstance(suffix, str) else suffix
        if suffix not in video.SUFFIXES:
            raise UserError(f"a video has no bytes as {suffix!r}; use {', '.join(video.SUFFIXES)}")
        with tempfile.TemporaryDirectory() as folder:
            return self.save(Path(folder) / f"video{suffix}", scale=scale, recipe=recipe).read_bytes()

    def record(self, scale: int = 1) -> Record:
        """What reproduces the video, with its starting frame.

        Raises:
          UserError: the video has no `made_with`; or the scale is no whole number above 0.
        """
        if self.made_with is None:
            raise UserError(
                "this video does not say how it was made, since it is a slice, or not as a model sampled it; give the whole"
                " video, as the pipeline returned it"
            )
        # Files may be larger than the command line makes them.
        scale = min(count_of("scale", scale), int(RANGES["scale"].high))
        return Record(**self.settings, **self.made_with, scale=scale, frame=FrameRecord.of(self.frames[0]))

    @staticmethod
    def load_recipe(path: str | Path) -> Record:
        """The recipe that a file written by `save` carries, or a `.json`, also below `~`; `ImageToVideo.sample_again` takes it.

        Raises:
          UserError: the file is missing or damaged, or carries none.
        """
        return read_record(os.path.expanduser(path) if isinstance(path, str | os.PathLike) else path)

    def to_pil(self) -> list[PIL.Image.Image]:
        """The frames as Pillow images."""
        return [PIL.Image.fromarray(frame) for frame in self.frames]

    def to_tensor(self) -> Float[Tensor, "F 3 H W"]:
        """The frames as a float32 tensor from 0 to 1."""
        return torch.from_numpy(np.ascontiguousarray(self.frames)).permute(0, 3, 1, 2).float().div(255)

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        return iter(self.frames)

    @overload
    def __getitem__(self, index: int) -> UInt8[np.ndarray, "H W 3"]: ...
    @overload
    def __getitem__(self, index: slice) -> "Video": ...
    def __getitem__(self, index: Any) -> Any:
        """A frame; or, for a slice, the video of these frames. `video[::2]` has half the frame rate and moves as fast.

        Raises:
          IndexError: there is no such frame.
          UserError: it is neither the number of a frame nor a slice of whole numbers.
        """
        try:
            if isinstance(index, slice):
                *_, step = index.indices(len(self))
                return Video(self.frames[index], self.fps / abs(step), self.settings)
            return self.frames[operator.index(index)]
        except (TypeError, ValueError):
            raise UserError(
                f"a video has no part {index!r}; give the number of a frame or a slice, or index the array video.frames"
            ) from None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Video):
            return NotImplemented
        return self.fps == other.fps and np.array_equal(self.frames, other.frames)

    def __hash__(self) -> int:
        return hash((self.frames.shape, self.fps))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.frames, dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        height, width = self.frames.shape[1:3]
        text = self.settings.get("text", [])
        about = text if isinstance(text, str) else "; ".join(sentence for _, sentence in text)
        length = (
            f"{len(self)} frames of {width} x {height} px, {self.fps:g} fps, {significant(len(self) / self.fps, 3)} s"
        )
        return f"Video({length}{f': {about}' if about else ''})"

    def _repr_html_(self) -> str:
        """The video itself, which plays in a notebook: exact pixels (webp), or mp4 where they would be many bytes."""
        about = html.escape(repr(self), quote=True)
        if not self.frames.size:
            return f"<p>{about}</p>"
        suffix, kind = (".webp", "image/webp") if self.frames.nbytes <= _MOST_EXACT else (".mp4", "video/mp4")
        content = self.to_bytes(suffix, recipe=False)
        if len(content) > _MOST_EMBEDDED:
            return f"<p>{about}: too large to be shown here; write it with save(path)</p>"
        address = f"data:{kind};base64,{base64.b64encode(content).decode()}"
        style = f"width: {max(self.frames.shape[2], _LEAST_WIDTH)}px; image-rendering: pixelated"
        if suffix == ".webp":
            return f'<img src="{address}" alt="{about}" title="{about}" style="{style}">'
        return f'<video src="{address}" title="{about}" style="{style}" autoplay loop muted controls></video>'

    if not TYPE_CHECKING:  # for type checkers an attribute that is missing stays an error

        def __getattr__(self, name: str) -> NoReturn:
            way_out = f": {_ELSEWHERE[name]}" if name in _ELSEWHERE else ""
            raise AttributeError(f"Video has no attribute {name!r}{way_out}")

"""Decodes a list of videos with captions into a prepared folder; shared by all recipes that read video files."""

import argparse
import dataclasses
import functools
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import av
from pydantic import TypeAdapter, ValidationError
from tqdm import tqdm

from cdcd_video.config.ranges import MAX_SIZE_PX, MAX_THREADS
from cdcd_video.config.value_types import FrameSizes
from cdcd_video.data.clips import ClipRejected, DecodedClip, read_clip
from cdcd_video.data.cut_detection import DETECTOR, CutFinder
from cdcd_video.data.images import RESIZE, FitMode, NearestShape
from cdcd_video.data.shots import shots_in
from cdcd_video.data.store_files import MANIFEST
from cdcd_video.data.store_writer import StoreWriter, finish_together
from cdcd_video.errors import UserError, require
from cdcd_video.storage.folder_lock import folder_lock
from data_prep.ahead import Beat, ahead
from data_prep.items import Item, ItemsDigest, digest_items
from data_prep.prepared_sheet import summaries
from data_prep.subset import describe
from data_prep.tars import taken_out

LEAST_SIZE_PX = 8
"""Side of the smallest frames."""
# A video this much slower than asked for is still taken: 23.976 for 24 is.
_RATE_KEPT = 0.95


@dataclasses.dataclass(frozen=True)
class Settings:
    """The options that all recipes share.

    Attributes:
      out: the folder to make.
      size_px: side of square frames; where there are several sizes, of the frame whose patches and positions others share.
      sizes: height and width of the frames, each clip in the nearest shape; None for squares.
      fps: frames per second.
      mode: `crop` or `letterbox`.
      min_frames: clips that give fewer are refused.
      max_seconds: longer clips are cut; None keeps them whole.
      cuts: whether to look for the places where a shot ends and another begins: `detect` or `off`.
      workers: videos decoded at the same time; has no influence on the result.
      clip_timeout: a clip of which no further frame comes for so long is refused, seconds.
    """

    out: Path
    size_px: int
    sizes: tuple[tuple[int, int], ...] | None
    fps: float
    mode: FitMode
    min_frames: int
    max_seconds: float | None
    cuts: Literal["detect", "off"]
    workers: int
    clip_timeout: float

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser, *, needs_out: bool = True) -> None:
        """Adds the options that become these settings; `needs_out` is false where a recipe can do with less."""
        parser.add_argument("--out", required=needs_out, type=Path, help="prepared folder to create")
        parser.add_argument("--size-px", type=int, default=64, help="side of the square frames (%(default)s)")
        parser.add_argument(
            "--sizes",
            nargs="+",
            metavar="HxW",
            help="several shapes of frames, such as 64x64 64x96 96x64: each clip gets the nearest, and --out a folder for each",
        )
        parser.add_argument("--fps", type=float, default=8.0, help="frames per second (%(default)s)")
        parser.add_argument(
            "--mode", choices=("crop", "letterbox"), default="crop", help="how frames get their shape (%(default)s)"
        )
        parser.add_argument("--min-frames", type=int, default=8, help="refuse clips with fewer frames (%(default)s)")
        parser.add_argument("--max-seconds", type=float, metavar="S", help="keep the first S seconds of longer clips")
        parser.add_argument(
            "--cuts",
            choices=("detect", "off"),
            default="detect",
            help="detect cuts between shots, so that no training example spans two shots (%(default)s)",
        )
        parser.add_argument(
            "--workers",
            type=int,
            default=os.cpu_count() or 1,
            help="number of videos decoded in parallel (%(default)s)",
        )
        parser.add_argument(
            "--clip-timeout",
            type=float,
            default=60,
            metavar="S",
            help="refuse a clip if no further frame arrives within S seconds (%(default)s)",
        )

    @classmethod
    def of(cls, options: argparse.Namespace) -> "Settings":
        """Reads the options and checks them.

        Raises:
          UserError: for a number that makes no sense.
        """
        if options.out is None:
            raise UserError("no prepared folder is given; name it with --out FOLDER")
        given = {field.name: getattr(options, field.name) for field in dataclasses.fields(cls)}
        settings = cls(**given | {"sizes": _sizes(options.sizes) if options.sizes else None})
        check_size(settings.size_px)
        if settings.min_frames < 1:
            raise UserError(f"--min-frames must be at least 1, not {settings.min_frames}")
        if not 1 <= settings.workers <= MAX_THREADS:
            raise UserError(f"--workers must be from 1 to {MAX_THREADS}, not {settings.workers}")
        if not 0 < settings.fps <= 1000:
            raise UserError(f"--fps must be above 0 and at most 1000, not {settings.fps}")
        if not settings.clip_timeout > 0:
            raise UserError(f"--clip-timeout must be above 0, not {settings.clip_timeout}")
        if settings.max_seconds is not None and not settings.max_seconds > 0:
            raise UserError(f"--max-seconds must be above 0, not {settings.max_seconds}")
        if settings.cuts == "detect":
            require("scenedetect", extra="data")  # now, and not when a clip is decoded
        return settings


def check_size(size_px: int) -> None:
    """Refuses a side of the frames that no model has.

    Raises:
      UserError: it is too small or too large.
    """
    if not LEAST_SIZE_PX <= size_px <= MAX_SIZE_PX:
        raise UserError(f"--size-px must be from {LEAST_SIZE_PX} to {MAX_SIZE_PX}, not {size_px}")


@dataclasses.dataclass(frozen=True)
class Plan:
    """The result of a recipe: clips as files, and the settings for decoding them.

    Attributes:
      items: the clips, names unique; gone through more than once, so no iterator. It need not fit into memory.
      settings: what to make of them.
      recipe: further settings of the recipe, for the manifest.
      counted: `digest_items(items)`, if it is known already.
      subset: what the manifest says of the clips that came out: their ids and the hash of these, the hash, or nothing.
    """

    items: Iterable[Item]
    settings: Settings
    recipe: Mapping[str, object]
    counted: ItemsDigest | None = None
    subset: Literal["ids", "hash"] | None = None

    @functools.cached_property
    def digest(self) -> ItemsDigest:
        """The number of items and the hash of their identities."""
        return self.counted or digest_items(self.items)

    def facts(self) -> dict[str, object]:
        """Everything that affects which clips are prepared, besides size, rate and mode."""
        return {
            **self.recipe,
            "min_frames": self.settings.min_frames,
            "max_seconds": self.settings.max_seconds,
            "cuts": DETECTOR if self.settings.cuts == "detect" else self.settings.cuts,
            "resize": RESIZE,
            "items_sha256": self.digest.sha256,
        }


def _sizes(texts: Sequence[str]) -> tuple[tuple[int, int], ...]:
    try:
        return TypeAdapter(FrameSizes).validate_python(list(texts))
    except ValidationError as error:
        first = error.errors()[0]
        reason = first["msg"].removeprefix("Value error, ")
        if first["type"] in ("less_than_equal", "greater_than_equal"):
            reason = f"a side has {first['input']} px, and must have from {LEAST_SIZE_PX} to {MAX_SIZE_PX}"
        raise UserError(f"--sizes {' '.join(texts)}: {reason}") from None


def prepare(plan: Plan) -> str:
    """Decodes every item into a prepared folder; what cannot be used goes to `rejected.jsonl` and stops nothing.

    Returns:
      A line that says what came out; of several sizes one for each.

    Raises:
      UserError: if the folder cannot be written, another process writes it, or not one clip could be used.
    """
    with folder_lock(plan.settings.out):
        return _prepare(plan)


def _writers(plan: Plan, held: ExitStack) -> dict[tuple[int, int], StoreWriter]:
    """What writes the prepared folder, or the folder of each size.

    Raises:
      UserError: there is a prepared folder of the other kind.
    """
    settings, out = plan.settings, plan.settings.out
    how: dict[str, Any] = {
        "size_px": settings.size_px,
        "fps": settings.fps,
        "mode": settings.mode,
        "recipe": plan.facts(),
    }
    if settings.sizes is None:
        return {(settings.size_px, settings.size_px): held.enter_context(StoreWriter(out, **how))}
    if (out / MANIFEST).exists():
        raise UserError(f"{out} holds a prepared folder of one size; choose another --out for --sizes")
    return {
        (height, width): held.enter_context(StoreWriter(out / f"{height}x{width}", size=(height, width), **how))
        for height, width in settings.sizes
    }


def _prepare(plan: Plan) -> str:
    began = time.monotonic()
    settings, digest = plan.settings, plan.digest
    with ExitStack() as held:
        writers = _writers(plan, held)
        first = next(iter(writers.values()))
        done = set().union(*(writer.done for writer in writers.values()))
        todo = (item for item in plan.items if item.name not in done)
        progress = tqdm(total=digest.num_items, initial=len(done), unit="clip", file=sys.stderr)
        with progress:
            for item, clip in decoded(todo, settings):
                if isinstance(clip, str):
                    first.reject(item.name, item.source, clip)
                else:
                    writers[clip.frames.shape[1:3]].add(
                        item.name,
                        clip.frames,
                        item.captions,
                        item.split,
                        source=item.source,
                        source_width=clip.source_width,
                        source_height=clip.source_height,
                        source_fps=clip.source_fps,
                        about=item.about,
                        cuts=clip.cuts,
                    )
                progress.set_postfix(refused=len(first.rejected), refresh=False)
                progress.update()
        if not any(writer.rows for writer in writers.values()):
            raise _nothing_usable(digest.num_items, list(writers.values()))
        made = [(writer, writer.complete(_further(plan, writer))) for writer in writers.values()]
        finish_together(writers.values())
    return summaries(made, began)


def _nothing_usable(num_items: int, writers: Sequence[StoreWriter]) -> UserError:
    """Gives up without touching an earlier result; returns the error that says so."""
    refused = writers[0].rejected
    files = [writer.give_up() for writer in writers]
    if not refused:
        return UserError("the recipe found no clips; check what it was given")
    earlier = [str(writer.folder) for writer in writers if writer.folder.exists()]
    kept = f"; {' and '.join(earlier)} {'stay as they were' if earlier[1:] else 'stays as it was'}" if earlier else ""
    return UserError(
        f"none of {num_items} clips could be used (the first: {refused[0]['reason']}); see {files[0]}{kept}"
    )


def _further(plan: Plan, writer: StoreWriter) -> dict[str, object]:
    return {"subset": describe(writer.rows, with_ids=plan.subset == "ids")} if plan.subset else {}


def decoded(items: Iterable[Item], settings: Settings) -> Iterator[tuple[Item, DecodedClip | str]]:
    """Each item, in order, with its frames or the reason why it is refused; a few are decoded ahead."""
    late = f"no further frame could be read for {settings.clip_timeout:g} s; raise --clip-timeout to wait longer"
    work = functools.partial(_decode, settings=settings)
    for item, clip in ahead(work, items, settings.workers, settings.clip_timeout):
        yield item, late if clip is None else clip


class _Watched:
    """Reports progress with every frame of a clip, and passes the frame to the cut detector, if there is one."""

    def __init__(self, beat: Beat, finder: CutFinder | None):
        self._beat, self._finder = beat, finder

    def add_frame(self, frame: av.VideoFrame, time_s: float) -> None:
        self._beat()
        if self._finder is not None:
            self._finder.add_frame(frame, time_s)

    def finish(self) -> list[int]:
        return [] if self._finder is None else self._finder.finish()


def _decode(item: Item, beat: Beat, settings: Settings) -> DecodedClip | str:
    if item.refusal:
        return item.refusal
    if not item.captions:
        return "it has no caption"
    try:
        if item.inside is None:
            return _read(item, item.path, settings, beat)
        with taken_out(item.path, item.inside) as path:
            return _read(item, path, settings, beat)
    except ClipRejected as refused:
        return refused.reason


def _read(item: Item, path: Path, settings: Settings, beat: Beat) -> DecodedClip | str:
    ends = [
        end for end in (item.end_s, settings.max_seconds and item.start_s + settings.max_seconds) if end is not None
    ]
    clip = read_clip(
        path,
        fps=settings.fps,
        size_px=NearestShape(settings.sizes) if settings.sizes else settings.size_px,
        mode=settings.mode,
        start_s=item.start_s,
        end_s=min(ends, default=None),
        watcher=_Watched(beat, CutFinder() if settings.cuts == "detect" else None),
        # Later than `ahead` loses its patience, who names the option: this ends the thread that was left behind.
        patience_s=2 * settings.clip_timeout,
    )
    if len(clip.frames) < settings.min_frames:
        least = settings.min_frames
        return f"it is too short: {len(clip.frames)} frames at {settings.fps:g} fps, but at least {least} are needed"
    if clip.source_fps < _RATE_KEPT * settings.fps:
        return f"it has {clip.source_fps:.3g} frames per second, so frames would repeat at {settings.fps:g}"
    if max(map(len, shots_in(len(clip.frames), clip.cuts))) < 2:
        return "no shot has two frames; use --cuts off to ignore shots"
    return clip

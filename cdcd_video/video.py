"""Writes frames to mp4, gif, webp, folders of PNG, and contact sheets."""

import itertools
import os
import queue
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from cdcd_video.config.video_numbers import count_of, rate_of_file
from cdcd_video.errors import UserError
from cdcd_video.storage.embedded_recipe import exif_with, png_text_with
from cdcd_video.storage.picture_format import check_frames, picture_format
from cdcd_video.storage.sheet_rows import (
    GAP_PX,
    LINE_PX,
    check_sheet,
    checked_path,
    listed_videos,
    sheet_size,
    shortened,
    texts_of,
)
from cdcd_video.storage.whole_file import refused_by_disk, whole_file

_BT709 = 1  # the number FFmpeg gives to BT.709 as matrix, as primaries and as transfer function alike
_LIMITED = 1  # FFmpeg's number for luma in 16..235
Frames = Iterator[UInt8[np.ndarray, "H W 3"]]


def save(
    frames: UInt8[np.ndarray, "F H W 3"],
    path: str | os.PathLike[str],
    fps: float | int,
    *,
    scale: int = 1,
    recipe: str = "",
) -> Path:
    """Writes a video in the format of its suffix; the file appears complete or not at all.

    - `.mp4`: H.264 (yuv420p, BT.709), which every browser plays; odd sizes get their last row or column twice.
    - `.gif`: 256 colours shared by all frames, times rounded to 1/100 s without drifting.
    - `.webp`: exact pixels.
    - no suffix or a closing slash: a folder of exact PNG files, `frame-00000.png` onwards.

    In gif and webp, frames equal to their predecessor are stored as one frame shown for longer; of more than 50 (gif) or
    90 (webp) frames per second some are left out, since browsers slow them down. The same frames and recipe give the same bytes.

    Args:
      frames: RGB pixels, at least one frame.
      path: where to; missing folders are made, an existing video is replaced.
      fps: frames per second, over 0.
      scale: each pixel becomes a square of this side, so that tiny videos can be looked at.
      recipe: ASCII text that the file carries, for `embedded_recipe.read_embedded`; of a folder, its first frame.

    Returns:
      The path.

    Raises:
      UserError: for an unknown suffix, a rate or scale that no video has, frames that are too large for the format, or
        when the place cannot be written or the disk is full.
    """
    if len(frames) == 0 or min(frames.shape[1:3]) == 0:
        raise UserError(f"there is nothing to save in frames of shape {frames.shape}; a video has at least one frame")
    return save_parts([frames], path, fps, scale=scale, recipe=recipe)


def save_parts(
    parts: Iterable[UInt8[np.ndarray, "_ H W 3"]],
    path: str | os.PathLike[str],
    fps: float,
    *,
    scale: int = 1,
    recipe: str = "",
) -> Path:
    """`save` for frames that arrive in parts. Mp4 and PNG keep one part in memory; gif and webp need all frames at
    once.

    Args and returns: as for `save`.

    Raises:
      UserError: as for `save`, and whatever making the parts raises; then nothing is left behind.
    """
    target, rate, scale = Path(path), rate_of_file(fps), count_of("scale", scale)
    write = _WRITERS.get(target.suffix.lower())
    if target.suffix == "" or os.fspath(path).endswith(("/", os.sep)) or (write is None and target.is_dir()):
        _write_folder(_enlarged(parts, "", scale), target, recipe)
        return target
    if write is None:
        known = ", ".join(_WRITERS)
        raise UserError(f"cannot write a video as {target.suffix!r}; use {known}, or a folder name for PNG files")
    frames = _enlarged(parts, target.suffix, scale)
    first = next(frames)  # what is too large is refused before a folder is made for the file
    with whole_file(target) as part:
        write(itertools.chain([first], frames), part, rate, recipe)
    return target


def _enlarged(parts: Iterable[UInt8[np.ndarray, "_ H W 3"]], suffix: str, scale: int) -> Frames:
    for part in parts:
        check_frames(suffix, part.shape[2], part.shape[1], scale)
        for frame in part:
            yield frame.repeat(scale, axis=0).repeat(scale, axis=1)


def save_while_sampled(
    parts: Iterable[UInt8[np.ndarray, "_ H W 3"]],
    places: Sequence[tuple[str | os.PathLike[str], int]],
    fps: float,
    recipe: str = "",
) -> list[Path]:
    """Writes a video to one or more places, each in a thread of its own, while its later parts are still being made.

    Args:
      parts: made here, in the calling thread; a writer that lags holds them up, so that only a few wait in memory.
      places: paths, each with its `scale`.
      fps: frames per second, over 0.
      recipe: as for `save`.

    Returns:
      The paths.

    Raises:
      UserError: as for `save`, and whatever making the parts raises; of what is not yet whole nothing is left behind.
    """
    waiting = [queue.Queue(_MOST_WAITING) for _ in places]
    with ThreadPoolExecutor(len(places)) as pool:
        writers = [
            pool.submit(save_parts, _taken(line), path, fps, scale=scale, recipe=recipe)
            for line, (path, scale) in zip(waiting, places, strict=True)
        ]
        pairs = list(zip(waiting, writers, strict=True))
        try:
            for part in parts:
                for line, writer in pairs:
                    _hand_over(part, line, writer)
            last = None
        except BaseException as error:
            last = error
        for line, writer in pairs:
            _hand_over(last, line, writer)
        if last is not None:
            raise next((writer.exception() for writer in writers if writer.done() and writer.exception()), last)
    return [writer.result() for writer in writers]


_MOST_WAITING = 2
"""Parts that may wait for a writer."""


def _hand_over(part: Any, line: queue.Queue, writer: Future) -> None:
    """Waits until the writer accepts a part; if it failed, raises its error, except for the final None."""
    while not writer.done():
        try:
            line.put(part, timeout=0.1)
        except queue.Full:
            continue
        return
    if isinstance(part, np.ndarray):
        writer.result()


def _taken(line: queue.Queue) -> Iterator[UInt8[np.ndarray, "_ H W 3"]]:
    """Yields the parts of the queue until None; an exception in the queue is raised."""
    while (part := line.get()) is not None:
        if isinstance(part, BaseException):
            raise part
        yield part


def contact_sheet(
    rows: Any,
    path: str | os.PathLike[str],
    labels: Iterable[Any] | str | None = None,
    every: int = 1,
    columns: Iterable[Any] | str = (),
) -> Path:
    """Arranges videos in one image: a row each, time to the right.

    Args:
      rows: videos, in any iterable: of any kind that `sheet_rows.pixels_of` takes; lengths and sizes may differ. Or a single one.
      path: a picture file, `.png` for exact pixels; also below `~`.
      labels: a line of text above each row, or above a single one; cut with "..." where the row is shorter.
      every: shows each `every`-th frame, beginning with the first.
      columns: a text above each column, where the frames of all rows have one width.

    Returns:
      The path.

    Raises:
      UserError: rows, labels or `every` cannot be used, the picture is too large for its format, the place cannot be written,
        or Pillow does not know the suffix.
    """
    target = Path(checked_path(path, "a contact sheet"))
    kind, every = picture_format(target), count_of("every", every)
    videos = [video[::every] for video in listed_videos(rows)]
    texts, heads = texts_of("labels", labels), texts_of("columns", columns) or []
    if texts is not None and len(texts) != len(videos):
        raise UserError(f"{len(videos)} rows but {len(texts)} labels; give one label for each row")
    gap, line = GAP_PX, LINE_PX
    shapes = [video.shape for video in videos]
    width, height = sheet_size(shapes, has_labels=texts is not None, has_columns=bool(heads))
    check_sheet(kind, (width, height), "a contact sheet", "videos or frames")
    sheet = Image.new("RGB", (width, height), "white")
    draw, font, top = ImageDraw.Draw(sheet), ImageFont.load_default(11), gap
    for index, text in enumerate(heads):
        draw.text((gap + index * (videos[0].shape[2] + gap), top), text, "black", font)
    top += bool(heads) * line
    for index, video in enumerate(videos):
        if texts is not None:
            text = shortened(texts[index], lambda t: draw.textlength(t, font) <= width - 2 * gap)
            draw.text((gap, top), text, "black", font)
            top += line
        for column, frame in enumerate(video):
            sheet.paste(Image.fromarray(frame), (gap + column * (video.shape[2] + gap), top))
        top += video.shape[1] + gap
    with whole_file(target) as part:
        sheet.save(part, format=kind)
    return target


def _write_mp4(frames: Frames, path: Path, fps: Fraction, recipe: str) -> None:
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        if recipe:
            container.metadata["comment"] = recipe
        # One thread: the bytes x264 writes depend on the number of threads, hence on the machine. No macroblock tree: its
        # vector code reads memory that nobody wrote where a row has no multiple of 8 blocks, as at 64 px.
        options = {"crf": "16", "preset": "medium", "threads": "1", "mbtree": "0"}
        stream = container.add_stream("libx264", rate=fps, options=options)
        first = next(frames)
        height, width = first.shape[:2]
        margin = ((0, height % 2), (0, width % 2), (0, 0))  # 4:2:0 wants even sizes
        stream.height, stream.width, stream.pix_fmt = height + height % 2, width + width % 2, "yuv420p"
        # Untagged, players guess the matrix from the size of the picture, and colours shift.
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED
        for pixels in itertools.chain([first], frames):
            frame = av.VideoFrame.from_ndarray(np.pad(pixels, margin, mode="edge"), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=_BT709, dst_color_range=_LIMITED, threads=1)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _write_gif(parts: Frames, path: Path, fps: Fraction, recipe: str) -> None:
    frames = np.stack(list(parts))
    # One palette for all frames: a palette of its own for each makes still areas flicker. A few frames, spread over
    # the video, are enough to find the colours.
    chosen = frames[np.unique(np.linspace(0, len(frames) - 1, 16).round().astype(int))]
    mosaic = Image.fromarray(chosen.reshape(-1, frames.shape[2], 3))
    palette = mosaic.quantize(256, Image.Quantize.MEDIANCUT)
    images = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for frame in frames]
    shown, durations = _frame_times(len(frames), fps, tick_ms=10, least_ms=20)
    images = [images[frame] for frame in shown]
    try:
        how = dict(duration=durations, loop=0, optimize=False, comment=recipe.encode("ascii"))
        images[0].save(path, "GIF", save_all=True, append_images=images[1:], **how)
    except OverflowError:  # equal frames are one picture, and its time has 16 bits
        raise UserError(
            "a .gif cannot show a frame for longer than 655 s, as this video needs; use .mp4 or .webp"
        ) from None


def _write_webp(frames: Frames, path: Path, fps: Fraction, recipe: str) -> None:
    images = [Image.fromarray(frame) for frame in frames]
    shown, durations = _frame_times(len(images), fps, tick_ms=1, least_ms=11)
    images = [images[frame] for frame in shown]
    how = dict(duration=durations, loop=0, lossless=True, exif=exif_with(recipe) if recipe else b"")
    images[0].save(path, "WEBP", save_all=True, append_images=images[1:], **how)


_WRITERS: dict[str, Callable[[Frames, Path, Fraction, str], None]] = {
    ".mp4": _write_mp4,
    ".gif": _write_gif,
    ".webp": _write_webp,
}


SUFFIXES = tuple(_WRITERS)
"""Of the files that `save` writes."""


def _frame_times(num_frames: int, fps: Fraction, tick_ms: int, least_ms: int) -> tuple[list[int], list[int]]:
    """The frames to show, and their durations in whole ticks, which never deviate from the true time by more than
    half a tick.

    Browsers show what lasts 10 ms or less for 100; frames that would have less than `least_ms` are left out.
    """
    begins = [round(1000 * frame / fps / tick_ms) * tick_ms for frame in range(num_frames + 1)]
    shown = [0]
    for frame in range(1, num_frames):
        if begins[frame] - begins[shown[-1]] >= least_ms:
            shown.append(frame)
    edges = [*(begins[frame] for frame in shown), begins[-1]]
    return shown, [max(least_ms, end - begin) for begin, end in itertools.pairwise(edges)]


def _write_folder(frames: Frames, target: Path, recipe: str) -> None:
    if target.name in ("", ".."):
        raise UserError(f"frames cannot replace the folder {target}; choose a new name")
    with refused_by_disk(target):
        if target.exists():
            if not target.is_dir():
                raise UserError(f"{target} is a file; give a folder for PNG files, or use one of {', '.join(_WRITERS)}")
            if any(not _is_frame_name(name) for name in os.listdir(target)):
                raise UserError(f"{target} contains files other than frames; choose a new folder")
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            part.mkdir(parents=True)
            for index, frame in enumerate(frames):
                text = png_text_with("" if index else recipe)
                Image.fromarray(frame).save(part / f"frame-{index:05d}.png", pnginfo=text)
            if target.exists():  # frames of an earlier video; a folder can only be replaced by removing it first
                shutil.rmtree(target)
            os.replace(part, target)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _is_frame_name(name: str) -> bool:
    stem, suffix = os.path.splitext(name)
    return suffix == ".png" and stem.startswith("frame-") and stem[6:].isdigit()

"""Accuracy of cut detection on videos with known cuts, and on random joins of them.

Prints a line per detector. A cut counts as found only at its exact frame, or between two neighbours for a detector that does not
get every frame. A join has the second before a random place of one video and the second after a random place of another, each
from a single shot.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from cdcd_video.config.option_parser import OptionParser
from cdcd_video.errors import UserError

SUFFIXES = (".mp4", ".avi", ".gif", ".mkv", ".mov", ".webm")
KINDS = ("cut", "jump", "other")
"""Kinds of known cuts: another scene; the same camera some time later; and abrupt changes that are not cuts, such as an inset or
a damaged file, which are not scored."""

Small = UInt8[np.ndarray, "F s s 3"]
Finder = Callable[[Small, np.ndarray], list[range]]
"""Frames and their times in seconds -> for each cut, the frames at any of which the shot may begin."""


@dataclass
class KnownVideo:
    """A video as detectors get it, with its known cuts by kind."""

    name: str
    frames: Small
    times_s: np.ndarray
    known: dict[str, set[int]] = field(default_factory=lambda: {kind: set() for kind in KINDS})

    def shots(self) -> list[range]:
        """The ranges of frames between known cuts."""
        edges = [0, *sorted(set().union(*self.known.values())), len(self.frames)]
        return [range(begin, end) for begin, end in zip(edges[:-1], edges[1:], strict=True)]


@dataclass
class Count:
    """Found cuts and false alarms of a detector."""

    found: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*KINDS, "joined"), 0))
    false: int = 0
    false_at_ends: int = 0
    false_joined: int = 0
    false_joined_at_ends: int = 0


def main() -> int:
    parser = OptionParser(prog="python -m cdcd_video.tools.cuts", description=__doc__)
    parser.add_argument("dir", type=Path, help="a folder of videos, subfolders included")
    parser.add_argument("--known", type=Path, metavar="FILE", help="table: path, frame, kind (cut, jump or other)")
    parser.add_argument("--joins", type=int, default=1000, help="number of joins (default: %(default)s)")
    parser.add_argument(
        "--fps", type=int, default=8, help="frame rate of prepared clips, for comparison (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.joins < 0 or args.fps < 1:
        raise UserError("--joins must be at least 0 and --fps at least 1")
    videos = read_videos(args.dir, read_known(args.known) if args.known else {})
    joins = list(joined(videos, args.joins, np.random.Generator(np.random.Philox(key=args.seed))))
    print(f"{len(videos)} videos, {sum(len(video.frames) for video in videos)} frames, {len(joins)} joined pairs")
    for name, find in ways(args.fps).items():
        print(f"{name}: {summary(count(find, videos, joins), videos, len(joins))}")
    return 0


def ways(fps: int) -> dict[str, Finder]:
    """The detectors by name; the first is that of `data_prep`."""
    from scenedetect import AdaptiveDetector, ContentDetector, FrameTimecode

    from cdcd_video.data.cut_detection import CutFinder

    def adaptive(frames: Small, times_s: np.ndarray, *detectors: AdaptiveDetector) -> list[range]:
        finder = CutFinder(*detectors)
        for pixels, time_s in zip(frames, times_s, strict=True):
            finder.add_pixels(pixels, float(time_s))
        return [range(cut, cut + 1) for cut in finder.finish()]

    def content(frames: Small, times_s: np.ndarray) -> list[range]:
        detector = ContentDetector(min_scene_len=0)
        results = (detector.process_frame(FrameTimecode(number, 25.0), pixels) for number, pixels in enumerate(frames))
        return [range(cut.frame_num, cut.frame_num + 1) for cuts in results for cut in cuts]

    def resampled(frames: Small, times_s: np.ndarray) -> list[range]:
        grid = times_s[0] + np.arange(int((times_s[-1] - times_s[0]) * fps) + 1) / fps
        taken = np.searchsorted(times_s, grid + 1e-6, side="right") - 1
        found = [cut.start for cut in adaptive(frames[taken], grid)]
        return [range(int(taken[cut - 1]) + 1, int(taken[cut]) + 1) for cut in found]

    return {
        "as data_prep": adaptive,
        "PySceneDetect adaptive, our thresholds": lambda frames, times_s: adaptive(
            frames, times_s, AdaptiveDetector(2.5, 0, 2, 15.0)
        ),
        "PySceneDetect adaptive, defaults": lambda frames, times_s: adaptive(
            frames, times_s, AdaptiveDetector(min_scene_len=0)
        ),
        "PySceneDetect content, defaults": content,
        f"as data_prep, at {fps} fps": resampled,
    }


def read_known(table: Path) -> dict[str, dict[str, set[int]]]:
    """Known cuts by video and kind.

    Raises:
      UserError: the table cannot be read.
    """
    known: dict[str, dict[str, set[int]]] = {}
    try:
        header, *rows = table.read_text(encoding="utf-8").splitlines()
        if header.split("\t") != ["path", "frame", "kind"]:
            raise ValueError("its first line must be path, frame and kind, separated by tabs")
        for path, frame, kind in (row.split("\t") for row in rows):
            known.setdefault(path, {name: set() for name in KINDS})[kind].add(int(frame))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{table} is not a table of cuts ({error}); correct it") from error
    return known


def read_videos(folder: Path, known: dict[str, dict[str, set[int]]]) -> list[KnownVideo]:
    """Every video of a folder.

    Raises:
      UserError: there are fewer than two, one is damaged, or the table names others.
    """
    from cdcd_video.data.cut_detection import shrunk
    from cdcd_video.data.decoding import Refused, Source, open_video

    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    names = [path.relative_to(folder).as_posix() for path in paths]
    if missing := sorted(set(known) - set(names)):
        raise UserError(f"{folder} has no video {missing[0]}, which the table names; correct the table")
    videos = []
    for name, path in zip(names, paths, strict=True):
        try:
            with open_video(path) as container:
                decoded = [(shrunk(frame), float(time)) for frame, time in Source(container, Fraction(0))]
        except (Refused, OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({error}); remove it") from error
        frames, times_s = zip(*decoded, strict=True)
        videos.append(
            KnownVideo(name, np.stack(frames), np.array(times_s), **({"known": known[name]} if name in known else {}))
        )
    if len(videos) < 2:
        raise UserError(f"{folder} has {len(videos)} videos; add some, because joins need two")
    return videos


def joined(videos: Sequence[KnownVideo], num: int, rng: np.random.Generator):
    """Yields frames, times and the number of the frame at which another video begins."""
    for _ in range(num):
        parts = []
        for is_second, video in enumerate(rng.choice(len(videos), size=2, replace=False)):
            video = videos[video]
            shots = [shot for shot in video.shots() if len(shot) > 1]
            shot = shots[rng.integers(len(shots))]
            place = shot[rng.integers(1, len(shot))]
            near = range(place, shot.stop) if is_second else range(shot.start, place)
            times = video.times_s[near.start : near.stop]
            is_near = times < times[0] + 1 if is_second else times > times[-1] - 1
            parts.append((video.frames[near.start : near.stop][is_near], times[is_near]))
        (before, early), (after, late) = parts
        step = np.diff(early).mean() if len(early) > 1 else 0.04
        times_s = np.concatenate([early - early[0], late - late[0] + early[-1] - early[0] + step])
        yield np.concatenate([before, after]), times_s, len(before)


def count(find: Finder, videos: Sequence[KnownVideo], joins: Sequence[tuple[Small, np.ndarray, int]]) -> Count:
    """What a way finds among the videos and the pairs."""
    result = Count()
    for video in videos:
        found = find(video.frames, video.times_s)
        for kind in KINDS:
            result.found[kind] += sum(any(place in cut for cut in found) for place in video.known[kind])
        false = _false(found, set().union(*video.known.values()))
        result.false += len(false)
        result.false_at_ends += sum(_is_at_end(cut, len(video.frames)) for cut in false)
    for frames, times_s, place in joins:
        found = find(frames, times_s)
        result.found["joined"] += any(place in cut for cut in found)
        false = _false(found, {place})
        result.false_joined += len(false)
        result.false_joined_at_ends += sum(_is_at_end(cut, len(frames)) for cut in false)
    return result


def _false(found: Sequence[range], places: set[int]) -> list[range]:
    return [cut for cut in found if not places & set(cut)]


def _is_at_end(cut: range, num_frames: int) -> bool:
    return cut.start <= 2 or cut.stop > num_frames - 2


def summary(result: Count, videos: Sequence[KnownVideo], num_joins: int) -> str:
    """One line: recall and precision, with the numbers they come from."""
    parts = []
    if num_joins:
        hits = result.found["joined"]
        parts.append(
            f"joined: recall {hits / num_joins:.4f} ({hits}/{num_joins}), precision"
            f" {hits / max(1, hits + result.false_joined):.4f} ({result.false_joined} false, {result.false_joined_at_ends} of"
            " them within two frames of an end)"
        )
    for kind in KINDS[:2]:
        if num := sum(len(video.known[kind]) for video in videos):
            parts.append(f"{kind}s {result.found[kind]}/{num}")
    return ", ".join([*parts, f"false {result.false}, {result.false_at_ends} of them within two frames of an end"])

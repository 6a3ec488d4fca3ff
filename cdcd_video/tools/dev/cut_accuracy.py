"""How well cuts are found: on videos whose cuts are known, and on pairs of them joined where nobody would cut.

Prints a line for each way of finding them. A cut counts as found only at its very frame, or between two neighbours where a
way does not see every frame. Joined are the second before a random place of one video and the second after a random place of
another, each of a single shot.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from cdcd_video.errors import UserError

SUFFIXES = (".mp4", ".avi", ".gif", ".mkv", ".mov", ".webm")
KINDS = ("cut", "jump", "other")
"""Of what a table of known cuts holds: another picture; the same camera some time later; and what is none and yet changes the
picture at a stroke, such as an inset that appears or a damaged file, where nothing is right or wrong."""

Small = UInt8[np.ndarray, "F s s 3"]
Finder = Callable[[Small, np.ndarray], list[range]]
"""Frames and their times in seconds -> for each cut, the frames at any of which the shot may begin."""


@dataclass
class Film:
    """A video as detectors see it, and the cuts it is known to have, by kind."""

    name: str
    frames: Small
    times_s: np.ndarray
    known: dict[str, set[int]] = field(default_factory=lambda: {kind: set() for kind in KINDS})

    def shots(self) -> list[range]:
        """Frames between any two of the known places."""
        edges = [0, *sorted(set().union(*self.known.values())), len(self.frames)]
        return [range(begin, end) for begin, end in zip(edges[:-1], edges[1:], strict=True)]


@dataclass
class Count:
    """What a way of finding cuts found, and what it took for one."""

    found: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*KINDS, "joined"), 0))
    false: int = 0
    false_at_ends: int = 0
    false_joined: int = 0
    false_joined_at_ends: int = 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m cdcd_video.tools.cuts", description=__doc__)
    parser.add_argument("dir", type=Path, help="a folder of videos, subfolders included")
    parser.add_argument("--known", type=Path, metavar="FILE", help="table: path, frame, kind (cut, jump or other)")
    parser.add_argument("--joins", type=int, default=1000, help="joined pairs (%(default)s)")
    parser.add_argument("--fps", type=int, default=8, help="the rate of a prepared clip, for comparison (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.joins < 0 or args.fps < 1:
        raise UserError("--joins must be at least 0 and --fps at least 1")
    films = read_films(args.dir, read_known(args.known) if args.known else {})
    joins = list(joined(films, args.joins, np.random.Generator(np.random.Philox(key=args.seed))))
    print(f"{len(films)} videos, {sum(len(film.frames) for film in films)} frames, {len(joins)} joined pairs")
    for name, find in ways(args.fps).items():
        print(f"{name}: {told(count(find, films, joins), films, len(joins))}")
    return 0


def ways(fps: int) -> dict[str, Finder]:
    """The ways that are compared; the first one is what `data_prep` does."""
    from scenedetect import ContentDetector, FrameTimecode

    from cdcd_video.data.cut_detection import CutFinder

    def adaptive(frames: Small, times_s: np.ndarray, **dials: float) -> list[range]:
        finder = CutFinder(**dials)
        for pixels, time_s in zip(frames, times_s, strict=True):
            finder.add_pixels(pixels, float(time_s))
        return [range(cut, cut + 1) for cut in finder.finish()]

    def content(frames: Small, times_s: np.ndarray) -> list[range]:
        detector = ContentDetector(min_scene_len=0)
        shown = (detector.process_frame(FrameTimecode(number, 25.0), pixels) for number, pixels in enumerate(frames))
        return [range(cut.frame_num, cut.frame_num + 1) for cuts in shown for cut in cuts]

    def resampled(frames: Small, times_s: np.ndarray) -> list[range]:
        grid = times_s[0] + np.arange(int((times_s[-1] - times_s[0]) * fps) + 1) / fps
        taken = np.searchsorted(times_s, grid + 1e-6, side="right") - 1
        found = [cut.start for cut in adaptive(frames[taken], grid)]
        return [range(int(taken[cut - 1]) + 1, int(taken[cut]) + 1) for cut in found]

    return {
        "as data_prep": adaptive,
        "PySceneDetect's adaptive as it comes": lambda *film: adaptive(*film, threshold=3.0, least=15.0),
        "PySceneDetect's content as it comes": content,
        f"as data_prep, at {fps} fps": resampled,
    }


def read_known(table: Path) -> dict[str, dict[str, set[int]]]:
    """Known places by video and kind.

    Raises:
      UserError: the table is not one.
    """
    known: dict[str, dict[str, set[int]]] = {}
    try:
        header, *rows = table.read_text(encoding="utf-8").splitlines()
        if header.split("\t") != ["path", "frame", "kind"]:
            raise ValueError("its first line must be path, frame and kind, with tabs between")
        for path, frame, kind in (row.split("\t") for row in rows):
            known.setdefault(path, {name: set() for name in KINDS})[kind].add(int(frame))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{table} cannot be read as a table of cuts ({error})") from error
    return known


def read_films(folder: Path, known: dict[str, dict[str, set[int]]]) -> list[Film]:
    """Every video of a folder.

    Raises:
      UserError: there is none, one is damaged, or the table speaks of others.
    """
    from cdcd_video.data.cut_detection import shrunk
    from cdcd_video.data.decoding import Refused, Source, open_video

    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    names = [path.relative_to(folder).as_posix() for path in paths]
    if missing := sorted(set(known) - set(names)):
        raise UserError(f"{folder} has no video {missing[0]}, of which the table speaks")
    films = []
    for name, path in zip(names, paths, strict=True):
        try:
            with open_video(path) as container:
                seen = [(shrunk(frame), float(time)) for frame, time in Source(container, Fraction(0))]
        except (Refused, OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({error})") from error
        frames, times_s = zip(*seen, strict=True)
        films.append(
            Film(name, np.stack(frames), np.array(times_s), **({"known": known[name]} if name in known else {}))
        )
    if len(films) < 2:
        raise UserError(f"{folder} holds {len(films)} videos; joining takes two")
    return films


def joined(films: Sequence[Film], num: int, rng: np.random.Generator):
    """Yields frames, times and the number of the frame at which another video begins."""
    for _ in range(num):
        parts = []
        for is_second, film in enumerate(rng.choice(len(films), size=2, replace=False)):
            film = films[film]
            shots = [shot for shot in film.shots() if len(shot) > 1]
            shot = shots[rng.integers(len(shots))]
            place = shot[rng.integers(1, len(shot))]
            near = range(place, shot.stop) if is_second else range(shot.start, place)
            times = film.times_s[near.start : near.stop]
            is_near = times < times[0] + 1 if is_second else times > times[-1] - 1
            parts.append((film.frames[near.start : near.stop][is_near], times[is_near]))
        (before, early), (after, late) = parts
        step = np.diff(early).mean() if len(early) > 1 else 0.04
        times_s = np.concatenate([early - early[0], late - late[0] + early[-1] - early[0] + step])
        yield np.concatenate([before, after]), times_s, len(before)


def count(find: Finder, films: Sequence[Film], joins: Sequence[tuple[Small, np.ndarray, int]]) -> Count:
    """What a way finds among the videos and the pairs."""
    result = Count()
    for film in films:
        found = find(film.frames, film.times_s)
        for kind in KINDS:
            result.found[kind] += sum(any(place in cut for cut in found) for place in film.known[kind])
        false = _false(found, set().union(*film.known.values()))
        result.false += len(false)
        result.false_at_ends += sum(_is_at_end(cut, len(film.frames)) for cut in false)
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


def told(result: Count, films: Sequence[Film], num_joins: int) -> str:
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
        if num := sum(len(film.known[kind]) for film in films):
            parts.append(f"{kind}s {result.found[kind]}/{num}")
    return ", ".join([*parts, f"false {result.false}, {result.false_at_ends} of them within two frames of an end"])

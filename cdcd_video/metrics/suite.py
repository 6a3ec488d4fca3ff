"""What is measured, on which videos, and beside which references: scenes or clips in, scores out.

Every number of a model stands beside three rows over the same scenes: `copy-first` (the first frame repeated: what
freezing earns), `codec-ceiling` (true codes decoded: what the codec can show at best) and `truth` (what the scores
give to the true video). On sprites two more rows ask whether the sentence is read: `counterfactual` draws the same
image with another sentence and judges by that sentence; `sentence-ignored` judges the model's ordinary videos by it,
which is what a model deaf to the sentence would earn.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cdcd_video.data import sprites
from cdcd_video.data.sprites import STRAIGHT_MOTIONS, Scene, World
from cdcd_video.data.sprites_render import render
from cdcd_video.errors import UserError
from cdcd_video.metrics import fidelity
from cdcd_video.metrics import sprites as judge
from cdcd_video.metrics.intervals import bootstrap
from cdcd_video.metrics.scores import MEASURES, METRICS, Score, checked_metrics

Progress = Callable[[int], None]
"""Called with how many frames were drawn since the last call."""


@runtime_checkable
class Painter(Protocol):
    """What a model must be able to do to be measured; `generate.ImageToVideo` is one."""

    @property
    def size_px(self) -> int:
        """Side of the frames."""

    def draw(
        self,
        starts: np.ndarray,
        captions: Sequence[str],
        drawing: Any,
        seeds: Sequence[int],
        progress: Progress | None = None,
    ) -> np.ndarray:
        """Draws videos (B, F, H, W, 3) from starting frames (B, H, W, 3)."""

    def encode(self, frames: np.ndarray) -> Any:
        """Frames (B, H, W, 3) to codes (B, N)."""

    def decode(self, codes: Any, starts: np.ndarray) -> np.ndarray:
        """Codes (B, F, N), with starting frames, to videos."""


@runtime_checkable
class Clips(Protocol):
    """Captioned clips; `data.store` holds them."""

    size_px: int

    def __len__(self) -> int:
        """How many there are."""

    def num_frames(self, clip: int) -> int:
        """Frames of a clip."""

    def caption(self, clip: int) -> str:
        """The clip's sentence."""

    def frames(self, clip: int, frames: Sequence[int]) -> np.ndarray:
        """Some frames of a clip, uint8 (F, H, W, 3)."""


REFERENCES = ("copy-first", "codec-ceiling", "truth")
SENTENCE_ROWS = ("counterfactual", "sentence-ignored")
ROWS = ("model", *SENTENCE_ROWS, *REFERENCES)
_DRAWN = {"model": {"model", "sentence-ignored"}, "counterfactual": {"counterfactual"}}
"""What is drawn, and the rows that use it."""


@dataclasses.dataclass(frozen=True)
class Example:
    """One video in every row, to be looked at."""

    captions: dict[str, str]
    """The sentence of each row."""
    videos: dict[str, UInt8[np.ndarray, "F H W 3"]]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What was found."""

    scores: list[Score]
    examples: list[Example]


@dataclasses.dataclass(frozen=True)
class _Seen:
    """One quantity of one object or one video: one number, or one per frame."""

    metric: str
    video: int
    groups: tuple[str, ...]
    total: np.ndarray
    weight: np.ndarray


# Choosing ---------------------------------------------------------------------------------------------------------


def choose_scenes(seed: int, num: int, split: sprites.Split, world: World, drawing: Any) -> tuple[list[Scene], World]:
    """The first scenes of a split, and the world they are from: made to last as long as the drawing, where it did not."""
    last_s = (drawing.num_frames - 1) / drawing.fps
    world = dataclasses.replace(world, num_frames=max(world.num_frames, math.ceil(last_s * world.fps) + 1))
    return [sprites.sample_scene(seed, index, split, world=world) for index in range(num)], world


def choose_clips(clips: Clips, num: int, num_frames: int, size_px: int) -> list[int]:
    """The first clips that are long enough.

    Raises:
      UserError: the frames are not of the model's size, or no clip is long enough.
    """
    if clips.size_px != size_px:
        raise UserError(
            f"the clips are {clips.size_px} px and the model draws {size_px} px; prepare them with --size-px {size_px}"
        )
    chosen = [clip for clip in range(len(clips)) if clips.num_frames(clip) >= num_frames][:num]
    if not chosen:
        longest = max(clips.num_frames(clip) for clip in range(len(clips)))
        raise UserError(f"no clip has {num_frames} frames, the longest has {longest}; lower --num-frames")
    return chosen


def frames_to_draw(num: int, drawing: Any, metrics: Sequence[str]) -> int:
    """How many frames an evaluation draws: scenes are drawn twice, the second time with another sentence."""
    return num * (drawing.num_frames - 1) * (2 if "sprites" in metrics else 1)


# Evaluations ------------------------------------------------------------------------------------------------------


def evaluate_sprites(
    pipe: Painter,
    scenes: Sequence[Scene],
    drawing: Any,
    seeds: Sequence[int],
    *,
    metrics: Sequence[str] = tuple(METRICS),
    rows: Sequence[str] = ROWS,
    batch_size: int = 32,
    num_examples: int = 8,
    seed: int = 0,
    world: World | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Draws every scene from its first frame and its sentence, and judges it against the scene's truth.

    Args:
      pipe: the model.
      scenes: what to draw.
      drawing: settings; number and rate of the frames are those of the truth.
      seeds: one per scene.
      metrics: some of `METRICS`.
      rows: some of `ROWS`.
      batch_size: videos drawn at a time.
      num_examples: how many videos are kept for looking at.
      seed: of the other sentences and of the bootstrap.
      world: the one the scenes are from, whose words make the other sentences; None means the full one.
      progress: told after every frame drawn of a batch; see `frames_to_draw`.
    """
    rows = [row for row in rows if "sprites" in metrics or row not in SENTENCE_ROWS]
    times = np.arange(drawing.num_frames) / drawing.fps
    others = [_other_sentence(scene, seed, world or World()) for scene in scenes] if "sprites" in metrics else scenes

    def true_video(video: int) -> np.ndarray:
        return render(scenes[video], times, pipe.size_px)

    def see(video: int, row: str, frames: np.ndarray, true: np.ndarray) -> Iterator[_Seen]:
        scene, other = scenes[video], others[video]
        if row in SENTENCE_ROWS:
            is_kept = [old == new for old, new in zip(scene.objects, other.objects, strict=True)]
            yield from _see_sprites(video, frames, other, times, ["kept" if kept else "changed" for kept in is_kept])
            return
        if "sprites" in metrics:
            yield from _see_sprites(video, frames, scene, times)
        yield from _see_pixels(video, frames, true, _groups(scene), metrics)

    captions = {"model": [scene.caption for scene in scenes], "counterfactual": [other.caption for other in others]}
    return _evaluate(pipe, true_video, captions, drawing, seeds, see, rows, batch_size, num_examples, seed, progress)


def evaluate_clips(
    pipe: Painter,
    chosen: Sequence[int],
    drawing: Any,
    seeds: Sequence[int],
    *,
    clips: Clips,
    metrics: Sequence[str] = ("psnr", "ssim", "motion"),
    batch_size: int = 32,
    num_examples: int = 8,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Draws chosen clips from their first frame and caption, and compares with how they really go on.

    Args:
      pipe: the model.
      chosen: numbers of clips with at least as many frames as are drawn.
      clips: where they are, at the model's size.
      drawing, seeds, metrics, batch_size, num_examples, seed, progress: as in `evaluate_sprites`.

    Raises:
      UserError: a metric does not exist, or needs the truth of a scene.
    """
    metrics = checked_metrics(metrics, has_scenes=False)

    def true_video(video: int) -> np.ndarray:
        return clips.frames(chosen[video], range(drawing.num_frames))

    def see(video: int, row: str, frames: np.ndarray, true: np.ndarray) -> Iterator[_Seen]:
        yield from _see_pixels(video, frames, true, ("all",), metrics)

    captions = {"model": [clips.caption(clip) for clip in chosen]}
    rows = ("model", *REFERENCES)
    return _evaluate(pipe, true_video, captions, drawing, seeds, see, rows, batch_size, num_examples, seed, progress)


def _evaluate(
    pipe: Painter,
    true_video: Callable[[int], np.ndarray],
    captions: Mapping[str, Sequence[str]],
    drawing: Any,
    seeds: Sequence[int],
    see: Callable[[int, str, np.ndarray, np.ndarray], Iterable[_Seen]],
    rows: Sequence[str],
    batch_size: int,
    num_examples: int,
    seed: int,
    progress: Progress | None,
) -> Evaluation:
    """Batch after batch: every row's videos are made, seen and, but for a few examples, let go."""
    if drawing.num_frames < 2:
        raise UserError("an evaluation needs at least 2 frames (the first is given); raise --num-frames")
    drawn_rows = [row for row, users in _DRAWN.items() if users & set(rows)]
    seen: dict[str, list[_Seen]] = {row: [] for row in rows}
    examples: list[Example] = []
    for begin in range(0, len(seeds), batch_size):
        batch = range(begin, min(begin + batch_size, len(seeds)))
        true = np.stack([true_video(video) for video in batch])
        said = {row: captions[row][batch.start : batch.stop] for row in drawn_rows}
        made = {
            row: pipe.draw(true[:, 0], said[row], drawing, seeds[batch.start : batch.stop], progress) for row in said
        }
        made |= {
            "sentence-ignored": made.get("model"),
            "copy-first": np.repeat(true[:, :1], drawing.num_frames, axis=1),
            "codec-ceiling": codec_ceiling(pipe, true) if "codec-ceiling" in rows else None,
            "truth": true,
        }
        for place, video in enumerate(batch):
            for row in rows:
                seen[row].extend(see(video, row, made[row][place], true[place]))
            if video < num_examples:
                shown = {row: made[row][place].copy() for row in rows if row != "sentence-ignored"}
                examples.append(Example({row: said[row][place] for row in said}, shown))
    scores = [score for row in rows for score in _summarise(row, seen[row], seed)]
    return Evaluation(scores, examples)


def _other_sentence(scene: Scene, seed: int, world: World) -> Scene:
    rng = np.random.Generator(np.random.Philox(key=[scene.seed, seed], counter=[0, 0, 0, scene.index]))
    try:
        return sprites.counterfactual(scene, rng, world=world)
    except UserError:  # a small world may know no other motion that fits; the full one does
        return sprites.counterfactual(scene, rng)


# Seeing -----------------------------------------------------------------------------------------------------------


def _groups(scene: Scene) -> tuple[str, ...]:
    """The groups of a whole video; by motion only where one object says what the motion is."""
    motion = (f"motion={scene.objects[0].motion}",) if len(scene.objects) == 1 else ()
    return ("all", f"objects={len(scene.objects)}", *motion)


def _see_sprites(
    video: int, frames: np.ndarray, scene: Scene, times: np.ndarray, marks: Sequence[str] = ()
) -> Iterator[_Seen]:
    """Every sprites quantity of one video; `marks` says for each object whether its sentence was changed or kept."""
    found = judge.score(_at_view_size(frames), scene, times)
    for place, sprite in enumerate(scene.objects):
        groups = ["all", f"objects={len(scene.objects)}", f"motion={sprite.motion}"]
        groups += [f"heldout={kind}" for kind in sprites.held_out(sprite)]
        groups += [f"sentence={mark}" for mark in marks[place : place + 1]]
        numbers = {
            "does_right_thing": found.does_right_thing[place],
            "direction_right": found.direction_right[place],
            "position_error": found.position_error_px[place],
            "identity_iou": found.identity_iou[place],
            "lost_share": np.isnan(found.position_error_px[place]),
        }
        if sprite.motion == "stays still":
            numbers["still_right"] = found.does_right_thing[place]
        for metric, value in numbers.items():
            yield _seen(metric, video, groups, value)
    yield _seen("all_right", video, _groups(scene), found.all_right)
    yield _seen("background_psnr", video, _groups(scene), found.background_psnr_db)


def _at_view_size(frames: np.ndarray) -> np.ndarray:
    """Frames of any size at the size the judge knows; the truth's own scores show what that costs."""
    view = (sprites.VIEW_PX, sprites.VIEW_PX)
    if frames.shape[1:3] == view:
        return frames
    return np.stack([np.asarray(Image.fromarray(frame).resize(view, Image.Resampling.BOX)) for frame in frames])


def _see_pixels(
    video: int, frames: np.ndarray, true: np.ndarray, groups: Sequence[str], metrics: Sequence[str]
) -> Iterator[_Seen]:
    if "psnr" in metrics:
        yield _seen("psnr", video, groups, fidelity.psnr(frames, true))
    if "ssim" in metrics:
        yield _seen("ssim", video, groups, fidelity.ssim(frames, true))
    if "motion" in metrics:
        yield _Seen("motion_ratio", video, tuple(groups), fidelity.motion(frames), fidelity.motion(true))


def _seen(metric: str, video: int, groups: Sequence[str], value: Any) -> _Seen:
    """Something of which the mean is taken; NaN is what could not be measured."""
    value = np.atleast_1d(np.asarray(value, dtype=np.float64))
    return _Seen(metric, video, tuple(groups), value, np.where(np.isnan(value), np.nan, 1.0))


# Summing up -------------------------------------------------------------------------------------------------------


def _summarise(row: str, seen: Sequence[_Seen], seed: int) -> list[Score]:
    """Everything seen in one row -> scores: per group over all drawn frames, and for all videos frame by frame."""
    grouped: dict[tuple[str, str], list[_Seen]] = {}
    for one in seen:
        for group in one.groups:
            grouped.setdefault((one.metric, group), []).append(one)
    order = {name: place for place, name in enumerate(MEASURES)}
    scores = []
    for (metric, group), ones in sorted(grouped.items(), key=lambda item: (order[item[0][0]], item[0][1])):
        measure = MEASURES[metric]
        totals = np.nan_to_num(np.stack([one.total for one in ones]))
        weights = np.nan_to_num(np.stack([one.weight for one in ones]))
        known = ~np.isnan(np.stack([one.total for one in ones]))
        is_curve = totals.shape[1] > 1
        columns = [slice(1, None) if is_curve else slice(None)]  # frame 0 is given: it is no achievement
        if is_curve and group == "all":
            columns += [slice(frame, frame + 1) for frame in range(totals.shape[1]) if known[:, frame].any()]
        videos, of_video = np.unique([one.video for one in ones], return_inverse=True)
        sums = np.zeros((2, len(videos), len(columns)))
        for side, values in enumerate((totals, weights)):
            chosen = np.stack([values[:, column].sum(axis=1) for column in columns], axis=1)
            np.add.at(sums[side], of_video, chosen)
        found = bootstrap(*sums, seed, is_share=measure.unit == "share")
        for column, value, low, high in zip(columns, *found, strict=True):
            scores.append(
                Score(
                    metric,
                    *(round(float(end), 6) if math.isfinite(end) else None for end in (value, low, high)),
                    n=int(known[:, column].any(axis=1).sum()),
                    counted=measure.counted,
                    unit=measure.unit,
                    better=measure.better,
                    row=row,
                    group=group,
                    frame=None if column.stop is None else column.start,
                )
            )
    return scores


def codec_ceiling(pipe: Painter, videos: UInt8[np.ndarray, "B F H W 3"]) -> UInt8[np.ndarray, "B F H W 3"]:
    """True videos through the codec alone, beside their true first frames: the best that any drawing could show."""
    codes = pipe.encode(videos.reshape(-1, *videos.shape[2:]))
    shown = pipe.decode(codes.reshape(*videos.shape[:2], -1), videos[:, 0])
    shown[:, 0] = videos[:, 0]
    return shown


# The gate ---------------------------------------------------------------------------------------------------------

GATE_WORLD = World(max_objects=1, motions=(*STRAIGHT_MOTIONS, "stays still"))
"""One object that moves straight in one of eight directions, or stays."""


def gate(
    pipe: Painter, scenes: Sequence[Scene], drawing: Any, *, gaps: Sequence[int] = (1, 4), batch_size: int = 64
) -> dict[str, dict[str, dict[str, float | None]]]:
    """One step from a still first frame: does the object set off as the sentence says, and because the sentence says it?

    Args:
      pipe: the model.
      scenes: one-object scenes of `GATE_WORLD`.
      drawing: settings; number and rate of frames are replaced.
      gaps: how far the step reaches, in frames of the data.
      batch_size: videos drawn at a time.

    Returns:
      For each gap ("gap1", "gap4") and row ("right", "shuffled", "copy-first", "codec-ceiling", "truth"): over the moving
      objects, `ratio` (displacement along the true direction over the true displacement), `sign_right` (share of
      positive ones) and `error_px`; over the still ones, `still_px`; `lost`, the share of objects not found. "shuffled"
      has a sentence that leads the same object elsewhere (at right angles, away, or nowhere) and is still measured along
      the true direction: a deaf model scores as in "right", a perfect listener `listener_ratio`; `own_ratio` is measured
      along the other sentence's own direction.
    """
    rng = np.random.Generator(np.random.Philox(key=drawing.seed))
    others = [_elsewhere(scene, rng) for scene in scenes]
    report = {}
    for gap in gaps:
        times = np.array([0, gap]) / GATE_WORLD.fps
        two = dataclasses.replace(drawing, num_frames=2, fps=GATE_WORLD.fps / gap)
        rows: dict[str, list[np.ndarray]] = {}
        for begin in range(0, len(scenes), batch_size):
            part, other = scenes[begin : begin + batch_size], others[begin : begin + batch_size]
            true = np.stack([render(scene, times, pipe.size_px) for scene in part])
            seeds = range(drawing.seed + begin, drawing.seed + begin + len(part))
            made = {
                "right": pipe.draw(true[:, 0], [scene.caption for scene in part], two, seeds),
                "shuffled": pipe.draw(true[:, 0], [scene.caption for scene in other], two, seeds),
                "copy-first": true[:, [0, 0]],
                "codec-ceiling": codec_ceiling(pipe, true),
                "truth": true,
            }
            for row, videos in made.items():
                rows.setdefault(row, []).append(_moves(videos, part))
        right, wrong = _true_moves(scenes, times), _true_moves(others, times)
        moves = {row: np.concatenate(parts) for row, parts in rows.items()}
        figures = {row: _gate_figures(seen, right) for row, seen in moves.items()}
        figures["shuffled"]["listener_ratio"] = _gate_figures(wrong, right)["ratio"]
        figures["shuffled"]["own_ratio"] = _gate_figures(moves["shuffled"], wrong)["ratio"]
        report[f"gap{gap}"] = figures
    return report


def _elsewhere(scene: Scene, rng: np.random.Generator) -> Scene:
    """The same first frame with a sentence under which the object gets no nearer to where the scene's own leads it."""
    ahead = _true_moves([scene], np.array([0.0, 1.0]))[0]
    options = []
    for motion in GATE_WORLD.motions:
        for adverb in (None,) if motion == "stays still" else sprites.ADVERBS:
            other = sprites.with_motion(scene, 0, motion, adverb, world=GATE_WORLD)
            is_known = other and (scene.split == "heldout" or not sprites.held_out(other.objects[0]))
            if is_known and motion != scene.objects[0].motion:
                options.append(other)
    away = [other for other in options if _true_moves([other], np.array([0.0, 1.0]))[0] @ ahead < 1e-6]
    return away[int(rng.integers(len(away)))]


def _moves(videos: np.ndarray, scenes: Sequence[Scene]) -> np.ndarray:
    """Tracked displacement of each one-object scene from its first frame to its last, (V, 2); NaN where lost."""
    centres = np.stack(
        [judge.track(_at_view_size(frames), scene).centres[0] for frames, scene in zip(videos, scenes, strict=True)]
    )
    return centres[:, -1] - centres[:, 0]


def _true_moves(scenes: Sequence[Scene], times: np.ndarray) -> np.ndarray:
    centres = np.stack([sprites.truth(scene, times).centres[0] for scene in scenes])
    return centres[:, -1] - centres[:, 0]


def _gate_figures(seen: np.ndarray, true: np.ndarray) -> dict[str, float | None]:
    length = np.linalg.norm(true, axis=-1)
    found = ~np.isnan(seen[:, 0])
    moves, rests = found & (length > 0), found & (length == 0)
    along = (seen * true).sum(axis=-1)[moves] / length[moves]
    figures = {
        "ratio": along.sum() / length[moves].sum() if moves.any() else math.nan,
        "sign_right": (along > 0).mean() if moves.any() else math.nan,
        "error_px": np.linalg.norm(seen - true, axis=-1)[moves].mean() if moves.any() else math.nan,
        "still_px": np.linalg.norm(seen[rests], axis=-1).mean() if rests.any() else math.nan,
        "lost": 1 - found.mean(),
    }
    return {name: round(float(value), 4) if math.isfinite(value) else None for name, value in figures.items()}

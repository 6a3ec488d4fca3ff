"""Samples several futures of one first frame, and measures how many are right, how different they are, and how sharp.

The captions leave the direction out. For each number of reverse steps there is a line, with 95 % intervals over first frames,
beside the truth, the truth through the codec and the frozen first frame.
"""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cdcd_video.config.option_parser import OptionParser
from cdcd_video.config.sampling_params import SamplingParams, add_flags
from cdcd_video.data import sprites
from cdcd_video.data.sprites_render import render
from cdcd_video.errors import UserError, exit_code, note
from cdcd_video.metrics import sprites_futures
from cdcd_video.metrics.measurements import at_view_size
from cdcd_video.metrics.references import codec_ceiling
from cdcd_video.metrics.sprites_tracking import track
from cdcd_video.metrics.statistics.intervals import bootstrap
from cdcd_video.storage.free_name import chosen_folder

SAMPLING = (
    *("num_frames", "guidance", "temperature", "top_p", "top_k", "order"),
    *("lookback_s", "longest_gap_s", "decoded", "unchanged", "solver"),
)
QUANTITIES = {"right": True, "diversity": False, "edges": False, "identity_last": False}
"""What a line holds, and whether it is a share of videos."""
SCENES_PER_START = 100
"""Scenes that are looked at for each first frame before an error says that the world has too few."""


def main() -> int:
    parser = OptionParser(prog="python -m cdcd_video.tools.open_future", description=__doc__)
    add = parser.add_argument
    add("--checkpoint", default="sprites", metavar="NAME_OR_DIR", help="a shipped model, or a model or run folder")
    add("--num-starts", type=int, default=64, metavar="N", help="first frames (default: %(default)s)")
    add("--num-samples", type=int, default=8, metavar="K", help="videos of each first frame (default: %(default)s)")
    add("--steps", type=int, nargs="+", default=[1, 2, 4, 8, 16], metavar="S", help="reverse steps per frame")
    add("--seed", type=int, default=0, help="seed of scenes, sampling and intervals (default: 0)")
    add("--batch", type=int, default=32, metavar="B", help="videos sampled at a time (default: 32)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:1 (default: auto)")
    add("--out", type=Path, metavar="DIR", help="output folder (default: out/open_future, or the next free name)")
    add_flags(parser, SAMPLING)
    args = parser.parse_args()
    if min(args.num_starts, args.num_samples, args.batch) < 1 or args.seed < 0:
        raise UserError("--num-starts, --num-samples and --batch must be at least 1, and --seed 0 or more")
    with chosen_folder(args.out, Path("out/open_future")) as out:
        for line in measure(args, out):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
    return 0


@dataclasses.dataclass(frozen=True)
class Start:
    """A first frame with a caption that has at least two futures.

    Attributes:
      scene: one object, and one of its futures.
      futures: those that the world samples.
      probabilities: float64 (n,) of the futures, given the first frame and the caption.
      edge_energy: of the frames after the first of the true video, summed.
    """

    scene: sprites.Scene
    futures: tuple[sprites.Scene, ...]
    probabilities: np.ndarray
    edge_energy: float


def measure(args: argparse.Namespace, out: Path) -> Iterator[str]:
    """Samples and measures, line by line, and writes `open_future.json` into the folder `out` at the end."""
    import torch
    from tqdm import tqdm

    from cdcd_video.engine.runtime import provenance, seed_for
    from cdcd_video.pipeline import ImageToVideo

    pipe = ImageToVideo.from_pretrained(args.checkpoint, args.device)
    given = {name: getattr(args, name) for name in SAMPLING}
    settings = [pipe.defaults(**given, num_steps=steps) for steps in args.steps]
    params = settings[0]
    times_s = np.arange(params.num_frames) / params.fps
    trained_on = world_of(pipe.model.config)
    if trained_on.version != "open":
        note(
            f"{pipe.model.config.name} was trained on data.world {trained_on.version}, where every caption names its direction,"
            " so captions without one are new to it"
        )
    frames = max(trained_on.num_frames, int(np.ceil(times_s[-1] * trained_on.fps)) + 1)
    world = dataclasses.replace(trained_on, version="open", max_objects=1, num_frames=frames)
    starts = choose_starts(world, times_s, args.num_starts, args.seed)
    places = [place for place in range(len(starts)) for _ in range(args.num_samples)]
    seeds = [seed_for(args.seed, "evaluate", number) for number in range(len(places))]
    truth = [
        _true_video(starts[place], number, times_s, args.seed, pipe.size_px) for number, place in enumerate(places)
    ]
    firsts = np.stack([video[0] for video in truth])

    def of_codec(part: slice) -> np.ndarray:
        return codec_ceiling(pipe, np.stack(truth[part]))

    def frozen(part: slice) -> np.ndarray:
        return np.repeat(firsts[part][:, None], params.num_frames, axis=1)

    systems: list[tuple[str, int | None, Callable[[slice], np.ndarray]]] = [
        ("truth", None, lambda part: np.stack(truth[part])),
        ("codec-ceiling", None, of_codec),
        ("copy-first", None, frozen),
    ]
    total = len(places) * (params.num_frames - 1) * len(settings)
    with tqdm(total=total, desc="sampling", unit="frame") as bar:
        for one in settings:

            def sampled(part: slice, one: SamplingParams = one) -> np.ndarray:
                captions = [starts[place].scene.caption for place in places[part]]
                return pipe.sample(firsts[part], captions, one, seeds[part], bar.update)

            systems.append(("model", one.num_steps, sampled))
        rows = []
        yield _header()
        for name, steps, make in systems:
            scores, seconds = _scored(make, starts, places, times_s, args.batch)
            per_video = seconds / len(places) if name == "model" else None
            rows.append(row(name, steps, starts, scores, args.num_samples, per_video, args.seed))
            yield as_text(rows[-1])
    result = {
        "checkpoint": args.checkpoint,
        "model_sha256": pipe.model.digest,
        "is_trained_on_open_captions": trained_on.version == "open",
        "params": {**params.described(), "num_steps": args.steps, "seed": args.seed},
        "num_starts": len(starts),
        "num_samples": args.num_samples,
        "starts": [
            {
                "name": f"sprites-{one.scene.seed}-{one.scene.split}-{one.scene.index:06d}",
                "caption": one.scene.caption,
                "futures": {
                    future.objects[0].motion: round(float(p), 6)
                    for future, p in zip(one.futures, one.probabilities, strict=True)
                },
            }
            for one in starts
        ],
        "rows": rows,
        **provenance(threads=pipe.num_threads or torch.get_num_threads(), precision=pipe.precision),
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "open_future.json").write_text(json.dumps(result, indent=1) + "\n")


def choose_starts(world: sprites.World, times_s: np.ndarray, num: int, seed: int) -> list[Start]:
    """The first validation scenes whose caption leaves the direction out and has at least two futures.

    Args:
      world: of one object, of the version "open".
      times_s: (F,) times of the frames in seconds, from 0.
      num: how many.
      seed: of the scenes.

    Raises:
      UserError: the world has too few.
    """
    starts: list[Start] = []
    for index in range(num * SCENES_PER_START):
        scene = sprites.sample_scene(seed, index, "val", world=world)
        if not scene.is_open:
            continue
        futures, probabilities = sprites.sampled_futures(scene, world)
        if len(futures) > 1:
            energy = sprites_futures.edge_energy(track(render(scene, times_s), scene))[1:].sum()
            starts.append(Start(scene, futures, probabilities, float(energy)))
        if len(starts) == num:
            return starts
    raise UserError(
        f"only {len(starts)} of the first {num * SCENES_PER_START} scenes of the model's world have a caption with several"
        " futures; lower --num-starts, or name a model whose data.motions have several directions"
    )


def row(
    name: str,
    steps: int | None,
    starts: Sequence[Start],
    scores: Sequence[sprites_futures.FutureScore],
    num_samples: int,
    seconds: float | None,
    seed: int,
) -> dict[str, Any]:
    """One line: each quantity of `QUANTITIES` with its interval over first frames, and what each video does.

    Args:
      name: of the system.
      steps: reverse steps per frame; None where nothing is sampled.
      starts: the first frames.
      scores: of the videos, `num_samples` for each start, in order.
      num_samples: K.
      seconds: of the processor per video.
      seed: of the intervals.
    """
    totals, weights = (np.zeros((len(starts), len(QUANTITIES))) for _ in range(2))
    done = []
    for place, start in enumerate(starts):
        own = scores[place * num_samples : (place + 1) * num_samples]
        motions = [one.motions for one in own]
        possible = {tuple(sprite.motion for sprite in future.objects) for future in start.futures}
        totals[place] = (
            sum(one is not None for one in motions),
            len(possible.intersection(motions)),
            sum(float(one.edge_energy[1:].sum()) for one in own),
            sum(float(one.score.identity_iou[:, -1].mean()) for one in own),
        )
        expected = sprites_futures.expected_distinct(start.probabilities, num_samples)
        weights[place] = num_samples, expected, num_samples * start.edge_energy, num_samples
        done.append([one and one[0] for one in motions])
    found: dict[str, Any] = {}
    for column, (quantity, is_share) in enumerate(QUANTITIES.items()):
        part = slice(column, column + 1)
        ends = bootstrap(totals[:, part], weights[:, part], seed, is_share=is_share)
        found[quantity] = [None if np.isnan(end[0]) else round(float(end[0]), 6) for end in ends]
    return {"system": name, "num_steps": steps, **found, "cpu_s_per_video": seconds, "motions": done}


def as_text(cells: dict[str, Any]) -> str:
    """The row as text."""

    def interval(value: float, low: float | None, high: float | None) -> str:
        return f"{value:.3f}" + ("" if low is None else f" [{low:.3f}, {high:.3f}]")

    columns = "".join(f"{interval(*cells[quantity]):<23}" for quantity in QUANTITIES)
    seconds = "-" if cells["cpu_s_per_video"] is None else f"{cells['cpu_s_per_video']:.2f}"
    return f"{cells['system']:<15}{cells['num_steps'] or '-':<7}{columns}{seconds}"


def _header() -> str:
    titles = ("right", "diversity", "edges / truth", "identity, last frame")
    return f"{'':<15}{'steps':<7}{''.join(f'{title:<23}' for title in titles)}CPU s per video"


def world_of(config: Any) -> sprites.World:
    """The world that a model was trained on.

    Raises:
      UserError: it was trained on clips or digits.
    """
    from cdcd_video.training.training_data import sprites_world

    if config.data.kind != "sprites":
        raise UserError(
            f"{config.name} was trained on data.kind {config.data.kind}, which has no captions with several known futures; name"
            " a model of data.kind sprites, such as one that configs/sprites_open.yaml trains"
        )
    return sprites_world(config.data)


def _true_video(start: Start, number: int, times_s: np.ndarray, seed: int, size_px: int) -> np.ndarray:
    """A future at random, by its probability, uint8 (F, S, S, 3)."""
    rng = np.random.Generator(np.random.Philox(key=[seed, number]))
    future = start.futures[int(rng.choice(len(start.futures), p=start.probabilities))]
    return render(future, times_s, size_px)


def _scored(
    make: Callable[[slice], np.ndarray],
    starts: Sequence[Start],
    places: Sequence[int],
    times_s: np.ndarray,
    batch_size: int,
) -> tuple[list[sprites_futures.FutureScore], float]:
    """The scores of all videos of a system, and the seconds of the processor that making them took."""
    scores: list[sprites_futures.FutureScore] = []
    seconds = 0.0
    for first in range(0, len(places), batch_size):
        part = slice(first, first + batch_size)
        begin = time.process_time()
        videos = make(part)
        seconds += time.process_time() - begin
        for place, frames in zip(places[part], videos, strict=True):
            found = sprites_futures.score(at_view_size(frames, starts[place].scene), starts[place].scene, times_s)
            scores.append(found)
    return scores, seconds


if __name__ == "__main__":
    sys.exit(exit_code(main))

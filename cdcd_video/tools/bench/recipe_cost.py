"""`bench recipe`: quality of the shipped model's recipe against processor seconds, beside the recipe of another commit."""

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cdcd_video.config.setting_words import add_setting_flag
from cdcd_video.data.sprites import World
from cdcd_video.errors import UserError
from cdcd_video.metrics.eval_dataset import choose_scenes
from cdcd_video.metrics.sprites_metrics import score
from cdcd_video.tools.bench import recipe_side

ROOT = Path(__file__).resolve().parents[3]
STAGES = ("clip", "codec", "decoder", "diffusion", "refine")
"""Those of the recipe; the last two train the denoiser, and only while they do is there a model to score."""
GOALS = {"one_right": 0.91, "both_right": 0.75, "identity": 0.85}
"""Scores of the model shipped in November 2026: a single object right, both of two right, identity in the last frame."""
LARGEST_SHARE = 1 / 3
"""Of the other recipe's processor seconds, in which this one is to reach the goals."""
POLL_S = 1.0
LEAST_TIMED = 20
"""Steps of each stage that are timed for an estimate, at least."""
FRAMES, FPS, SCENE_SEED = 16, 8.0, 30_000
"""Of the videos that are scored: scenes of the first world, from pairs of words that training has."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    add = parser.add_argument
    add("--against", required=True, metavar="COMMIT", help="commit of this repository with the other recipe")
    add("--config", default="configs/sprites.yaml", metavar="FILE", help="this side's recipe (default: %(default)s)")
    add("--config-against", metavar="FILE", help="the other side's recipe, in its commit (default: as --config)")
    add(
        "--out", type=Path, default=Path("runs/bench-recipe"), metavar="DIR", help="where both train; it can be resumed"
    )
    add("--videos", type=int, default=512, metavar="N", help="videos of each point of a curve (default: 512)")
    add("--points", type=int, default=8, metavar="N", help="points of a curve in each of its two stages (default: 8)")
    add(
        "--shipped",
        type=int,
        metavar="STEPS",
        help="do not train the other recipe to its end: time this many steps of each of its stages, and score the model"
        " that its commit ships (default: train it)",
    )
    add_setting_flag(parser, "a setting of both configs")


def compare(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Trains both recipes one after the other, on one thread, and scores what they had learned on the way.

    They train in 32 bits unless `set` says otherwise.

    With `shipped` the other recipe's seconds are those of a short training, its stages stretched to their steps, and its
    curve is one point: the model that it led to.

    Only the training's processor seconds count: neither evaluations nor the videos that are scored. Killed and started
    again, it goes on where it was.

    Raises:
      UserError: there is no checkout or no such commit, or a training failed.
    """
    if min(args.videos, args.points) < 1:
        raise UserError("--videos and --points must be at least 1")
    if args.shipped is not None and args.shipped < LEAST_TIMED:
        raise UserError(f"--shipped must be at least {LEAST_TIMED} steps, to tell a step from the start of a stage")
    codes = {"now": ROOT, "against": _code_of(args.against, args.out / "against" / "code")}
    sides = {}
    for name, code in codes.items():
        config = args.config_against if name == "against" and args.config_against else args.config
        side = Side(name, code, config, args.out.resolve() / name, args.set)
        if name == "against" and args.shipped:
            say(f"timing {args.shipped} steps of each stage of {name} ...")
            seconds = side.estimate(args.shipped)
            sides[name] = {"cpu_s": seconds, "curve": [vars(side.shipped(seconds, args.videos))]}
            continue
        say(f"training the recipe of {name} ...")
        side.train(args.points)
        say(f"scoring the recipe of {name} ...")
        sides[name] = {"cpu_s": side.seconds(), "curve": [vars(point) for point in side.curve(args.videos)]}
    return {"against": args.against, "videos": args.videos, "goals": GOALS, **sides} | verdict(sides)


def verdict(sides: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """When this recipe reached the goals, and what share that is of the other recipe's whole training."""
    reached = next((point["cpu_s"] for point in sides["now"]["curve"] if _is_reached(point)), None)
    whole = sides["against"]["cpu_s"]
    return {"reached_cpu_s": reached, "share": reached / whole if reached is not None else None}


def table(result: Mapping[str, Any]) -> list[str]:
    """The results as lines to print."""
    lines = [f"quality against CPU time, {result['videos']} videos of the first world a point", ""]
    lines.append(f"{'':<9}{'stage':<11}{'steps':>7}{'CPU':>10}{'one right':>11}{'both right':>12}{'identity':>10}")
    for name in ("against", "now"):
        for point in result[name]["curve"]:
            cells = f"{point['one_right']:>11.1%}{point['both_right']:>12.1%}{point['identity']:>10.3f}"
            lines.append(f"{name:<9}{point['stage']:<11}{point['step']:>7}{point['cpu_s']:>8.0f} s{cells}")
    goals = ", ".join(f"{name} {value}" for name, value in result["goals"].items())
    if result["share"] is None:
        return [*lines, "", f"this recipe did not reach the goals ({goals})"]
    late = "" if result["share"] <= LARGEST_SHARE else "; above the target of a third"
    whole, reached = result["against"]["cpu_s"], result["reached_cpu_s"]
    return [*lines, "", f"goals ({goals}) reached after {reached:.0f} s: {result['share']:.2f} of {whole:.0f} s{late}"]


@dataclasses.dataclass(frozen=True)
class Point:
    """Scores of the model at one moment of a training."""

    stage: str
    step: int
    cpu_s: float
    one_right: float
    """Share of single objects that do what the sentence says."""
    both_right: float
    """Share of pairs of objects of which both do."""
    identity: float
    """Mean overlap of an object with its true shape in the last frame."""


class Side:
    """One recipe, trained and scored in its own code.

    Args:
      code: a checkout.
      config: path of the recipe in it.
      out: folder of the run, of its snapshots and of their videos.
      settings: of `train.py --set`.
    """

    def __init__(self, name: str, code: Path, config: str, out: Path, settings: Sequence[str]):
        self.name, self.code, self.config, self.out, self.run = name, code, config, out, out / "run"
        self.settings = [f"train.{stage}.precision=fp32" for stage in STAGES] + ["num_threads=1", *settings]
        self.environment = os.environ | {"PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}

    def seconds(self) -> float:
        """Processor seconds of the training so far."""
        noted = self.out / "cpu.json"
        return json.loads(noted.read_text())["cpu_s"] if noted.is_file() else 0.0

    def train(self, points: int) -> None:
        """Trains all stages, keeping averaged weights of the denoiser along the way, each with its processor seconds.

        Raises:
          UserError: the training failed.
        """
        (self.out / "snapshots").mkdir(parents=True, exist_ok=True)
        every = {stage: max(1, self._steps()[stage] // points) for stage in STAGES[-2:]}
        before = self.seconds()
        settings = [f"train.{stage}.checkpoint_every={steps}" for stage, steps in every.items()]
        for spent in self._running(self.run, settings):
            self._note(before + spent, every)
        self._note(self.seconds(), every)

    def estimate(self, steps: int) -> float:
        """Processor seconds of the whole recipe, from a training with so many steps in each stage.

        Raises:
          UserError: the training failed.
        """
        noted, trial = self.out / "estimate.json", self.out / "trial"
        if not noted.is_file() or json.loads(noted.read_text())["steps"] != steps:
            shutil.rmtree(trial, ignore_errors=True)
            trace: dict[str, list[tuple[int, float]]] = {stage: [] for stage in STAGES}
            settings = [f"train.{stage}.{key}" for stage in STAGES for key in (f"num_steps={steps}", "log_every=5")]
            spent = 0.0
            for spent in self._running(trial, settings):
                _trace(trial / "log.jsonl", spent, trace)
            if min(map(len, trace.values())) < 2:
                raise UserError(f"{steps} steps of a stage pass too quickly here to be timed; give --shipped more")
            noted.write_text(json.dumps({"steps": steps, "cpu_s": spent, "trace": trace}))
        found = json.loads(noted.read_text())
        return stretched(found["cpu_s"], found["steps"], self._steps(), found["trace"])

    def shipped(self, seconds: float, num_videos: int) -> Point:
        """Scores of the model that this code ships, after these processor seconds."""
        name = yaml.safe_load((self.code / self.config).read_text())["name"]
        model = self.code / "cdcd_video" / "models" / name
        return Point("shipped", sum(self._steps().values()), seconds, *self._scores(model, None, self.out, num_videos))

    def _steps(self) -> dict[str, int]:
        """Steps of each stage."""
        recipe = yaml.safe_load((self.code / self.config).read_text())["train"]
        given = dict(setting.split("=", 1) for setting in self.settings)
        return {stage: int(given.get(f"train.{stage}.num_steps", recipe[stage]["num_steps"])) for stage in STAGES}

    def _running(self, out: Path, settings: Sequence[str]) -> Iterator[float]:
        """Trains, and tells again and again how many processor seconds this start has taken.

        Raises:
          UserError: the training failed.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        rare = [f"train.{stage}.evaluate_every={10**9}" for stage in STAGES]
        command = [sys.executable, "train.py", "--config", self.config, "--out", str(out), "--watch", "none"]
        command += [word for setting in (*self.settings, *rare, *settings) for word in ("--set", setting)]
        with (self.out / "train.log").open("a") as log:
            child = subprocess.Popen(command, cwd=self.code, env=self.environment, stdout=log, stderr=log)
            spent = 0.0
            try:
                while child.poll() is None:
                    spent = max(spent, cpu_s(child.pid))
                    yield spent
                    time.sleep(POLL_S)
            finally:
                if child.poll() is None:  # this benchmark is stopped: the training saves a checkpoint and stops, too
                    child.terminate()
                    child.wait()
        if child.returncode:
            raise UserError(f"the training of {self.name} failed; see {self.out / 'train.log'}")

    def curve(self, num_videos: int) -> Iterator[Point]:
        """Scores of the snapshots, in the order of the training."""
        snapshots = ((_noted(folder), folder) for folder in (self.out / "snapshots").iterdir())
        # Two that were found at one look have the same seconds, and folders come in any order.
        for found, folder in sorted(snapshots, key=lambda one: (STAGES.index(one[0]["stage"]), one[0]["step"])):
            scores = self._scores(self.run / "model", folder / "ema.safetensors", folder, num_videos)
            yield Point(found["stage"], found["step"], found["cpu_s"], *scores)

    def _scores(self, model: Path, weights: Path | None, folder: Path, num_videos: int) -> tuple[float, float, float]:
        """The three scores of a model with these weights of the denoiser (None: its own); its videos go into a folder."""
        scenes, _ = choose_scenes(SCENE_SEED, num_videos, "train", World(), FRAMES, FPS)
        request: dict[str, Any] = dict(model=str(model), weights=str(weights) if weights else None, videos=num_videos)
        request |= dict(frames=FRAMES, fps=FPS, seed=SCENE_SEED, out=str(folder / "videos.npy"))
        done = folder / "videos.npy"
        if not done.is_file() or len(np.load(done, mmap_mode="r")) != num_videos:
            command = [sys.executable, recipe_side.__file__, json.dumps(request)]
            subprocess.run(command, cwd=self.code, env=self.environment, check=True)
        videos = np.load(done)
        scores = [score(video, scene, np.arange(FRAMES) / FPS) for video, scene in zip(videos, scenes, strict=True)]
        return (
            _mean([one.all_right for one in scores if len(one.does_right_thing) == 1]),
            _mean([one.all_right for one in scores if len(one.does_right_thing) == 2]),
            _mean([overlap for one in scores for overlap in one.identity_iou[:, -1]]),
        )

    def _note(self, spent: float, every: Mapping[str, int]) -> None:
        """Writes down the seconds, and keeps a new checkpoint's weights."""
        spent = max(spent, self.seconds())
        (self.out / "cpu.json").write_text(json.dumps({"cpu_s": spent}))
        for stage in STAGES[-2:]:
            for found in (self.run / "checkpoints" / stage).glob("step-*"):
                step = int(found.name.removeprefix("step-"))
                kept = self.out / "snapshots" / f"{stage}-{step:08d}"
                if step % every[stage] or kept.exists() or not (found / "ema.safetensors").is_file():
                    continue
                making = kept.with_suffix(".tmp")
                making.mkdir(exist_ok=True)
                shutil.copy(found / "ema.safetensors", making)
                (making / "point.json").write_text(json.dumps({"stage": stage, "step": step, "cpu_s": spent}))
                making.rename(kept)


def cpu_s(pid: int) -> float:
    """Processor seconds of a process so far, as `ps` tells them; 0 once it has ended."""
    shown = subprocess.run(["ps", "-o", "time=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    days, _, clock = shown.strip().rpartition("-")
    parts = [float(part) for part in clock.split(":") if part]
    seconds = sum(part * 60**place for place, part in enumerate(reversed(parts)))
    return seconds + 86_400 * int(days or 0)


def stretched(
    spent: float, steps: int, wanted: Mapping[str, int], trace: Mapping[str, Sequence[Sequence[float]]]
) -> float:
    """Processor seconds of a training whose stages have the wanted steps.

    Args:
      spent: seconds of one with `steps` in each stage.
      trace: for each stage, (step, seconds) along that training; at least two of each.
    """
    per_step = {stage: (one[-1][1] - one[0][1]) / (one[-1][0] - one[0][0]) for stage, one in trace.items()}
    return spent + sum(cost * (wanted[stage] - steps) for stage, cost in per_step.items())


def _trace(log: Path, spent: float, trace: dict[str, list[tuple[int, float]]]) -> None:
    """Adds the newest step of a training's log, if it is new."""
    for line in log.read_text().splitlines()[-2:] if log.is_file() else ():
        entry = json.loads(line)
        known = trace[entry["task"]]
        if "loss" in entry and (not known or entry["step"] > known[-1][0]):
            known.append((entry["step"], spent))


def _mean(values: Sequence[float]) -> float:
    """NaN of none."""
    return float(np.mean(values)) if values else float("nan")


def _noted(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "point.json").read_text())


def _is_reached(point: Mapping[str, Any]) -> bool:
    return all(point[name] >= value for name, value in GOALS.items())


def _code_of(commit: str, folder: Path) -> Path:
    """The files of a commit, in a folder of their own.

    Raises:
      UserError: this is no repository, or it has no such commit.
    """
    if not (folder / "train.py").is_file():
        packed = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=False)
        if packed.returncode:
            raise UserError(f"--against is {commit}, which is no commit of a repository at {ROOT}")
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["tar", "-x", "-C", str(folder)], input=packed.stdout, check=True)
    return folder.resolve()

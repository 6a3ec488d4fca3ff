"""`bench data`: cost of decoding, resizing and encoding, data wait of a training step, and memory growth of the loader.

All on one core, in CPU time, so that other load matters little. Clips come from --videos (every video in a folder) and from the
built-in world.
"""

import argparse
import contextlib
import io
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import torch

from cdcd_video.config import Config, config_file
from cdcd_video.config.setting_words import add_setting_flag
from cdcd_video.config.shipped_files import named_file
from cdcd_video.data.cache_blocks import loaded_clips
from cdcd_video.data.cache_writer import write_cache
from cdcd_video.data.clips import ClipRejected, read_clip
from cdcd_video.data.cut_detection import CutFinder
from cdcd_video.data.decoding import Source
from cdcd_video.data.store import SpritesClips
from cdcd_video.engine import loop
from cdcd_video.engine.optim import TrainSettings
from cdcd_video.errors import UserError
from cdcd_video.model import build_codec, build_denoiser, build_process
from cdcd_video.networks.clip import FrozenClip
from cdcd_video.training import training_data
from cdcd_video.training.code_stages import DiffusionStage
from cdcd_video.training.latent_encoder import FrameEncoder, open_frame_encoder

WARM_UP_STEPS = 8
"""Warm-up steps."""
LOG_EVERY = 8
_MEBI = 2**20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument(
        "--videos",
        type=Path,
        metavar="DIR",
        help="a folder of real clips, subfolders included (default: none, only sprites)",
    )
    parser.add_argument(
        "--num-videos", type=int, default=20, help="number of clips, evenly spread (default: %(default)s)"
    )
    parser.add_argument("--max-seconds", type=float, default=5.0, help="length of each clip (default: %(default)s)")
    parser.add_argument("--fps", type=float, default=8.0, help="frames per second that are kept (default: %(default)s)")
    parser.add_argument("--model", default="sprites", help="model whose CLIP and codec encode (default: %(default)s)")
    parser.add_argument(
        "--config", type=named_file("configs"), help="instead of --model, a config with an available CLIP"
    )
    add_setting_flag(parser, "override a value of --config")
    parser.add_argument(
        "--num-sprites", type=int, default=64, help="clips of the built-in world (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, default=48, help="training steps to time (default: %(default)s; 0: none)")
    parser.add_argument(
        "--batches", type=int, default=5000, help="batches to load for memory growth (default: %(default)s; 0: none)"
    )


def compare(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Runs the measurements that `table` shows."""
    torch.set_num_threads(1)
    config, frame_encoder = _encoder_of(args)
    result: dict[str, Any] = {
        "size_px": frame_encoder.size_px,
        "fps": args.fps,
        "num_tokens": frame_encoder.codec.num_tokens,
    }
    with _on_one_core(), tempfile.TemporaryDirectory() as folder:
        sprites = SpritesClips(0, args.num_sprites, "train", size_px=frame_encoder.size_px)
        _encode_sprites(SpritesClips(1, 2, "train", size_px=frame_encoder.size_px), frame_encoder)  # warm-up
        say("encoding sprites ...")
        result["sprites"] = _encode_sprites(sprites, frame_encoder)
        if args.videos:
            say("decoding and encoding videos ...")
            result["videos"] = _encode_videos(args, frame_encoder)
        if args.steps or args.batches:
            say("writing a cache of sprites ...")
            stage = _stage_on(config, frame_encoder, sprites, Path(folder, "latents"))
        if args.steps:
            say("training on the cache ...")
            result["training"] = _train(stage, args.steps, Path(folder, "run"))
        if args.batches:
            say("loading batches ...")
            result["memory"] = _memory(stage, args.batches)
    return result


def table(result: dict[str, Any]) -> list[str]:
    """The results as lines to print."""
    lines = [f"one core; frames of {result['size_px']} px, {result['num_tokens']} codes each"]
    for name in ("sprites", "videos"):
        if name in result:
            found = result[name]
            total = sum(found["seconds"].values())
            lines += [
                "",
                f"{name}: {found['num_clips']} clips, {found['num_frames']} frames kept of {found['num_read']} decoded; "
                f"{found['num_frames'] / total:.0f} frames kept per CPU second, {found['clip_s'] / total:.1f} s of video",
                f"  {'part':<10}{'share':>8}{'ms per frame kept':>20}",
            ]
            lines += [
                f"  {part:<10}{seconds / total:>8.1%}{1000 * seconds / found['num_frames']:>20.2f}"
                for part, seconds in found["seconds"].items()
            ]
    if "training" in result:
        found = result["training"]
        lines += [
            "",
            f"training on the cache: {1000 * found['step_s']:.0f} ms per step of batch size {found['batch_size']}, of which "
            f"{found['idle_share']:.2%} is waiting for data ({1000 * found['step_s'] * found['idle_share']:.2f} ms)",
        ]
    if "memory" in result:
        found = result["memory"]
        lines += ["", f"loading batches of {found['batch_size']}: {found['batch_ms']:.2f} CPU ms each"]
        lines += [f"  {'batches':>8}{'own memory':>14}{'with mapped files':>20}   MiB"]
        lines += [f"  {row[0]:>8}{row[1]:>14.1f}{row[2]:>20.1f}" for row in found["rows"]]
    return lines


# ------------------------------------------------------------------------------------------------------------ encoding


def _encoder_of(args: argparse.Namespace) -> tuple[Config, FrameEncoder]:
    """CLIP and codec of a model; or of a config with an untrained codec, which is as fast as a trained one."""
    device = torch.device("cpu")
    if args.config is None:
        frame_encoder = open_frame_encoder(args.model, device)
        return frame_encoder.config, frame_encoder
    config = config_file.load(args.config, Config, args.set)
    if config.clip.kind == "builtin":
        raise UserError(f"{args.config} trains its own CLIP, which does not exist yet; name a trained run by --model")
    clip = FrozenClip(config.clip.folder)
    codec = build_codec(config, clip).eval().requires_grad_(False)
    return config, FrameEncoder(config, clip, codec, device)


def _encode_sprites(clips: SpritesClips, frame_encoder: FrameEncoder) -> dict[str, Any]:
    watch = _Watch()
    encoder = frame_encoder.encoder()
    num_frames = 0
    for number in range(len(clips)):
        with watch("render"):
            (clip,) = loaded_clips(clips, [number], "train", None)
        num_frames += len(clip.frames)
        _encode(clip.frames, watch, encoder)
        with watch("captions"):
            encoder.read(clip.captions)
    facts = dict(num_clips=len(clips), num_frames=num_frames, num_read=num_frames, clip_s=num_frames / clips.fps)
    return {**facts, "seconds": dict(watch.seconds)}


def _encode_videos(args: argparse.Namespace, frame_encoder: FrameEncoder) -> dict[str, Any]:
    files = sorted(path for path in args.videos.rglob("*") if path.is_file() and path.suffix.lower() not in _NO_VIDEO)
    files = files[:: max(1, len(files) // max(1, args.num_videos))][: args.num_videos]
    watch, encoder = _Watch(), frame_encoder.encoder()
    num_clips = num_frames = num_read = 0
    clip_s = 0.0
    for file in files:
        finder = _TimedFinder(watch)
        try:
            with watch("decode"), _timed(Source, "pixels", watch, "resize"):
                read = dict(fps=args.fps, size_px=frame_encoder.size_px, end_s=args.max_seconds, watcher=finder)
                clip = read_clip(file, **read)
        except ClipRejected:
            continue
        num_clips, num_frames, num_read = num_clips + 1, num_frames + len(clip.frames), num_read + finder.num_frames
        clip_s += len(clip.frames) / args.fps
        _encode(clip.frames, watch, encoder)
        with watch("captions"):
            encoder.read([f"a video of {file.stem}"])
    if not num_clips:
        raise UserError(f"--videos {args.videos} has no usable video among {len(files)} files; name another folder")
    facts = dict(num_clips=num_clips, num_frames=num_frames, num_read=num_read, clip_s=clip_s)
    return {**facts, "seconds": dict(watch.seconds)}


_NO_VIDEO = {".tsv", ".csv", ".json", ".jsonl", ".txt", ".md", ".tar", ".zip", ".gz"}


def _encode(frames: Any, watch: "_Watch", encoder: Any) -> None:
    with watch("encode"):
        for begin in range(0, len(frames), 64):
            part = torch.from_numpy(frames[begin : begin + 64].copy()).permute(0, 3, 1, 2).float().div(255)
            encoder.encode(part)


class _Watch:
    """CPU time by part; the time of a nested part is not counted in the outer one."""

    def __init__(self):
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner = [0.0]

    @contextlib.contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        began = time.process_time()
        self._inner.append(0.0)
        try:
            yield
        finally:
            spent = time.process_time() - began
            self.seconds[part] += spent - self._inner.pop()
            self._inner[-1] += spent


class _TimedFinder:
    """A `CutFinder` whose time is measured as a part of its own."""

    def __init__(self, watch: _Watch):
        self._finder, self._watch, self.num_frames = CutFinder(), watch, 0

    def add_frame(self, frame: Any, time_s: float) -> None:
        self.num_frames += 1
        with self._watch("cuts"):
            self._finder.add_frame(frame, time_s)

    def finish(self) -> list[int]:
        with self._watch("cuts"):
            return self._finder.finish()


@contextlib.contextmanager
def _timed(owner: type, name: str, watch: _Watch, part: str) -> Iterator[None]:
    """Measures the time of a method as a part of its own inside the `with`."""
    method = getattr(owner, name)

    def timed(*args: Any, **kwargs: Any) -> Any:
        with watch(part):
            return method(*args, **kwargs)

    setattr(owner, name, timed)
    try:
        yield
    finally:
        setattr(owner, name, method)


# ---------------------------------------------------------------------------------------------------- loading, training


def _stage_on(config: Config, frame_encoder: FrameEncoder, clips: SpritesClips, folder: Path) -> DiffusionStage:
    """The training stage on a cache of sprites, whose clips also serve for validation."""
    plan = frame_encoder.plan(data="bench", num_items=len(clips), fps=clips.fps, max_frames=None, recipe={})
    with contextlib.redirect_stderr(io.StringIO()):
        write_cache(folder, clips, frame_encoder.encoder(), plan, frame_encoder.space(), split="train")
    at = training_data.latents_in(folder, ("train", "train"), torch.device("cpu"))
    denoiser = build_denoiser(config, at.space, at.text_width)
    process = build_process(config, at.space.num_codes)
    return DiffusionStage(denoiser, at.space, process, config, *at.caches, torch.device("cpu"))


def _train(stage: DiffusionStage, num_steps: int, out: Path) -> dict[str, float]:
    """Step time and fraction of waiting, from the log of the engine."""
    steps = WARM_UP_STEPS + num_steps
    settings = TrainSettings(
        num_steps=steps, log_every=LOG_EVERY, eval_every=None, checkpoint_every=None, num_threads=1
    )
    with contextlib.redirect_stderr(io.StringIO()):
        loop.train(stage, settings, out, seed=0, identity={})
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    counted = [line for line in lines if "idle_share" in line and line["step"] > WARM_UP_STEPS]
    step_s = (counted[-1]["time_s"] - lines[0]["time_s"]) / (counted[-1]["step"] - lines[0]["step"])
    idle_share = sum(line["idle_share"] for line in counted) / len(counted)
    return {"step_s": step_s, "idle_share": idle_share, "batch_size": stage.batch_size, "num_steps": num_steps}


def _memory(stage: DiffusionStage, num_batches: int) -> dict[str, Any]:
    """CPU time per batch, and memory in MiB by number of batches: anonymous, and with mapped files."""
    rows, spent_s = [], 0.0
    for number in range(num_batches + 1):
        began = time.process_time()
        stage.batch(number)
        spent_s += time.process_time() - began
        if number % max(1, num_batches // 5) == 0:
            own, mapped = _resident()
            rows.append((number, own / _MEBI, (own + mapped) / _MEBI))
    return {"batch_size": stage.batch_size, "batch_ms": 1000 * spent_s / (num_batches + 1), "rows": rows}


def _resident() -> tuple[int, int]:
    """Resident bytes of this process: its own, and those of mapped files, where the system tells them apart."""
    info = psutil.Process().memory_info()
    mapped = getattr(info, "shared", 0)
    return info.rss - mapped, mapped


@contextlib.contextmanager
def _on_one_core() -> Iterator[None]:
    """Restricts this process, threads of libraries included, to one core inside the `with`."""
    process = psutil.Process()
    if not hasattr(process, "cpu_affinity"):
        raise UserError(
            "bench data measures on one core, and this system cannot hold a process to one; use Linux or Windows"
        )
    before = process.cpu_affinity()
    process.cpu_affinity(before[:1])
    try:
        yield
    finally:
        process.cpu_affinity(before)

"""Where a model, a protocol, real videos and feature networks meet: what `evaluate.py` runs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cdcd_video import build, configfile, model
from cdcd_video.config import Config
from cdcd_video.data import sprites, store
from cdcd_video.engine import runtime
from cdcd_video.errors import UserError
from cdcd_video.generate import Drawing, ImageToVideo
from cdcd_video.metrics import instruments, suite
from cdcd_video.metrics.features import offline
from cdcd_video.metrics.footage import ClipFootage, Footage, SceneFootage, choose_scenes
from cdcd_video.metrics.rows import ROWS, Progress
from cdcd_video.metrics.scores import SETS
from cdcd_video.pretrained import FrozenClip
from cdcd_video.protocol import OWN, Protocol, Ruler


@dataclass(frozen=True)
class Benchmark:
    """Everything that is needed to measure one model, loaded and checked; nothing is drawn yet."""

    pipe: ImageToVideo
    ruler: Ruler
    footage: Footage
    tools: instruments.Instruments
    metrics: tuple[str, ...]
    drawing: Drawing
    notes: tuple[str, ...]
    """What the user should know before reading the scores, one sentence each."""

    @property
    def frames_to_draw(self) -> int:
        """For a progress bar."""
        return suite.frames_to_draw(self.footage, self.ruler.protocol, self.metrics)

    def run(
        self, batch_size: int = 32, progress: Progress | None = None, rows: Sequence[str] = ROWS
    ) -> suite.Evaluation:
        """Draws and judges; every score carries the hash of the protocol."""
        rule = self.ruler.protocol
        if {network.name for network in self.tools.networks.values()} <= set(offline.NETWORKS):
            # All is small then, and threads that wait for each other on a busy machine cost fortyfold.
            runtime.set_threads(self.pipe.model.config.num_threads or None)
        seeds = [runtime.seed_for(rule.seed, "evaluate", video) for video in range(len(self.footage.subjects))]
        how = {"metrics": self.metrics, "tools": self.tools, "rows": rows}
        how |= {"batch_size": batch_size, "progress": progress}
        found = suite.evaluate(self.pipe, self.footage, rule, self.drawing, seeds, **how)
        return replace(found, scores=[replace(score, protocol=self.ruler.hash) for score in found.scores])

    def facts(self) -> dict[str, Any]:
        """What every score of this model rests on, beside the protocol."""
        rule, drawn_by = self.ruler.protocol, self.pipe.model
        return {
            "data": rule.data,
            "split": rule.split,
            "seed": rule.seed,
            "checkpoint": drawn_by.config.name,
            "model_sha256": drawn_by.digest,
            "drawing": asdict(self.drawing),
            "versions": self.pipe.settings("", self.drawing)["versions"],
        }


def prepare(
    pipe: ImageToVideo, protocol: Protocol, metrics: Sequence[str], device: str = "auto", **drawing: Any
) -> Benchmark:
    """Settles a protocol and loads what the metrics need.

    Args:
      pipe: the model.
      protocol: as read.
      metrics: some of `scores.METRICS`.
      device: where feature networks run.
      **drawing: fields of `Drawing` that are not the protocol's: num_steps, guidance, ...

    Raises:
      UserError: the data do not fit the protocol, weights are missing, or a metric cannot be measured with them.
    """
    rule = instruments.settle_networks(protocol).settled(size_px=protocol.size_px or pipe.size_px)
    footage, rule = (_scenes if rule.data == "sprites" else _clips)(pipe, rule)
    suite.check(footage, rule, metrics)
    settings = pipe.defaults(num_frames=rule.num_frames, fps=rule.rate, seed=rule.seed, **drawing)

    def clip() -> FrozenClip:
        return pipe.model.clip if rule.clip == OWN else FrozenClip(_clip_folder(rule.clip))

    tools = instruments.load(metrics, rule, clip=clip, device=runtime.device_for(device))
    networks = {name: instruments.digest_of(getattr(rule, f"{name}_network")) for name in ("frame", "video")}
    ruler = Ruler(rule, networks, footage.digest)
    return Benchmark(
        pipe, ruler, footage, tools, tuple(metrics), settings, tuple(_notes(protocol, rule, metrics, footage))
    )


def _scenes(pipe: ImageToVideo, rule: Protocol) -> tuple[SceneFootage, Protocol]:
    if rule.split not in sprites.SPLITS:
        raise UserError(f"sprites have no split {rule.split!r}; they have {', '.join(sprites.SPLITS)}")
    if rule.captions_per_video != 1:
        raise UserError(f"a sprites scene has one caption, not {rule.captions_per_video}; set --captions-per-video 1")
    config = pipe.model.config
    world = build.sprites_world(config) if config.data.kind == "sprites" else sprites.World()
    num_real = rule.num_videos if rule.num_real is None else rule.num_real
    rule = rule.settled(fps=rule.fps or pipe.defaults().fps * rule.stride, num_real=num_real)
    length = {"num_frames": rule.num_frames, "fps": rule.rate}
    scenes, world = choose_scenes(rule.seed, rule.num_videos + num_real, rule.split, world, **length)
    drawn, others = scenes[: rule.num_videos], scenes[rule.num_videos :]
    return SceneFootage(drawn, others, world=world, seed=rule.seed, **length), rule


def _clips(pipe: ImageToVideo, rule: Protocol) -> tuple[ClipFootage, Protocol]:
    clips = store.StoredClips(rule.data, rule.split)
    if clips.size_px != rule.size_px:
        raise UserError(
            f"the clips of {rule.data} are {clips.size_px} px and the protocol judges at {rule.size_px} px; set --size-px"
            f" {clips.size_px}, or prepare them with --size-px {rule.size_px}"
        )
    if rule.fps not in (None, clips.fps):
        raise UserError(
            f"the clips of {rule.data} are stored at {clips.fps:g} frames per second and the protocol says {rule.fps:g};"
            f" prepare them with --fps {rule.fps:g}, or set --fps {clips.fps:g}"
        )
    num_real = rule.num_videos if rule.num_real is None else rule.num_real
    shape = {"num_frames": rule.num_frames, "stride": rule.stride, "size_px": rule.size_px, "resize": rule.resize}
    footage = ClipFootage(clips, rule.num_videos, num_real, captions_per_video=rule.captions_per_video, **shape)
    return footage, rule.settled(fps=clips.fps, num_videos=footage.num_chosen, num_real=footage.num_others)


def _clip_folder(name: str) -> Path:
    """A folder that CLIPModel.save_pretrained wrote, or the CLIP of a model."""
    if (Path(name) / "preprocessor_config.json").is_file():
        return Path(name)
    folder = model.folder_of(name)
    return model.clip_folder(configfile.load(folder / "config.yaml", Config), folder)


def _notes(asked: Protocol, rule: Protocol, metrics: Sequence[str], footage: Footage) -> list[str]:
    notes = []
    is_short = rule.num_videos < asked.num_videos or rule.num_real < (asked.num_real or 0)
    if rule.data != "sprites" and (is_short or len(footage.compared) < len(footage.subjects)):
        notes.append(
            f"{rule.data} has only {rule.num_videos} clips of this length to draw, where {asked.num_videos} are asked for;"
            f" sets compare {len(footage.compared)} drawn videos with {rule.num_real} real ones of other clips"
        )
    blind = {rule.frame_network, rule.video_network} & set(offline.NETWORKS)
    if rule.data != "sprites" and blind and set(SETS) & set(metrics):
        notes.append(
            f"{' and '.join(sorted(blind))} know the built-in world alone: on other videos their scores say little;"
            " for the field's own networks see `python -m cdcd_video.tools.weights list`"
        )
    return notes

"""Evaluates the videos of another model, read from files.

Their true videos are found in one of three ways: scenes or clips of `data` with the same names; the column `truth` of their
table; or none, and then only metrics without a true video are measured.
"""

import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

import cdcd_video
from cdcd_video import model
from cdcd_video.config import Config
from cdcd_video.config.fingerprint import saved_config
from cdcd_video.data.prompt_table import Entry, read_entries
from cdcd_video.errors import UserError, spelled
from cdcd_video.evaluation import load_networks, real_videos
from cdcd_video.evaluation.evaluator import Benchmark, video_seeds
from cdcd_video.metrics import external_videos, feature_extractors, suite
from cdcd_video.metrics.dataset_parts import PartialDataset
from cdcd_video.metrics.eval_dataset import EvalDataset
from cdcd_video.metrics.external_videos import ExternalDataset, ExternalVideos
from cdcd_video.metrics.protocol import SPRITES, TABLE, Protocol
from cdcd_video.metrics.scores import METRICS, checked_metrics
from cdcd_video.networks.clip import FrozenClip
from cdcd_video.sampling.frame_sizes import named

_SCENE = re.compile(r"(sprites|(mage|sync-draw)-[a-z]+)-\d+-[a-z]+-\d{6}")
_NAMED = 20
"""How many unusable videos a message names."""
TABLES = ("prompts.tsv", "prompts.csv", "prompts.jsonl")
"""Names of the table in the folder of the videos."""


def prepare_videos(
    folder: Path,
    prompts: Path | None,
    protocol: Protocol,
    metrics: Sequence[str] | None,
    device: str = "auto",
    checkpoint: str = SPRITES,
) -> Benchmark:
    """Reads a table of videos, finds their true videos, and loads what the metrics need.

    Args:
      folder: of the videos.
      prompts: their table, see `data.prompt_table`; None means one of `TABLES` in the folder.
      protocol: as read.
      metrics: some of `scores.METRICS`; None means all that need no download.
      device: where feature networks run.
      checkpoint: a model to be compared with. It samples nothing here: it gives size and frame rate where neither protocol
        nor clips do, and the words of the built-in world.

    Raises:
      UserError: the table or all videos are unusable, weights are missing, or a metric needs data that are missing.
    """
    requested = protocol
    table = prompts or _table_in(folder)
    entries = read_entries(folder, table)
    config = saved_config(model.folder_of(checkpoint) / "config.yaml")
    protocol = feature_extractors.settle_networks(protocol).settled(
        size_px=protocol.size_px or _size_px(protocol, config)
    )
    protocol = real_videos.with_sizes(config, protocol)
    if metrics is not None:
        checked_metrics(
            metrics, protocol.world or SPRITES, has_model=False
        )  # reports unknown names before anything is read
    if _are_named(entries, protocol):
        dataset, videos, protocol, left_out = _beside_data(entries, config, protocol)
    elif any(entry.truth for entry in entries):
        dataset, videos, protocol, left_out = _beside_own_truths(entries, _with_rate(protocol))
    else:
        dataset, videos, protocol, metrics, left_out = _without_truth(entries, protocol, metrics)
    metrics = checked_metrics(metrics, protocol.world)
    suite.check(dataset, protocol, metrics)
    settled, tools = load_networks.load(metrics, protocol, dataset, _no_clip, device)
    system = {
        "data": str(table) if protocol.data == TABLE else protocol.data,
        "split": protocol.split,
        "seed": protocol.seed,
        "checkpoint": spelled(folder.resolve().name),
        "model_sha256": videos.digest(),
        "drawing": {"videos": str(folder), "prompts": str(table)},
        "versions": {
            "cdcd_video": cdcd_video.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
    has_truth = not isinstance(dataset, ExternalDataset)
    return Benchmark(
        videos.video_model(video_seeds(protocol, len(videos))),
        system,
        settled,
        dataset,
        tools,
        tuple(metrics),
        params=None,
        left_out=left_out,
        notes=(
            *_left_out_notes(left_out),
            *_shape_notes(videos),
            *_notes(requested, protocol, dataset, len(entries), len(left_out)),
            *load_networks.blindness(protocol, metrics, protocol.data == SPRITES),
            *load_networks.one_window(protocol, metrics, tools),
            *load_networks.unknown_words(protocol, metrics, tools, dataset),
        ),
        systems=external_videos.SYSTEMS if has_truth else external_videos.SYSTEMS_WITHOUT_TRUTH,
        num_threads=config.num_threads or None,
    )


def _table_in(folder: Path) -> Path:
    found = [folder / name for name in TABLES if (folder / name).is_file()]
    if len(found) == 1:
        return found[0]
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; name the folder of the videos by --videos")
    there = "more than one of" if found else "none of"
    raise UserError(f"{folder} has {there} {', '.join(TABLES)}; name the table of videos and captions by --prompts")


# True videos ------------------------------------------------------------------------------------------------------------


def _are_named(entries: Sequence[Entry], protocol: Protocol) -> bool:
    """Whether any video has the name of a scene or clip of the data; a suffix #2, #3, ... stands for further captions."""
    if protocol.data == TABLE:
        return False
    if protocol.world:
        return any(_SCENE.fullmatch(entry.name) for entry in entries)
    stored = [real_videos.stored(protocol, size) for size in protocol.sizes]
    known = {clips.name(clip) for clips in stored for clip in range(len(clips))}
    return any(entry.name.rpartition("#")[0] in known or entry.name in known for entry in entries)


def _usable(videos: ExternalVideos) -> tuple[list[int], dict[str, str]]:
    """Numbers of the usable videos, and the names of the others with the reason.

    Raises:
      UserError: none is usable.
    """
    unusable = videos.unusable()
    if len(unusable) == len(videos):
        raise UserError(f"none of {len(videos)} videos can be used; the first one: {unusable[0]}")
    good = [place for place in range(len(videos)) if place not in unusable]
    return good, {videos.entries[place].name: reason for place, reason in unusable.items()}


def _left_out_notes(left_out: Mapping[str, str]) -> list[str]:
    """A note on the videos that are not measured."""
    if not left_out:
        return []
    named = "; ".join(f"{name} ({reason})" for name, reason in list(left_out.items())[:_NAMED])
    more = f"; and {len(left_out) - _NAMED} more" if len(left_out) > _NAMED else ""
    return [f"{len(left_out)} of the videos cannot be used and are not measured: {named}{more}"]


def _shape_notes(videos: ExternalVideos) -> list[str]:
    """A note on what becomes of videos of another shape; that all become squares goes without saying."""
    num_others = videos.other_shapes() if videos.protocol.size is not None else 0
    if not num_others:
        return []
    done = "their edges are cut off; --mode letterbox keeps all of them"
    done = done if videos.mode == "crop" else "black bars are added to them"
    return [
        f"{num_others} of {len(videos)} videos are of another shape than {named(videos.protocol.sizes)}, and {done}"
    ]


Chosen = tuple[EvalDataset, ExternalVideos, Protocol, dict[str, str]]
"""Dataset, videos and protocol, and the unusable videos with the reason."""


def _beside_data(entries: Sequence[Entry], config: Config, protocol: Protocol) -> Chosen:
    """The scenes or clips that a model would be evaluated on, and the videos with these names."""
    dataset, protocol = real_videos.dataset_of(config, protocol)
    names = [eval_video.name for eval_video in dataset.eval_videos]
    sizes = [protocol.sizes[dataset.bucket(video)] for video in range(len(names))]
    videos = ExternalVideos(entries, protocol).named(names, sizes)
    videos.check_prompts(dataset.captions["model"])
    good, left_out = _usable(videos)
    if left_out:
        dataset, videos = PartialDataset(dataset, good), videos.chosen(good)
        protocol = protocol.settled(num_videos=len({eval_video.clip for eval_video in dataset.eval_videos}))
    return dataset, videos, protocol, left_out


def _beside_own_truths(entries: Sequence[Entry], protocol: Protocol) -> Chosen:
    """The column `truth` as clips."""
    real_videos.require_one_size(protocol)
    protocol = protocol.settled(data=TABLE, captions_per_video=1)
    ExternalVideos(entries, protocol).truths()  # an error where one is missing
    num_needed = protocol.num_videos + real_videos.num_real(protocol)
    good, left_out = _usable(ExternalVideos(entries[:num_needed], protocol))
    # Further entries are not read, but they are part of the hash of the protocol.
    entries = [entries[place] for place in good] + [one for one in entries[num_needed:] if one.truth.exists()]
    dataset, protocol = real_videos.clips(ExternalVideos(entries, protocol).truths(), protocol)
    return dataset, ExternalVideos(entries[: protocol.num_videos], protocol), protocol, left_out


def _without_truth(
    entries: Sequence[Entry], protocol: Protocol, metrics: Sequence[str] | None
) -> tuple[EvalDataset, ExternalVideos, Protocol, Sequence[str], dict[str, str]]:
    """The videos without true ones, and other real videos where `data` is a folder of clips."""
    real_videos.require_one_size(protocol)
    others = None if protocol.world or protocol.data == TABLE else real_videos.stored(protocol, protocol.sizes[0])
    protocol = (
        protocol.settled(fps=others.fps, mode=others.mode) if others else _with_rate(protocol.settled(data=TABLE))
    )
    protocol = protocol.settled(captions_per_video=1)
    good, left_out = _usable(ExternalVideos(entries[: protocol.num_videos], protocol))
    entries = [entries[place] for place in good]
    protocol = protocol.settled(num_videos=len(entries))
    if metrics is None:
        all_that_fit = {name: METRICS[name] for name in checked_metrics(None, None)}
        alone = [name for name, metric in all_that_fit.items() if not metric.needs_truth]
        metrics = [name for name in alone if others is not None or not all_that_fit[name].needs_real]
    videos = ExternalVideos(entries, protocol)
    dataset = ExternalDataset(videos, others, real_videos.num_real(protocol), metrics)
    return dataset, videos, protocol.settled(num_real=dataset.num_others), metrics, left_out


def _size_px(protocol: Protocol, config: Config) -> int:
    """The size of the clips of `data`; else that of the model."""
    is_of_model = protocol.world or protocol.data == TABLE
    return config.data.size_px if is_of_model else real_videos.scale_of(protocol)


def _with_rate(protocol: Protocol) -> Protocol:
    if protocol.fps is None:
        raise UserError(
            "the protocol has no frame rate; set --fps to the frames per second at which videos are compared"
        )
    return protocol


def _no_clip() -> FrozenClip:
    raise UserError("the protocol says clip: own, but video files have no CLIP; name one by --clip")


def _notes(
    requested: Protocol, protocol: Protocol, dataset: EvalDataset, num_entries: int, num_left_out: int
) -> list[str]:
    notes, num_entries = [], num_entries - num_left_out
    if protocol.data == TABLE or isinstance(dataset, ExternalDataset):
        if protocol.num_videos < requested.num_videos:
            of_use = " usable" if num_left_out else ""
            notes.append(
                f"the table has {protocol.num_videos}{of_use} videos, fewer than the {requested.num_videos} of the protocol"
            )
        elif protocol.num_videos < num_entries:
            notes.append(
                f"of {num_entries} videos, the first {protocol.num_videos} are measured; raise --num-videos for more"
            )
    if isinstance(dataset, ExternalDataset):
        named = "" if requested.data == TABLE else f", and none has the name of one in {requested.data}"
        notes.append(f"the table has no true videos{named}: only metrics that need none are measured")
    elif len(dataset.compared) < len(dataset.eval_videos):
        notes.append(
            f"sets compare {len(dataset.compared)} sampled videos with {protocol.num_real} real ones of other clips"
        )
    return notes

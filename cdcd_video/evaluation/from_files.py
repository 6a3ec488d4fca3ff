"""Videos that somebody else's model drew, in place of a model.

Their truth is found in one of three ways: they are called as the scenes or clips of `data` are; their table has a column
`truth`; or there is none, and only what needs no truth is measured.
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
from cdcd_video.metrics.eval_dataset import EvalDataset, PartialDataset
from cdcd_video.metrics.external_videos import ExternalDataset, ExternalVideos
from cdcd_video.metrics.protocol import SPRITES, TABLE, Protocol
from cdcd_video.metrics.scores import METRICS, checked_metrics
from cdcd_video.networks.clip import FrozenClip

_SCENE = re.compile(r"sprites-\d+-[a-z]+-\d{6}")
_NAMED = 20
"""Videos that are named with what is wrong with them."""
TABLES = ("prompts.tsv", "prompts.csv", "prompts.jsonl")
"""Where the table is looked for, in the folder of the videos."""


def prepare_videos(
    folder: Path,
    prompts: Path | None,
    protocol: Protocol,
    metrics: Sequence[str] | None,
    device: str = "auto",
    checkpoint: str = SPRITES,
) -> Benchmark:
    """Reads a table of videos, finds their truth, and loads what the metrics need.

    Args:
      folder: of the videos.
      prompts: their table, see `data.prompt_table`; None means one of `TABLES` in the folder.
      protocol: as read.
      metrics: some of `scores.METRICS`; None means all that can be measured without a download.
      device: where feature networks run.
      checkpoint: the model beside which they are measured. It draws nothing: where neither protocol nor clips say size and
        rate, and for the words of the built-in world, its settings hold, as they do where it is measured itself.

    Raises:
      UserError: the table or all of the videos cannot be used, weights are missing, or a metric needs what is not there.
    """
    table = prompts or _table_in(folder)
    entries = read_entries(folder, table)
    config = saved_config(model.folder_of(checkpoint) / "config.yaml")
    rule = feature_extractors.settle_networks(protocol).settled(size_px=protocol.size_px or _size_px(protocol, config))
    if metrics is not None:
        checked_metrics(metrics, has_scenes=True, has_model=False)  # whether they exist is told before anything is read
    if _are_named(entries, rule):
        dataset, videos, rule, left_out = _beside_data(entries, config, rule)
    elif any(entry.truth for entry in entries):
        dataset, videos, rule, left_out = _beside_own_truths(entries, _with_rate(rule))
    else:
        dataset, videos, rule, metrics, left_out = _without_truth(entries, rule, metrics)
    metrics = checked_metrics(metrics, has_scenes=rule.data == SPRITES)
    suite.check(dataset, rule, metrics)
    ruler, tools = load_networks.load(metrics, rule, dataset, _no_clip, device)
    system = {
        "data": str(table) if rule.data == TABLE else rule.data,
        "split": rule.split,
        "seed": rule.seed,
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
        videos.video_model(video_seeds(rule, len(videos))),
        system,
        ruler,
        dataset,
        tools,
        tuple(metrics),
        params=None,
        left_out=left_out,
        notes=(
            *_told_left_out(left_out),
            *_notes(protocol, rule, dataset, len(entries), len(left_out)),
            *load_networks.blindness(rule, metrics, rule.data == SPRITES),
            *load_networks.one_window(rule, metrics, tools),
            *load_networks.unread(rule, metrics, tools, dataset),
        ),
        rows=external_videos.ROWS if has_truth else external_videos.ROWS_WITHOUT_TRUTH,
        num_threads=config.num_threads or None,
    )


def _table_in(folder: Path) -> Path:
    found = [folder / name for name in TABLES if (folder / name).is_file()]
    if len(found) == 1:
        return found[0]
    there = "more than one of" if found else "none of" if folder.is_dir() else "no such folder, and so none of"
    raise UserError(f"{folder} holds {there} {', '.join(TABLES)}; name the table of videos and sentences by --prompts")


# Truth ------------------------------------------------------------------------------------------------------------


def _are_named(entries: Sequence[Entry], rule: Protocol) -> bool:
    """Whether any video is called as a scene or clip of the data is; numbers behind a # stand for further captions."""
    if rule.data == TABLE:
        return False
    if rule.data == SPRITES:
        return any(_SCENE.fullmatch(entry.name) for entry in entries)
    clips = real_videos.stored(rule)
    known = {clips.name(clip) for clip in range(len(clips))}
    return any(entry.name.rpartition("#")[0] in known or entry.name in known for entry in entries)


def _sorted_out(entries: Sequence[Entry], rule: Protocol) -> tuple[list[int], dict[str, str]]:
    """Numbers of the videos that can be used, and the names of the others with the reason.

    Raises:
      UserError: none can be used.
    """
    unusable = ExternalVideos(entries, rule).unusable()
    if len(unusable) == len(entries):
        raise UserError(f"none of {len(entries)} videos can be used; the first: {unusable[0]}")
    good = [place for place in range(len(entries)) if place not in unusable]
    return good, {entries[place].name: reason for place, reason in unusable.items()}


def _told_left_out(left_out: Mapping[str, str]) -> list[str]:
    """A sentence on the videos that are not measured."""
    if not left_out:
        return []
    shown = "; ".join(f"{name} ({reason})" for name, reason in list(left_out.items())[:_NAMED])
    more = f"; and {len(left_out) - _NAMED} more" if len(left_out) > _NAMED else ""
    return [f"{len(left_out)} of the videos cannot be used and are not measured: {shown}{more}"]


Chosen = tuple[EvalDataset, ExternalVideos, Protocol, dict[str, str]]
"""What is measured under which protocol, and what is left out."""


def _beside_data(entries: Sequence[Entry], config: Config, rule: Protocol) -> Chosen:
    """The scenes or clips that a model would be measured on, and the videos of these names."""
    if rule.data == SPRITES:
        dataset, rule = real_videos.scenes(config, rule)
    else:
        dataset, rule = real_videos.clips(real_videos.stored(rule), rule)
    videos = ExternalVideos(entries, rule).named([subject.name for subject in dataset.subjects])
    videos.check_prompts(dataset.captions["model"])
    good, left_out = _sorted_out(videos.entries, rule)
    if left_out:
        dataset, videos = PartialDataset(dataset, good), ExternalVideos([videos.entries[place] for place in good], rule)
        rule = rule.settled(num_videos=len({subject.clip for subject in dataset.subjects}))
    return dataset, videos, rule, left_out


def _beside_own_truths(entries: Sequence[Entry], rule: Protocol) -> Chosen:
    """The column `truth` as clips."""
    rule = rule.settled(data=TABLE, captions_per_video=1)
    ExternalVideos(entries, rule).truths()  # each must have one
    num_asked = rule.num_videos + real_videos.num_real(rule)
    good, left_out = _sorted_out(entries[:num_asked], rule)
    # Those beyond are not read, and yet they are part of what the protocol's hash names.
    entries = [entries[place] for place in good] + [one for one in entries[num_asked:] if one.truth.exists()]
    dataset, rule = real_videos.clips(ExternalVideos(entries, rule).truths(), rule)
    return dataset, ExternalVideos(entries[: rule.num_videos], rule), rule, left_out


def _without_truth(
    entries: Sequence[Entry], rule: Protocol, metrics: Sequence[str] | None
) -> tuple[EvalDataset, ExternalVideos, Protocol, Sequence[str], dict[str, str]]:
    """The videos alone, beside other real ones where `data` is a folder of clips."""
    others = None if rule.data in (SPRITES, TABLE) else real_videos.stored(rule)
    rule = rule.settled(fps=others.fps, mode=others.mode) if others else _with_rate(rule.settled(data=TABLE))
    rule = rule.settled(captions_per_video=1)
    good, left_out = _sorted_out(entries[: rule.num_videos], rule)
    entries = [entries[place] for place in good]
    rule = rule.settled(num_videos=len(entries))
    if metrics is None:
        all_that_fit = {name: METRICS[name] for name in checked_metrics(None, has_scenes=False)}
        alone = [name for name, metric in all_that_fit.items() if not metric.needs_truth]
        metrics = [name for name in alone if others is not None or not all_that_fit[name].needs_real]
    videos = ExternalVideos(entries, rule)
    dataset = ExternalDataset(videos, others, real_videos.num_real(rule), metrics)
    return dataset, videos, rule.settled(num_real=dataset.num_others), metrics, left_out


def _size_px(rule: Protocol, config: Config) -> int:
    """That of the clips to stand beside, where there are some."""
    return config.data.size_px if rule.data in (SPRITES, TABLE) else real_videos.stored(rule).size_px


def _with_rate(rule: Protocol) -> Protocol:
    if rule.fps is None:
        raise UserError("the protocol says no rate; set --fps to the frames per second at which videos are compared")
    return rule


def _no_clip() -> FrozenClip:
    raise UserError("clip is own, and videos bring no CLIP of their own; name one by --clip")


def _notes(asked: Protocol, rule: Protocol, dataset: EvalDataset, num_entries: int, num_left_out: int) -> list[str]:
    notes, num_entries = [], num_entries - num_left_out
    if rule.data == TABLE or isinstance(dataset, ExternalDataset):
        if rule.num_videos < asked.num_videos:
            of_use = " that can be used" if num_left_out else ""
            notes.append(f"the table has {rule.num_videos} videos{of_use}, where {asked.num_videos} are asked for")
        elif rule.num_videos < num_entries:
            notes.append(
                f"of {num_entries} videos the first {rule.num_videos} are measured; raise --num-videos for more"
            )
    if isinstance(dataset, ExternalDataset):
        named = "" if asked.data == TABLE else f", and none is called as one of {asked.data} is"
        notes.append(f"the table names no truth of the videos{named}: only what needs none is measured")
    elif len(dataset.compared) < len(dataset.subjects):
        notes.append(f"sets compare {len(dataset.compared)} drawn videos with {rule.num_real} real ones of other clips")
    return notes

"""The model card: README.md in a model folder, with the header that the Hub reads.

Every statement is taken from the folder itself and from evaluations of exactly these weights. The digest of the model does
not depend on the card.
"""

import dataclasses
import html
import json
import math
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open

from cdcd_video.config import Config
from cdcd_video.config.fingerprint import saved_config
from cdcd_video.config.model_digest import folder_digest
from cdcd_video.engine import runtime
from cdcd_video.errors import UserError, say
from cdcd_video.metrics.score_entries import OF_SETS, SYSTEMS, Entry, find, formatted, headline, interval, right_metric
from cdcd_video.metrics.scores import MEASURES, Score
from cdcd_video.metrics.statistics import saved_evaluation
from cdcd_video.networks.clip import STAND_IN
from cdcd_video.networks.clip.clip_files import shipped
from cdcd_video.networks.codec import start_thresholds
from cdcd_video.storage.small_file import Missing, Unreadable, read_small_json, read_small_text
from cdcd_video.training import moving_sample
from cdcd_video.training.card_header import UNKNOWN, header, learns_from_own_data, licence_of
from cdcd_video.training.stage_order import stages_of

FILE = "README.md"
MARK = "<!-- Written by cdcd_video. Without this line the file is yours, and is never replaced. -->"
"""The last line of a card."""
PARTS = ("clip/model.safetensors", "codec.safetensors", "denoiser.safetensors")
"""Weights in a model folder."""
Sizes = dict[str, tuple[int, int]]
"""Parameters and bytes by file."""
_MOST_WORDS = 80
"""Longer vocabularies are counted, not listed."""
_LEAST_COUNTED, _MOST_WEAK = 5, 3
"""Samples that a group needs to be called weak, and how many groups are named."""


@dataclasses.dataclass(frozen=True)
class Scored:
    """An evaluation of the model."""

    data: str
    split: str
    protocol: str
    seed: int | None
    scores: tuple[Score, ...]

    @property
    def name(self) -> str:
        """The data in words."""
        is_path = "/" in self.data or "\\" in self.data  # of the machine that evaluated
        return Path(self.data).name if is_path else self.data

    @property
    def entries(self) -> list[tuple[Entry, Score]]:
        """What was measured of the model over whole videos, in the order of a report."""
        found = ((entry, find(self.scores, "model", entry.metric, entry.group)) for entry in (*headline(), *OF_SETS))
        return [(entry, score) for entry, score in found if score is not None and score.value is not None]


def write_hub_card(folder: Path, evaluations: Sequence[Path] = (), *, strict: bool = True) -> Path:
    """Writes the card of a model folder.

    Args:
      folder: of a whole model, with config, codec and denoiser.
      evaluations: folders that `evaluate.py` wrote.
      strict: whether an evaluation that is not of these weights, or cannot be read, is an error; otherwise it is left out.

    Returns:
      The path of the card.

    Raises:
      UserError: the model is damaged, the card cannot be written, or a README.md is there that somebody wrote by hand; or see
        `strict`.
    """
    if not may_be_replaced(folder):
        raise UserError(
            f"{folder / FILE} was written or changed by hand and is kept; move it to have a card written, or add to it the line"
            f" {MARK}"
        )
    parts = sizes(folder)  # checks the files
    digest = folder_digest(folder)
    found = []
    for place in evaluations:
        try:
            found.append(_scored(place, digest))
        except UserError:
            if strict:
                raise
    config = saved_config(folder / "config.yaml")
    named = [(one.name, one.split, [(entry.title, score) for entry, score in one.entries]) for one in found]
    lines = ["---", header(config, named), "---", "", *_body(folder, config, parts, digest, found), "", MARK, ""]
    with runtime.writing_to(folder):
        runtime.replace_file(folder / FILE, "\n".join(lines))
    return folder / FILE


def may_be_replaced(folder: Path) -> bool:
    """Whether a model folder has no README.md yet, or one that `write_hub_card` wrote."""
    try:
        return MARK in read_small_text(folder / FILE)
    except Missing:
        return True
    except Unreadable:
        return False


def remove_card(folder: Path) -> None:
    """Removes the card of a model whose weights are about to change; one that was written by hand stays."""
    if may_be_replaced(folder):
        (folder / FILE).unlink(missing_ok=True)


def renew_card(folder: Path, evaluation: Path) -> None:
    """Writes the card again; one that was written by hand stays, and the user is told.

    Args:
      evaluation: a folder whose scores are used if they are of these weights.
    """
    if may_be_replaced(folder):
        write_hub_card(folder, [evaluation], strict=False)
    else:
        say("card", f"{folder / FILE} was written or changed by hand and is kept.")


def sizes(folder: Path) -> Sizes:
    """Numbers of parameters and of bytes of each file of weights in a model folder.

    Raises:
      UserError: one is damaged.
    """
    found = {}
    for part in PARTS:
        path = folder / part
        if path.is_file():
            try:
                with safe_open(path, "np") as tensors:
                    names = tensors.keys()
                    shapes = [tensors.get_slice(name).get_shape() for name in names]
            except (SafetensorError, OSError) as error:
                raise UserError(f"model file {path} is damaged ({error}); copy it again") from error
            found[part] = (sum(math.prod(shape) for shape in shapes), path.stat().st_size)
    return found


def _scored(folder: Path, digest: str) -> Scored:
    """An evaluation, if it is of the model with this digest.

    Raises:
      UserError: it is of another model, or damaged.
    """
    lines = saved_evaluation.read(folder).scores
    first = lines[0]
    if first.get("model_sha256") != digest:
        raise UserError(
            f"{folder} is an evaluation of another model (sha256 {str(first.get('model_sha256'))[:12]}... instead of"
            f" {digest[:12]}...); run evaluate.py with this model again"
        )
    fields, of_score = {field.name for field in dataclasses.fields(Score)}, TypeAdapter(Score)
    try:
        scores = tuple(
            of_score.validate_python({name: value for name, value in line.items() if name in fields})
            for line in lines
            if line["row"] in SYSTEMS and line["metric"] in MEASURES
        )
    except ValidationError as error:
        reason = error.errors()[0]
        raise UserError(
            f"{folder / saved_evaluation.SCORES} is damaged ({reason['loc'][0]}: {reason['msg']}); run evaluate.py again"
        ) from error
    data, split = str(first.get("data", UNKNOWN)), str(first.get("split", UNKNOWN))
    return Scored(data, split, str(first.get("protocol")), first.get("seed"), scores)


def _body(folder: Path, config: Config, parts: Sizes, digest: str, evaluations: Sequence[Scored]) -> Iterator[str]:
    """The lines of the card below its header."""
    facts = read_small_json(folder / "model.json", "model file")
    yield from (f"# {config.name}", "")
    for mark in (facts.get(STAND_IN), facts.get("unfinished") and f"Unfinished: {facts['unfinished']}"):
        if mark:
            yield from (f"**{mark}.**", "")
    yield "Image to video: a starting frame and a caption give a video, frame by frame, by discrete diffusion over codes in a"
    yield "CLIP latent space. Made with the library `cdcd_video`, which is needed to sample."
    yield ""
    sample = moving_sample.read_moving_sample(folder)
    caption = sample.captions[0] if sample and sample.captions else "what happens next"
    if sample and sample.model_sha256 == digest:
        shown = "; ".join(map(_in_markdown, sample.captions))
        yield f"![True validation clips above, and below what the model samples from their first frames]({moving_sample.FILE})"
        yield from (
            "",
            f"*Above: true validation clips. Below: sampled from their first frames. Captions: {shown}.*",
            "",
        )
    yield from ("## How to sample", "", *_how_to_sample(config, caption), "")
    yield from ("## The model", "", *_parts(config, parts, digest, facts), "")
    yield from ("## Training data", "", *_data(config), "")
    yield from ("## Scores", "", *_scores(evaluations), "")
    yield from ("## Limits", "", *(f"- {limit}" for limit in _limits(folder, config, evaluations)))


def _how_to_sample(config: Config, caption: str) -> list[str]:
    caption = " ".join(caption.replace("`", "'").split())
    quoted = json.dumps(caption, ensure_ascii=False)
    in_shell = quoted if re.fullmatch(r"[\w ,.;:'-]*", caption) else shlex.quote(caption)
    return [
        "```sh",
        f"python inference.py --checkpoint path/to/{config.name} --frame start.png --text {in_shell} --out video.mp4",
        "```",
        "",
        "```python",
        "from cdcd_video import ImageToVideo",
        "",
        f'pipe = ImageToVideo.from_pretrained("path/to/{config.name}")',
        f'video = pipe(\n    "start.png",\n    {quoted},\n    num_frames={config.sample.num_frames},\n    seed=0,\n)',
        'video.save("video.mp4")',
        "```",
        "",
        f"Defaults: {', '.join(f'{name} {value}' for name, value in config.sample.described().items())}.",
    ]


def _parts(config: Config, found: Sizes, digest: str, facts: dict[str, Any]) -> Iterator[str]:
    yield from ("| file | parameters | bytes |", "|---|---|---|")
    yield from (f"| {name} | {count:,} | {size:,} |" for name, (count, size) in found.items())
    total = [sum(column) for column in zip(*found.values(), strict=True)]
    yield f"| together | {total[0]:,} | {total[1]:,} |"
    yield ""
    yield f"- sha256 of the model (of all that affects its videos): `{digest}`"
    if config.clip.kind == "pretrained":
        name = Path(config.clip.folder).name if Path(config.clip.folder).is_absolute() else config.clip.folder
        what = (
            "that of the shipped model, which comes with the package"
            if name in shipped()
            else "has a licence of its own"
        )
        yield f"- CLIP: `{name}`, which is not part of this folder; {what}"
    kind = f"the baseline {config.baseline.kind}" if config.baseline else f"the process {config.diffusion.process.kind}"
    yield f"- next frame by {kind}, {config.diffusion.num_steps} steps in training, {config.sample.num_steps} in sampling"
    for key, words in (("init", "weights that training began with"), ("reuse", "CLIP and codec copied from")):
        if getattr(config, key):
            yield f"- {words}: `{Path(getattr(config, key)).name}`"
    stages = (f"{name} {getattr(config.train, name).num_steps:,}" for name in stages_of(config))
    yield f"- steps: {', '.join(stages)}; seed {config.seed}"
    if facts.get("commit"):
        yield f"- trained at commit {facts['commit']}{' with uncommitted changes' if facts.get('dirty') is True else ''}"


def _data(config: Config) -> Iterator[str]:
    data, licence = config.data, licence_of(config)
    if data.kind == "sprites":
        yield f"{data.num_clips:,} clips of the built-in world *sprites* ({data.world}): one or two coloured shapes that move,"
        yield "rendered by the library."
    elif data.kind == "digits":
        source = "MNIST's digits" if data.path else "digits drawn by the library, in place of MNIST's"
        yield f"{data.num_clips:,} clips of captioned moving digits (protocol {data.protocol}), rendered from {source}."
    else:
        what = "Latents of captioned clips" if data.kind == "latents" else "Captioned clips"
        yield f"{what}, prepared as `{Path(data.path).name}`{f', from `{data.hub_id}` on the Hub' if data.hub_id else ''}."
    yield ""
    if learns_from_own_data(config) and not getattr(data, "licence", None):
        yield f"Licence of the data: {licence}, the library's own; nothing of anybody else was used."
    elif licence == UNKNOWN:
        yield "Licence of the data: unknown. Whoever trained the model did not state it (`data.licence` in the config), so"
        yield "find out before you publish or use the weights."
    else:
        yield f"Licence of the data: {licence}, as stated by whoever trained the model. The header repeats it for the weights;"
        yield "change the header if they have another one."


def _scores(evaluations: Sequence[Scored]) -> Iterator[str]:
    if not evaluations:
        yield "These weights have not been evaluated. `python evaluate.py --checkpoint RUN` adds scores with intervals."
        return
    for one in evaluations:
        seed = "" if one.seed is None else f", seed {one.seed}"
        yield f"On {one.name}, split {one.split}{seed}, protocol {one.protocol[:12]}. Intervals are 95 % bootstrap intervals."
        rows = [name for name in SYSTEMS if name != "oracle-cross-fade" and any(s.row == name for s in one.scores)]
        yield from (
            "",
            f"| score | n | {' | '.join(SYSTEMS[name] for name in rows)} |",
            f"|---|---|{'---|' * len(rows)}",
        )
        for entry, score in one.entries:
            others = (find(one.scores, name, entry.metric, entry.group) for name in rows)
            cells = (f"{formatted(other)}{f' [{interval(other)}]' if interval(other) else ''}" for other in others)
            network = f" ({score.features})" if score.features else ""
            yield f"| {entry.title}{network} | {score.n} {score.counted} | {' | '.join(cells)} |"
        yield ""


def _limits(folder: Path, config: Config, evaluations: Sequence[Scored]) -> Iterator[str]:
    data, least_db = config.data, start_thresholds.read_thresholds(folder).least_db
    rate = f" Trained at {data.fps:g} frames per second" if data.kind in ("sprites", "digits") else ""
    length = f", on clips of {data.num_frames} frames: longer videos drift" if data.kind == "sprites" else ""
    sizes = getattr(data, "sizes", None) or [(data.size_px, data.size_px)]
    shown = " or ".join(f"{height} x {width}" for height, width in sizes)
    shapes = " (height x width)" if any(height != width for height, width in sizes) else ""
    yield f"Frames are {shown} pixels{shapes}.{rate}{length}{'.' if rate else ''}"
    if data.kind in ("sprites", "digits"):
        yield "It knows the rendered world of its training and nothing else; it cannot continue photographs or other drawings."
    if least_db is not None:
        yield f"A starting frame that the codec reconstructs below {least_db:.1f} dB is unlike the training data; sampling warns."
    if config.clip.kind == "builtin":
        words = _words(folder)
        listed = f": {', '.join(words)}" if 0 < len(words) <= _MOST_WORDS else ""
        if words:
            yield f"Its captions had {len(words):,} words{listed}. Other words mean nothing to it."
        yield f"A caption has at most {config.clip.max_tokens} tokens."
    for one in evaluations:
        metric = right_metric(one.scores)
        groups = {
            score.group: (score.value, score)
            for score in one.scores
            if (score.row, score.metric, score.frame) == ("model", metric, None)
            and score.group.startswith("motion=")
            and score.value is not None
            and score.n >= _LEAST_COUNTED
        }
        weak = [groups[name][1] for name in sorted(groups, key=lambda name: groups[name][0])[:_MOST_WEAK]]
        if weak:
            named = (f"{s.group.removeprefix('motion=')} {formatted(s)} [{interval(s)}], n = {s.n}" for s in weak)
            yield f"The motions that it does worst, by the share that is right: {'; '.join(named)}."
    if not evaluations:
        yield "How well it follows captions is not known: it was not evaluated."
    yield "It has no filter of any kind, and was made for research."


def _words(folder: Path) -> list[str]:
    try:
        words = read_small_json(folder / "clip" / "words.json", kind=list)
    except Unreadable:
        return []
    return [word for word in words if isinstance(word, str)]


def _in_markdown(text: str) -> str:
    """A caption on one line, with what Markdown and HTML would interpret escaped."""
    return re.sub(r"([\\`*_\[\]|<>#])", r"\\\1", html.escape(" ".join(text.split()), quote=False))

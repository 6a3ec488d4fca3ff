"""The YAML header of a model card, as the Hub reads it."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cdcd_video.config import Config
from cdcd_video.metrics.scores import Score
from cdcd_video.storage.numerals import significant

TASK = "image-to-video"
"""The Hub's name of the task."""
OWN_LICENCE = "apache-2.0"
"""Of a model that has learned from nothing but what this project renders."""
UNKNOWN = "unknown"
OWN_MODELS = ("sprites",)
"""Shipped models that were trained on nothing but what this project renders, so that one may begin with their weights."""
_IDENTIFIERS = """
    afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0 bigscience-openrail-m bsd
    bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0
    cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0
    cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0
    creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 gemma gfdl gpl gpl-2.0 gpl-3.0
    isc lgpl lgpl-2.1 lgpl-3.0 lgpl-lr llama2 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 openrail openrail++
    osl-3.0 pddl postgresql unknown unlicense wtfpl zlib
"""
LICENCES = frozenset(_IDENTIFIERS.split())
"""Identifiers that the Hub knows (https://huggingface.co/docs/hub/repositories-licenses); any other licence is `other`, with
a name."""


def licence_of(config: Config) -> str:
    """The licence of the training data: as the config states it, the project's own for what it renders, or `UNKNOWN`."""
    stated = getattr(config.data, "licence", None)
    return stated or (OWN_LICENCE if learns_from_own_data(config) else UNKNOWN)


def learns_from_own_data(config: Config) -> bool:
    """Whether all that it was trained on is rendered by this project, with no pictures, files or weights of others."""
    data = config.data
    is_rendered = (data.kind == "sprites" and not isinstance(data.backgrounds, str)) or (
        data.kind == "digits" and data.path is None
    )
    begins_with = {config.reuse, config.init} - {None, *OWN_MODELS}
    return is_rendered and config.clip.kind == "builtin" and not begins_with


def header(config: Config, evaluations: Sequence[tuple[str, str, Sequence[tuple[str, Score]]]]) -> str:
    """The header's lines, without the dashes around them.

    Args:
      config: of the model.
      evaluations: name of the data, split, and titles with scores.

    Fields: https://github.com/huggingface/hub-docs/blob/main/modelcard.md
    """
    from huggingface_hub import EvalResult, ModelCardData

    data, licence = config.data, licence_of(config)
    hub_id = getattr(data, "hub_id", None)
    results = [
        EvalResult(
            task_type=TASK,
            dataset_type=hub_id or _slug(name),
            dataset_name=name,
            dataset_split=split,
            metric_type=score.metric,
            metric_name=f"{title}{_interval(score)}, n = {score.n}",
            metric_value=score.value,
            metric_args=_without_none({"low": score.low, "high": score.high, "n": score.n, "features": score.features}),
        )
        for name, split, scores in evaluations
        for title, score in scores
    ]
    known: dict[str, Any] = {"license": licence.lower()}
    if known["license"] not in LICENCES:
        known = {"license": "other", "license_name": _slug(licence)}
    if config.clip.kind == "pretrained" and _is_hub_id(config.clip.folder):
        known["base_model"] = config.clip.folder
    if data.kind in ("sprites", "digits"):
        known["language"] = "en"
    return ModelCardData(
        **known,
        pipeline_tag=TASK,
        library_name="cdcd_video",
        tags=[TASK, "discrete-diffusion", "clip", data.kind],
        datasets=[hub_id] if hub_id else None,
        model_name=config.name if results else None,
        eval_results=results or None,
    ).to_yaml()


def _interval(score: Score) -> str:
    """The interval in the unit of the value, which the Hub shows beside it."""
    return (
        ""
        if score.low is None or score.high is None
        else f" [{significant(score.low, 3)} to {significant(score.high, 3)}]"
    )


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.") or "other"


def _is_hub_id(name: str) -> bool:
    return bool(re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name)) and not Path(name).exists()


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}

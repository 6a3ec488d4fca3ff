"""Reads and writes configs: YAML file + `base:` chain + `--set` -> a validated config. Imports no torch."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from cdcd_video.config import strict_yaml
from cdcd_video.config.config_layers import base_chain, complete, leaves, merge, parse_override, with_present_keys
from cdcd_video.config.config_mistakes import problems_of, unusable_values, with_origin
from cdcd_video.config.wording import printable
from cdcd_video.errors import UserError

Model = TypeVar("Model", bound=BaseModel)


def load(
    path: Path,
    model: type[Model],
    overrides: Sequence[str] = (),
    beneath: Mapping[str, Any] = MappingProxyType({}),
) -> Model:
    """Reads a config.

    Later layers win, key by key: the defaults of `model`, `beneath`, the `base:` chain, the file, the overrides. A section whose
    `kind` is changed takes nothing over from the other kind, and of the overrides the kinds come first. Lists are replaced whole.

    Args:
      path: the YAML file. A top-level `base: other.yaml` (relative to the file) names the file it differs from.
      model: the pydantic model of the whole config.
      overrides: `section.key=value`, as after `--set`; values are YAML.
      beneath: values by section, in the place of defaults.

    Returns:
      A validated instance of `model`.

    Raises:
      UserError: lists all mistakes, one sentence each.
    """
    merged = complete({name: dict(section) for name, section in beneath.items()}, model)
    origin: dict[str, str] = {}
    files = [(printable(file), [layer]) for file, layer in base_chain(Path(path))]
    kinds_first = sorted(overrides, key=lambda text: not text.partition("=")[0].strip().endswith(".kind"))
    for name, layers in [*files, ("--set", [parse_override(text) for text in kinds_first])]:
        for layer, earlier in with_present_keys(layers, model, name):
            merged = complete(merge(merged, layer), model)
            for key in leaves(layer):
                old = earlier.get(key.partition(".")[0])
                origin[key] = f"{name}, where it is called `{old}`" if old else name
    problems = unusable_values(merged)
    if not problems:
        try:
            return model.model_validate_json(json.dumps(merged), strict=True)
        except ValidationError as error:
            problems = problems_of(error, model, merged)
    shown = [with_origin(key, sentence, origin, printable(Path(path))) for key, sentence in problems.items()]
    if len(shown) == 1:
        raise UserError(f"{printable(Path(path))}: {shown[0]}")
    raise UserError("\n  ".join([f"{printable(Path(path))} has {len(shown)} mistakes:", *shown]))


def dump(config: BaseModel) -> str:
    """The resolved config as YAML text that `load` reads back to an equal config, in the keys that earlier versions know."""
    return strict_yaml.write(config.model_dump(mode="json", by_alias=True))

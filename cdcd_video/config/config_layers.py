"""The layers of a config: files and their `base:` files, `--set`, and the defaults of sections."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cdcd_video.config.registries import AnyOf
from cdcd_video.config.strict_yaml import MAX_NESTING, parse
from cdcd_video.config.wording import printable, quoted
from cdcd_video.errors import UserError
from cdcd_video.storage.small_file import Missing, Unreadable, read_small

_MAX_BASES = 3


def base_chain(path: Path) -> list[tuple[Path, dict[str, Any]]]:
    """The file and its `base` files, the lowest first, without their `base` keys."""
    chain: list[tuple[Path, dict[str, Any]]] = []
    seen: list[Path] = []
    while True:
        layer = _read(path, needed_by=seen[-1] if seen else None)
        here = path.resolve()
        seen.append(path)
        walked = " -> ".join(printable(file) for file in seen)
        if any(here == file.resolve() for file, _ in chain):
            raise UserError(f"{walked}: the `base` lines form a cycle; remove one of them.")
        if len(chain) > _MAX_BASES:
            raise UserError(f"{walked}: the chain of `base` files is longer than {_MAX_BASES}; merge some of them.")
        base = layer.pop("base", None)
        chain.append((path, layer))
        if base is None:
            return chain[::-1]
        if not isinstance(base, str):
            raise UserError(f"{printable(path)}: `base` is {quoted(base)}, but must be the name of one YAML file.")
        path = path.parent / base


def _read(path: Path, needed_by: Path | None) -> dict[str, Any]:
    asked = f" (the `base` of {printable(needed_by)})" if needed_by else ""
    try:
        text = read_small(path).decode("utf-8")
    except Missing:
        near = difflib.get_close_matches(path.name, [file.name for file in path.parent.glob("*.yaml")], 1)
        hint = f"did you mean {near[0]}?" if near else "check the path."
        raise UserError(f"config {printable(path)}{asked} does not exist; {hint}") from None
    except Unreadable as error:
        raise UserError(f"config {printable(path)!r}{asked} {error.reason}.") from None
    except UnicodeDecodeError:
        raise UserError(f"config {printable(path)}{asked} is not UTF-8 text; give a YAML file.") from None
    content = parse(text, f"config {printable(path)}{asked}")
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"config {printable(path)}{asked} is not a mapping; write `key: value` lines.")
    return content


def parse_override(text: str) -> dict[str, Any]:
    """Parses a `--set`, such as `train.codec.num_steps=100`, into a layer."""
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(re.fullmatch(r"[\w-]+", part) for part in parts) or len(parts) > MAX_NESTING:
        raise UserError(
            f"--set {quoted(text)} is not of the form section.key=value, such as train.codec.num_steps=100."
        )
    layer = parse(value, f"the value of --set {quoted(text)}")
    for part in reversed(parts):
        layer = {part: layer}
    return layer


def with_present_keys(
    layers: Sequence[dict[str, Any]], model: type[BaseModel], place: str
) -> list[tuple[dict[str, Any], dict[str, str]]]:
    """The layers of one file, or of all `--set`, in the present names of the keys (`Section.earlier_keys`).

    Returns:
      For each layer: its content, and those of its keys that go by an earlier name -> that name.

    Raises:
      UserError: a key is given under both names.
    """
    known: Mapping[str, str] = getattr(model, "earlier_keys", {})
    given = {key for layer in layers for key in layer}
    for old, new in known.items():
        if {old, new} <= given:
            raise UserError(f"{place}: `{old}` is the earlier name of `{new}`, and both are given; remove one of them.")
    return [
        (
            {known.get(key, key): value for key, value in layer.items()},
            {known[key]: key for key in layer if key in known},
        )
        for layer in layers
    ]


def merge(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """Merges two layers: the upper one wins, key by key. A section with another `kind` replaces the lower one as a
    whole."""
    if upper.get("kind", lower.get("kind")) != lower.get("kind"):
        return dict(upper)
    merged = dict(lower)
    for key, value in upper.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def complete(given: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """Completes partly given sections with the default section of their field, which may differ from that of the
    class."""
    completed = dict(given)
    for name, field in model.model_fields.items():
        value = given.get(name)
        if isinstance(value, str):  # the short form of a section that has one
            words = ((section, getattr(section, "shorthand", "")) for section in _sections_of(field))
            short = [(section, word) for section, word in words if word]
            value = {"kind": _kind_of(short[0][0]), short[0][1]: value} if short else value
        if not isinstance(value, dict):
            continue
        default = field.get_default(call_default_factory=True, validated_data={})
        if isinstance(default, BaseModel):
            value = merge(default.model_dump(mode="json"), value)
        sections = [section for section in _sections_of(field, value.get("kind")) if _is_of_kind(section, value)]
        completed[name] = complete(value, sections[0]) if len(sections) == 1 else value
    return completed


def _sections_of(field: FieldInfo, kind: Any = None) -> Iterator[type[BaseModel]]:
    """The section classes that a field may hold; imports the extension that a `kind` names."""
    for part in (field.annotation, *field.metadata):
        yield from _sections(part, kind)


def _sections(annotation: Any, kind: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, AnyOf):
        annotation.find(kind)
        yield from annotation.sections()
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _sections(part, kind)


def _is_of_kind(section: type[BaseModel], value: Mapping[str, Any]) -> bool:
    kind = section.model_fields.get("kind")
    return kind is None or value.get("kind") in get_args(kind.annotation)


def _kind_of(section: type[BaseModel]) -> str:
    return section.model_fields["kind"].default


def leaves(layer: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted names of all keys of a layer."""
    for key, value in layer.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")

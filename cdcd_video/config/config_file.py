"""YAML file + `base:` chain + `--set` -> a validated config; every mistake in one message. Imports no torch.

The YAML is a strict subset: no duplicate keys, anchors, tags or interpolation, and numbers as YAML 1.2 reads them
(`1e-4` is a number; `on`, `010` and `1:30` hold no surprise).
"""

import copy
import difflib
import functools
import json
import math
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from cdcd_video.config.registries import AnyOf
from cdcd_video.errors import UserError, is_text
from cdcd_video.storage.small_file import Missing, Unreadable, read_small

Model = TypeVar("Model", bound=BaseModel)

_MAX_BASES = 3
_MAX_NESTING = 30
_SCALARS = MappingProxyType(
    {
        "null": (r"null|Null|NULL|~|", ["~", "n", "N", ""]),
        "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
        "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
        "float": (
            r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
            list("-+.0123456789"),
        ),
    }
)
"""Which plain words are not text [YAML 1.2.2, section 10.3.2], with the characters they may begin with."""


def load(
    path: Path,
    model: type[Model],
    overrides: Sequence[str] = (),
    beneath: Mapping[str, Any] = MappingProxyType({}),
) -> Model:
    """Reads a config.

    Later layers win, key by key: the defaults of `model`, `beneath`, the `base:` chain, the file, the overrides. A section whose
    `kind` is changed takes nothing over from the other kind. Lists are replaced as a whole.

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
    merged = _complete({name: dict(section) for name, section in beneath.items()}, model)
    origin: dict[str, str] = {}
    layers = [(_name(file), layer) for file, layer in _base_chain(Path(path))]
    for name, layer in [*layers, *(("--set", _parse_override(text)) for text in overrides)]:
        merged = _complete(_merge(merged, layer), model)
        origin.update(dict.fromkeys(_leaves(layer), name))
    problems = _unusable_values(merged)
    if not problems:
        try:
            return model.model_validate_json(json.dumps(merged), strict=True)
        except ValidationError as error:
            problems = _problems(error, model, merged)
    shown = [_with_origin(key, sentence, origin, _name(Path(path))) for key, sentence in problems.items()]
    if len(shown) == 1:
        raise UserError(f"{_name(Path(path))}: {shown[0]}")
    raise UserError("\n  ".join([f"{_name(Path(path))} has {len(shown)} mistakes:", *shown]))


def dump(config: BaseModel) -> str:
    """The resolved config as YAML text that `load` reads back to an equal config."""
    return yaml.dump(
        config.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=110
    )


def unequal(there: BaseModel, here: BaseModel, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Where two configs, or two sections of one kind, differ.

    Args:
      there, here: the two.
      prefix: what the keys begin with, where they are sections: "codec.".

    Returns:
      Dotted key -> value there, value here, as JSON has them; None where a section has no such key.
    """
    return dict(_unequal(there.model_dump(mode="json"), here.model_dump(mode="json"), prefix))


def told_unequal(differences: Mapping[str, tuple[Any, Any]]) -> str:
    """Differences in words: `train.codec.num_steps: 300 there, 400 here; seed: 0 there, 1 here`."""
    return "; ".join(f"{key}: {_shown(there)} there, {_shown(here)} here" for key, (there, here) in differences.items())


def _unequal(there: Any, here: Any, key: str) -> Iterator[tuple[str, tuple[Any, Any]]]:
    if not (isinstance(there, dict) and isinstance(here, dict)):
        if there != here:
            yield key.removesuffix("."), (there, here)
    elif there.get("kind") != here.get("kind"):
        yield f"{key}kind", (there.get("kind"), here.get("kind"))
    else:
        for name in {**there, **here}:
            yield from _unequal(there.get(name), here.get(name), f"{key}{name}.")


# ------------------------------------------------------------------------------------------------- reading files


def _base_chain(path: Path) -> list[tuple[Path, dict[str, Any]]]:
    """The file and those it rests on, the lowest first, without their `base` keys."""
    chain: list[tuple[Path, dict[str, Any]]] = []
    seen: list[Path] = []
    while True:
        layer = _read(path, needed_by=seen[-1] if seen else None)
        here = path.resolve()
        seen.append(path)
        walked = " -> ".join(_name(file) for file in seen)
        if any(here == file.resolve() for file, _ in chain):
            raise UserError(f"{walked}: `base` goes round in a circle; remove one of them.")
        if len(chain) > _MAX_BASES:
            raise UserError(f"{walked}: `base` goes more than {_MAX_BASES} files deep; merge some of them.")
        base = layer.pop("base", None)
        chain.append((path, layer))
        if base is None:
            return chain[::-1]
        if not isinstance(base, str):
            raise UserError(f"{_name(path)}: `base` is {_shown(base)}, but must be the name of one YAML file.")
        path = path.parent / base


def _read(path: Path, needed_by: Path | None) -> dict[str, Any]:
    asked = f" (the `base` of {_name(needed_by)})" if needed_by else ""
    try:
        text = read_small(path).decode("utf-8")
    except Missing:
        near = difflib.get_close_matches(path.name, [file.name for file in path.parent.glob("*.yaml")], 1)
        hint = f"did you mean {near[0]}?" if near else "check the path."
        raise UserError(f"config {_name(path)}{asked} does not exist; {hint}") from None
    except Unreadable as error:
        raise UserError(f"config {_name(path)!r}{asked} {error.reason}.") from None
    except UnicodeDecodeError:
        raise UserError(f"config {_name(path)}{asked} is not UTF-8 text; it should be a YAML file.") from None
    content = parse(text, f"config {_name(path)}{asked}")
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"config {_name(path)}{asked} is not a mapping; write `key: value` lines.")
    return content


def _parse_override(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(re.fullmatch(r"[\w-]+", part) for part in parts) or len(parts) > _MAX_NESTING:
        raise UserError(
            f"--set {_shown(text)} is not of the form section.key=value, such as train.codec.num_steps=100."
        )
    layer = parse(value, f"the value of --set {_shown(text)}")
    for part in reversed(parts):
        layer = {part: layer}
    return layer


def parse(text: str, what: str) -> Any:
    """What a YAML text says, read as strictly as a config.

    Args:
      text: of the file.
      what: what it is, for the message.

    Raises:
      UserError: it is not of the strict subset; says where.
    """
    try:
        return copy.deepcopy(_parsed(text))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise UserError(f"{what} is not valid YAML: {_one_line(error.problem or error.context)}{where}.") from None
    except yaml.YAMLError as error:
        raise UserError(f"{what} is not valid YAML: {_one_line(str(error))}.") from None
    except (ValueError, OverflowError):  # PyYAML's own slip on an escape beyond the last character of Unicode
        raise UserError(f"{what} is not valid YAML: an escape names no character.") from None


@functools.lru_cache(maxsize=32)
def _parsed(text: str) -> Any:
    """A command comes back to the same few files, for the config, the model's hash and the record; PyYAML is slow."""
    return yaml.load(text, Loader=_Loader)  # which derives from SafeLoader


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without its surprises."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's own way; filled below

    def __init__(self, stream: str):
        super().__init__(stream)
        self.nesting = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise yaml.MarkedYAMLError(
                problem="an alias (*name) is not used here: write it out", problem_mark=event.start_mark
            )
        if event.tag is not None:
            raise yaml.MarkedYAMLError(problem="a tag (!name) is not used here", problem_mark=event.start_mark)
        self.nesting += 1
        if self.nesting > _MAX_NESTING:
            raise yaml.MarkedYAMLError(problem="it is nested too deeply", problem_mark=event.start_mark)
        node = super().compose_node(parent, index)
        self.nesting -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        mapping: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(
                    problem=f"the key {_shown(key)} is not a word", problem_mark=key_node.start_mark
                )
            if key in mapping:
                raise yaml.MarkedYAMLError(problem=f"the key `{key}` is given twice", problem_mark=key_node.start_mark)
            mapping[key] = self.construct_object(value_node, deep=True)
        return mapping

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        base = {"0o": 8, "0x": 16}.get(node.value[:2], 10)
        # Twenty digits are beyond any dial; Python refuses to write out numbers of thousands of digits.
        if len(node.value) > 20:
            raise yaml.MarkedYAMLError(problem="the number is too long", problem_mark=node.start_mark)
        return int(node.value, base)

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        return float(node.value.lower().replace(".inf", "inf").replace(".nan", "nan"))


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads: lists on one line, no aliases, text quoted wherever it could be taken for a number."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - as above

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_list(self, data: list[Any]) -> yaml.Node:
        return self.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True)


_Dumper.add_representer(list, _Dumper.represent_list)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)
for _tag, (_pattern, _first) in _SCALARS.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), _first)


# ----------------------------------------------------------------------------------------------- joining layers


def _merge(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """Upper wins, section by section; a section of another `kind` starts anew."""
    if upper.get("kind", lower.get("kind")) != lower.get("kind"):
        return dict(upper)
    merged = dict(lower)
    for key, value in upper.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _complete(given: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """Lays a section that is given in part over the default section of its field, which may differ from the class's."""
    completed = dict(given)
    for name, field in model.model_fields.items():
        value = given.get(name)
        if isinstance(value, str):  # the short form of a section that has one
            short = [section for section in _sections_of(field) if getattr(section, "shorthand", "")]
            value = {"kind": _kind_of(short[0]), short[0].shorthand: value} if short else value
        if not isinstance(value, dict):
            continue
        default = field.get_default(call_default_factory=True, validated_data={})
        if isinstance(default, BaseModel):
            value = _merge(default.model_dump(mode="json"), value)
        sections = [section for section in _sections_of(field, value.get("kind")) if _is_of_kind(section, value)]
        completed[name] = _complete(value, sections[0]) if len(sections) == 1 else value
    return completed


def _sections_of(field: FieldInfo, kind: Any = None) -> Iterator[type[BaseModel]]:
    """The models that a field may hold; an extension that a `kind` names is imported."""
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


def _leaves(layer: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted names of all that a layer says."""
    for key, value in layer.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")


# ------------------------------------------------------------------------------------------- telling the mistakes


def _unusable_values(value: Any, key: str = "") -> dict[str, str]:
    """What no field may hold: interpolation, numbers that are not finite, half characters."""
    found: dict[str, str] = {}
    if isinstance(value, dict):
        for name, item in value.items():
            dotted = f"{key}.{name}" if key else name
            found |= _unusable_values(name, dotted) | _unusable_values(item, dotted)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found |= _unusable_values(item, f"{key}.{index}")
    elif isinstance(value, float) and not math.isfinite(value):
        found[key] = f"`{key}` is {value}, but must be a finite number"
    elif isinstance(value, str) and "${" in value:
        found[key] = f"`{key}` holds {_shown(value)}, but nothing is computed here: write the value itself"
    elif isinstance(value, str) and not is_text(value):
        found[key] = f"`{key}` holds {_shown(value)}, which is not text"
    return found


def _problems(error: ValidationError, model: type[BaseModel], data: dict[str, Any]) -> dict[str, str]:
    """One sentence for each key that is wrong."""
    schema = _Schema(model)
    found: dict[str, str] = {}
    for mistake in error.errors(include_url=False):
        key, nodes, parents = schema.find(mistake["loc"], data)
        found.setdefault(key, _sentence(schema, mistake, key, nodes, parents))
    return found


def _sentence(schema: "_Schema", mistake: Any, key: str, nodes: list[dict], parents: list[dict]) -> str:
    kind, given = mistake["type"], _shown(mistake["input"])
    if kind == "missing":
        return f"`{key}` is missing; it must be {schema.allowed(nodes)}"
    if kind == "extra_forbidden":
        return f"`{key}` (given {given}) is not a known key; {schema.hint(key, parents)}"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        kinds = _one_of(sorted({name for node in nodes for name in _kinds(node)}))
        if kind == "union_tag_not_found":
            return f"`{key}.kind` is missing; it must be {kinds}"
        return f"`{key}.kind` is {_shown(mistake['input']['kind'])}, but must be {kinds}"
    if kind in ("value_error", "assertion_error"):
        return f"{f'`{key}`: ' if key else ''}{_one_line(str(mistake['ctx']['error']))}"
    if nodes:
        return f"`{key}` is {given}, but must be {schema.allowed(nodes)}"
    return f"{f'`{key}` is {given}: ' if key else ''}{_one_line(mistake['msg'])}"


class _Schema:
    """A model's JSON schema, walked along with the data: what each key may hold."""

    def __init__(self, model: type[BaseModel]):
        self.root = model.model_json_schema()

    def find(self, loc: Sequence[str | int], data: Any) -> tuple[str, list[dict], list[dict]]:
        """pydantic's location -> dotted key, what it may hold, and what its parent may hold.

        pydantic's locations also name the branch of a union that was tried; those parts are no keys of the file.
        """
        key: list[str] = []
        nodes, parents = self.choices(self.root, data), []
        is_tagged = False
        for position, part in enumerate(loc):
            children = [child for node in nodes for child in self._children(node, part)]
            is_tag = isinstance(data, dict) and data.get("kind") == part and not is_tagged and part not in data
            is_here = part in data if isinstance(data, dict) else isinstance(data, list) and part in range(len(data))
            is_missing = position == len(loc) - 1 and isinstance(data, (dict, list)) and bool(children)
            is_tagged = is_tag
            if is_tag or not (is_here or is_missing):
                continue
            data = (data.get(part) if isinstance(data, dict) else data[part]) if is_here else None
            key.append(str(part))
            parents, nodes = nodes, [choice for child in children for choice in self.choices(child, data)]
        return ".".join(key), nodes, parents

    def choices(self, node: dict, data: Any = None) -> list[dict]:
        """The alternatives of a union, references resolved; only the chosen one where `kind` tells which."""
        while "$ref" in node:
            node = self.root["$defs"][node["$ref"].rpartition("/")[2]]
        branches = node.get("oneOf") or node.get("anyOf")
        if not branches:
            return [node]
        choices = [choice for branch in branches for choice in self.choices(branch)]
        chosen = [choice for choice in choices if isinstance(data, dict) and data.get("kind") in _kinds(choice)]
        return chosen or choices

    def allowed(self, nodes: list[dict]) -> str:
        """What may be written, in words."""
        kinds = sorted({name for node in nodes for name in _kinds(node)})
        plain = [self._words(node) for node in nodes if not _kinds(node)]
        return " or ".join(dict.fromkeys([*([f"a section whose `kind` is {_one_of(kinds)}"] if kinds else []), *plain]))

    def hint(self, key: str, parents: list[dict]) -> str:
        """The nearest known key, beside the unknown one or anywhere, or else all keys of its section."""
        section, _, name = key.rpartition(".")
        siblings = [sibling for node in parents for sibling in node.get("properties", {})]
        if near := difflib.get_close_matches(name, siblings, 1):
            return f"did you mean `{f'{section}.' if section else ''}{near[0]}`?"
        everywhere = dict.fromkeys(self._all_keys(self.root, ""))
        if key in everywhere:
            return f"it belongs to another `kind` of `{section}`; the keys here are {', '.join(siblings)}"
        elsewhere = {dotted.rpartition(".")[2]: dotted for dotted in reversed(everywhere)}
        if near := difflib.get_close_matches(name, elsewhere, 1, cutoff=0.8):
            return f"did you mean `{elsewhere[near[0]]}`?"
        return f"the keys here are {', '.join(siblings)}"

    def _children(self, node: dict, part: str | int) -> list[dict]:
        if isinstance(part, int):
            fixed = node.get("prefixItems", [])
            return (
                [fixed[part]] if part < len(fixed) else [node["items"]] if isinstance(node.get("items"), dict) else []
            )
        if part in node.get("properties", {}):
            return [node["properties"][part]]
        others = node.get("additionalProperties")
        return [others] if isinstance(others, dict) else []

    def _all_keys(self, node: dict, prefix: str) -> Iterator[str]:
        for choice in self.choices(node):
            for name, child in choice.get("properties", {}).items():
                yield prefix + name
                yield from self._all_keys(child, f"{prefix}{name}.")

    def _words(self, node: dict) -> str:
        if "const" in node or "enum" in node:
            return _one_of(node.get("enum", [node.get("const")]))
        match node.get("type"):
            case "integer" | "number" as kind:
                return " ".join(["a whole number" if kind == "integer" else "a number", *_bounds(node)])
            case "string" if "examples" in node:
                return f"text such as {' or '.join(node['examples'])}"
            case "string":
                return f"text matching {node['pattern']}" if "pattern" in node else "text"
            case "boolean":
                return "true or false"
            case "null":
                return "null"
            case "array":
                return self._list_words(node)
            case "object" if "properties" in node:
                return f"a section with the keys {', '.join(node['properties'])}"
        return "a mapping" if node.get("type") == "object" else "something else"

    def _list_words(self, node: dict) -> str:
        low, high = node.get("minItems", 0), node.get("maxItems", math.inf)
        length = f"{low}" if low == high else f"at least {low}" if low else f"at most {high}" if high < math.inf else ""
        items = node.get("prefixItems") or [node.get("items", {})]
        each = " and ".join(dict.fromkeys(self.allowed(self.choices(item)) for item in items if item))
        return f"a list{f' of {length}' if length else ''}{f', each {each}' if each else ''}"


def _bounds(node: dict) -> list[str]:
    """A number's range, in words."""
    words = {"minimum": "of at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    bounds = [f"{word} {node[name]:g}" for name, word in words.items() if name in node]
    several = [f"in steps of {node['multipleOf']:g}"] if "multipleOf" in node else []
    return [*([" and ".join(bounds)] if bounds else []), *several]


def _kinds(node: dict) -> list[str]:
    """The `kind` of a section that has one."""
    kind = node.get("properties", {}).get("kind", {})
    return kind.get("enum", [kind["const"]] if "const" in kind else [])


def _one_of(values: Sequence[Any]) -> str:
    shown = [str(value) for value in values]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"


def _with_origin(key: str, sentence: str, origin: Mapping[str, str], main: str) -> str:
    """Says which file, or that the command line, holds the mistake, where it is not the file that was asked for."""
    while key and key not in origin:
        key = key.rpartition(".")[0]
    place = origin.get(key, main)
    return (
        f"{sentence.rstrip('.')}{'' if sentence.endswith('?') else '.'}{'' if place == main else f' (From {place}.)'}"
    )


def _shown(value: Any) -> str:
    """A value as the user would write it, cut when long."""
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _name(path: Path) -> str:
    """A path as it can be printed on any terminal."""
    return " ".join(str(path).encode("utf-8", "backslashreplace").decode().split())


def _one_line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")

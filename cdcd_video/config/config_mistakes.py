"""Error messages for configs: the key, its value, the allowed values, and the file that has it."""

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from cdcd_video.config.wording import one_line, quoted
from cdcd_video.errors import is_text


def unusable_values(value: Any, key: str = "") -> dict[str, str]:
    """Values that no field may have: interpolation, numbers that are not finite, text that is not valid Unicode."""
    found: dict[str, str] = {}
    if isinstance(value, dict):
        for name, item in value.items():
            dotted = f"{key}.{name}" if key else name
            found |= unusable_values(name, dotted) | unusable_values(item, dotted)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found |= unusable_values(item, f"{key}.{index}")
    elif isinstance(value, float) and not math.isfinite(value):
        found[key] = f"`{key}` is {value}, but must be a finite number"
    elif isinstance(value, str) and "${" in value:
        found[key] = f"`{key}` is {quoted(value)}, but expressions are not supported; write the value itself"
    elif isinstance(value, str) and not is_text(value):
        found[key] = f"`{key}` is {quoted(value)}, which is not valid Unicode; write it again"
    return found


def problems_of(error: ValidationError, model: type[BaseModel], data: dict[str, Any]) -> dict[str, str]:
    """One sentence for each key that is wrong."""
    schema = _Schema(model)
    found: dict[str, str] = {}
    for mistake in error.errors(include_url=False):
        key, nodes, parents = schema.find(mistake["loc"], data)
        found.setdefault(key, _sentence(schema, mistake, key, nodes, parents))
    return found


def with_origin(key: str, sentence: str, origin: Mapping[str, str], main: str) -> str:
    """Adds the file, or `--set`, that has the mistake, unless it is the file that the user named."""
    while key and key not in origin:
        key = key.rpartition(".")[0]
    place = origin.get(key, main)
    return (
        f"{sentence.rstrip('.')}{'' if sentence.endswith('?') else '.'}{'' if place == main else f' (From {place}.)'}"
    )


def _sentence(schema: "_Schema", mistake: Any, key: str, nodes: list[dict], parents: list[dict]) -> str:
    kind, given = mistake["type"], quoted(mistake["input"])
    if kind == "missing":
        return f"`{key}` is missing; it must be {schema.allowed(nodes)}"
    if kind == "extra_forbidden":
        return f"`{key}` (value {given}) is not a known key; {schema.hint(key, parents)}"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        kinds = _one_of(sorted({name for node in nodes for name in _kinds(node)}))
        if kind == "union_tag_not_found":
            return f"`{key}.kind` is missing; it must be {kinds}"
        return f"`{key}.kind` is {quoted(mistake['input']['kind'])}, but must be {kinds}"
    if kind in ("value_error", "assertion_error"):
        return f"{f'`{key}`: ' if key else ''}{one_line(str(mistake['ctx']['error']))}"
    if nodes:
        return f"`{key}` is {given}, but must be {schema.allowed(nodes)}"
    return f"{f'`{key}` is {given}: ' if key else ''}{one_line(mistake['msg'])}"


class _Schema:
    """A model's JSON schema, traversed together with the data, to find what each key may hold."""

    def __init__(self, model: type[BaseModel]):
        self.root = model.model_json_schema()
        self.earlier_keys: Mapping[str, str] = getattr(model, "earlier_keys", {})

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
        """The alternatives of a union with references resolved; only the chosen one if `kind` decides."""
        while "$ref" in node:
            node = self.root["$defs"][node["$ref"].rpartition("/")[2]]
        branches = node.get("oneOf") or node.get("anyOf")
        if not branches:
            return [node]
        choices = [choice for branch in branches for choice in self.choices(branch)]
        chosen = [choice for choice in choices if isinstance(data, dict) and data.get("kind") in _kinds(choice)]
        return chosen or choices

    def allowed(self, nodes: list[dict]) -> str:
        """The allowed values, in words."""
        kinds = sorted({name for node in nodes for name in _kinds(node)})
        plain = [self._words(node) for node in nodes if not _kinds(node)]
        return " or ".join(dict.fromkeys([*([f"a section whose `kind` is {_one_of(kinds)}"] if kinds else []), *plain]))

    def hint(self, key: str, parents: list[dict]) -> str:
        """The nearest known key, beside the unknown one or anywhere, or else all keys of its section."""
        section, _, name = key.rpartition(".")
        siblings = [sibling for node in parents for sibling in node.get("properties", {})]
        earlier = {} if section else self.earlier_keys
        if near := difflib.get_close_matches(name, [*siblings, *earlier], 1):
            return f"did you mean `{f'{section}.' if section else ''}{earlier.get(near[0], near[0])}`?"
        everywhere = dict.fromkeys(self._all_keys(self.root, ""))
        if key in everywhere:
            return f"it belongs to another `kind` of `{section}`; the keys of this one are {', '.join(siblings)}"
        elsewhere = {dotted.rpartition(".")[2]: dotted for dotted in reversed(everywhere)}
        if near := difflib.get_close_matches(name, elsewhere, 1, cutoff=0.8):
            return f"did you mean `{elsewhere[near[0]]}`?"
        return f"the known keys are {', '.join(siblings)}"

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
        return f"a list{f' of length {length}' if length else ''}{f', each {each}' if each else ''}"


def _bounds(node: dict) -> list[str]:
    """A number's range, in words."""
    words = {"minimum": "of at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    bounds = [f"{word} {node[name]:g}" for name, word in words.items() if name in node]
    several = [f"divisible by {node['multipleOf']:g}"] if "multipleOf" in node else []
    return [*([" and ".join(bounds)] if bounds else []), *several]


def _kinds(node: dict) -> list[str]:
    """The `kind` of a section that has one."""
    kind = node.get("properties", {}).get("kind", {})
    return kind.get("enum", [kind["const"]] if "const" in kind else [])


def _one_of(values: Sequence[Any]) -> str:
    shown = [str(value) for value in values]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"

"""The strict subset of YAML in which all configs are read and written. Imports no torch.

No duplicate keys, anchors, tags or interpolation, and numbers as YAML 1.2 reads them (`1e-4` is a number; `on`, `010` and
`1:30` hold no surprise).
"""

import copy
import functools
import re
from collections.abc import Hashable
from types import MappingProxyType
from typing import Any

import yaml

from cdcd_video.config.wording import one_line, quoted
from cdcd_video.errors import UserError

MAX_NESTING = 30
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


def parse(text: str, what: str) -> Any:
    """Parses a YAML text of the strict subset.

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
        raise UserError(f"{what} is not valid YAML: {one_line(error.problem or error.context)}{where}.") from None
    except yaml.YAMLError as error:
        raise UserError(f"{what} is not valid YAML: {one_line(str(error))}.") from None
    except (ValueError, OverflowError):  # PyYAML's own slip on an escape beyond the last character of Unicode
        raise UserError(f"{what} is not valid YAML: an escape sequence is not a valid character.") from None


def write(data: Any) -> str:
    """Plain data as a text that `parse` reads back to equal data."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=110)


@functools.lru_cache(maxsize=32)
def _parsed(text: str) -> Any:
    """Cached, because a command reads the same few files several times and PyYAML is slow."""
    return yaml.load(text, Loader=_Loader)  # which derives from SafeLoader


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without its surprises."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 - PyYAML's own way; filled below

    def __init__(self, stream: str):
        super().__init__(stream)
        self.nesting = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise yaml.MarkedYAMLError(
                problem="aliases (*name) are not supported; write the value out", problem_mark=event.start_mark
            )
        if event.tag is not None:
            raise yaml.MarkedYAMLError(problem="tags (!name) are not supported", problem_mark=event.start_mark)
        self.nesting += 1
        if self.nesting > MAX_NESTING:
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
                    problem=f"the key {quoted(key)} is not text", problem_mark=key_node.start_mark
                )
            if key in mapping:
                raise yaml.MarkedYAMLError(problem=f"the key `{key}` is given twice", problem_mark=key_node.start_mark)
            mapping[key] = self.construct_object(value_node, deep=True)
        return mapping

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        base = {"0o": 8, "0x": 16}.get(node.value[:2], 10)
        # Twenty digits are beyond any setting; Python refuses to print numbers of thousands of digits.
        if len(node.value) > 20:
            raise yaml.MarkedYAMLError(problem="the number has too many digits", problem_mark=node.start_mark)
        return int(node.value, base)

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        return float(node.value.lower().replace(".inf", "inf").replace(".nan", "nan"))


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads: lists on one line, no aliases, text quoted wherever it could be taken for a number."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 - as above

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

"""Valid examples made invalid: bytes flipped, cut, doubled, spliced; values of JSON put in the place of others."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

TOKENS: tuple[bytes, ...] = (
    *(b"", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\r\n", b"\t", b",", b'"', b"'", b":", b"{", b"}", b"[", b"]", b"- "),
    *(b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"-1", b"0", b"0x", b"1e-400", b"9" * 40, b"9" * 5000),
    *(
        b"../../etc/passwd",
        b"/etc/passwd",
        b"..\\..\\x",
        b"a/../../b",
        b"\\u0000",
        b"\\ud800",
        b"&a ",
        b"*a",
        b"!!python/x",
    ),
    *("\u2028".encode(), "\u202e".encode(), "\U0001f600".encode(), b"\xed\xa0\x80", b"\x1b[31m", b"x" * 20_000),
    *(b"[" * 3000, b'{"a":' * 3000, b"${HOME}", b"%n%s", b"<script>", b"#", b"|", b">", b"---\n", b"...\n"),
)
"""What parsers stumble over."""

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, -(2**64), 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf")),
    *(
        "",
        " ",
        "a",
        "1",
        "-1",
        "nan",
        "../../etc/passwd",
        "/etc/passwd",
        "a\0b",
        "a\nb",
        "\u2028",
        "\u202e",
        "x" * 20_000,
    ),
    *([], {}, [[]], [None], {"": None}, {"a": {"b": {}}}, [0] * 1000, ["a", 1, None], [1.5, -1], {"kind": "x"}),
    "\U0001f600",
)
"""What stands where something else is expected."""


def mutated(seed: bytes, others: Sequence[bytes], rng: np.random.Generator) -> bytes:
    """One valid example, changed in one to four places.

    Args:
      seed: the example.
      others: further examples, parts of which may be put into it.
      rng: draws every choice.

    Returns:
      The changed bytes, at most a quarter of a megabyte longer.
    """
    data = bytearray(seed)
    for _ in range(_few(rng)):
        at, end = sorted(int(edge) for edge in rng.integers(len(data) + 1, size=2))
        match int(rng.integers(8)):
            case 0 if data:
                data[at % len(data)] ^= 1 << int(rng.integers(8))
            case 1 if data:
                data[at % len(data)] = int(rng.integers(256))
            case 2:
                del data[at:end]
            case 3:
                del data[at:]
            case 4:
                data[at:at] = data[at : min(end, at + 4096)]
            case 5:
                data[at:at] = TOKENS[int(rng.integers(len(TOKENS)))]
            case 6:
                data[at : min(end, at + 16)] = TOKENS[int(rng.integers(len(TOKENS)))]
            case _:
                other = others[int(rng.integers(len(others)))]
                first, last = sorted(int(edge) for edge in rng.integers(len(other) + 1, size=2))
                data[at : min(end, at + last - first)] = other[first:last]
    return bytes(data)


def mutated_json(value: Any, rng: np.random.Generator) -> Any:
    """A value of JSON with one to three of its places changed: another value, gone, doubled, under another name."""
    value = json.loads(json.dumps(value))
    for _ in range(_few(rng)):
        places = list(_places(value))
        if not places:
            return _any_value(rng)
        holder, key = places[int(rng.integers(len(places)))]
        match int(rng.integers(6)):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[f"{key}x"] = holder.pop(key)
            case 2 if isinstance(holder, list):
                holder.insert(0, holder[key])
            case 3:
                other, name = places[int(rng.integers(len(places)))]
                if _has(other, name) and _has(holder, key):
                    holder[key] = json.loads(json.dumps(other[name]))
            case _:
                holder[key] = _any_value(rng)
    return value


def as_json(value: Any, rng: np.random.Generator) -> bytes:
    """A value as bytes of JSON, sometimes changed once more as bytes."""
    content = json.dumps(value).encode()
    return mutated(content, [content], rng) if rng.random() < 0.3 else content


def _few(rng: np.random.Generator) -> int:
    """One change mostly: with many, a reader never comes past the first."""
    return 1 if rng.random() < 0.6 else 1 + int(rng.integers(4))


def _any_value(rng: np.random.Generator) -> Any:
    return json.loads(json.dumps(VALUES[int(rng.integers(len(VALUES)))]))


def _has(holder: Any, key: Any) -> bool:
    return key in holder if isinstance(holder, dict) else key < len(holder)


def _places(value: Any) -> Any:
    """Every (holder, key or index) of a value, from the outside in."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])

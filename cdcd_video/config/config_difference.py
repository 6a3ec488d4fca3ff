"""The differences between two configs, by key and as text."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from cdcd_video.config.wording import quoted


def unequal(there: BaseModel, here: BaseModel, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Where two configs, or two sections of one kind, differ.

    Args:
      there, here: the two.
      prefix: what the keys begin with, where they are sections: "codec.".

    Returns:
      Dotted key -> value there, value here, as JSON has them; None where a section has no such key.
    """
    return dict(_unequal(there.model_dump(mode="json"), here.model_dump(mode="json"), prefix))


def unequal_values(there: Mapping[str, Any], here: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The same of two configs as JSON has them."""
    return dict(_unequal(there, here, ""))


def describe_differences(differences: Mapping[str, tuple[Any, Any]]) -> str:
    """Differences in words: `train.codec.num_steps: 300 there, 400 here; seed: 0 there, 1 here`."""
    return "; ".join(f"{key}: {quoted(there)} there, {quoted(here)} here" for key, (there, here) in differences.items())


def _unequal(there: Any, here: Any, key: str) -> Iterator[tuple[str, tuple[Any, Any]]]:
    if not (isinstance(there, dict) and isinstance(here, dict)):
        if there != here:
            yield key.removesuffix("."), (there, here)
    elif there.get("kind") != here.get("kind"):
        yield f"{key}kind", (there.get("kind"), here.get("kind"))
    else:
        for name in {**there, **here}:
            yield from _unequal(there.get(name), here.get(name), f"{key}{name}.")

"""An evaluation by several processes: each sees a part of the videos, and the main one makes scores of what all have seen.

What is sent are the numbers that scores are made of (a total and a weight for every quantity of every video, features of
every frame and window), never scores: so it does not matter who has seen what, and the scores are those of one process.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from jaxtyping import Float

from cdcd_video.engine import distributed
from cdcd_video.metrics.examples import Example, ExampleStore
from cdcd_video.metrics.measurements import EvalVideo, Seen
from cdcd_video.metrics.sets.feature_store import FeatureStore

ByNumber = dict[int, dict[str, list[Seen]]]
"""What was seen in each video, by its number and the row."""


def own_batches(num_videos: int, batch_size: int) -> list[range]:
    """Numbers of the videos that this process draws, batch by batch; smaller batches where some would have none."""
    size = min(batch_size, -(-num_videos // distributed.world().size))
    batches = [range(begin, min(begin + size, num_videos)) for begin in range(0, num_videos, size)]
    return distributed.own(batches)


def gathered_numbers(numbers: Sequence[float], count: int) -> Float[np.ndarray, " n"]:
    """A number of each of `count` things, of which each process has looked at its own."""
    own = torch.tensor(numbers, dtype=torch.float64)
    return (distributed.all_gather(own, count) if count else own).numpy()


def at_main(seen: ByNumber, feature_stores: Mapping[str, FeatureStore], kept: ExampleStore) -> bool:
    """Brings everything to the main process.

    Args:
      seen, feature_stores, kept: of this process; in the main one they are completed.

    Returns:
      Whether this is the main process.
    """
    if distributed.world().size == 1:
        return True
    candidates = kept.candidates()
    if not distributed.is_main():
        parts = [feature_store.entries() for feature_store in feature_stores.values()]
        shown = {str(number): [one.captions, one.videos, one.name] for number, one in candidates.items()}
        plain = {
            str(number): {row: [_plain(one) for one in ones] for row, ones in rows.items()}
            for number, rows in seen.items()
        }
        distributed.to_main(packed([plain, parts, shown]))
        return False
    for content in distributed.from_others():
        plain, parts, shown = unpacked(content)
        seen |= {
            int(number): {row: [_seen(*one) for one in ones] for row, ones in rows.items()}
            for number, rows in plain.items()
        }
        for feature_store, part in zip(feature_stores.values(), parts, strict=True):
            feature_store.add(part)
        candidates |= {int(number): Example(*values) for number, values in shown.items()}
    kept.choose_again(candidates, {number: rows.get("model", []) for number, rows in seen.items()})
    return True


def packed(tree: Any) -> bytes:
    """Lists, mappings, words, numbers and arrays as bytes that hold nothing but these."""
    arrays: list[np.ndarray] = []

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            arrays.append(np.ascontiguousarray(value))
            return {"array": len(arrays) - 1}
        if isinstance(value, Mapping):
            return {"map": {name: plain(item) for name, item in value.items()}}
        return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value

    told = np.frombuffer(json.dumps(plain(tree)).encode(), dtype=np.uint8)
    return safetensors.numpy.save({"tree": told, **{str(number): array for number, array in enumerate(arrays)}})


def unpacked(content: bytes) -> Any:
    """What `packed` was given; tuples come back as lists."""
    arrays = safetensors.numpy.load(content)

    def whole(value: Any) -> Any:
        if isinstance(value, list):
            return [whole(item) for item in value]
        if isinstance(value, dict):
            return arrays[str(value["array"])] if "array" in value else {k: whole(v) for k, v in value["map"].items()}
        return value

    return whole(json.loads(arrays["tree"].tobytes()))


def _plain(one: Seen) -> list[Any]:
    subject = one.subject
    return [one.metric, [subject.name, subject.clip, subject.groups], one.groups, one.total, one.weight]


def _seen(metric: str, subject: list[Any], groups: list[str], total: np.ndarray, weight: np.ndarray) -> Seen:
    name, clip, of = subject
    return Seen(metric, EvalVideo(name, clip, tuple(of)), tuple(groups), total, weight)

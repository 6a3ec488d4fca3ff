"""An evaluation by several processes: each measures a part of the videos, and the main process computes the scores.

The processes send the numbers that scores are made of (a total and a weight for every metric of every video, features of
every frame and window), never scores. The scores are therefore those of a single process.
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
from cdcd_video.metrics.measurements import EvalVideo, Measurement
from cdcd_video.metrics.sets.feature_store import FeatureStore

ByNumber = dict[int, dict[str, list[Measurement]]]
"""The measurements of each video, by its number and the system."""


def own_batches(num_videos: int, batch_size: int) -> list[range]:
    """Numbers of the videos that this process samples, by batch; batches are smaller where a process would have none."""
    size = min(batch_size, -(-num_videos // distributed.world().size))
    batches = [range(begin, min(begin + size, num_videos)) for begin in range(0, num_videos, size)]
    return distributed.own(batches)


def gathered_numbers(numbers: Sequence[float], count: int) -> Float[np.ndarray, " n"]:
    """One number for each of `count` items, of which each process has computed its own."""
    own = torch.tensor(numbers, dtype=torch.float64)
    return (distributed.all_gather(own, count) if count else own).numpy()


def at_main(by_number: ByNumber, feature_stores: Mapping[str, FeatureStore], examples: ExampleStore) -> bool:
    """Sends all measurements to the main process.

    Args:
      by_number, feature_stores, examples: of this process; those of the main process are completed.

    Returns:
      Whether this is the main process.
    """
    if distributed.world().size == 1:
        return True
    candidates = examples.candidates()
    if not distributed.is_main():
        parts = [feature_store.entries() for feature_store in feature_stores.values()]
        pictures = {str(number): [one.captions, one.videos, one.name] for number, one in candidates.items()}
        plain = {
            str(number): {system: [_plain(one) for one in ones] for system, ones in systems.items()}
            for number, systems in by_number.items()
        }
        distributed.send_to_main(packed([plain, parts, pictures]))
        return False
    for content in distributed.receive_from_others():
        plain, parts, pictures = unpacked(content)
        by_number |= {
            int(number): {system: [_measurement(*one) for one in ones] for system, ones in systems.items()}
            for number, systems in plain.items()
        }
        for feature_store, part in zip(feature_stores.values(), parts, strict=True):
            feature_store.add(part)
        candidates |= {int(number): Example(*values) for number, values in pictures.items()}
    examples.choose_again(candidates, {number: systems.get("model", []) for number, systems in by_number.items()})
    return True


def packed(tree: Any) -> bytes:
    """Serialises lists, mappings, strings, numbers and arrays, and nothing else."""
    arrays: list[np.ndarray] = []

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            arrays.append(np.ascontiguousarray(value))
            return {"array": len(arrays) - 1}
        if isinstance(value, Mapping):
            return {"map": {name: plain(item) for name, item in value.items()}}
        return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value

    encoded = np.frombuffer(json.dumps(plain(tree)).encode(), dtype=np.uint8)
    return safetensors.numpy.save({"tree": encoded, **{str(number): array for number, array in enumerate(arrays)}})


def unpacked(content: bytes) -> Any:
    """The inverse of `packed`; tuples come back as lists."""
    arrays = safetensors.numpy.load(content)

    def whole(value: Any) -> Any:
        if isinstance(value, list):
            return [whole(item) for item in value]
        if isinstance(value, dict):
            return arrays[str(value["array"])] if "array" in value else {k: whole(v) for k, v in value["map"].items()}
        return value

    return whole(json.loads(arrays["tree"].tobytes()))


def _plain(one: Measurement) -> list[Any]:
    eval_video = one.eval_video
    return [one.metric, [eval_video.name, eval_video.clip, eval_video.groups], one.groups, one.total, one.weight]


def _measurement(
    metric: str, eval_video: list[Any], groups: list[str], total: np.ndarray, weight: np.ndarray
) -> Measurement:
    name, clip, of = eval_video
    return Measurement(metric, EvalVideo(name, clip, tuple(of)), tuple(groups), total, weight)

"""A small network that names the action of a video, trained by the user on a set of captioned actions.

`python -m cdcd_video.tools.train_action_classifier` makes it; `card.json` beside its weights says how often it is right on
true clips, and how often a network is that sees the first frame alone. No such network is shipped, because the clips are
not part of this project.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from cdcd_video.errors import UserError
from cdcd_video.storage.memory import raise_if_out_of_memory
from cdcd_video.storage.network_folder import CARD, write_network
from cdcd_video.storage.small_file import MIB, read_small, read_small_json
from cdcd_video.storage.tensor_file import check_numbers

WEIGHTS = "action_classifier.safetensors"
NUM_FRAMES, MOST_FRAMES = 16, 32
"""Frames of a video that the network is given, evenly spaced over so many at the beginning."""
_MOST_BYTES = 16 * MIB
_LAYERS = (
    (2, 16, (3, 5, 5), (1, 2, 2)),
    (16, 32, (3, 3, 3), (2, 2, 2)),
    (32, 64, (3, 3, 3), (2, 2, 2)),
    (64, 64, (3, 3, 3), (1, 1, 1)),
)
"""Channels before and after each convolution, its kernel and stride (time, height, width)."""
WAY_OUT = "train it by `python -m cdcd_video.tools.train_action_classifier`"


class ActionClassifier(nn.Module):
    """Four convolutions over time and space, and a mean over both.

    Args:
      num_classes: number of classes.
    """

    def __init__(self, num_classes: int):
        super().__init__()
        layers = []
        for before, after, kernel, stride in _LAYERS:
            padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
            convolution = nn.Conv3d(before, after, kernel, stride, padding, bias=False)
            layers.append(nn.Sequential(convolution, nn.BatchNorm3d(after), nn.ReLU()))
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(_LAYERS[-1][1], num_classes))

    def forward(self, videos: Float[Tensor, "B 2 T S S"]) -> Float[Tensor, "B K"]:
        """What `motion_of` or `first_frame_of` makes of videos -> logits of the classes."""
        return self.head(self.trunk(videos).mean(dim=(2, 3, 4)))


def chosen_frames(num_frames: int) -> list[int]:
    """The `NUM_FRAMES` frames of a video of so many that the network is given; a short video repeats some."""
    return np.linspace(0, min(num_frames, MOST_FRAMES) - 1, NUM_FRAMES).round().astype(int).tolist()


def motion_of(frames: UInt8[np.ndarray, "T S S 3"]) -> Float[np.ndarray, "2 T S S"]:
    """Grey differences of each frame to the one before and to the first, values of 0 to 1; what stands still is 0."""
    grey = _grey(frames)
    return np.stack([np.diff(grey, axis=0, prepend=grey[:1]), grey - grey[:1]])


def first_frame_of(frames: UInt8[np.ndarray, "T S S 3"]) -> Float[np.ndarray, "2 1 S S"]:
    """The grey first frame less its mean, and nothing else of the video."""
    grey = _grey(frames[:1])
    return np.stack([grey - grey.mean(), np.zeros_like(grey)])


def _grey(frames: UInt8[np.ndarray, "T S S 3"]) -> Float[np.ndarray, "T S S"]:
    return frames.mean(axis=3, dtype=np.float32) / 255


@dataclass(frozen=True)
class ActionReferee:
    """A trained network with what is known of it.

    Attributes:
      network: in evaluation mode.
      card: of `card.json`: classes, accuracy and how it was made.
      sha256: of the file of weights.
    """

    network: ActionClassifier
    card: Mapping[str, Any]
    sha256: str

    @property
    def classes(self) -> list[Mapping[str, str]]:
        """Set, action and caption of each class."""
        return self.card["classes"]

    def probabilities(self, videos: Sequence[UInt8[np.ndarray, "_ S S 3"]]) -> Float[np.ndarray, "B K"]:
        """Of each class, for videos of any lengths and of the size that the network was trained on."""
        rows = np.stack([motion_of(video[chosen_frames(len(video))]) for video in videos])
        with torch.inference_mode():
            return self.network(torch.from_numpy(rows)).softmax(dim=1).numpy()

    def named(self, probabilities: Float[np.ndarray, " K"], set_name: str) -> tuple[str, str]:
        """The likeliest action of a set (summed over its sentences), and the likeliest sentence."""
        return named(self.classes, probabilities, set_name)


def named(
    classes: Sequence[Mapping[str, str]], probabilities: Float[np.ndarray, " K"], set_name: str
) -> tuple[str, str]:
    """The likeliest action among those of one set, and the likeliest sentence.

    Raises:
      UserError: the network knows no class of the set.
    """
    actions: dict[str, float] = {}
    check_set(classes, set_name)
    own = [place for place, one in enumerate(classes) if one["set"] == set_name]
    for place in own:
        action = classes[place]["action"]
        actions[action] = actions.get(action, 0.0) + float(probabilities[place])
    return max(actions, key=actions.__getitem__), classes[max(own, key=lambda place: probabilities[place])]["caption"]


def check_set(classes: Sequence[Mapping[str, str]], set_name: str) -> None:
    """Refuses clips of a set of which the network knows no class.

    Raises:
      UserError: it knows none.
    """
    known = list(dict.fromkeys(one["set"] for one in classes))
    if set_name not in known:
        these = f"of the set {set_name}" if set_name else "of a folder of one set, which names none"
        named_sets = "one set alone" if known == [""] else f"the sets {', '.join(known)}"
        raise UserError(
            f"these clips are {these}, and the action classifier knows {named_sets}; give the folder that it was trained on, or"
            f" {WAY_OUT} on these clips"
        )


def load(folder: Path) -> ActionReferee:
    """A network with its weights, ready for use.

    Raises:
      UserError: a file is missing or damaged.
    """
    from safetensors.torch import load as parsed

    path = folder / WEIGHTS
    try:
        card = read_small_json(folder / CARD, limit=_MOST_BYTES)
        data = read_small(path, limit=_MOST_BYTES)
        if not all(isinstance(one[key], str) for one in card["classes"] for key in ("set", "action", "caption")):
            raise TypeError("a class is not text")
        network = ActionClassifier(len(card["classes"]))
        network.load_state_dict(parsed(data))
    except Exception as error:  # a damaged file can raise anything
        raise_if_out_of_memory(error)
        raise UserError(
            f"{folder} has no action classifier, or a damaged one ({type(error).__name__}); {WAY_OUT}"
        ) from error
    check_numbers(network.state_dict(), str(path), WAY_OUT)
    return ActionReferee(network.eval().requires_grad_(False), card, hashlib.sha256(data).hexdigest())


def save(network: ActionClassifier, card: Mapping[str, Any], folder: Path) -> Path:
    """Writes the weights, and the card beside them; returns the path of the weights; see `write_network`."""
    return write_network(network, card, folder / WEIGHTS)


def summary(card: Mapping[str, Any]) -> list[str]:
    """A line for each set: how often the network names the action of true clips, beside what their first frames give away."""
    lines = []
    for name, found in card["sets"].items():
        share = {key: f"{found[key]} of {found['n']}" for key in ("right", "right_by_first_frame", "most_frequent")}
        lines.append(
            f"{name or 'all clips'}: action of true {card['split']} clips right in {share['right']}; by the first frame alone"
            f" {share['right_by_first_frame']}; most frequent action {share['most_frequent']}"
        )
        for action, answers in found["confusion"].items():
            lines.append(f"  {action}: " + ", ".join(f"{count} {answer}" for answer, count in answers.items()))
    return lines

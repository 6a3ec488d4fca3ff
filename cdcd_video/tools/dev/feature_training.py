"""Trains the feature networks of the built-in world on sprites with true labels, a few minutes on one core."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cdcd_video.config.option_parser import OptionParser
from cdcd_video.data import sprites
from cdcd_video.data.sprites import Scene
from cdcd_video.data.sprites_render import render
from cdcd_video.errors import UserError
from cdcd_video.metrics.features import offline
from cdcd_video.storage.free_name import chosen_folder

IDENTITIES = [(colour, shape) for colour in sprites.COLOURS for shape in sprites.SHAPES]
SCENES = {"sprites-frame": 32, "sprites-video": 32}
"""Scenes in a batch."""
FRAMES_OF_SCENE = 4
STEPS = {"sprites-frame": 800, "sprites-video": 600}
PEAK_RATE = 2e-3
NUM_SCORED = 256

Batch = tuple[Tensor, dict[str, Tensor]]


def main() -> None:
    parser = OptionParser(prog="python -m cdcd_video.tools.train_features", description=__doc__)
    parser.add_argument("--names", nargs="+", default=list(offline.NETWORKS), metavar="NAME")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="output folder (default: out/features, or the next free name)"
    )
    parser.add_argument("--steps", type=int, metavar="S", help=f"training steps (default: {STEPS})")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for name in args.names:
        if name not in offline.NETWORKS:
            raise UserError(f"there is no built-in network {name!r}; choose from {', '.join(offline.NETWORKS)}")
    if args.seed < 0 or (args.steps is not None and args.steps < 1):
        raise UserError("--seed must be at least 0 and --steps at least 1")
    with chosen_folder(args.out, Path("out/features")) as out:
        for name in args.names:
            begin = time.perf_counter()
            network = train(name, args.steps or STEPS[name], args.seed, show=True)
            figures = accuracy(name, network, args.seed)
            path = offline.save(network, name, out)
            print(json.dumps({"file": str(path), "seconds": round(time.perf_counter() - begin), **figures}))


def train(name: str, num_steps: int, seed: int = 0, *, show: bool = False) -> nn.Module:
    """A fresh network of `offline.NETWORKS`, trained on newly sampled scenes; no scene occurs twice."""
    from tqdm import tqdm

    from cdcd_video.engine import runtime

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(runtime.seed_for(seed, name, "weights"))
        network = offline.NETWORKS[name]()
    layout = torch.channels_last if name == "sprites-frame" else torch.channels_last_3d
    network.to(memory_format=layout).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK_RATE, weight_decay=0.01)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=num_steps, pct_start=0.1)
    for pixels, labels in tqdm(batches(name, num_steps, seed), total=num_steps, desc=name, disable=not show):
        with torch.autocast("cpu", torch.bfloat16):
            _, logits = network(pixels.contiguous(memory_format=layout))
        # For two objects the label is the mean of theirs, so the network learns both.
        loss = sum(F.cross_entropy(logits[head].float(), label) for head, label in labels.items())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        rates.step()
    return network.to(memory_format=torch.contiguous_format).eval()


def batches(name: str, num_batches: int, seed: int, split: sprites.Split | None = None) -> Iterator[Batch]:
    """Pixels in [-1, 1] and label distributions, from scenes of a split; without one, from all words: "heldout" too."""
    size = SCENES[name]
    for step in range(num_batches):
        chosen = range(step * size, (step + 1) * size)
        scenes = [sprites.sample_scene(seed + 1, i, split or ("heldout" if i % 5 == 0 else "train")) for i in chosen]
        examples = [example for scene in scenes for example in _EXAMPLES[name](scene)]
        pixels = offline.as_pixels(torch.from_numpy(np.stack([frames for frames, _ in examples])))
        labels = [label for _, label in examples]
        yield pixels, {head: torch.from_numpy(np.stack([label[head] for label in labels])) for head in labels[0]}


def accuracy(name: str, network: nn.Module, seed: int = 0) -> dict[str, float]:
    """For each head, how often its first guess is right of some object in scenes of the split "val"."""
    right: dict[str, list[Tensor]] = {}
    with torch.inference_mode():
        for pixels, labels in batches(name, NUM_SCORED // SCENES[name], seed, "val"):
            _, logits = network(pixels)
            for head, label in labels.items():
                guess = logits[head].argmax(dim=1, keepdim=True)
                right.setdefault(head, []).append((label.gather(1, guess) > 0).float())
    return {head: round(torch.cat(parts).mean().item(), 4) for head, parts in right.items()}


Example = tuple[np.ndarray, dict[str, np.ndarray]]


def _frame_examples(scene: Scene) -> Iterator[Example]:
    """Some frames from anywhere in the window."""
    rng = np.random.Generator(np.random.Philox(key=[scene.seed, scene.index]))
    times = rng.uniform(0, (offline.NUM_FRAMES - 1) / 8, FRAMES_OF_SCENE)
    yield from ((frame, _appearance(scene)) for frame in render(scene, times))


def _video_examples(scene: Scene) -> Iterator[Example]:
    times = np.arange(offline.NUM_FRAMES) / 8
    motion = _spread([sprites.MOTIONS.index(sprite.motion) for sprite in scene.objects], len(sprites.MOTIONS))
    yield render(scene, times), _appearance(scene) | {"motion": motion}


_EXAMPLES: dict[str, Callable[[Scene], Iterator[Example]]] = {
    "sprites-frame": _frame_examples,
    "sprites-video": _video_examples,
}


def _appearance(scene: Scene) -> dict[str, np.ndarray]:
    identities = [IDENTITIES.index((sprite.colour, sprite.shape)) for sprite in scene.objects]
    background = [sprites.BACKGROUNDS.index(scene.background.kind)]
    return {
        "identity": _spread(identities, len(IDENTITIES)),
        "background": _spread(background, len(sprites.BACKGROUNDS)),
    }


def _spread(classes: list[int], num_classes: int) -> np.ndarray:
    """The mean of one-hot labels."""
    return np.bincount(classes, minlength=num_classes).astype(np.float32) / len(classes)

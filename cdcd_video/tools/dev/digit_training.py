"""Trains the network that names digits on MNIST's training half, and measures it on the test half; minutes on one core."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor
from tqdm import tqdm

from cdcd_video.config.option_parser import OptionParser
from cdcd_video.data.digits_files import NUM_TRAINING, SIDE, Digits, read_mnist
from cdcd_video.engine import runtime
from cdcd_video.errors import UserError
from cdcd_video.kernels.threads import threads
from cdcd_video.metrics import digits_classifier
from cdcd_video.metrics.digits_classifier import DigitClassifier
from cdcd_video.storage.free_name import chosen_folder

NUM_EPOCHS, BATCH_SIZE, PEAK_RATE = 5, 128, 4e-3
TURN_RAD, SCALE, SHIFT_PX = 0.26, 0.15, 2.0
"""Greatest change of a training picture."""
OVERLAP_SHARE, LEAST_APART_PX = 0.3, 13
"""Share of training pictures into which the edge of another digit reaches, and how far away that digit is at least."""
SOFT_SHARE, NOISE = 0.4, 0.08
"""Share that is blurred, dimmed and noisy as decoded frames are; greatest deviation of the noise, white being 1."""

Pictures = Float[Tensor, "B 28 28"]


def main() -> None:
    parser = OptionParser(prog="python -m cdcd_video.tools.train_digit_classifier", description=__doc__)
    parser.add_argument("--mnist", type=Path, required=True, metavar="DIR", help="folder with MNIST's four files")
    where = "output folder (default: out/digits_classifier, or the next free name)"
    parser.add_argument("--out", type=Path, metavar="DIR", help=where)
    parser.add_argument(
        "--epochs", type=int, default=NUM_EPOCHS, help="passes over the training half (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.seed < 0 or args.epochs < 1:
        raise UserError("--seed must be at least 0 and --epochs at least 1")
    digits = read_mnist(args.mnist)
    with chosen_folder(args.out, Path("out/digits_classifier")) as out, threads(1):
        begin = time.perf_counter()
        network = train(digits, args.epochs, args.seed, show=True)
        seconds = round(time.perf_counter() - begin)
        facts = card(network, digits, args.epochs, args.seed)
        path = digits_classifier.save(network, facts, out)
    sys.stdout.write(json.dumps({"file": str(path), "seconds": seconds, **facts}) + "\n")


def train(digits: Digits, num_epochs: int, seed: int = 0, *, show: bool = False) -> DigitClassifier:
    """A fresh network, trained on the first `NUM_TRAINING` pictures; on one thread, the same seed gives the same bits."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(runtime.seed_for(seed, "digits-classifier", "weights"))
        network = DigitClassifier()
    images = torch.from_numpy(digits.images[:NUM_TRAINING].copy())
    labels = torch.from_numpy(digits.labels[:NUM_TRAINING].astype("int64"))
    network.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK_RATE, weight_decay=0.01)
    num_steps = num_epochs * (len(images) // BATCH_SIZE)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=num_steps, pct_start=0.2)
    all_batches = batches(images, labels, num_epochs, seed)
    for pictures, answers in tqdm(all_batches, total=num_steps, desc="classifier", disable=not show):
        loss = F.cross_entropy(network(pictures), answers, label_smoothing=0.05)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        rates.step()
    return network.to(memory_format=torch.contiguous_format).eval()


def batches(
    images: Tensor, labels: Int64[Tensor, " M"], num_epochs: int, seed: int
) -> Iterator[tuple[Pictures, Int64[Tensor, " B"]]]:
    """Changed pictures in [0, 1] and what they show; every picture once an epoch, but for the rest of a last batch."""
    for epoch in range(num_epochs):
        generator = runtime.generator(seed, "digits-classifier", epoch)
        order = torch.randperm(len(images), generator=generator)
        for begin in range(0, len(order) - BATCH_SIZE + 1, BATCH_SIZE):
            chosen = order[begin : begin + BATCH_SIZE]
            yield augmented(images[chosen].float() / 255, generator), labels[chosen]


def augmented(pictures: Pictures, generator: torch.Generator) -> Pictures:
    """Pictures that are turned, scaled and shifted; some also overlapped at the edge by another of them, some softened."""
    size = len(pictures)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(size, *shape, generator=generator)

    angles, scales = uniform(-TURN_RAD, TURN_RAD), uniform(1 - SCALE, 1 + SCALE)
    shifts = uniform(-SHIFT_PX, SHIFT_PX, 2)
    rotations = torch.stack([angles.cos(), -angles.sin(), angles.sin(), angles.cos()], dim=1).reshape(-1, 2, 2)
    changed = _placed(pictures, rotations / scales[:, None, None], shifts)
    others = pictures[torch.randperm(size, generator=generator)]
    away = torch.randint(LEAST_APART_PX, SIDE, (size,), generator=generator) * uniform(-1, 1).sign()
    aside = uniform(-SIDE, SIDE)
    is_first = (uniform(0, 1) < 0.5)[:, None]
    places = torch.where(is_first, torch.stack([away, aside], dim=1), torch.stack([aside, away], dim=1))
    others = _placed(others, torch.eye(2).expand(size, 2, 2), places) * (uniform(0, 1, 1, 1) < OVERLAP_SHARE)
    changed = torch.maximum(changed, others)
    blurred = F.avg_pool2d(F.pad(changed[:, None], (1, 1, 1, 1)), 3, 1)[:, 0]
    blur, dim, noise = uniform(0, 1, 1, 1), uniform(0.6, 1, 1, 1), uniform(0, NOISE, 1, 1)
    softened = dim * (blur * blurred + (1 - blur) * changed)
    softened = softened + noise * torch.randn(pictures.shape, generator=generator)
    is_soft = uniform(0, 1, 1, 1) < SOFT_SHARE
    return torch.where(is_soft, softened, changed).clamp(0, 1)


def _placed(pictures: Pictures, linear: Float[Tensor, "B 2 2"], shifts: Float[Tensor, "B 2"]) -> Pictures:
    """Pictures under linear maps (of the target to the source), then shifted by (x, y) px."""
    moved = -(linear @ shifts[:, :, None]) * (2 / SIDE)
    grid = F.affine_grid(torch.cat([linear, moved], dim=2), [len(pictures), 1, SIDE, SIDE], align_corners=False)
    return F.grid_sample(pictures[:, None], grid, align_corners=False)[:, 0]


def card(network: DigitClassifier, digits: Digits, num_epochs: int, seed: int) -> dict[str, Any]:
    """Accuracy on MNIST's test half, whole and under the same changes as in training, and how the network was made."""
    images = torch.from_numpy(digits.images[NUM_TRAINING:].copy()).float() / 255
    labels = torch.from_numpy(digits.labels[NUM_TRAINING:].astype("int64"))
    changed = augmented(images, runtime.generator(seed, "digits-classifier", "test"))
    return {
        "accuracy": _accuracy(network, images, labels),
        "accuracy_augmented": _accuracy(network, changed, labels),
        "n": len(labels),
        "test_set": "MNIST's test half",
        "training_set": f"MNIST's training half, {NUM_TRAINING:,} pictures, {num_epochs} epochs",
        "seed": seed,
        "num_weights": sum(weight.numel() for weight in network.parameters()),
        "command": f"python -m cdcd_video.tools.train_digit_classifier --mnist DIR --epochs {num_epochs} --seed {seed}",
        "torch": torch.__version__,
    }


def _accuracy(network: DigitClassifier, images: Pictures, labels: Int64[Tensor, " B"]) -> float:
    with torch.inference_mode():
        right = torch.cat([network(part).argmax(dim=1) for part in images.split(500)]) == labels
    return round(right.float().mean().item(), 4)

"""`make demo`: samples the examples with the shipped model, then trains, resumes, samples and evaluates a tiny one."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cdcd_video import video
from cdcd_video.config.option_parser import OptionParser
from cdcd_video.data.images import fit, read_image
from cdcd_video.data.sprites import Background, Scene, SpriteObject, caption_of
from cdcd_video.data.sprites_render import render
from cdcd_video.data.sprites_scene import Look
from cdcd_video.errors import UserError, exit_code
from cdcd_video.sampling.captions import Caption, CaptionSchedule
from cdcd_video.storage.folder_lock import folder_lock

ROOT = Path(__file__).resolve().parent.parent
PICTURES = {
    "red-circle.png": (
        (SpriteObject("red", "circle", "bounces left and right", x=24.0, y=39.0, radius=7.8),),
        Background("gradient", (0.16, 0.20, 0.28), (0.30, 0.34, 0.40), angle_rad=0.6),
    ),
    "square-and-star.png": (
        (
            SpriteObject("blue", "square", "moves up", x=18.0, y=44.0, radius=7.8),
            SpriteObject("yellow", "star", "stays still", x=46.0, y=20.0, radius=9.6, size="large"),
        ),
        Background("plain", (0.34, 0.30, 0.26), (0.34, 0.30, 0.26)),
    ),
    "white-triangle.png": (
        (SpriteObject("white", "triangle", "circles clockwise", x=34.0, y=32.0, radius=7.8),),
        Background("blobs", (0.20, 0.28, 0.24), (0.30, 0.36, 0.34), period_px=18.0, seed=5),
    ),
    "green-square.png": (
        (
            SpriteObject(
                "green",
                "square",
                "spins",
                32.0,
                33.0,
                9.6,
                size="large",
                look=Look((58.0, 184.0, 80.0), outline_px=1.6),
            ),
        ),
        Background("plain", (0.94, 0.93, 0.90), (0.94, 0.93, 0.90)),
    ),
    "wide-circle-and-triangle.png": (
        (
            SpriteObject("orange", "circle", "moves right", x=18.0, y=42.0, radius=7.8),
            SpriteObject("cyan", "triangle", "stays still", x=76.0, y=20.0, radius=7.8),
        ),
        Background("gradient", (0.20, 0.16, 0.28), (0.34, 0.30, 0.40), angle_rad=0.3, view=(96.0, 64.0)),
    ),
}
"""The rendered images of examples/: objects and background. Those whose names begin with `drawn` were drawn by hand."""
FPS, NUM_FRAMES = 24.0, 46
VIDEOS: tuple[tuple[str, Caption], ...] = (
    ("red-circle.png", "the red circle bounces left and right"),
    ("square-and-star.png", "the blue square moves up and the large yellow star stays still"),
    ("green-square.png", "the large green square spins"),
    ("white-triangle.png", "the white triangle circles clockwise"),
    ("drawn-circle.png", "the red circle moves right"),
    ("drawn-circle.png", "the red circle moves up and right"),
    ("drawn-star-and-square.png", "the blue square moves right and the yellow star stays still"),
    ("white-triangle.png", ((0, "the white triangle moves right"), (24, "the white triangle moves down"))),
)
"""What the demo samples: a picture, and its sentence or sentences."""


def make_examples(folder: Path) -> list[Path]:
    """Renders the example images that are not drawn by hand: squares of 64 px, and one of 64x96.

    Args:
      folder: where to; made when missing.

    Returns:
      The paths written.
    """
    paths = []
    for name, (objects, background) in PICTURES.items():
        scene = Scene(objects, background, caption_of(objects), seed=0, index=0, split="train")
        with video.whole_file(folder / name) as part:
            Image.fromarray(render(scene, np.zeros(1))[0]).save(part, "PNG")
        paths.append(folder / name)
    return paths


def sample_examples(checkpoint: str, examples: Path, out: Path) -> list[Path]:
    """Samples `VIDEOS`: `video.mp4`, `video.gif`, the contact sheet `frames.png`, and `videos/`.

    Args:
      checkpoint: a shipped model, or a folder.
      examples: folder of the example pictures.
      out: where to.

    Returns:
      The paths written.
    """
    from tqdm import tqdm

    from cdcd_video.pipeline import ImageToVideo
    from cdcd_video.sampled_video import Video

    pipe = ImageToVideo.from_pretrained(checkpoint)
    params = pipe.defaults(seed=0, fps=FPS, num_frames=NUM_FRAMES)
    starts = np.stack([fit(read_image(examples / name), pipe.size_px) for name, _ in VIDEOS])
    schedules = [CaptionSchedule.of(caption) for _, caption in VIDEOS]
    with tqdm(total=len(VIDEOS) * (params.num_frames - 1), desc="sampling", unit="frame") as bar:
        videos = pipe.sample(starts, schedules, params, range(len(VIDEOS)), bar.update)
    scale = max(1, 256 // pipe.size_px)
    written = [
        video.save(mosaic(videos), out / f"video{suffix}", params.fps, scale=scale) for suffix in (".mp4", ".gif")
    ]
    captions = [", then ".join(sentence for _, sentence in schedule.turns) for schedule in schedules]
    written.append(video.contact_sheet(list(videos), out / "frames.png", captions, every=3))
    for (picture, _), frames, sentence in zip(VIDEOS, videos, captions, strict=True):
        name = f"{Path(picture).stem}-{sentence.replace(', ', ' ').replace(' ', '-')}"
        written.append(Video(frames, params.fps).save(out / "videos" / f"{name}.mp4", scale=scale))
    return written


def mosaic(videos: UInt8[np.ndarray, "V F H W 3"], num_rows: int = 2, gap_px: int = 2) -> UInt8[np.ndarray, "F Y X 3"]:
    """Arranges videos in columns, separated by white.

    Args:
      videos: as many as fill the rows.
      num_rows: videos above each other.
      gap_px: pixels between neighbours.
    """
    count, num_frames, height, width, _ = videos.shape
    cell = height + gap_px, width + gap_px
    padded = np.pad(videos, ((0, 0), (0, 0), (0, gap_px), (0, gap_px), (0, 0)), constant_values=255)
    grid = padded.reshape(count // num_rows, num_rows, num_frames, *cell, 3).transpose(2, 1, 3, 0, 4, 5)
    return grid.reshape(num_frames, num_rows * cell[0], -1, 3)[:, :-gap_px, :-gap_px]


def miniature_round(out: Path) -> list[Path]:
    """Trains `configs/tiny.yaml`, interrupted once, then samples and evaluates, all with the commands of a user.

    Args:
      out: the run folder; an earlier one is deleted.

    Returns:
      The paths written.
    """
    shutil.rmtree(out, ignore_errors=True)
    run = os.path.relpath(out, ROOT)  # the commands run there
    sampled, scores = out / "samples" / "video.mp4", out / "scores"
    train = ["train.py", "--config", "configs/tiny.yaml", "--out", run]
    command = ["inference.py", "--frame", "examples/red-circle.png", "--text", "the red circle moves right"]
    evaluate = ["evaluate.py", "--metrics", "sprites", "psnr", "ssim", "--num-videos", "8"]
    with stage("training a tiny model and interrupting it, as Ctrl-C does"):
        interrupt(train, out / "log.jsonl")
    with stage("the same command again: training resumes where it stopped"):
        call(train)
    with stage("sampling a video with the tiny model, which has learned very little"):
        call([*command, "--checkpoint", run, "--out", f"{run}/samples/video.mp4"])
    with stage("evaluating the tiny model"):
        call([*evaluate, "--checkpoint", run, "--out", f"{run}/scores"])
    model = [out / "model" / name for name in ("config.yaml", "codec.safetensors", "denoiser.safetensors")]
    return [*model, sampled, sampled.with_suffix(".json"), scores / "scores.jsonl"]


def call(arguments: Sequence[str]) -> None:
    """Runs one of the repository's scripts; a failure ends the demo."""
    say(f"$ python {' '.join(repr(word) if ' ' in word else word for word in arguments)}")
    code = subprocess.run([sys.executable, *arguments], cwd=ROOT, check=False).returncode
    if code:
        raise SystemExit(f"the demo failed: {arguments[0]} ended with exit code {code}")


def interrupt(arguments: Sequence[str], log: Path) -> None:
    """Runs a training script and interrupts it as Ctrl-C would, once the log shows its second stage at work."""
    say(f"$ python {' '.join(arguments)}")
    process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, preexec_fn=_heed_interrupts)
    try:
        while process.poll() is None and not (log.is_file() and '"task": "codec"' in log.read_text()):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        code = process.wait()
    finally:
        process.kill()
    if code != 130:
        raise SystemExit(f"the demo failed: {arguments[0]} was interrupted and ended with exit code {code}, not 130")


def _heed_interrupts() -> None:
    """Restores Ctrl-C: shells let background jobs ignore it, and their children inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def stage(what: str) -> Iterator[None]:
    """Prints what is done and how long it took."""
    say(f"\n== {what}")
    started = time.monotonic()
    yield
    say(f"== done in {time.monotonic() - started:.0f} s")


def say(text: str) -> None:
    """Prints one line, in order with the output of the scripts."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def check(paths: Sequence[Path]) -> None:
    """Ends the demo if one of the files is missing or empty."""
    for path in paths:
        if not path.is_file() or path.stat().st_size == 0:
            raise SystemExit(f"the demo failed: {path} is missing or empty")


def main() -> None:
    """Runs the demo, or renders only the example images."""
    parser = OptionParser(prog="python -m cdcd_video.demo", description=__doc__)
    add = parser.add_argument
    add("--out", type=Path, default=ROOT / "out" / "demo", metavar="DIR", help="output folder (default: out/demo)")
    add(
        "--checkpoint",
        default="sprites",
        metavar="NAME_OR_DIR",
        help="the model for the examples (default: %(default)s)",
    )
    add("--make-examples", action="store_true", help="only render the images of examples/ again")
    args = parser.parse_args()
    if not (ROOT / "train.py").is_file():
        raise UserError("the demo calls the repository's scripts; run it in a clone of the repository")
    if args.make_examples:
        say("\n".join(map(str, make_examples(ROOT / "examples"))))
        return
    with folder_lock(args.out):
        demonstrate(args.checkpoint, args.out.resolve())


def demonstrate(checkpoint: str, out: Path) -> None:
    """Runs the demo.

    Args:
      checkpoint: the model for the examples.
      out: where to.
    """
    started = time.monotonic()
    with stage(f"sampling videos from the images in examples/ with the model {checkpoint!r}"):
        made = sample_examples(checkpoint, ROOT / "examples", out)
    made += miniature_round(out / "round")
    report = out / "report.html"
    shutil.copyfile(out / "round" / "scores" / "report.html", report)
    made.insert(3, report)
    check(made)
    say(f"\nFinished in {(time.monotonic() - started) / 60:.1f} minutes. Made:")
    for path in made:
        say(f"  {os.path.relpath(path)}")


if __name__ == "__main__":
    sys.exit(exit_code(main))

"""Does everything run here? Every part of the line once, in this Python, with the versions that are installed.

`make smoke PYTHON=python3.13` calls it in an environment of its own with the newest versions that pip finds; `make smoke
OLDEST=1`
with those of requirements-oldest.txt, the oldest ones allowed. Nothing is measured and little is compared: what a
library no longer offers, or does not offer yet, ends the command that needs it.
"""

import contextlib
import http.cookiejar
import importlib.metadata
import json
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8

from cdcd_video import video
from cdcd_video.config.option_parser import OptionParser
from cdcd_video.data.clips import read_clip
from cdcd_video.data.external_video import read_video
from cdcd_video.data.sprites import World
from cdcd_video.data.store import SpritesClips, StoredClips
from cdcd_video.errors import UserError, exit_code

ROOT = Path(__file__).resolve().parents[2]
FPS, NUM_FRAMES, SIZE_PX = 8, 8, 64
WORLD = World(
    1, motions=("moves left", "moves right", "stays still"), backgrounds=("plain",), num_frames=NUM_FRAMES, fps=FPS
)
"""What configs/tiny.yaml is trained on, so that nothing is strange to its model."""
EXACT = (".webp", "")
"""Kinds of videos that keep every pixel; "" is a folder of PNG."""
OWN = (".mp4", ".gif", *EXACT)
EXTERNAL = {
    ".webm": "libvpx-vp9",
    ".mkv": "ffv1",
    ".avi": "mpeg4",
    ".mov": "mjpeg",
    ".mpg": "mpeg2video",
    ".ts": "libx264",
}
"""Containers and codecs that other programs write."""
TOLERANCE = 12.0
"""How far a pixel may be on average, in 0..255, after a codec that loses some; a wrong colour matrix or a shifted frame is
farther off on these saturated shapes."""


def main() -> None:
    """Runs every part and says how long each took."""
    parser = OptionParser(prog="python -m cdcd_video.tools.smoke", description=__doc__)
    parser.add_argument("--out", type=Path, metavar="DIR", help="keep what is made there (default: a temporary folder)")
    args = parser.parse_args()
    if not (ROOT / "train.py").is_file():
        raise UserError("this calls the repository's scripts; run it in a clone of the repository")
    started = time.monotonic()
    say(f"Python {platform.python_version()}, {platform.platform()}")
    say(", ".join(versions()))
    with contextlib.ExitStack() as stack:
        out = args.out.resolve() if args.out else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        shutil.rmtree(out / "smoke", ignore_errors=True)
        run_all(out / "smoke")
    say(f"All of it runs here ({time.monotonic() - started:.0f} s).")


def run_all(out: Path) -> None:
    """Every part, in the order in which they need each other.

    Raises:
      SystemExit: one of them failed; it says which.
    """
    clips = SpritesClips(0, 6, "train", WORLD, NUM_FRAMES, SIZE_PX, FPS)
    true_videos = [clips.frames(number, range(NUM_FRAMES)) for number in range(len(clips))]
    captions = [clips.captions(number)[0] for number in range(len(clips))]
    videos, run = out / "videos", out / "run"
    with stage("writing and reading videos of every kind"):
        write_and_read(true_videos, captions, videos)
    with stage("data_prep of these videos"):
        call(
            "-m",
            "data_prep",
            "folder",
            videos,
            "--captions",
            videos / "captions.csv",
            "--out",
            out / "data",
            "--val-share",
            "0",
        )
        check(len(StoredClips(out / "data", "train")) == len(OWN) - 2 + len(EXTERNAL), "data_prep left a video out")
    with stage("train.py"):
        call("train.py", "--config", "configs/tiny.yaml", "--out", run, "--watch", "none")
    with stage("inference.py, and its record again"):
        call(
            "inference.py",
            "--frame",
            "examples/red-circle.png",
            "--text",
            "the red circle moves right",
            "--checkpoint",
            run,
            "--out",
            out / "a.webp",
        )
        call("inference.py", "--from-json", out / "a.json", "--out", out / "b.webp")
        check((out / "a.webp").read_bytes() == (out / "b.webp").read_bytes(), "the record sampled another video")
    with stage("evaluate.py"):
        call(
            "evaluate.py",
            "--checkpoint",
            run,
            "--metrics",
            "psnr",
            "ssim",
            "motion",
            "sprites",
            "--num-videos",
            "2",
            "--out",
            out / "scores",
        )
        check((out / "scores" / "report.html").stat().st_size > 0, "the report is empty")
    with stage("the shipped model in Python, and a rating study of both models"):
        sample_both(run, true_videos, captions, out)
        rate(out)
    program = Path(sys.executable).with_name("cdcd-video")
    if program.is_file():  # as `make smoke` installs it
        with stage("cdcd-video, installed, from another folder"):
            caption = ("--text", "the red circle moves right")
            run_program(program, "sample", "--frame", "red-circle", *caption, "--out", "c.webp", cwd=out)
            run_program(program, "train", "--config", "sprites", "--dry-run", cwd=out)
            check((out / "c.webp").stat().st_size > 0, "the installed program sampled nothing")


def write_and_read(true_videos: Sequence[UInt8[np.ndarray, "F S S 3"]], captions: Sequence[str], folder: Path) -> None:
    """Writes a video of each kind and reads it again, as a clip and as somebody else's video; writes captions.csv.

    Raises:
      SystemExit: what is read is not what was written.
    """
    rows = ["path,caption"]
    folder.mkdir(parents=True)
    for number, suffix in enumerate((*OWN, *EXTERNAL)):
        frames, caption = true_videos[number % len(true_videos)], captions[number % len(true_videos)]
        path = folder / f"clip{number}{suffix}"
        if suffix in EXTERNAL:
            encode(frames, path, EXTERNAL[suffix])
        else:
            video.save(frames, path, FPS)
        allowed = 0.0 if suffix in EXACT else TOLERANCE
        found = {
            "film": read_video(path, NUM_FRAMES - 1, FPS)
        }  # of some containers nobody knows how long the last frame is shown
        if suffix not in EXACT:
            found["clip"] = read_clip(path, fps=FPS, size_px=SIZE_PX).frames
            rows.append(f'{path.name},"{caption}"')
        for kind, read in found.items():
            length = min(len(read), len(frames))
            check(length >= NUM_FRAMES - 1, f"{path.name}, read as a {kind}, has {length} frames")
            off = np.abs(read[:length].astype(int) - frames[:length]).mean()
            check(off <= allowed, f"{path.name}, read as a {kind}, is off by {off:.1f} of 255")
    (folder / "captions.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def encode(frames: UInt8[np.ndarray, "F S S 3"], path: Path, codec: str) -> None:
    """Writes a video as other programs do."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(FPS if path.suffix != ".mpg" else 3 * FPS))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = {"ffv1": "bgr0", "mjpeg": "yuvj444p"}.get(codec, "yuv420p")
        stream.bit_rate = 4_000_000
        if path.suffix == ".mpg":  # MPEG-2 knows no rate under 23.976
            frames = frames.repeat(3, axis=0)
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


def sample_both(
    run: Path, true_videos: Sequence[UInt8[np.ndarray, "F S S 3"]], captions: Sequence[str], out: Path
) -> None:
    """Three videos of the trained and of the shipped model each, and the table that goes with them."""
    from cdcd_video import ImageToVideo

    for system, source in (("trained", run), ("shipped", "sprites")):
        pipe = ImageToVideo.from_pretrained(source)
        for number in range(3):
            made = pipe(true_videos[number][0], captions[number], num_frames=4, seed=number)
            made.save(out / system / f"item{number}.mp4", scale=4)
    rows = [f"item{number}\t{captions[number]}" for number in range(3)]
    (out / "prompts.tsv").write_text("\n".join(["file\tprompt", *rows]) + "\n", encoding="utf-8")


def rate(out: Path) -> None:
    """Makes a study, serves it, answers every page as a rater's browser would, and reports.

    Raises:
      SystemExit: a part of it failed.
    """
    tool, study = ("-m", "cdcd_video.rate"), ("--study", out / "study")
    systems = [word for name in ("trained", "shipped") for word in ("--videos", f"{name}={out / name}")]
    made_of = (*systems, "--prompts", out / "prompts.tsv", "--frames-from", "shipped")
    call(*tool, "make", *study, *made_of, "--checks", "1", "--repeats", "1")
    with serving([*tool, "serve", *study, "--port", "0"]) as address:
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))

        def post(path: str, body: dict[str, object]) -> dict:
            request = urllib.request.Request(
                address + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
            )
            return json.load(browser.open(request, timeout=60))

        state = post("api/enter", {"name": "smoke"})
        while page := state["page"]:
            check(len(browser.open(address + page["videos"][0][1:], timeout=60).read()) > 0, "a video is empty")
            given = {name: page[name] for name in ("trial", "attempt")} | {"seconds": 1.0}
            state = post("api/answer", given | {"answers": dict.fromkeys(state["questions"], 1)})
    call(*tool, "report", *study)
    report = json.loads((out / "study" / "report.json").read_text(encoding="utf-8"))
    check(bool(report), "the report of the study is empty")


@contextlib.contextmanager
def serving(arguments: Sequence[object]) -> Iterator[str]:
    """The address of a server that runs inside the `with`, and ends as after Ctrl-C."""
    process = subprocess.Popen([sys.executable, *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        found = re.search(r"http://\S+/", line)
        check(found is not None, f"the rating page did not start: {line!r}")
        yield found[0]
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=30)
        finally:
            process.kill()


def call(*arguments: object) -> None:
    """Runs one of the repository's commands; a failure ends the whole."""
    run_program(sys.executable, *arguments, cwd=ROOT)


def run_program(*arguments: object, cwd: Path) -> None:
    """Runs a program in a folder; a failure ends the whole."""
    words = [str(word) for word in arguments]
    done = subprocess.run(words, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        sys.stdout.write(done.stdout)
    check(done.returncode == 0, f"{' '.join(words)} ended with exit code {done.returncode}")


def check(is_so: bool, otherwise: str) -> None:
    """Ends the whole with a sentence, and exit code 1, where something is not so."""
    if not is_so:
        raise SystemExit(f"failed: {otherwise}")


@contextlib.contextmanager
def stage(what: str) -> Iterator[None]:
    """Says what was done and how long it took."""
    started = time.monotonic()
    yield
    say(f"{time.monotonic() - started:6.1f} s  {what}")


def versions() -> Iterator[str]:
    """What is installed of that which the project asks for."""
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        if found := re.match(r"[\w-]+", line):
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                yield f"{found[0]} {importlib.metadata.version(found[0])}"


def say(text: str) -> None:
    """One line for the user, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(exit_code(main))

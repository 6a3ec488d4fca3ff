"""`inference.py`: what it writes, that it can be drawn again, and what it says to mistakes."""

import hashlib
import json
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fixtures_model import ROOT
from PIL import Image
from safetensors.torch import load_file, save_file

import inference
from cdcd_video import request, video
from cdcd_video.errors import UserError, exit_code

CAPTION = "the red circle moves right"
SIZE = 32  # of the tiny model's frames

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    tmp_path: Path,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Calls `inference.py` in this process, in an empty folder; a second process would cost seconds of imports."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object, checkpoint: Path | str = tiny_model) -> tuple[int, str, str]:
        given = [str(argument) for argument in arguments]
        model = [] if "--checkpoint" in given or "--from-json" in given else ["--checkpoint", str(checkpoint)]
        monkeypatch.setattr(sys, "argv", ["inference.py", *given, *model])
        try:
            code = exit_code(inference.main)
        except SystemExit as stop:  # argparse
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return call


@pytest.fixture
def frame(tmp_path: Path) -> Path:
    """A picture of the model's size with every pixel different."""
    pixels = np.arange(SIZE * SIZE * 3, dtype=np.uint32).reshape(SIZE, SIZE, 3) * 40503 % 251
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "frame.png")
    return tmp_path / "frame.png"


def pixels_of(path: Path) -> np.ndarray:
    return np.array(Image.open(path).convert("RGB"))


# -------------------------------------------------------------------------------------------------- what it writes


def test_writes_the_video_and_its_json(run: Run, frame: Path):
    code, out, err = run("--frame", frame, "--text", CAPTION, "--out", "made/x.mp4", "--num-frames", 5, "--seed", 7)
    assert (code, out.split()) == (0, ["made/x.mp4", "made/x.json"])
    assert "4/4" in err  # the progress bar, to its end
    kept = json.loads(Path("made/x.json").read_text())
    assert kept["text"] == [[0, CAPTION]]
    assert (kept["num_frames"], kept["seed"], kept["scale"]) == (5, 7, 256 // SIZE)
    assert kept["frame"]["sha256"] == hashlib.sha256(frame.read_bytes()).hexdigest()
    assert len(kept["model_sha256"]) == 64
    assert {"torch", "cdcd_video", "python"} <= kept["versions"].keys()


def test_a_folder_gets_exact_frames_and_frame_0_is_the_picture(run: Run, frame: Path):
    assert run("--frame", frame, "--text", CAPTION, "--out", "made", "--num-frames", 3)[0] == 0
    assert sorted(path.name for path in Path("made").iterdir()) == ["frames", "video.json", "video.mp4"]
    frames = sorted(Path("made/frames").iterdir())
    assert len(frames) == 3
    assert (pixels_of(frames[0]) == pixels_of(frame)).all()
    assert run("--frame", frame, "--text", CAPTION, "--out", "made", "--num-frames", 2)[0] == 0  # and again
    assert len(list(Path("made/frames").iterdir())) == 2
    assert run("--from-json", "made", "--out", "from-folder")[0] == 0
    assert Path("from-folder/video.mp4").read_bytes() == Path("made/video.mp4").read_bytes()


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".webp"])
def test_from_json_gives_the_same_bytes(run: Run, frame: Path, suffix: str):
    texts = ["--text", f"0:{CAPTION}", "--text", "2: the circle moves left"]
    first, again = Path(f"first{suffix}"), Path(f"again{suffix}")
    dials = [
        "--steps",
        3,
        "--guidance",
        2.5,
        "--temperature",
        1,
        "--top-p",
        0.9,
        "--fps",
        7.3,
        "--contrast",
        50,
        "--seed",
        11,
    ]
    assert run("--frame", frame, *texts, "--out", first, "--num-frames", 4, *dials)[0] == 0
    frame.unlink()  # the .json is enough
    code, _, err = run("--from-json", "first.json", "--out", again)
    assert code == 0
    assert "note:" not in err
    assert first.read_bytes() == again.read_bytes()
    first_kept, again_kept = (json.loads(path.with_suffix(".json").read_text()) for path in (first, again))
    assert first_kept | {"video": again.name} == again_kept
    assert first_kept["text"] == [[0, CAPTION], [2, "the circle moves left"]]


def test_options_beside_from_json_go_before_it(run: Run, frame: Path):
    run("--frame", frame, "--text", CAPTION, "--out", "a.webp", "--num-frames", 4, "--temperature", 3)
    assert run("--from-json", "a.json", "--seed", 1, "--out", "b.webp")[0] == 0
    kept = json.loads(Path("b.json").read_text())
    assert (kept["seed"], kept["temperature"]) == (1, 3)
    assert Path("a.webp").read_bytes() != Path("b.webp").read_bytes()


def test_without_out_no_video_is_overwritten(run: Run, frame: Path):
    run("--frame", frame, "--text", CAPTION, "--num-frames", 2)
    run("--frame", frame, "--text", "the circle spins", "--num-frames", 2)
    names = {path.name for path in Path("out").iterdir()}
    assert names >= {"frame-the-red-circle-moves-right.mp4", "frame-the-circle-spins.mp4"}
    _, out, _ = run("--from-json", "out/frame-the-circle-spins.json")
    assert out.split()[0] == "out/frame-the-circle-spins-again.mp4"


def test_scale_enlarges_the_file_only(run: Run, frame: Path):
    run("--frame", frame, "--text", CAPTION, "--out", "a.webp", "--num-frames", 2)
    run("--frame", frame, "--text", CAPTION, "--out", "b.webp", "--num-frames", 2, "--scale", 3)
    small, large = pixels_of(Path("a.webp")), pixels_of(Path("b.webp"))
    assert (small == pixels_of(frame)).all()
    assert (large == small.repeat(3, 0).repeat(3, 1)).all()


def test_a_difference_between_machines_is_reported(run: Run, frame: Path):
    run("--frame", frame, "--text", CAPTION, "--out", "a.gif", "--num-frames", 2)
    kept = json.loads(Path("a.json").read_text())
    kept["versions"]["torch"] = "2.11.0"
    Path("a.json").write_text(json.dumps(kept))
    code, _, err = run("--from-json", "a.json")
    assert code == 0
    assert "note: sampled with torch 2.11.0" in err


@pytest.mark.parametrize("suffix", request.SUFFIXES)
def test_the_suffixes_are_those_that_can_be_saved(tmp_path: Path, suffix: str):
    assert video.save(np.zeros((1, 8, 8, 3), np.uint8), tmp_path / f"x{suffix}", 8).is_file()


# ------------------------------------------------------------------------------------------- pictures of every kind


def test_rgba_is_laid_over_white(run: Run, tmp_path: Path):
    clear = Image.new("RGBA", (SIZE, SIZE), (255, 0, 0, 0))
    clear.putpixel((0, 0), (255, 255, 255, 255))  # one with nothing to see is refused
    clear.save("clear.png")
    assert run("--frame", "clear.png", "--text", CAPTION, "--out", "d", "--num-frames", 1)[0] == 0
    assert (pixels_of(tmp_path / "d/frames/frame-00000.png") == 255).all()


def test_exif_orientation_is_applied(run: Run, tmp_path: Path):
    pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
    pixels[: SIZE // 2] = 255  # the upper half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    Image.fromarray(pixels).save("turned.png", exif=exif)
    assert run("--frame", "turned.png", "--text", CAPTION, "--out", "d", "--num-frames", 1)[0] == 0
    assert (pixels_of(tmp_path / "d/frames/frame-00000.png") == np.rot90(pixels, -1)).all()


def test_sixteen_bits_are_scaled(run: Run, tmp_path: Path):
    Image.fromarray(np.full((SIZE, SIZE), 257 * 100, np.uint16)).save("deep.png")
    assert run("--frame", "deep.png", "--text", CAPTION, "--out", "d", "--num-frames", 1)[0] == 0
    assert (pixels_of(tmp_path / "d/frames/frame-00000.png") == 100).all()


def test_of_an_animation_the_first_frame_is_taken(run: Run, tmp_path: Path):
    shades = [Image.new("RGB", (SIZE, SIZE), (shade, shade, shade)) for shade in (10, 90, 200)]
    shades[0].save("moving.webp", save_all=True, append_images=shades[1:], lossless=True)
    assert run("--frame", "moving.webp", "--text", CAPTION, "--out", "d", "--num-frames", 1)[0] == 0
    assert (pixels_of(tmp_path / "d/frames/frame-00000.png") == 10).all()


def test_a_wide_photograph_is_cropped(run: Run, tmp_path: Path):
    Image.new("RGB", (300, 200), (1, 2, 3)).save("wide.bmp")
    assert run("--frame", "wide.bmp", "--text", CAPTION, "--out", "d", "--num-frames", 1)[0] == 0
    assert (pixels_of(tmp_path / "d/frames/frame-00000.png") == (1, 2, 3)).all()


# ------------------------------------------------------------------------------------------------------- mistakes


def refused(answer: tuple[int, str, str], *words: str) -> None:
    """A mistake is one sentence on stderr that holds these words, exit code 2, and nothing on stdout."""
    code, out, err = answer
    assert (code, out) == (2, "")
    *_, last = err.strip().splitlines()
    assert "error: " in last
    assert all(word in last for word in words), last


def huge_png(path: Path) -> None:
    """A few bytes that claim to be a picture of 10,000 megapixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b""))


def test_pictures_that_cannot_be_used(run: Run, frame: Path):
    Path("words.png").write_text("not an image")
    Path("empty.png").touch()
    Path("cut.png").write_bytes(frame.read_bytes()[: frame.stat().st_size // 2])
    huge_png(Path("huge.png"))
    for name, word in {
        "words.png": "not an image",
        "empty.png": "empty",
        "cut.png": "truncated",
        "huge.png": "100,000,000 pixels",
        "absent.png": "does not exist",
        ".": "not a file",
    }.items():
        refused(run("--frame", name, "--text", CAPTION, "--out", "x.mp4"), name, word)
    assert not Path("x.mp4").exists()


def test_captions_that_cannot_be_used(run: Run, frame: Path):
    refused(run("--frame", frame, "--text", "   "), "caption is empty")
    refused(run("--frame", frame, "--text", CAPTION, "--text", "8:"), "caption is empty")
    refused(run("--frame", frame, "--text", "circle " * 10_000), "70000 characters")
    refused(run("--frame", frame, "--text", "8:" + CAPTION), "begin at frame 0")
    refused(run("--frame", frame, "--text", CAPTION, "--text", CAPTION), "begin at frame 0, ")
    refused(run("--frame", frame, "--text", "der rote Kreis rollt davon"), "knows no word", "circle")
    refused(run("--frame", frame), "no caption")
    refused(run("--text", CAPTION), "no starting frame")


def test_unknown_words_are_noted(run: Run, frame: Path):
    code, _, err = run("--frame", frame, "--text", "the red circle moves gracefully", "--num-frames", 2)
    assert code == 0
    assert "note: the model never saw the words 'gracefully'" in err


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--num-frames", "0", "num_frames"),
        ("--num-frames", "2.5", "--num-frames"),
        ("--fps", "0", "fps"),
        ("--fps", "nan", "fps"),
        ("--fps", "inf", "fps"),
        ("--steps", "0", "num_steps"),
        ("--guidance", "-1", "guidance"),
        ("--temperature", "-0.1", "temperature"),
        ("--top-p", "0", "top_p"),
        ("--top-p", "1.1", "top_p"),
        ("--contrast", "-1", "contrast"),
        ("--contrast", "nan", "contrast"),
        ("--seed", "-1", "seed"),
        ("--seed", "seven", "--seed"),
        ("--scale", "0", "scale"),
        ("--device", "toaster", "toaster"),
        ("--device", "cuda:99", "cuda:99"),
    ],
)
def test_bad_numbers(run: Run, frame: Path, option: str, value: str, words: str):
    refused(run("--frame", frame, "--text", CAPTION, option, value), words)


def test_places_that_cannot_be_written(run: Run, frame: Path):
    ask = ("--frame", frame, "--text", CAPTION, "--out")
    refused(run(*ask, "x.avi"), "'.avi'", ".mp4, .gif, .webp")
    refused(run(*ask, frame / "x.mp4"), "frame.png/x.mp4")
    refused(run(*ask, "x" * 300 + "/"), "cannot write")
    assert sorted(path.name for path in Path().iterdir()) == ["frame.png"]


def test_a_folder_without_permission(run: Run, frame: Path, monkeypatch: pytest.MonkeyPatch):
    def forbidden(**_: object) -> None:  # the superuser, who may run this, is forbidden nothing
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(request.tempfile, "TemporaryFile", forbidden)
    refused(run("--frame", frame, "--text", CAPTION, "--out", "d/x.mp4"), "d/x.mp4", "Permission denied")


def test_a_json_that_cannot_be_used(run: Run, frame: Path):
    run("--frame", frame, "--text", CAPTION, "--out", "x.gif", "--num-frames", 2)
    good = json.loads(Path("x.json").read_text())
    refused(run("--from-json", "absent.json"), "absent.json does not exist")
    for change, word in (
        ({"format": 99}, "format"),
        ({"num_frames": "many"}, "num_frames"),
        ({"frame": {**good["frame"], "png_base64": "AAAA"}}, "--frame"),
        ({"checkpoint": "absent"}, "'absent'"),
    ):
        Path("bad.json").write_text(json.dumps(good | change))
        refused(run("--from-json", "bad.json"), word)
    Path("bad.json").write_text(Path("x.json").read_text()[:200])
    refused(run("--from-json", "bad.json"), "bad.json is not the .json of a video")


# ---------------------------------------------------------------------------------------------------- checkpoints


@pytest.fixture
def damaged(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the model, to be damaged."""
    return Path(shutil.copytree(tiny_model, tmp_path / "copy"))


@pytest.mark.parametrize(
    "file", ["denoiser.safetensors", "codec.safetensors", "clip/model.safetensors", "model.json", "clip/tokenizer.json"]
)
def test_a_checkpoint_cut_short(run: Run, frame: Path, damaged: Path, file: str):
    whole = (damaged / file).read_bytes()
    for kept in (len(whole) // 2, 3, 0):
        (damaged / file).write_bytes(whole[:kept])
        refused(run("--frame", frame, "--text", CAPTION, checkpoint=damaged), str(damaged))


@pytest.mark.parametrize("file", ["codec.safetensors", "model.json", "clip/model.safetensors", "clip/tokenizer.json"])
def test_a_checkpoint_that_lacks_a_file(run: Run, frame: Path, damaged: Path, file: str):
    (damaged / file).unlink()
    refused(run("--frame", frame, "--text", CAPTION, checkpoint=damaged), str(damaged))


def test_a_checkpoint_of_another_version(run: Run, frame: Path, damaged: Path):
    (damaged / "model.json").write_text('{"format": 99}')
    refused(run("--frame", frame, "--text", CAPTION, checkpoint=damaged), "99", str(damaged))


def test_no_such_checkpoint(run: Run, frame: Path, damaged: Path):
    refused(run("--frame", frame, "--text", CAPTION, checkpoint="nowhere"), "'nowhere'")
    (damaged / "denoiser.safetensors").unlink()  # as after an interrupted training
    refused(run("--frame", frame, "--text", CAPTION, checkpoint=damaged), "contains no model yet")


def test_another_model_than_the_one_of_the_json_is_refused(run: Run, frame: Path, damaged: Path):
    run("--frame", frame, "--text", CAPTION, "--out", "x.gif", "--num-frames", 2)
    tensors = load_file(damaged / "denoiser.safetensors")
    save_file({name: value * 0.5 for name, value in tensors.items()}, damaged / "denoiser.safetensors")
    refused(run("--from-json", "x.json", "--checkpoint", damaged), "sha256", "--checkpoint")


def test_what_is_asked_is_checked_before_torch_is_imported():
    with pytest.raises(UserError, match="empty"):
        request.parse_captions([" "])
    script = (
        "import sys, inference; from cdcd_video.errors import exit_code\n"
        "sys.argv = ['inference.py', '--frame', 'README.md', '--text', 'x']\n"
        "code = exit_code(inference.main)\n"
        "sys.exit(99 if 'torch' in sys.modules else code)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")

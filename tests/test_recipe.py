"""Recipes inside videos and pictures: what carries one is sampled again bit for bit, and what carries none is refused."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence

from cdcd_video import ImageToVideo, SamplingWarning, UserError, Video, video
from cdcd_video.commands import sample_command
from cdcd_video.config.video_record import read_record
from cdcd_video.storage.embedded_recipe import FIRST_FRAME, read_embedded

SETTINGS = dict(num_frames=3, num_steps=2, guidance=2.0)
CARRIERS = ["x.mp4", "x.gif", "x.webp", "x"]
LONG = '{"text":"' + "abcdefghij" * 200_000 + '"}'
"""As long as the recipe of a model of large frames."""


@pytest.fixture(scope="module")
def pipe(tiny_model: Path) -> ImageToVideo:
    return ImageToVideo.from_pretrained(tiny_model)


@pytest.fixture
def sampled(pipe: ImageToVideo) -> Video:
    start = np.random.Generator(np.random.Philox(0)).integers(0, 256, (pipe.size_px, pipe.size_px, 3), np.uint8)
    text = [(0, "the circle moves"), (2, 'the circle "stops" - \u505c')]
    with pytest.warns(SamplingWarning):  # noise is no scene
        return pipe(start, text, negative_prompt="it spins", seed=2**63 - 1, **SETTINGS)


@pytest.mark.parametrize("name", CARRIERS)
@pytest.mark.filterwarnings("ignore::cdcd_video.SamplingWarning")
def test_a_saved_video_is_sampled_again_bit_for_bit(pipe: ImageToVideo, sampled: Video, name: str, tmp_path: Path):
    path = sampled.save(tmp_path / name, scale=2)
    again = pipe.sample_again(path)
    assert (again.frames == sampled.frames).all()
    assert again.settings == sampled.settings
    assert again.save(tmp_path / f"again-{name}", scale=2)
    if path.is_file():
        assert (tmp_path / f"again-{name}").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", [*CARRIERS, f"x/{FIRST_FRAME}"])
@pytest.mark.parametrize("recipe", ["{}", LONG], ids=["short", "long"])
def test_what_is_written_is_read(name: str, recipe: str, tmp_path: Path):
    frames = np.full((2, 16, 16, 3), 90, np.uint8)
    video.save(frames, tmp_path / name.split("/")[0], 8, recipe=recipe)
    assert read_embedded(tmp_path / name) == recipe


@pytest.mark.parametrize("name", CARRIERS)
def test_without_a_recipe_the_file_is_what_it_was_and_is_refused(sampled: Video, name: str, tmp_path: Path):
    sampled.save(tmp_path / "without" / name, recipe=False)
    video.save(sampled.frames, tmp_path / "plain" / name, sampled.fps)
    first, second = (
        [file.read_bytes() for file in sorted((tmp_path / one).rglob("*")) if file.is_file()]
        for one in ("without", "plain")
    )
    assert first == second
    with pytest.raises(UserError, match="carries no recipe; give the .json"):
        Video.load_recipe(tmp_path / "plain" / name)


def test_a_slice_carries_no_recipe(sampled: Video, tmp_path: Path):
    with pytest.raises(UserError, match="carries no recipe"):
        Video.load_recipe(sampled[1:].save(tmp_path / "x.webp"))


@pytest.mark.filterwarnings("ignore::cdcd_video.SamplingWarning")
def test_what_is_no_recipe_is_not_written_and_what_is_unusual_is(pipe: ImageToVideo, sampled: Video, tmp_path: Path):
    changed = pipe(sampled[0], "the circle moves", **SETTINGS, callback_on_step_end=lambda *given: None)
    with pytest.raises(UserError, match="carries no recipe"):
        Video.load_recipe(changed.save(tmp_path / "x.webp"))
    large = sampled.save(tmp_path / "y.webp", scale=33)
    assert (pipe.sample_again(large).frames == sampled.frames).all()


def test_another_model_is_refused_and_threads_are_those_of_the_recipe(pipe: ImageToVideo, sampled: Video):
    record = sampled.record()
    with pytest.raises(UserError, match="sha256"):
        pipe.sample_again(record.model_copy(update={"model_sha256": "0" * 64}))
    before = pipe.num_threads
    with pytest.warns(SamplingWarning, match="sampled with torch 0 before"):
        pipe.sample_again(record.model_copy(update={"versions": record.versions | {"torch": "0"}}))
    assert pipe.num_threads == before


def test_nothing_of_the_pictures_file_is_handed_on(sampled: Video):
    record = sampled.record().model_copy(update={"checkpoint": "/secret/place"})
    record.frame.file = "anna.jpg"
    held = record.recipe()
    assert held.isascii() and "anna" not in held and "secret" not in held


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".webp", ".png"])
def test_damaged_and_foreign_files_are_refused_in_a_sentence(suffix: str, sampled: Video, tmp_path: Path):
    path = tmp_path / f"x{suffix}"
    if suffix == ".png":
        Image.fromarray(sampled.frames[0]).save(path)
    else:
        sampled.save(path)
    whole = path.read_bytes()
    disguised = [magic + whole[4:] for magic in (b"\x89PNG", b"GIF8", b"RIFF") if magic != whole[:4]]
    for content in (b"", b"\0" * 64, whole[:40], *disguised):
        path.write_bytes(content)
        with pytest.raises(UserError):
            read_record(path)
    if suffix == ".png":
        return
    for foreign in ("a comment of somebody", "{}", '{"format": 2}', "{" * 5000):
        video.save(sampled.frames, path, 8, recipe=foreign)
        with pytest.raises(UserError, match="recipe"):
            read_record(path)
    with pytest.raises(UserError, match="does not exist"):
        read_record(tmp_path / f"absent{suffix}")


def test_players_still_show_the_video(sampled: Video, tmp_path: Path):
    with av.open(str(sampled.save(tmp_path / "x.mp4"))) as container:
        assert len(list(container.decode(video=0))) == len(sampled)
    for suffix in (".gif", ".webp"):
        with Image.open(sampled.save(tmp_path / f"x{suffix}")) as image:
            shown_ms = sum(frame.copy().info["duration"] for frame in ImageSequence.Iterator(image))
            assert image.info["loop"] == 0 and abs(shown_ms - 1000 * len(sampled) / sampled.fps) <= 5


def test_the_command_takes_a_video(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (40, 30), (200, 40, 40)).save("frame.png")
    given = ["--frame", "frame.png", "--text", "it moves", "--num-frames", "3", "--checkpoint", str(tiny_model)]
    sample_command.main([*given, "--out", "first.gif"])
    again = ["--checkpoint", str(tiny_model), "--out", "again.gif"]
    sample_command.main(["--from", "first.gif", *again])
    assert Path("first.gif").read_bytes() == Path("again.gif").read_bytes()
    sample_command.main([*given, "--out", "bare.gif", "--no-recipe"])
    assert read_embedded("bare.gif") is None and Path("bare.json").is_file()
    capsys.readouterr()

"""Starting frames of another world: the codec's round trip tells them, and the user is told."""

import io
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image, ImageDraw
from shapes import as_without_checks

from cdcd_video import ImageToVideo, SamplingWarning
from cdcd_video.data.images import fit
from cdcd_video.data.sprites import Scene, World, counterfactual, sample_scene
from cdcd_video.data.sprites_render import render
from cdcd_video.errors import UserError, exit_code
from cdcd_video.evaluation import from_model
from cdcd_video.metrics.eval_dataset import SceneDataset
from cdcd_video.metrics.protocol import Protocol
from cdcd_video.model import SHIPPED, folder_digest
from cdcd_video.networks.codec import start_thresholds
from cdcd_video.tools import round_trip as command

CAPTION = "the red circle moves right"
NUM_FRAMES = 16
SHIPPED_PICTURE = np.array(Image.open(Path(__file__).parent.parent / "examples" / "red-circle.png"))


@pytest.fixture(scope="module")
def pipe() -> ImageToVideo:
    return ImageToVideo.from_pretrained("sprites", device="cpu")


WORLD = World(version="v2")


def own_scene(number: int) -> Scene:
    """A scene of the model's world that it never saw."""
    return sample_scene(20_000, number, "val", world=WORLD)


def own(number: int) -> np.ndarray:
    """Its starting frame."""
    return render(own_scene(number), np.zeros(1))[0]


def photograph(number: int) -> np.ndarray:
    """Noise whose spectrum falls with the frequency, as that of photographs does."""
    noise = np.random.default_rng(number).normal(size=(64, 64, 3))
    y, x = np.fft.fftfreq(64)[:, None, None], np.fft.fftfreq(64)[None, :, None]
    falling = np.fft.ifft2(np.fft.fft2(noise, axes=(0, 1)) / np.maximum(np.hypot(x, y), 1 / 64), axes=(0, 1)).real
    return np.clip(falling / falling.std() * 50 + 120, 0, 255).astype(np.uint8)


def painting(number: int) -> np.ndarray:
    """Dots and lines in loud colours on white paper."""
    rng = np.random.default_rng(number)
    image = Image.new("RGB", (64, 64), "white")
    draw = ImageDraw.Draw(image)
    for _ in range(5):
        x, y = (int(side) for side in rng.integers(0, 50, 2))
        colour = tuple(int(part) for part in rng.integers(0, 256, 3))
        draw.ellipse((x, y, x + 14, y + 14), fill=colour)
        draw.line([(int(a), int(b)) for a, b in rng.integers(0, 64, (3, 2))], fill=colour, width=2)
    return np.array(image)


def as_jpeg(number: int) -> np.ndarray:
    """The model's own world, kept as a poor JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(own(number)).save(buffer, "JPEG", quality=40)
    return np.array(Image.open(buffer))


def enlarged(number: int) -> np.ndarray:
    """The model's own world, as it is after somebody looked at it five times as large."""
    return fit(np.array(Image.fromarray(own(number)).resize((320, 320), Image.Resampling.BICUBIC)), 64)


def share_unlike(pipe: ImageToVideo, frames: Sequence[np.ndarray], captions: Sequence[str]) -> float:
    model = pipe.model
    return start_thresholds.are_unlike(model.start, model.codec, model.clip, np.stack(frames), captions).mean()


@pytest.mark.parametrize("made", [own, as_jpeg, enlarged], ids=lambda made: made.__name__)
def test_frames_of_its_own_world_raise_no_alarm(pipe: ImageToVideo, made: Callable[[int], np.ndarray]):
    captions = [own_scene(number).caption for number in range(NUM_FRAMES)]
    assert share_unlike(pipe, [made(number) for number in range(NUM_FRAMES)], captions) <= 1 / NUM_FRAMES
    assert pipe.warnings(captions[0], pipe.defaults(), made(0)) == []


@pytest.mark.parametrize("made", [photograph, painting], ids=lambda made: made.__name__)
def test_frames_of_another_world_are_reported(pipe: ImageToVideo, made: Callable[[int], np.ndarray]):
    captions = [own_scene(number).caption for number in range(NUM_FRAMES)]
    assert share_unlike(pipe, [made(number) for number in range(NUM_FRAMES)], captions) >= 0.9


def test_a_sentence_about_what_is_not_in_the_picture_is_reported(pipe: ImageToVideo):
    """Of 16 frames with the sentence of another scene nearly all; none for a sentence that asks for another motion."""
    frames, scenes = [own(number) for number in range(NUM_FRAMES)], [own_scene(number) for number in range(NUM_FRAMES)]
    rng = np.random.Generator(np.random.Philox(key=0))
    others = [counterfactual(scene, rng).caption for scene in scenes]
    assert share_unlike(pipe, frames, others) <= 1 / NUM_FRAMES
    assert share_unlike(pipe, frames, [scene.caption for scene in (*scenes[5:], *scenes[:5])]) >= 0.8
    (found,) = pipe.warnings("the white triangle spins", pipe.defaults(), SHIPPED_PICTURE)
    assert "does not seem to show what the caption says" in found and "name what is in the picture" in found
    assert pipe.warnings(CAPTION, pipe.defaults(), SHIPPED_PICTURE) == []


def test_a_call_warns_once_and_names_the_way_out(pipe: ImageToVideo, monkeypatch: pytest.MonkeyPatch):
    as_without_checks(monkeypatch, ImageToVideo, "__call__", "_begin")
    with pytest.warns(SamplingWarning, match=r"starting frame .*docs/data\.md") as told:
        pipe(photograph(0), CAPTION, num_frames=1)
    assert len(told) == 1 and told[0].filename == __file__


def test_an_evaluation_reports_in_one_sentence_how_many(pipe: ImageToVideo):
    starts, captions = [photograph(0), own(0), painting(0)], [CAPTION, own_scene(0).caption, CAPTION]
    dataset = Mock(
        SceneDataset,
        eval_videos=starts,
        captions={"model": captions},
        real_video=lambda number, size_px: starts[number][None],
    )
    (told,) = from_model._other_world(pipe, Protocol(data="clips"), dataset)
    assert told.startswith("2 of the first 3 starting frames are unlike")
    assert from_model._other_world(pipe, Protocol(data="sprites"), dataset) == []
    starts[:], captions[:] = [own(1), own(0)], [own_scene(1).caption, own_scene(0).caption]
    assert from_model._other_world(pipe, Protocol(data="clips"), dataset) == []


# ------------------------------------------------------------------------------------------------------ the figure


@pytest.fixture
def copy(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "copy"))


def test_a_model_without_the_figures_does_not_warn(copy: Path):
    pipe = ImageToVideo.from_pretrained(copy, device="cpu")
    assert pipe.model.start == start_thresholds.StartThresholds()
    assert pipe.warnings(CAPTION, pipe.defaults(), np.zeros((32, 32, 3), np.uint8)) == []


def test_the_command_measures_it_and_the_model_stays_the_same(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    digest = folder_digest(copy)
    (copy / start_thresholds.FILE).write_text("{")  # a damaged one is no hindrance
    with pytest.raises(UserError, match=r"is damaged.*tools\.round_trip"):
        ImageToVideo.from_pretrained(copy, device="cpu")
    monkeypatch.setattr(sys, "argv", ["round_trip", str(copy), "--device", "cpu"])
    assert exit_code(command.main) == 0
    facts = json.loads((copy / start_thresholds.FILE).read_text())
    assert facts["least_db"] == pytest.approx(facts["quantile_db"] - start_thresholds.MARGIN_DB, abs=0.011)
    model = ImageToVideo.from_pretrained(copy, device="cpu").model
    assert (model.start.least_db, model.start.least_similarity) == (facts["least_db"], facts["least_similarity"])
    assert model.digest == digest == folder_digest(copy)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '{"least_db": 26, "least_similarity": "0.6"}',
        '{"least_db": "26"}',
        '{"least_db": NaN}',
        '{"least_db": true}',
        "{}",
        "\xff",
    ],
)
def test_a_damaged_figure_is_refused(tmp_path: Path, text: str):
    (tmp_path / start_thresholds.FILE).write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match="is damaged"):
        start_thresholds.read_thresholds(tmp_path)


def test_the_quantile_is_of_validation_frames(pipe: ImageToVideo):
    """The shipped figure is that of its own validation frames; some of them do, whatever the machine."""
    facts = json.loads((SHIPPED / "sprites" / start_thresholds.FILE).read_text())
    assert facts["num_frames"] == pipe.model.config.data.num_val_clips
    scenes = [sample_scene(0, number, "val", world=WORLD) for number in range(64)]
    frames = np.stack([render(scene, np.zeros(1))[0] for scene in scenes])
    found = start_thresholds.round_trip_db(pipe.model.codec, pipe.model.clip, frames)
    assert facts["least_db"] < found.min() and np.quantile(found, 0.05) < facts["quantile_db"] + 4
    alike = start_thresholds.similarity(pipe.model.clip, frames, [scene.caption for scene in scenes])
    assert (alike < facts["least_similarity"]).mean() <= 3 / 64 and np.quantile(alike, 0.05) < facts[
        "least_similarity"
    ] + 0.2

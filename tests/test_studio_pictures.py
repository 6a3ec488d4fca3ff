"""Pictures in the studio that are no squares: how they are brought to the model's frames, and what the page says of it."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cdcd_video import ImageToVideo, Video
from cdcd_video.config.ranges import MAX_SIZE_PX
from cdcd_video.studio import start_frame
from cdcd_video.studio.studio_limits import Limits

pytest.importorskip("gradio", reason="the extra studio is not installed")

from gradio_client import handle_file
from gradio_client.exceptions import AppError
from studio_server import Studio, pictures_in, served, videos_in

TEXT = "the red circle moves right"
SETTINGS = dict(num_frames=3, fps=8, num_steps=2, guidance=1.0, temperature=0.3, contrast=0.0, seed="3")
SETTINGS |= dict(top_p=1.0, top_k=0, order="ancestral", lookback_s=0, longest_gap_s=0, decoded="sampled")
SETTINGS |= dict(unchanged="decoded", solver="euler")


@pytest.fixture(scope="module")
def studio(tiny_model: Path):
    with served([str(tiny_model)], Limits(max_megabytes=1)) as running:
        yield running


def wide(width: int, height: int) -> np.ndarray:
    """A picture whose columns grow brighter, none of them black."""
    return np.repeat(np.linspace(50, 250, width).astype(np.uint8)[None, :, None], height, axis=0).repeat(3, axis=2)


def test_a_large_photograph_keeps_its_shape(tmp_path: Path):
    Image.fromarray(wide(MAX_SIZE_PX + 904, 500)).save(tmp_path / "large.png")
    pixels = start_frame.from_file(tmp_path / "large.png", 20).pixels
    assert pixels.shape == (410, MAX_SIZE_PX, 3) and pixels.min() > 40, "bars were added to it"
    assert start_frame.shrunk(wide(5_000, 1), 100).shape == (1, 100, 3)
    assert start_frame.shrunk(pixels, MAX_SIZE_PX) is pixels


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    path = tmp_path / "wide.png"
    Image.fromarray(wide(90, 50)).save(path)
    return path


def sample(visitor: Any, studio: Studio, fit: str) -> Any:
    return visitor.predict(TEXT, "", 1, "", studio.shelf.names[0], fit, *SETTINGS.values(), api_name="/sample")


@pytest.mark.filterwarnings("ignore::cdcd_video.SamplingWarning")
def test_the_advice_to_set_fit_can_be_followed(studio: Studio, tiny_model: Path, photograph: Path, tmp_path: Path):
    visitor, beside = studio.visitor(download_files=tmp_path), (TEXT, studio.shelf.names[0])
    page = visitor.predict(handle_file(photograph), *beside, "as trained", api_name="/open_picture")
    assert "44 % of it is cut off; set fit to letterbox to keep all of it" in page
    page = visitor.predict(*beside, "letterbox", api_name="/fit")
    (shown,) = pictures_in(page)
    assert (
        "black bars fill" in page and "cut off" not in page and shown[0].max() == 0 and shown[len(shown) // 2].min() > 0
    )
    view, _, status, choices, _ = sample(visitor, studio, "letterbox")
    (video,) = videos_in(view)
    settings = {**SETTINGS, "seed": 3}
    pipe = ImageToVideo.from_pretrained(tiny_model)
    assert (video == pipe(photograph, TEXT, fit="letterbox", **settings).frames).all() and "black bars fill" in status
    buttons = [one for one in visitor.predict(choices["value"], api_name="/write") if one["visible"]]
    for file in (Path(one["value"]) for one in buttons):
        assert Video.load_recipe(file).fit == "letterbox"
        *_, fit, _, about = studio.visitor().predict(handle_file(file), studio.shelf.names[0], api_name="/open_recipe")[
            :9
        ]
        assert fit == "letterbox" and "gives the same video" in about
    assert json.loads(next(tmp_path.rglob("video-3.json")).read_text())["fit"] == "letterbox"


def test_without_a_fit_the_recipe_has_none(studio: Studio, tiny_model: Path, tmp_path: Path):
    visitor = studio.visitor()
    *_, choices, _ = sample(visitor, studio, "as trained")
    buttons = [one for one in visitor.predict(choices["value"], api_name="/write") if one["visible"]]
    assert [Video.load_recipe(one["value"]).fit for one in buttons] == [None] * 4
    recipe = ImageToVideo.from_pretrained(tiny_model)(start_frame.empty_canvas(), TEXT, num_frames=2).save(
        tmp_path / "a.webp"
    )
    assert visitor.predict(handle_file(recipe), studio.shelf.names[0], api_name="/open_recipe")[6] == "as trained"


def test_a_picture_that_fit_refuses_stays_until_another_fit_is_chosen(studio: Studio, photograph: Path):
    visitor, beside = studio.visitor(), (TEXT, studio.shelf.names[0])
    page = visitor.predict(handle_file(photograph), *beside, "exact", api_name="/open_picture")
    assert "set fit to crop or letterbox, or give a square image" in page and pictures_in(page)[0].shape == (50, 90, 3)
    with pytest.raises(AppError, match="set fit to crop or letterbox"):
        sample(visitor, studio, "exact")
    page = visitor.predict(*beside, "crop", api_name="/fit")
    assert re.search("44 % of it is cut off", page) and pictures_in(page)[0].shape[0] == pictures_in(page)[0].shape[1]

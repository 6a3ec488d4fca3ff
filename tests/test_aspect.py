"""Images that are no square: what becomes of their sides is chosen, and always said."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import shapes
from fixtures_model import ROOT
from PIL import Image
from test_inference import CAPTION, SIZE, Run, pixels_of, run  # noqa: F401 - a fixture

from cdcd_video import ImageToVideo, SamplingWarning, UserError
from cdcd_video.config import Config, config_file
from cdcd_video.sampling.start_images import fitted
from data_prep.prepared_sheet import note_on_sides


def striped(height: int, width: int) -> np.ndarray:
    """A white picture whose outermost quarter on each side is grey."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    pixels[: height // 4] = pixels[-height // 4 :] = 90
    pixels[:, : width // 4] = pixels[:, -width // 4 :] = 90
    return pixels


def test_a_square_is_never_cut_and_nothing_is_said():
    for how in ("crop", "letterbox", "exact"):
        for side in (SIZE, 2 * SIZE + 1):
            frame, notes = fitted(striped(side, side), SIZE, how)
            assert frame.shape == (SIZE, SIZE, 3) and notes == []
    assert (fitted(striped(SIZE, SIZE), SIZE, "exact")[0] == striped(SIZE, SIZE)).all()


@pytest.mark.parametrize(("height", "width"), [(32, 64), (64, 32)])
def test_what_is_cut_off_or_added_is_said(height: int, width: int):
    picture = striped(height, width)
    frame, (note,) = fitted(picture, SIZE, "crop")
    long = frame if width > height else frame.transpose(1, 0, 2)
    assert (long[SIZE // 2] == 255).all(), "both grey ends are gone"
    assert note.startswith(
        f"the image has {width} x {height} px, and the model's frames are square: 50 % of it is cut off;"
    )
    assert note.endswith("set fit to letterbox to keep all of it")
    frame, (note,) = fitted(picture, SIZE, "letterbox", "last image")
    assert "the last image has" in note and "black bars fill 50 % of them" in note
    long = frame if width > height else frame.transpose(1, 0, 2)
    assert (long[:8] == 0).all() and (long[-8:] == 0).all() and (long[8:-8].min(axis=(0, 2)) > 0).all()
    with pytest.raises(UserError, match="frames are square; set fit to crop or letterbox, or give a square image"):
        fitted(picture, SIZE, "exact")


def test_one_pixel_too_wide_is_not_cut_silently():
    assert "1.5 % of it is cut off" in fitted(striped(64, 65), SIZE, "crop")[1][0]


def test_the_pipeline_fits_every_picture_and_warns(tiny_model: Path):
    pipe = ImageToVideo.from_pretrained(tiny_model, "cpu")
    wide = striped(24, 48)
    with pytest.warns(SamplingWarning, match="50 % of it is cut off"):
        plain = pipe(wide, CAPTION, num_frames=2)
    with pytest.warns(SamplingWarning, match="50 % of it is cut off"):
        assert (pipe(wide, CAPTION, num_frames=2, fit="crop").frames == plain.frames).all()
    with pytest.warns(SamplingWarning, match="black bars fill 50 % of them"):
        boxed = pipe(wide, CAPTION, num_frames=2, fit="letterbox")
    assert (boxed[0][:8] == 0).all() and not (boxed[0] == plain[0]).all()
    with pytest.raises(UserError, match="set fit to crop or letterbox"):
        pipe(wide, CAPTION, num_frames=2, fit="exact")
    misspelt = r"fit is 'letterbx'; it must be one of crop, letterbox, exact \(did you mean 'letterbox'"
    with shapes.unchecked(), pytest.raises(UserError, match=misspelt):
        pipe(wide, CAPTION, num_frames=2, fit="letterbx")
    with pytest.raises(UserError, match="width is 48, but the model's frames are 32 x 32 px"):
        pipe(wide, CAPTION, num_frames=2, width=48)


def test_the_command_says_it_and_its_record_repeats_it(run: Run):  # noqa: F811
    Image.fromarray(striped(24, 48)).save("wide.png")
    how = ("--text", CAPTION, "--num-frames", 2)
    code, _, err = run("--frame", "wide.png", *how, "--fit", "letterbox", "--out", "a.webp")
    assert code == 0 and "note: the image has 48 x 24 px" in err and "black bars" in err
    kept = json.loads(Path("a.json").read_text())
    assert kept["fit"] == "letterbox"
    code, _, err = run("--from-json", "a.json", "--out", "b.webp")
    assert code == 0 and "px" not in err and Path("a.webp").read_bytes() == Path("b.webp").read_bytes()
    code, _, err = run("--frame", "wide.png", *how, "--fit", "exact", "--out", "c.webp")
    assert code == 2 and "give a square image" in err and not Path("c.webp").exists()
    run("--frame", "wide.png", *how, "--out", "d.webp", "--scale", 1)
    assert "fit" not in json.loads(Path("d.json").read_text())
    assert pixels_of(Path("d.webp")).min() > 0


def test_a_batch_fits_all_rows_and_refuses_another_way(run: Run):  # noqa: F811
    Image.fromarray(striped(24, 48)).save("wide.png")
    Image.fromarray(striped(SIZE, SIZE)).save("square.png")
    Path("p.tsv").write_text(f"file\tframe\tprompt\none.webp\twide.png\t{CAPTION}\ntwo.webp\tsquare.png\t{CAPTION}\n")
    how = ("--prompts", "p.tsv", "--num-frames", 2, "--out", "made")
    code, _, err = run(*how, "--fit", "letterbox")
    assert code == 0 and err.count("black bars") == 1 and "p.tsv, line 2" in err
    code, _, err = run(*how, "--fit", "letterbox")
    assert code == 0 and "2 of 2 videos are there already" in err
    code, _, err = run(*how)
    assert code == 2 and 'fit "letterbox" there, null here' in err
    code, _, err = run(*how[:-1], "other", "--fit", "exact")
    assert code == 2 and "p.tsv, line 2: the image has 48 x 24 px" in err and not Path("other").exists()


def test_prepared_clips_say_what_their_mode_cost():
    def rows(*sides: tuple[int, int]) -> list[SimpleNamespace]:
        return [SimpleNamespace(source_width=width, source_height=height) for width, height in sides]

    with shapes.unchecked():
        assert note_on_sides(rows((64, 64), (300, 300)), "crop") is None
        wide = rows((64, 64), (400, 300), (300, 400))
        cut = (
            "2 of 3 clips are no squares, and 25 % of each (the median) was cut off; --mode letterbox keeps all of it."
        )
        assert note_on_sides(wide, "crop") == cut
        assert "black bars fill 25 % of their frames (the median)" in note_on_sides(wide, "letterbox")


def test_a_config_with_two_sides_is_refused_in_one_sentence():
    with pytest.raises(UserError, match="frames are square, so give one side in px, such as 64"):
        config_file.load(ROOT / "configs/tiny.yaml", Config, ["data.size_px=[64, 96]"])

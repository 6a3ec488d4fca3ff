"""What a study says its videos were made from: pictures that a table names, and frames that records hold."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rating import SYSTEMS, write_material

from cdcd_video import video
from cdcd_video.config.shipped_files import shipped_file
from cdcd_video.config.video_record import FrameRecord
from cdcd_video.errors import UserError
from cdcd_video.rate.prepare import make
from cdcd_video.rate.study import Recipe, Study


def shown(study: Study, folder: Path) -> np.ndarray:
    """The picture of the only item."""
    (item,) = study.items
    with Image.open(folder / study.media[item.frame].file) as image:
        return np.array(image)


# ------------------------------------------------------------------------------------------------- pictures of a table


def test_the_table_names_an_example_as_that_of_a_batch_does(tmp_path: Path):
    recipe = write_material(tmp_path, 2).model_copy(update={"checks": 0})
    (tmp_path / "prompts.tsv").write_text("file\tprompt\tframe\nclip0.mp4\tit moves\tred-circle\n")
    study = make(recipe, tmp_path, tmp_path / "study")
    with Image.open(shipped_file("examples", "red-circle")) as image:
        np.testing.assert_array_equal(shown(study, tmp_path / "study"), np.array(image.convert("RGB")))
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red-circle", "PNG")  # a file wins over a name
    assert shown(make(recipe, tmp_path, tmp_path / "again"), tmp_path / "again").shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        ("red-circel", 'prompts.tsv, line 2: there is no example "red-circel"; did you mean red-circle?'),
        ("examples/red-circle.png", "line 2: .* the one that comes with the project is called red-circle"),
        ("nowhere.png", "prompts.tsv, line 2: there is no nowhere.png in "),
        ("../red-circle", "line 2: the path '../red-circle' leaves"),
    ],
)
def test_a_picture_that_is_none_is_named_with_its_line(tmp_path: Path, frame: str, sentence: str):
    recipe = write_material(tmp_path, 2)
    (tmp_path / "prompts.tsv").write_text(f"file\tprompt\tframe\nclip0.mp4\tit moves\t{frame}\n")
    with pytest.raises(UserError, match=sentence):
        make(recipe, tmp_path, tmp_path / "study")


# --------------------------------------------------------------------------------------------------- frames of records


def picture(seed: int, side: int = 32) -> np.ndarray:
    """A picture of random blocks, which keeps its looks at every size."""
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return blocks.repeat(side // 4, 0).repeat(side // 4, 1)


def frame_of(pixels: np.ndarray, file: str | None = None) -> dict:
    """The frame of a record; without the name of a file as in the recipe inside of a video."""
    sha256 = hashlib.sha256(file.encode()).hexdigest() if file else ""
    return FrameRecord.of(pixels, file or "frame.png", sha256).model_dump()


def made_from(root: Path, *frames: dict, prompts: tuple[str, ...] = ("it moves",) * 3, **more) -> Recipe:
    """One video of each system with the record of its frame."""
    for system, frame, prompt in zip(SYSTEMS, frames, prompts, strict=False):
        path = root / system / "one.mp4"
        if not path.exists():
            video.save(picture(9)[None].repeat(4, 0), path, 8)
        path.with_suffix(".json").write_text(json.dumps({"text": [[0, prompt]], "frame": frame}))
    return Recipe(videos={system: system for system in SYSTEMS[: len(frames)]}, checks=0, **more)


OTHERS = {
    "other files": (frame_of(picture(0), "a.png"), frame_of(picture(1), "b.png")),
    "other files at other sizes": (frame_of(picture(0), "a.png"), frame_of(picture(1, 64), "b.png")),
    "other pixels where a file is not known": (frame_of(picture(0)), frame_of(picture(1), "b.png")),
    "one file cut in two ways": (frame_of(picture(0), "a.png"), frame_of(np.roll(picture(0), 8, 1), "a.png")),
}
ALIKE = {
    "one file at two sizes": (frame_of(picture(0), "a.png"), frame_of(picture(0, 64), "a.png")),
    "one picture in two files": (frame_of(picture(0), "a.png"), frame_of(picture(0), "a.jpg")),
    "rounded in another way": (frame_of(picture(0), "a.png"), frame_of(picture(0) // 3 * 3, "a.png")),
    "two sizes where a file is not known": (frame_of(picture(0)), frame_of(picture(0, 64), "a.png")),
}


@pytest.mark.parametrize("more", [{}, {"questions": ("coherence",)}, {"frames_from": SYSTEMS[1]}, {"kind": "single"}])
@pytest.mark.parametrize("frames", OTHERS.values(), ids=OTHERS)
def test_videos_that_began_with_different_frames_are_no_pair(tmp_path: Path, frames: tuple, more: dict):
    recipe = made_from(tmp_path, *frames, **more)
    sentence = f"{SYSTEMS[0]} and {SYSTEMS[1]} sampled one from different starting frames; compare .* --prompts TABLE"
    with pytest.raises(UserError, match=sentence):
        make(recipe, tmp_path, tmp_path / "study")
    Image.fromarray(picture(5)).save(tmp_path / "shown.png")  # the way out
    (tmp_path / "p.tsv").write_text("file\tprompt\tframe\none\tit moves\tshown.png\n")
    make(recipe.model_copy(update={"prompts": "p.tsv"}), tmp_path, tmp_path / "study")


@pytest.mark.parametrize("frames", ALIKE.values(), ids=ALIKE)
@pytest.mark.parametrize("is_turned", [False, True])
def test_one_picture_is_one_whatever_the_size_of_the_models(tmp_path: Path, frames: tuple, is_turned: bool):
    study = make(made_from(tmp_path, *frames[:: -1 if is_turned else 1]), tmp_path, tmp_path / "study")
    pixels = [np.array(FrameRecord.model_validate(frame).pixels) for frame in frames]
    assert shown(study, tmp_path / "study").shape == max(one.shape for one in pixels)


def test_the_frame_that_a_batch_kept_is_the_picture_it_was_made_from(tmp_path: Path):
    kept = io.BytesIO()
    Image.fromarray(picture(0)).save(kept, "PNG")
    again = FrameRecord.of(picture(0, 64), "kept.png", hashlib.sha256(kept.getvalue()).hexdigest()).model_dump()
    make(made_from(tmp_path, frame_of(picture(0), "a.jpg"), again), tmp_path, tmp_path / "study")


def test_every_system_is_compared_with_every_other(tmp_path: Path):
    frames = [frame_of(picture(0, 64)), frame_of(picture(0), "a.png"), frame_of(picture(1), "b.png")]
    with pytest.raises(UserError, match=f"{SYSTEMS[1]} and {SYSTEMS[2]} sampled one from different starting frames"):
        make(made_from(tmp_path, *frames), tmp_path, tmp_path / "study")


def test_different_captions_have_the_same_way_out(tmp_path: Path):
    recipe = made_from(tmp_path, frame_of(picture(0)), frame_of(picture(0)), prompts=("it moves", "it stops"))
    with pytest.raises(
        UserError, match=f"{SYSTEMS[0]} and {SYSTEMS[1]} sampled one from different captions; .* prompt of"
    ):
        make(recipe, tmp_path, tmp_path / "study")
    (tmp_path / "p.tsv").write_text("file\tprompt\none\tit moves\n")
    make(recipe.model_copy(update={"prompts": "p.tsv"}), tmp_path, tmp_path / "study")


@pytest.mark.parametrize("sha256", [None, 5, "", "short"])
def test_a_record_of_another_program_may_hold_anything_as_hash(tmp_path: Path, sha256: object):
    strange = frame_of(picture(1, 64)) | {"sha256": sha256}
    make(made_from(tmp_path, frame_of(picture(0), "a.png"), strange), tmp_path, tmp_path / "study")

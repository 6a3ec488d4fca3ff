"""What a study says its videos were made from: pictures that a table names, and frames that records hold."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rating import SYSTEMS, write_material

from cdcd_video import video
from cdcd_video.config.shipped_files import shipped_file
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

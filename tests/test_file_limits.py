"""How large a picture can be in each format: as Pillow and FFmpeg refuse it, and told before anything is made."""

import io
import struct
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from cdcd_video import video
from cdcd_video.batch.seed_grid import check_grid
from cdcd_video.errors import UserError
from cdcd_video.storage.picture_format import MOST_SIDE_PX, check_sides, picture_format


def is_written(kind: str, width: int, height: int) -> bool:
    """Whether Pillow writes a picture of that size and reads it again."""
    try:
        Image.new("RGB", (width, height)).save(content := io.BytesIO(), kind)
        with Image.open(content) as image:
            image.load()
            return image.size == (width, height)
    except (OSError, ValueError, OverflowError, struct.error):  # each plugin of Pillow has its own way to refuse
        return False


@pytest.mark.parametrize("kind", [kind for kind in MOST_SIDE_PX if kind != "MP4"])
def test_the_limit_of_a_format_is_that_of_pillow(kind: str):
    most = MOST_SIDE_PX[kind]
    for sides in ((most, 1), (1, most)):
        assert is_written(kind, *sides)
        check_sides(kind, *sides, "it", "use .png")
    assert not is_written(kind, most + 1, 1)
    for sides in ((most + 1, 1), (1, most + 1)):
        with pytest.raises(UserError, match="use .png"):
            check_sides(kind, *sides, "it", "use .png")


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".ppm", ".jp2", ".qoi", ".dds"])
def test_other_formats_hold_what_is_longer(suffix: str):
    assert is_written(picture_format(Path(f"a{suffix}")), 70_000, 1)


@pytest.mark.parametrize(("suffix", "most"), [(".mp4", 16_384), (".gif", 65_535), (".webp", 16_383)])
@pytest.mark.parametrize("is_wide", [True, False])
def test_a_video_that_is_too_large_for_its_format_is_refused(tmp_path: Path, suffix: str, most: int, is_wide: bool):
    def frames(side: int) -> np.ndarray:
        return np.zeros((1, 2, side, 3) if is_wide else (1, side, 2, 3), np.uint8)

    assert video.save(frames(most), tmp_path / f"a{suffix}", 8).is_file()
    with pytest.raises(UserError, match=rf"a side of a {suffix} has at most .* px; save a folder of PNG files"):
        video.save(frames(most + 1), tmp_path / "new" / f"a{suffix}", 8)
    with pytest.raises(UserError, match=rf"a side of a {suffix} has at most .* px; lower scale"):
        video.save(frames(most // 2 + 1), tmp_path / "new" / f"a{suffix}", 8, scale=2)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("suffix", "count"), [(".webp", 700), (".jpg", 2_000), (".gif", 2_000), (".avif", 1_000)])
def test_a_sheet_that_is_too_large_for_its_format_is_refused(tmp_path: Path, suffix: str, count: int):
    rows = [np.zeros((1, 32, 1, 3), np.uint8)] * count
    with pytest.raises(UserError, match=r"a contact sheet has .* px; use .png, or fewer videos or frames"):
        video.contact_sheet(rows, tmp_path / "new" / f"s{suffix}")
    assert not (tmp_path / "new").exists()
    assert video.contact_sheet(rows, tmp_path / "s.png").is_file()


def test_a_sheet_that_no_memory_holds_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cdcd_video.storage.memory.total_bytes", Mock(return_value=1_000))
    with pytest.raises(UserError, match="memory, .*; use fewer videos or frames"):
        video.contact_sheet([np.zeros((1, 32, 32, 3), np.uint8)], tmp_path / "s.png")


@pytest.mark.parametrize(
    ("name", "num_rows", "num_seeds", "fits"),
    [
        ("g.webp", 1, 70, False),
        ("g.webp", 1, 61, True),
        ("g.webp", 1, 62, False),
        ("g.webp", 300, 1, False),
        ("g.jpg", 1, 250, False),
        ("g.png", 1, 250, True),
    ],
)
def test_a_grid_that_is_too_large_for_its_format_is_refused_before_sampling(name, num_rows, num_seeds, fits):
    """A column takes 4 * 64 + 8 + 2 px."""
    if fits:
        check_grid(Path(name), num_rows, num_seeds, 64)
        return
    with pytest.raises(
        UserError, match=rf"a grid of {num_rows} x {num_seeds} videos has .* use .png, or fewer prompts"
    ):
        check_grid(Path(name), num_rows, num_seeds, 64)

"""Videos written as VBench reads its users' own: names, captions and images belong together, and nothing is replaced."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_evaluate import SMALL, Run, run  # noqa: F401 (fixture)

from cdcd_video.data.clips import read_clip
from cdcd_video.errors import UserError
from cdcd_video.evaluation import vbench
from cdcd_video.metrics.protocol import Protocol


def prompt_of(file: str) -> str:
    """What VBench takes for the prompt of a file, and for the name of its image: the stem without a closing -NUMBER."""
    return re.sub(r"-\d+$", "", Path(file).stem)


def test_what_is_written(tmp_path):
    frames = np.random.Generator(np.random.Philox(key=1)).integers(0, 256, (2, 5, 32, 32, 3), dtype=np.uint8)
    captions = ["the red square moves left", 'a "quoted", tabbed\tand über caption / 1']
    with vbench.custom_input(tmp_path / "bench", 8) as made:
        for number, caption in enumerate(captions):
            made.add(number, caption, frames[number], frames[number][0])
        assert not (tmp_path / "bench").exists(), "nothing appears before it is complete"
    folder = tmp_path / "bench"
    assert sorted(path.name for path in folder.iterdir()) == ["images", "prompts.json", "videos"]
    prompts = json.loads((folder / "prompts.json").read_text("ascii"))
    files = sorted(path.name for path in (folder / "videos").iterdir())
    assert files == sorted(prompts) and [prompts[file] for file in files] == captions
    for number, file in enumerate(files):
        clip = read_clip(folder / "videos" / file, size_px=32)
        assert len(clip.frames) == 5 and clip.fps == 8
        image = np.asarray(Image.open(folder / "images" / f"{prompt_of(file)}.png"))
        np.testing.assert_array_equal(image, frames[number][0])


def test_nothing_is_replaced_and_a_failure_leaves_nothing(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine").touch()
    with (
        pytest.raises(UserError, match="there exists, and --vbench replaces nothing"),
        vbench.custom_input(tmp_path / "there", 8),
    ):
        pass
    with pytest.raises(ZeroDivisionError), vbench.custom_input(tmp_path / "new", 8) as made:
        made.finish()
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["there"]
    assert not list(tmp_path.glob(".*.part"))


def test_one_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(vbench.distributed, "world", lambda: vbench.distributed.World(0, 2))
    with pytest.raises(UserError, match="start evaluate.py without torchrun"), vbench.custom_input(tmp_path / "b", 8):
        pass
    with vbench.custom_input(None, 8) as made:
        assert made is None


def test_an_evaluation_writes_what_it_measured(run: Run, tiny_model: Path):  # noqa: F811
    assert Protocol().storage == "raw"
    how = (*SMALL, "--num-videos", 3, "--checkpoint", tiny_model, "--no-latents", "--metrics", "psnr", "physics_iq")
    code, out, err = run(*how, "--out", "a", "--vbench", "bench")
    assert code == 0 and "MSE" in out, err
    assert {"spatial_iou", "mse"} <= {
        json.loads(line)["metric"] for line in Path("a/scores.jsonl").read_text().splitlines()
    }
    prompts = json.loads(Path("bench/prompts.json").read_text())
    assert sorted(prompts) == ["000000.mp4", "000001.mp4", "000002.mp4"] and all(prompts.values())
    assert len(list(Path("bench/images").iterdir())) == 3 == len(list(Path("bench/videos").iterdir()))
    code, _, err = run(*how, "--out", "b", "--vbench", "bench")
    assert code == 2 and "bench exists" in err and not Path("b/scores.jsonl").exists()
    code, _, err = run("--compare", "a", "a", "--vbench", "other")
    assert code == 2 and "not allowed with argument" in err

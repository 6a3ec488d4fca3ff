"""From two public sets of actions to scores: prepared, joined, augmented, trained for a few steps, and measured."""

import json
import sys
from pathlib import Path

import pytest
from fixtures_model import ROOT

import train
from cdcd_video.data.mirrored_captions import mirrored_caption
from cdcd_video.data.store import StoredClips
from cdcd_video.engine import checkpoint
from cdcd_video.tools import action_scores, train_action_classifier
from data_prep.__main__ import main as data_prep

CHOSEN = {
    "UT-Interaction": ("hug", "punch", "point"),
    "Weizmann": ("walk", "wave2", "jack"),
}
"""Actions of each set; of each a few clips."""
PER_SPLIT = {"train": 3, "test": 1}
FEW = ("num_steps=4", "batch_size=4", "evaluate_every=2", "log_every=2", "warmup_steps=1", "checkpoint_every=4")
SHRUNK = (
    *("codec.layers=[0, 1, 2]", "codec.projection_width=32", "codec.quantizer.levels=[4, 4]", "codec.decoder_width=32"),
    *("codec.decoder_layers=1", "codec.pixel_width=8", "codec.embed_width=32", "clip.vision_width=32"),
    *("clip.vision_layers=2", "clip.text_width=32", "clip.text_layers=1", "clip.joint_width=16", "clip.vocabulary=300"),
    *("denoiser.width=32", "denoiser.num_layers=1", "denoiser.num_heads=2", "device=cpu"),
    *(f"train.{stage}.{dial}" for stage in ("clip", "codec", "decoder", "diffusion", "refine") for dial in FEW),
)


def run(entrance, *words: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["x", *map(str, words)])
        assert not entrance.main()


def few_rows(table: Path, actions: tuple[str, ...]) -> str:
    """The header of a set's table and a few rows of each action and split."""
    header, *rows = table.read_text(encoding="utf-8").splitlines()
    columns, kept = header.split("\t"), [header]
    for action in actions:
        for split, num in PER_SPLIT.items():
            cells = [dict(zip(columns, row.split("\t"), strict=True)) for row in rows]
            fitting = [
                row for row, one in zip(rows, cells, strict=True) if (one["label"], one["split"]) == (action, split)
            ]
            kept += fitting[:num]
    return "\n".join(kept)


@pytest.fixture(scope="module")
def line(shared_dir, tmp_path_factory) -> Path:
    home, sets = tmp_path_factory.mktemp("actions"), []
    for name, actions in CHOSEN.items():
        videos = shared_dir / "data" / "real" / name
        if not videos.is_dir():
            pytest.skip(f"{name} is absent: it is not part of the project")
        table, out = home / f"{name}.tsv", home / name
        table.write_text(few_rows(videos / "captions.tsv", actions), encoding="utf-8")
        words = ["folder", str(videos), "--captions", str(table), "--mode", "letterbox", "--workers", "1"]
        words += ["--about-columns", "label", "--val-from-train", "0.4", "--out", str(out)]
        assert data_prep(words) == 0
        sets.append(str(out))
    assert data_prep(["join", *sets, "--out", str(home / "joined")]) == 0
    assert data_prep(["augment", str(home / "joined"), "--copies", "3", "--out", str(home / "x3")]) == 0
    for config, run_name, stages in (
        ("actions_64_codec", "codec", ["clip", "codec", "decoder"]),
        ("actions_64", "run", ["diffusion", "refine"]),
    ):
        dials = [f"data.path={home / 'x3'}", *SHRUNK, *([f"reuse={home / 'codec'}"] if run_name == "run" else [])]
        words = ["--config", ROOT / "configs" / f"{config}.yaml", "--out", home / run_name, "--watch", "none"]
        run(train, *words, "--stages", *stages, *(f"--set={dial}" for dial in dials))
    return home


@pytest.mark.shared
@pytest.mark.slow
def test_the_sets_become_one_folder_with_three_splits(line):
    joined, augmented = StoredClips(line / "joined"), StoredClips(line / "x3")
    assert {row.split for row in joined.rows} == {"train", "val", "test"}
    assert {row.about["set"] for row in joined.rows} == set(CHOSEN)
    num_train = sum(row.split == "train" for row in joined.rows)
    assert len(augmented) == len(joined) + 2 * num_train
    of_id = {row.id: row for row in joined.rows}
    for row in augmented.rows:
        if row.id.endswith("~1"):
            assert row.captions[0] == mirrored_caption(of_id[row.about["copy_of"]].captions[0])
    assert any("left" in pair for pair in augmented.manifest["mirrored_captions"])


@pytest.mark.shared
@pytest.mark.slow
def test_what_is_written_is_the_best_of_refine(line):
    best = checkpoint.best(line / "run", "refine")
    bounds = {
        entry["step"]: entry["evaluation"]["val_bound"]
        for entry in map(json.loads, (line / "run" / "log.jsonl").read_text().splitlines())
        if entry["task"] == "refine" and "evaluation" in entry
    }
    assert best.step == min(bounds, key=bounds.__getitem__)


@pytest.mark.shared
@pytest.mark.slow
def test_the_scores_of_a_model_that_has_learned_nothing(line, capsys):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_action_classifier, "BATCH_SIZE", 4)
        run(train_action_classifier, "--clips", line / "joined", "--out", line / "referee", "--steps", 4)
    words = ("--checkpoint", line / "run", "--clips", line / "joined", "--referee", line / "referee")
    run(action_scores, *words, "--num-frames", 6, "--steps", 1, "--device", "cpu", "--out", line / "scores")
    result = json.loads((line / "scores" / "scores.json").read_text())
    found = {(one["set"], one["metric"], one["system"]): one for one in result["scores"]}
    for name in CHOSEN:
        assert found[name, "action", "other"]["num_clips"] == 3
        assert found[name, "action", "other"]["n"] == found[name, "action", "dropped"]["n"] == 6
        assert result["referee"]["sets"][name]["n"] == 3
    assert (line / "scores" / "sheet.png").is_file()
    assert "by the first frame alone" in capsys.readouterr().out

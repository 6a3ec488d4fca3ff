"""The arithmetic of docs/scaling.md: exchanges against rings walked step by step, and one process of several by hand."""

import json
import re
from pathlib import Path

import pytest

from cdcd_video.errors import UserError
from cdcd_video.tools.dev import scaling_estimate
from cdcd_video.tools.dev.scaling_estimate import Speeds, Work, gathered, share_of

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "scaling.md").read_text(encoding="utf-8")
WORK = Work(
    rows=48, flops=6e12, trained=400, frozen=70, activations=900.0, forwards=1, codes=120, embeddings=60,
    differentiable=30, checkpoint=0,
)  # fmt: skip
SPEEDS = Speeds(flops=1e12, link=100.0, network=10.0, per_node=4)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_a_ring_sends_what_is_counted(size):
    """Each passes on what it got last, until all have all; reducing runs the same way with sums in the place of copies."""
    have, sent = [{rank} for rank in range(size)], [0] * size
    parts = [12.0 / size] * size
    for step in range(size - 1):
        moving = [(rank - step) % size for rank in range(size)]
        for rank in range(size):
            have[(rank + 1) % size].add(moving[rank])
            sent[rank] += parts[moving[rank]]
    assert have == [set(range(size))] * size
    assert sent == pytest.approx([gathered(12.0, size)] * size)


def test_one_of_three_by_hand():
    copies, shares = (share_of(WORK, SPEEDS, 3, shard) for shard in ("ddp", "fsdp"))
    assert copies.memory == 5 * 400 + 70 + 900 / 3
    assert shares.memory == pytest.approx(5 * 400 / 3 + 400 + 70 + 900 / 3)
    shown = (120 + 60) * 2 / 3 + 2 * 30 * 2 / 3
    assert copies.sent == pytest.approx(shown + 2 * 400 * 2 / 3)
    assert shares.sent == pytest.approx(shown + 3 * 400 * 2 / 3)
    assert copies.computing_s == pytest.approx(2.0)
    assert copies.sending_s == pytest.approx(copies.sent / 100)
    assert copies.efficiency == pytest.approx((2 / (2 + copies.sent / 100), 2 / max(2, copies.sent / 100)))


def test_beyond_a_machine_the_network_counts_and_alone_nothing_is_sent():
    assert share_of(WORK, SPEEDS, 8, "ddp").sending_s == pytest.approx(share_of(WORK, SPEEDS, 8, "ddp").sent / 10)
    alone = share_of(WORK, SPEEDS, 1, "ddp")
    assert (alone.sent, alone.memory, alone.efficiency) == (0, 5 * 400 + 70 + 900, (1.0, 1.0))
    rows = scaling_estimate.table(WORK, SPEEDS, [1, 8])
    assert len(rows) == 2 + 1 + 2 and rows[2].startswith("| 1 | 48 | none |") and rows[3].startswith("| 8 | 6 | ddp |")


def test_a_batch_that_cannot_be_dealt_out_is_refused_before_anything_is_counted(monkeypatch):
    config = str(Path(scaling_estimate.__file__).parents[3] / "configs" / "tiny.yaml")
    monkeypatch.setattr("sys.argv", ["scaling", "--config", config, "--processes", "2", "7"])
    with pytest.raises(UserError, match="cannot be divided among 7 processes; name divisors"):
        scaling_estimate.main()


def test_a_stage_is_counted_as_the_dry_run_counts_it():
    from cdcd_video.config import Config, config_file

    path = Path(scaling_estimate.__file__).parents[3] / "configs" / "tiny.yaml"
    changes = ["loss.contrast.frame_text=0.1", "loss.contrast.share=0.5", "loss.contrast.frame_frame=0"]
    config = config_file.load(path, Config, [*changes, "train.diffusion.batch_size=12"])
    work = scaling_estimate.work_of(config, "diffusion")
    assert work.rows == 12 and work.codes % (12 * 8) == 0 and work.forwards == 1
    assert work.embeddings == 6 * (4 * config.clip.joint_width + 8) and work.differentiable == 0
    assert work.checkpoint >= 4 * work.trained and work.flops > 2 * 12 * work.trained / 4
    with pytest.raises(UserError, match="has no stage 'eye'; choose from clip, codec, decoder, diffusion, refine"):
        scaling_estimate.work_of(config, "eye")


def test_the_tables_of_the_page_are_the_arithmetic_on_the_counts_above_them():
    found = re.findall(r"^Counted: (\{.*\})\nAssumed: (\{.*\})\n\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert len(found) >= 2
    for work, speeds, rows in found:
        sizes = dict.fromkeys(int(row.split("|")[1]) for row in rows.splitlines()[2:])
        table = scaling_estimate.table(Work(**json.loads(work)), Speeds(**json.loads(speeds)), list(sizes))
        assert rows.splitlines() == table

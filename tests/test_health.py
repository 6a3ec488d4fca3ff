"""Freezing and collapsing: closed forms, and runs that do the one or the other and say so."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, one_hot

from cdcd_video.config import CodecConfig, Config, DenoiserTrainConfig, FsqConfig, SpritesData, TrainStages
from cdcd_video.data.cache import CodeCache
from cdcd_video.data.shots import Shots
from cdcd_video.diffusion import process as processes
from cdcd_video.engine import loop
from cdcd_video.metrics.latent.clusters import potentials, uniformity
from cdcd_video.metrics.latent.health import (
    CHECKED_FROM,
    COLLAPSES_BELOW,
    FADES_BELOW,
    FREEZES_BELOW,
    ROLLED_FROM,
    alarms,
    effective_rank,
    health,
    motion,
    rolled_motion,
)
from cdcd_video.networks.codec.frame_codec import Codec
from cdcd_video.networks.conditional_transformer import CachedCondition
from cdcd_video.networks.denoiser import Denoiser
from cdcd_video.records import TextStates
from cdcd_video.training.code_stages import DiffusionStage
from cdcd_video.training.model_card import write_card
from cdcd_video.training.rollout_health import NUM_WATCHED, ROLLED_FRAMES
from cdcd_video.training.stage_settings import settings_for

LEVELS, PATCHES, GROUPS, NUM_CODES = (5, 4), 9, 2, 20
TOKENS = PATCHES * GROUPS


# -------------------------------------------------------------------------------------------------------- closed forms


def test_effective_rank_counts_directions():
    assert effective_rank(np.eye(7)) == pytest.approx(7)
    assert effective_rank(np.eye(7)[[0, 0, 1, 1, 2, 2]]) == pytest.approx(3)
    one = np.full((10, 4), 0.5)
    assert effective_rank(one) == pytest.approx(1)
    assert effective_rank(one * np.linspace(-3, 5, 10)[:, None]) == pytest.approx(1)
    noise = np.random.Generator(np.random.Philox(key=0)).normal(size=(10, 4))
    assert effective_rank(one + 1e-4 * noise) < 1.01, "what little noise is left is no direction"


def test_effective_rank_is_the_entropy_of_the_singular_values_and_does_not_turn_with_the_space():
    points = np.diag([3.0, 2.0, 1.0])
    entropy = -sum(p * math.log(p) for p in (1 / 2, 1 / 3, 1 / 6))
    turn, _ = np.linalg.qr(np.random.Generator(np.random.Philox(key=1)).normal(size=(3, 3)))
    for same in (points, points @ turn, 10 * points[::-1]):
        assert effective_rank(same) == pytest.approx(math.exp(entropy))


def test_motion_is_the_mean_distance_of_patches():
    before = np.zeros((2, 4, 2))
    assert motion(before, before) == 0
    after = before.copy()
    after[0, 1] = [3, 4]
    assert motion(after, before) == pytest.approx(5 / 8)


def test_uniformity_of_one_point_is_nothing():
    assert uniformity(potentials(np.full((5, 1, 4), 0.5)))[0] == pytest.approx(0)


def frames_of(values: np.ndarray, points: np.ndarray) -> dict[str, np.ndarray]:
    return {"values": values, "embedding": points / np.linalg.norm(points, axis=1, keepdims=True)}


def test_figures_of_the_truth_itself_of_a_copy_and_of_one_frame_for_all():
    rng = np.random.Generator(np.random.Philox(key=2))
    earlier, real = (frames_of(rng.normal(size=(12, 4, 2)), rng.normal(size=(12, 16))) for _ in range(2))
    text_embedding = frames_of(np.zeros(0), rng.normal(size=(12, 16)))["embedding"]
    same = health(real, real, earlier, text_embedding)
    assert same["motion_ratio"] == same["rank_ratio"] == 1
    assert all(value == same[name.replace("drawn", "real")] for name, value in same.items() if name.startswith("drawn"))
    gap = real["embedding"] - earlier["embedding"]
    assert same["real_alignment"] == pytest.approx((gap**2).sum(1).mean())
    assert same["real_text_alignment"] == pytest.approx(((real["embedding"] - text_embedding) ** 2).sum(1).mean())
    copy = health(earlier, real, earlier, text_embedding)
    assert copy["motion_ratio"] == copy["drawn_alignment"] == 0 and copy["rank_ratio"] > 0.8
    one = health({name: np.repeat(value[:1], 12, 0) for name, value in real.items()}, real, earlier, text_embedding)
    assert one["drawn_rank"] == pytest.approx(1) and one["drawn_uniformity"] == pytest.approx(0)
    assert one["motion_ratio"] > 0.5
    still = health(earlier, earlier, earlier, text_embedding)
    assert "motion_ratio" not in still, "nothing moves in truth: there is nothing to compare with"


def test_the_motion_of_roll_outs_is_that_into_their_later_half():
    real = np.zeros((1, 6, 2, 1))
    real[0, :, 0, 0] = [0, 1, 2, 3, 5, 7]
    drawn = np.zeros_like(real)
    drawn[0, :, 0, 0] = [0, 9, 9, 9, 8, 8]
    found = rolled_motion(drawn, real)  # into frames 3, 4 and 5, over two patches
    assert found["rolled_real_motion"] == pytest.approx((1 + 2 + 2) / 6)
    assert found["rolled_motion"] == pytest.approx((0 + 1 + 0) / 6)
    assert found["rolled_motion_ratio"] == pytest.approx(1 / 5)
    assert rolled_motion(real, real)["rolled_motion_ratio"] == 1
    assert "rolled_motion_ratio" not in rolled_motion(real, drawn[:, [0] * 6]), "the truth stands still"
    assert rolled_motion(drawn[:, :2], real[:, :2])["rolled_motion_ratio"] == 9, "of two frames the second counts"


def test_alarms_wait_for_half_of_the_training_and_for_their_thresholds():
    well = dict(motion_ratio=1.0, rank_ratio=1.0, drawn_rank=9.0, real_rank=9.0)
    assert alarms(well, 1.0) == []
    frozen, collapsed = well | {"motion_ratio": 0.1}, well | {"rank_ratio": 0.2, "drawn_rank": 1.8}
    assert alarms(frozen, 0.99 * CHECKED_FROM) == alarms(collapsed, 0.0) == []
    (told,) = alarms(frozen, CHECKED_FROM)
    assert told == "the model freezes: its frames have 10% of the true motion from their source (alarm below 50%)"
    (told,) = alarms(collapsed, 1.0)
    assert told.startswith("the latent space collapses: sampled frames have effective rank 1.8, true ones 9.0")
    fading = well | {"rolled_motion_ratio": 0.3}
    (told,) = alarms(fading, 1.0)
    assert told == "roll-outs freeze: in their later half they have 30% of the true motion from frame to frame " + (
        "(alarm below 45%)"
    )
    assert alarms(fading, 0.99 * ROLLED_FROM) == [] and alarms(fading, ROLLED_FROM) == [told]
    assert alarms(fading | frozen, 1.0) == alarms(frozen, 1.0)
    edge = well | {"motion_ratio": FREEZES_BELOW, "rank_ratio": COLLAPSES_BELOW, "rolled_motion_ratio": FADES_BELOW}
    assert alarms(edge, 1.0) == []
    assert len(alarms(frozen | {"rank_ratio": 0.1}, 1.0)) == 2
    assert alarms({"rank_ratio": 1.0}, 1.0) == [], "a world in which nothing moves freezes nobody"


# ------------------------------------------------------------------------------------------------- models made to do it


class Moving(CodeCache):
    """Clip c begins at codes of its own and counts up by one a frame, everywhere."""

    fps = 8.0
    lengths = np.full(30, 8)
    shots = Shots.of(lengths, None)
    caption_of = tuple((clip,) for clip in range(30))
    sentence = np.arange(30)

    def __init__(self):
        """There is no folder."""

    def frame_codes(self, clip, frame):
        begins = np.random.Generator(np.random.Philox(key=5)).integers(NUM_CODES, size=(30, TOKENS))
        return torch.from_numpy((begins[clip] + np.asarray(frame)[:, None]) % NUM_CODES)

    def text(self, caption):
        stream = torch.Generator().manual_seed(0)
        text_embedding = normalize(torch.randn(30, 8, generator=stream), dim=-1)[torch.from_numpy(caption)]
        return TextStates(torch.ones(len(caption), 2, 8), torch.ones(len(caption), 2, dtype=torch.bool), text_embedding)


class Forced(Denoiser):
    """A denoiser that is all but sure of what `say` makes of the condition."""

    def __init__(self, say):
        nn.Module.__init__(self)
        self.say, self.weight = say, nn.Parameter(torch.zeros(()))

    def prepare(self, condition, keys_values=None):
        nothing = torch.zeros(len(condition.source), PATCHES, 0)
        return CachedCondition(nothing, (), torch.zeros(len(nothing), 65), (nothing, nothing), condition)

    def forward(self, x_t: Tensor, t: Tensor, shown) -> Tensor:
        condition = shown.condition if isinstance(shown, CachedCondition) else shown
        return 15.0 * one_hot(self.say(condition), NUM_CODES) + self.weight


def follow(condition) -> Tensor:
    return (condition.source + (condition.gap_s * Moving.fps).round().long()[:, None]) % NUM_CODES


def copy(condition) -> Tensor:
    return condition.source


def tire(condition) -> Tensor:
    """Follows the truth, but for one place; on a frame that no clip has, stands still."""
    shift = (condition.source - condition.first) % NUM_CODES
    is_true = (shift == shift[:, :1]).all(1, keepdim=True)
    return torch.where(is_true & (torch.arange(TOKENS) > 0), follow(condition), condition.source)


def constant(condition) -> Tensor:
    return torch.arange(TOKENS).expand_as(condition.source) % NUM_CODES


def stage_of(say, kind: str) -> DiffusionStage:
    torch.manual_seed(0)
    cfg = CodecConfig(
        layers=(0,),
        projection_width=8,
        groups=GROUPS,
        quantizer=FsqConfig(levels=LEVELS),
        decoder_width=32,
        decoder_layers=1,
        pixel_width=4,
        embed_width=32,
    )
    codec = Codec(cfg, clip_width=8, num_patches=PATCHES, joint_width=8, size_px=24).eval()
    codec.embed_head.position.data.normal_()  # a fresh head sees all frames nearly alike
    nn.init.normal_(codec.embed_head.codes_in.weight, std=2.0)
    process = {"mask": processes.mask(NUM_CODES), "bridge": processes.bridge(NUM_CODES, 0.05)}[kind]
    train = TrainStages(diffusion=DenoiserTrainConfig(precision="fp32"))
    config = Config(name="forced", data=SpritesData(), train=train)
    return DiffusionStage(Forced(say), codec, process, config, Moving(), Moving(), torch.device("cpu"))


@pytest.mark.sweep
@pytest.mark.parametrize("kind", ["mask", "bridge"])
@pytest.mark.parametrize(
    "say, word", [(follow, ""), (copy, "freezes"), (tire, "roll-outs freeze"), (constant, "collapses")]
)
def test_a_run_that_freezes_or_collapses_says_so_and_a_healthy_one_does_not(say, word, kind, tmp_path, capsys):
    stage = stage_of(say, kind)
    settings = replace(settings_for(stage.config.train.diffusion, 1), num_steps=4, learning_rate=1e-9, eval_every=1)
    result = loop.train(stage, settings, tmp_path, seed=0, identity={})
    figures = result.evaluation
    expected = {
        "": (1.0, 1.0, 1.0),
        "freezes": (0.0, None, 0.0),
        "roll-outs freeze": (None, None, 0.0),
        "collapses": (None, 1 / figures["real_rank"], 0.0),
    }[word]
    for name, value in zip(("motion_ratio", "rank_ratio", "rolled_motion_ratio"), expected, strict=True):
        if value is not None:
            assert figures[name] == pytest.approx(value, abs=0.02), name

    assert word != "roll-outs freeze" or figures["motion_ratio"] > 0.9, "in single steps nothing shows"

    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    judged = [line["alarms"] for line in lines if "evaluation" in line]
    assert judged[0] == [], "too early"
    # Roll-outs are judged at the end alone; one frame for all that is said is one that does not move.
    expected = {"": [0, 0, 0], "freezes": [1, 1, 1], "roll-outs freeze": [0, 0, 1], "collapses": [1, 1, 2]}[word]
    assert [len(found) for found in judged[1:]] == expected
    (tmp_path / "run.json").write_text(
        json.dumps(dict(command=[], commit="", dirty=False, machine=dict(gpu=None, cpu="", cores=1, torch="")))
    )
    card, told = write_card(tmp_path, {}).read_text(), capsys.readouterr().err
    assert told.count("ALARM") == sum(expected) and ("Alarms" in card) == bool(word)
    if word:
        assert word in told and f"- **diffusion: {judged[-1][-1]}.**" in card and word in judged[-1][-1]


def test_watching_changes_no_bit_of_the_training_and_gives_the_same_figures_again(tmp_path):
    stage = stage_of(follow, "mask")
    once, again = stage.evaluate(), stage.evaluate()
    assert once == again and (NUM_WATCHED, ROLLED_FRAMES) == (64, 8)
    ends = []
    for every in (1, 4):
        settings = replace(settings_for(stage.config.train.diffusion, 1), num_steps=4, eval_every=every)
        out = Path(tmp_path / str(every))
        loop.train(stage_of(follow, "mask"), settings, out, seed=0, identity={})
        ends.append(torch.stack(list(loop.checkpoint.load_weights(out, "diffusion", "model").values())))
    assert torch.equal(*ends)

"""From which earlier frame each frame is sampled, at any frame rate and across changes of the sentence."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import worlds
from shapes import unchecked

from cdcd_video import ImageToVideo
from cdcd_video.config import CodecConfig, SamplingParams
from cdcd_video.networks.codec.frame_codec import CodeSpace
from cdcd_video.networks.conditioning import Condition
from cdcd_video.records import TextStates
from cdcd_video.sampling import latent_pipeline
from cdcd_video.sampling.captions import CaptionSchedule
from cdcd_video.sampling.code_sampler import ROUNDED_TO, DiscreteSampler
from cdcd_video.sampling.roll_out import TimeGrid, roll_out


class Counting:
    """A way whose latents are the number of the instant; it keeps every condition."""

    def __init__(self) -> None:
        self.conditions: list[Condition] = []

    def begin(self, codes):
        return codes

    def next_frame(self, condition, params, streams):
        self.conditions.append(condition)
        return torch.full_like(condition.source, len(self.conditions))


def followed(captions, **settings):
    """Shown latents, and per sampled instant (source, first, gap, age) of each video."""
    way = Counting()
    start = torch.zeros(len(captions), 1, dtype=torch.long)
    read: list[list[str]] = []

    def encode_text(sentences: list[str]) -> TextStates:
        read.append(list(sentences))
        ones = torch.ones(len(sentences), 1)
        return TextStates(ones[..., None], ones.bool(), ones)

    schedules = [CaptionSchedule.of(caption) for caption in captions]
    frames = list(roll_out(way, start, schedules, encode_text, SamplingParams(**settings), []))
    steps = [
        [
            (int(c.source[row, 0]), int(c.first[row, 0]), float(c.gap_s[row]), float(c.age_s[row]))
            for c in way.conditions
        ]
        for row in range(len(captions))
    ]
    return [frame.to_decode[:, 0].tolist() for frame in frames], steps, read


@pytest.mark.parametrize(
    ("fps", "lookback_s", "longest_gap_s", "per_frame", "back"),
    [
        (8, 0, 0, 1, 1),
        (8, 0.25, 0.25, 1, 2),
        (24, 0.25, 0.25, 1, 6),
        (16, 0.25, 0.25, 1, 4),
        (12, 0.25, 0.25, 1, 3),
        (10, 0.25, 0.25, 1, 3),
        (30, 0.125, 0.25, 1, 4),
        (4, 0.25, 0.25, 1, 1),
        (3, 0.25, 0.25, 2, 2),
        (2, 0.25, 0.25, 2, 1),
        (1, 0.25, 0.25, 4, 1),
        (1, 0, 0.5, 2, 1),
        (0.1, 0.25, 0.25, 40, 1),
        (240, 0.25, 0.25, 1, 60),
        (1, 5, 0, 1, 5),
    ],
)
def test_the_grid_of_instants(fps, lookback_s, longest_gap_s, per_frame, back):
    grid = TimeGrid.of(SamplingParams(fps=fps, lookback_s=lookback_s, longest_gap_s=longest_gap_s))
    assert (grid.per_frame, grid.back) == (per_frame, back)
    assert grid.step_s * grid.per_frame == pytest.approx(1 / fps)
    assert not longest_gap_s or grid.step_s <= longest_gap_s + 1e-9


def test_without_settings_every_frame_follows_the_one_before():
    shown, (steps,), _ = followed(["a"], num_frames=4, fps=8)
    assert shown == [[0], [1], [2], [3]]
    assert steps == [(0, 0, 0.125, 0.0), (1, 0, 0.125, 0.125), (2, 0, 0.125, 0.25)]


def test_sources_lie_a_quarter_of_a_second_back():
    shown, (steps,), _ = followed(["a"], num_frames=6, fps=8, lookback_s=0.25)
    assert shown == [[number] for number in range(6)]
    assert [step[0] for step in steps] == [0, 0, 1, 2, 3]
    assert [step[2] for step in steps] == [0.125, 0.25, 0.25, 0.25, 0.25]
    assert [step[3] for step in steps] == [0, 0, 0.125, 0.25, 0.375]


def test_hidden_instants_are_sampled_and_not_shown():
    shown, (steps,), _ = followed(["a"], num_frames=3, fps=1, lookback_s=0.25, longest_gap_s=0.25)
    assert shown == [[0], [4], [8]]
    assert [step[0] for step in steps] == list(range(8))
    assert {step[2] for step in steps} == {0.25}


def test_no_source_lies_before_its_sentence():
    caption = [(0, "a"), (4, "b")]
    _, (steps,), read = followed([caption], num_frames=8, fps=8, lookback_s=0.5)
    # Frame 4 is the first that "b" speaks of: it is sampled from frame 3, which is the first frame of "b" from there on.
    assert [step[0] for step in steps] == [0, 0, 0, 3, 3, 3, 3]
    assert [step[1] for step in steps] == [0, 0, 0, 3, 3, 3, 3]
    assert [step[2] for step in steps] == [0.125, 0.25, 0.375, 0.125, 0.25, 0.375, 0.5]
    assert [step[3] for step in steps] == [0.0] * 7
    assert read == [["a"], ["b"]]


def test_hidden_instants_of_a_new_sentence_are_its_own():
    _, (steps,), read = followed([[(0, "a"), (2, "b")]], num_frames=3, fps=2, longest_gap_s=0.25)
    assert [(step[0], step[1], step[3]) for step in steps] == [(0, 0, 0.0), (1, 0, 0.25), (2, 2, 0.0), (3, 2, 0.25)]
    assert read == [["a"], ["b"]]


def test_videos_of_a_batch_turn_each_at_its_own_frame():
    captions = [[(0, "a"), (3, "b")], "c", [(0, "d"), (5, "e")]]
    settings = dict(num_frames=9, fps=8, lookback_s=0.375)
    shown, together, read = followed(captions, **settings)
    assert shown == [[number] * 3 for number in range(9)]
    for caption, steps in zip(captions, together, strict=True):
        assert followed([caption], **settings)[1] == [steps]
    assert read == [["a", "c", "d"], ["b", "c", "d"], ["b", "c", "e"]]


def test_what_is_expected_is_shown_and_codes_go_on():
    class Expecting(Counting):
        def next_frame_and_values(self, condition, params, streams):
            return self.next_frame(condition, params, streams), torch.full((1, 1, 1), 0.5)

    way, start = Expecting(), torch.zeros(1, 1, dtype=torch.long)
    text = TextStates(torch.ones(1, 1, 1), torch.ones(1, 1).bool(), torch.ones(1, 1))
    for shown, expected in (("expected", [0, 0.5, 0.5]), ("sampled", [0, 1, 2])):
        way.conditions.clear()
        params = SamplingParams(num_frames=3, decoded=shown)
        frames = list(roll_out(way, start, [CaptionSchedule.of("a")], lambda _: text, params, []))
        assert [frame.to_decode.flatten()[0].item() for frame in frames] == expected
        assert [frame.latents[0, 0].item() for frame in frames] == [0, 1, 2]


def test_patches_that_do_not_change_are_copied_where_asked(tiny_model: Path):
    pipe = ImageToVideo.from_pretrained(tiny_model, device="cpu")
    codec, side = pipe.model.codec, pipe.size_px
    start = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
    codes = pipe.encode(start)[:, None].repeat(1, 2, 1)
    codes[0, 1, : codec.groups] = (codes[0, 1, : codec.groups] + 1) % codec.num_codes  # the first patch changes
    decoded, copied = (pipe.decode(codes, start, SamplingParams(unchanged=how))[0] for how in ("decoded", "copied"))
    patch = side // round(codec.num_patches**0.5)
    assert (copied[0] == start[0]).all()
    changed = np.zeros((side, side), bool)
    changed[:patch, :patch] = True
    assert (copied[1][~changed] == start[0][~changed]).all() and (copied[1][changed] == decoded[1][changed]).all()
    assert (decoded[1][~changed] != start[0][~changed]).any()
    near = codec.values(codes[0])[None] + 0.4 * codec.quantizer.tolerance.repeat(codec.groups)
    part = pipe.decode(near[:, 1:], start, SamplingParams(unchanged="copied"), first=codes[:, 0])[0]
    assert (part[0][~changed] == start[0][~changed]).all(), "values that would be rounded to the same code"


def test_a_stream_copies_what_the_whole_video_copies(tiny_model: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(latent_pipeline, "DECODE_BATCH", 2)
    pipe = ImageToVideo.from_pretrained(tiny_model, device="cpu")
    start = np.random.default_rng(1).integers(0, 256, (pipe.size_px, pipe.size_px, 3), dtype=np.uint8)
    params = pipe.defaults(num_frames=5, unchanged="copied", temperature=0.0)
    parts = list(pipe.stream(start, "the red circle stays still", params))
    whole = pipe.sample(start[None], ["the red circle stays still"], params, [params.seed])[0]
    assert len(parts) == 3 and (np.concatenate(parts) == whole).all()


@pytest.mark.parametrize("num_steps", [1, 3])
@pytest.mark.parametrize("kind", ["mask", "replace"])
def test_expected_values_are_sums_over_all_codes(kind: str, num_steps: int):
    """Of what the denoiser says in the last step; in the process `mask` codes that were set before it are themselves."""
    torch.manual_seed(0)
    codec = CodeSpace(
        CodecConfig(groups=2, quantizer={"kind": "fsq", "levels": [3, 2]}, embed_width=32), num_patches=4, joint_width=8
    )
    logits_of, process = torch.randn(8, 7, 6), worlds.kinds(6)[kind]
    steps: list[torch.Tensor] = []

    def denoise(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        steps.append(x_t)
        return logits_of[torch.arange(8), x_t]

    sampler = DiscreteSampler.__new__(DiscreteSampler)
    sampler.process, sampler.codec = process, codec
    sampler._denoise = lambda condition, params: denoise
    condition = SimpleNamespace(source=torch.tensor([[0, 1, 2, 3, 4, 5, 0, 1]]))
    params, streams = SamplingParams(num_steps=num_steps, temperature=1.0), [torch.Generator().manual_seed(3)]
    with unchecked():
        codes, values = sampler.next_frame_and_values(condition, params, streams)
    assert len(steps) == num_steps
    by_hand = torch.zeros(1, 4, 4)
    for place in range(8):
        x_t = int(steps[-1][0, place])
        probabilities = logits_of[place, x_t].softmax(-1)
        if kind == "mask" and x_t != process.mask_id:
            probabilities = torch.nn.functional.one_hot(codes[0, place], 6).float()
        for code in range(6):
            at = 2 * (place % 2)
            by_hand[0, place // 2, at : at + 2] += probabilities[code] * codec.table[code]
    step = codec.table.abs().max() / ROUNDED_TO
    is_set = (steps[-1] != process.mask_id).reshape(1, 4, 2).repeat_interleave(2, -1) & (kind == "mask")
    torch.testing.assert_close(values[is_set], by_hand[is_set])
    torch.testing.assert_close(values, by_hand, rtol=0, atol=step / 2 + 1e-6)
    assert ((values / step - (values / step).round()).abs() < 1e-4)[~is_set].all(), "rounded against last bits"
    if kind == "mask" and num_steps == 3:
        assert (steps[-1] != process.mask_id).any(), "some were set before"

"""From which earlier frame each frame is sampled, at any frame rate and across changes of the sentence."""

import pytest
import torch

from cdcd_video.config import SamplingParams
from cdcd_video.networks.conditioning import Condition
from cdcd_video.records import TextStates
from cdcd_video.sampling.captions import CaptionSchedule
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

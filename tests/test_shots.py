"""Shots: no example takes its frames from two sides of a cut, and without cuts everything is drawn as it always was."""

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from cdcd_video.config import Config, SpritesData
from cdcd_video.data.cache import CodeCache
from cdcd_video.data.pairs import PairIndices, sample_pairs
from cdcd_video.data.shots import LongestShots, Shots, longest_shot, shots_in
from cdcd_video.data.store import SpritesClips, StoredClips
from cdcd_video.data.store_writer import StoreWriter
from cdcd_video.errors import UserError
from cdcd_video.evaluation import real_videos
from cdcd_video.metrics.protocol import Protocol
from cdcd_video.networks.clip import FrozenClip
from cdcd_video.networks.codec.frame_codec import Codec, CodeSpace
from cdcd_video.records import TextStates
from cdcd_video.training import contact_sheets
from cdcd_video.training.code_stages import CodeStage
from cdcd_video.training.codec_metrics import codec_metrics_of
from cdcd_video.training.pixel_stages import CodecStage

LENGTHS = np.array([16, 8, 1, 12, 2, 0])


def rng(key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=key))


def bits(pairs: PairIndices) -> str:
    drawn = (pairs.clip, pairs.source, pairs.target, pairs.far, pairs.before)
    return hashlib.sha256(b"".join(np.ascontiguousarray(array, np.int64).tobytes() for array in drawn)).hexdigest()


@pytest.mark.parametrize("cuts", [None, [()] * len(LENGTHS)], ids=["unknown", "none"])
@pytest.mark.parametrize(
    ("key", "max_gap", "start_share", "known"),
    [
        (0, 4, 0.3, "0f249fe9d885af57664bb64635875b107e1897bc052a3e1bb693326c97442f2d"),
        (1, None, 0.1, "5947d8088d8b3de15217e109af196387365e5b0cecce05edcf43ac4d9d9c7897"),
    ],
)
def test_without_cuts_the_samples_are_those_from_before_there_were_shots(cuts, key, max_gap, start_share, known):
    """The hashes were made by the code that knew of no shots: what it trained can be trained again."""
    pairs = sample_pairs(Shots.of(LENGTHS, cuts), 1000, rng(key), max_gap=max_gap, start_share=start_share)
    assert bits(pairs) == known
    assert (pairs.first == 0).all()


CUTS = [(5, 6, 12), (), (), (1,), (1,), ()]
SHOTS = {(0, 0, 5), (0, 6, 12), (0, 12, 16), (1, 0, 8), (3, 1, 12)}
"""Clip, begin and end of the shots that hold a pair; clip 4 is nothing but single frames."""


@pytest.mark.parametrize("max_gap", [None, 1, 4])
def test_no_example_straddles_a_cut(max_gap):
    pairs = sample_pairs(Shots.of(LENGTHS, CUTS), 6000, rng(2), max_gap=max_gap, start_share=0.2)
    ends = {(clip, begin): end for clip, begin, end in SHOTS}
    assert {(int(clip), int(first)) for clip, first in zip(pairs.clip, pairs.first, strict=True)} == set(ends)
    end = np.array([ends[int(clip), int(first)] for clip, first in zip(pairs.clip, pairs.first, strict=True)])
    for frames in (pairs.source, pairs.target, pairs.far, pairs.before):
        assert (frames >= pairs.first).all() and (frames < end).all()
    assert (pairs.target > pairs.source).all() and (pairs.far != pairs.target).all()
    is_start = pairs.source == pairs.first
    assert ((pairs.before < pairs.source) | is_start).all()
    assert 0.2 < is_start.mean() < 0.6
    assert max_gap is None or (pairs.target - pairs.source).max() == max_gap


def test_clips_are_sampled_evenly_and_their_shots_by_their_frames():
    clip, first, length = Shots.of(LENGTHS, CUTS).sample(60_000, rng(3))
    for number in (0, 1, 3):
        assert (clip == number).mean() == pytest.approx(1 / 3, abs=0.01)
    in_first_clip = clip == 0
    for begin, frames in ((0, 5), (6, 6), (12, 4)):
        of_shot = in_first_clip & (first == begin)
        assert (length[of_shot] == frames).all()
        assert of_shot.sum() / in_first_clip.sum() == pytest.approx(frames / 15, abs=0.01)


def test_shots_of_a_part_of_a_clip():
    assert shots_in(10, (4, 7)) == [range(4), range(4, 7), range(7, 10)]
    assert shots_in(7, (4, 7)) == [range(4), range(4, 7)]
    assert shots_in(3, (4, 7)) == [range(3)]


def folder(path: Path, cuts: list[tuple[int, ...]]) -> StoredClips:
    """Clips of ten frames, each of one grey: 100 times the clip and 20 times the shot, and one more for every frame."""
    with StoreWriter(path, size_px=16, fps=8, mode="crop", recipe={}) as writer:
        for index, own in enumerate(cuts):
            greys = [100 * index + 20 * sum(frame >= cut for cut in own) + frame for frame in range(10)]
            frames = np.broadcast_to(np.uint8(greys)[:, None, None, None], (10, 16, 16, 3))
            size = dict(source_width=16, source_height=16, source_fps=8)
            writer.add(f"c{index}", frames, [f"caption {index}"], "train", **size, cuts=own)
        writer.finish()
    return StoredClips(path)


def test_a_prepared_folder_keeps_its_cuts(tmp_path):
    clips = folder(tmp_path / "out", [(), (3, 7)])
    assert [clips.cuts(clip) for clip in range(2)] == [(), (3, 7)]
    assert longest_shot(clips, 0) == range(10) and longest_shot(clips, 1) == range(3, 7)
    assert clips.digest() != folder(tmp_path / "uncut", [(), ()]).digest()
    assert SpritesClips(0, 2, "val").cuts(0) == ()


def test_a_clip_without_cuts_is_written_as_before_there_were_any(tmp_path):
    folder(tmp_path / "out", [(), (4,)])
    uncut, cut = map(json.loads, (tmp_path / "out" / "clips.jsonl").read_text().splitlines())
    assert "cuts" not in uncut and cut["cuts"] == [4]


def test_a_killed_run_keeps_the_cuts_it_had_found(tmp_path):
    with StoreWriter(tmp_path / "out", size_px=16, fps=8, mode="crop", recipe={}) as first:
        frames = np.zeros((10, 16, 16, 3), np.uint8)
        first.add("c0", frames, ["x"], "train", source_width=16, source_height=16, source_fps=8, cuts=(2,))
    with StoreWriter(tmp_path / "out", size_px=16, fps=8, mode="crop", recipe={}) as second:
        assert second.done == {"c0"}
        second.finish()
    assert StoredClips(tmp_path / "out").cuts(0) == (2,)


@pytest.mark.parametrize("cuts", [(0,), (10,), (5, 5), (7, 3), (-1,)])
def test_cuts_that_cannot_be_are_a_mistake_of_the_program(tmp_path, cuts):
    with pytest.raises(ValueError, match="cannot have cuts"):
        folder(tmp_path / "out", [cuts])


# ------------------------------------------------------------------------------------------- who learns from clips


def shot_of(grey: torch.Tensor) -> list[tuple[int, int]]:
    """Clip and shot of frames of `folder`."""
    return [(int(value) // 100, int(value) % 100 // 20) for value in grey]


def test_the_codec_and_its_decoder_get_frames_of_one_shot(tmp_path):
    clips = folder(tmp_path / "out", [(3, 7), (5,)])
    stage = CodecStage(
        Mock(Codec), Mock(FrozenClip), Config(name="test", data=SpritesData()), clips, clips, torch.device("cpu")
    )
    seen = set()
    for step in range(20):
        pair = stage.batch(step)
        first, source, target = ((frame[:, 0, 0, 0] * 255).round() for frame in (pair.first, pair.source, pair.target))
        assert shot_of(first) == shot_of(source) == shot_of(target) and (source < target).all()
        starts = {
            (clip, shot): 100 * clip + 20 * shot + (0, 3, 7)[shot] for clip, shot in ((0, 0), (0, 1), (0, 2), (1, 0))
        }
        starts[1, 1] = 125
        assert first.tolist() == [starts[place] for place in shot_of(first)], "the starting frame is the shot's first"
        seen |= set(shot_of(first))
    assert seen == set(starts)


class CutCache(CodeCache):
    """The code of a frame says in which clip and shot it is: 10 times the clip and the number of cuts before."""

    fps = 8.0
    cuts = ((3, 7), (5,))
    shots = Shots.of([10, 10], cuts)
    caption_of = ((0,), (1,))
    sentence = np.arange(2)

    def __init__(self):
        """There is no folder."""

    def frame_codes(self, clip, frame):
        shot = [10 * c + sum(f >= cut for cut in self.cuts[c]) for c, f in zip(clip, frame, strict=True)]
        return torch.tensor(shot)[:, None].expand(-1, 4).clone()

    def text(self, caption):
        num = len(caption)
        return TextStates(torch.ones(num, 3, 8), torch.ones(num, 3, dtype=torch.bool), torch.ones(num, 4))


def test_step_encoder_diffusion_and_refinement_get_codes_of_one_shot():
    cache, config = CutCache(), Config(name="test", data=SpritesData())
    stage = CodeStage(Mock(CodeSpace), config, cache, cache, torch.device("cpu"))
    batch = stage._examples(cache, rng(5), 2000)
    for frame in (batch.target, batch.first, batch.far, batch.before):
        assert torch.equal(frame, batch.source)
    assert set(batch.source[:, 0].tolist()) == {0, 1, 2, 10, 11}
    age = (batch.age_s[batch.has_first] * 8).round()
    assert age.max() == 3, (
        "the age is counted from where the shot begins: the longest has five frames, the last is a target"
    )
    assert (batch.before_gap_s <= batch.age_s + 1e-6)[batch.has_first].all()


# --------------------------------------------------------------------------------------- who follows clips, and judges


def test_of_each_clip_the_longest_shot_is_followed(tmp_path):
    clips = folder(tmp_path / "out", [(3, 7), (), (6,)])
    shots = LongestShots(clips)
    assert [shots.num_frames(clip) for clip in range(3)] == [4, 10, 6]
    assert [shots.cuts(clip) for clip in range(3)] == [()] * 3
    assert np.array_equal(shots.frames(0, [0, 3, 1]), clips.frames(0, [3, 6, 4]))
    assert np.array_equal(shots.frames(1, range(10)), clips.frames(1, range(10)))
    assert (shots.name(2), shots.captions(2), shots.digest()) == ("c2", ("caption 2",), clips.digest())
    for outside in (-1, 4):
        with pytest.raises(IndexError):
            shots.frames(0, [outside])


def test_an_evaluations_real_windows_lie_in_one_shot(tmp_path):
    folder(tmp_path / "out", [(3, 7), (2,), (9,)])
    rule = Protocol(data=str(tmp_path / "out"), split="train", num_videos=2, num_real=1, size_px=16, num_frames=6)
    dataset, settled = real_videos.clips(real_videos.stored(rule), rule)
    assert [eval_video.name for eval_video in dataset.eval_videos] == ["c1", "c2"]  # no shot of c0 has six frames
    assert dataset.real_video(0, 16)[:, 0, 0, 0].tolist() == [122, 123, 124, 125, 126, 127]
    assert dataset.real_video(1, 16)[:, 0, 0, 0].tolist() == [200, 201, 202, 203, 204, 205]
    assert dataset.other(0, 16)[:, 0, 0, 0].tolist() == [200, 201, 202, 203, 204, 205]
    assert (settled.num_videos, settled.num_real) == (2, 1)
    strided = rule.settled(num_frames=5, stride=2)
    assert real_videos.clips(real_videos.stored(strided), strided)[0].eval_videos[0].name == "c2"
    with pytest.raises(UserError, match="no clip has 10 frames in one shot .the longest has 9"):
        real_videos.clips(real_videos.stored(rule), rule.settled(num_frames=10))


class GreyClip(FrozenClip):
    """Sees nothing but how bright a frame is, and remembers which it has seen."""

    def __init__(self):
        torch.nn.Module.__init__(self)
        self.seen: list[int] = []

    def encode_image(self, frames, layers, grid=None):
        self.seen += (frames[:, 0, 0, 0] * 255).round().int().tolist()
        return SimpleNamespace(patches=frames, embedding=torch.ones(len(frames), 2))


def test_figures_and_sheets_of_the_codec_look_at_one_shot(tmp_path):
    clips, clip = folder(tmp_path / "out", [(3, 7), (4,)]), GreyClip()
    codec = Mock(
        Codec,
        table=torch.zeros(3, 1),
        num_codes=3,
        num_patches=16,
        groups=1,
        cfg=SimpleNamespace(layers=(), still_tolerance=0.0),
        encode=lambda patches: torch.zeros(len(patches), 16).long(),
        embed=lambda codes, grid: torch.ones(len(codes), 2),
        grid_of=lambda height, width: (4, 4),
        decode=lambda codes, start: start,
    )
    figures = codec_metrics_of(codec, clip, clips, num_clips=2)
    assert clip.seen == [23, 24, 25, 26, 124, 125, 126, 127, 128, 129]
    assert np.isnan(figures["flicker"]) and figures["still_share"] == 0, "each frame is another grey"
    rows, _ = contact_sheets.decoded_rows(codec, clip, clips, 2)
    assert rows[0][:, 0, 0, 0].tolist() == [25, 127] and rows[1][:, 0, 0, 0].tolist() == [23, 124]

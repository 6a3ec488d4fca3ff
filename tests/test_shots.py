"""Shots: no example takes its frames from two sides of a cut, and without cuts everything is drawn as it always was."""

import hashlib
import json

import numpy as np
import pytest
import torch

from cdcd_video.data.cache import CodeCache, write_cache
from cdcd_video.data.pairs import PairIndices, draw_pairs
from cdcd_video.data.shots import Shots, longest_shot, shots_in
from cdcd_video.data.store import SpritesClips, StoredClips
from cdcd_video.data.store_writer import StoreWriter
from cdcd_video.records import TextStates

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
def test_without_cuts_the_draws_are_those_from_before_there_were_shots(cuts, key, max_gap, start_share, known):
    """The hashes were made by the code that knew of no shots: what it trained can be trained again."""
    pairs = draw_pairs(Shots.of(LENGTHS, cuts), 1000, rng(key), max_gap=max_gap, start_share=start_share)
    assert bits(pairs) == known
    assert (pairs.first == 0).all()


CUTS = [(5, 6, 12), (), (), (1,), (1,), ()]
SHOTS = {(0, 0, 5), (0, 6, 12), (0, 12, 16), (1, 0, 8), (3, 1, 12)}
"""Clip, begin and end of the shots that hold a pair; clip 4 is nothing but single frames."""


@pytest.mark.parametrize("max_gap", [None, 1, 4])
def test_no_example_straddles_a_cut(max_gap):
    pairs = draw_pairs(Shots.of(LENGTHS, CUTS), 6000, rng(2), max_gap=max_gap, start_share=0.2)
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


def test_clips_are_drawn_evenly_and_their_shots_by_their_frames():
    clip, first, length = Shots.of(LENGTHS, CUTS).draw(60_000, rng(3))
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


def folder(path, cuts: list[tuple[int, ...]]) -> StoredClips:
    with StoreWriter(path, size_px=8, fps=8, mode="crop", recipe={}) as writer:
        for index, own in enumerate(cuts):
            frames = np.full((10, 8, 8, 3), index, np.uint8)
            size = dict(source_width=8, source_height=8, source_fps=8)
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
    with StoreWriter(tmp_path / "out", size_px=8, fps=8, mode="crop", recipe={}) as first:
        frames = np.zeros((10, 8, 8, 3), np.uint8)
        first.add("c0", frames, ["x"], "train", source_width=8, source_height=8, source_fps=8, cuts=(2,))
    with StoreWriter(tmp_path / "out", size_px=8, fps=8, mode="crop", recipe={}) as second:
        assert second.done == {"c0"}
        second.finish()
    assert StoredClips(tmp_path / "out").cuts(0) == (2,)


@pytest.mark.parametrize("cuts", [(0,), (10,), (5, 5), (7, 3), (-1,)])
def test_cuts_that_cannot_be_are_a_mistake_of_the_program(tmp_path, cuts):
    with pytest.raises(ValueError, match="cannot have cuts"):
        folder(tmp_path / "out", [cuts])


def test_the_cache_of_codes_draws_within_shots(tmp_path):
    clips = folder(tmp_path / "out", [(3, 7), (), (9,)])

    def read(captions):
        shape = (len(captions), 2)
        return TextStates(torch.ones(*shape, 4), torch.ones(shape, dtype=torch.bool), torch.ones(len(captions), 4))

    write_cache(tmp_path / "cache", clips, lambda frames: torch.zeros(len(frames), 4).long(), read, {}, 8)
    shots = CodeCache(tmp_path / "cache").shots
    assert shots.clips.tolist() == [0, 1, 2] and shots.begins.tolist() == [0, 3, 0, 0]
    assert shots.lengths.tolist() == [3, 4, 8, 8]  # a shot of one frame holds no pair; nine is beyond the eight encoded

"""Late clips: frames long after the first, and sources that are never on the other side of the hole in time."""

from pathlib import Path

import numpy as np
import pytest

from cdcd_video.config import Config, config_file
from cdcd_video.data.pairs import PairIndices, sample_pairs, with_near_sources
from cdcd_video.data.shots import Shots
from cdcd_video.data.sprites import World
from cdcd_video.data.sprites_render import render
from cdcd_video.data.store import UnevenSpritesClips
from cdcd_video.errors import UserError

WORLD, NUM_CLIPS, NUM_FRAMES, FPS, LATE_S = World(version="v2"), 200, 16, 8.0, 12.0
CONFIG = Path(__file__).parent.parent / "configs" / "sprites.yaml"


def clips(late_share: float) -> UnevenSpritesClips:
    return UnevenSpritesClips(0, NUM_CLIPS, "train", WORLD, NUM_FRAMES, 64, FPS, late_share=late_share, late_s=LATE_S)


@pytest.fixture(scope="module")
def times() -> np.ndarray:
    """Instants of clips of which a quarter is late."""
    return np.stack([clips(0.25).times_s(clip) for clip in range(NUM_CLIPS)])


def test_the_share_of_late_clips(times: np.ndarray):
    usual = np.stack([clips(0).times_s(clip) for clip in range(NUM_CLIPS)])
    is_late = (times != usual).any(1)
    assert 0.15 < is_late.mean() < 0.35
    assert (times[:, 0] == 0).all() and (np.diff(times, axis=1) > 0).all()
    assert times.max() < LATE_S and times.max() > LATE_S - 2
    spans = times[is_late][:, -1] - times[is_late][:, 1]
    assert (spans < (NUM_FRAMES - 1) / FPS).all()


def test_late_frames_show_the_scene_at_their_time(times: np.ndarray):
    late = clips(0.25)
    clip = int(times[:, 1].argmax())
    assert times[clip, 1] > NUM_FRAMES / FPS
    shown = late.frames(clip, [0, 1, NUM_FRAMES - 1])
    np.testing.assert_array_equal(shown, render(late.scene(clip), times[clip, [0, 1, NUM_FRAMES - 1]], 64))


def test_digest_depends_on_lateness_only_where_there_is_some():
    assert clips(0).digest() == UnevenSpritesClips(0, NUM_CLIPS, "train", WORLD, NUM_FRAMES, 64, FPS).digest()
    assert len({clips(share).digest() for share in (0, 0.25, 0.5)}) == 3


def seconds(times: np.ndarray, clip: np.ndarray, earlier: np.ndarray, later: np.ndarray) -> np.ndarray:
    return times[clip, later] - times[clip, earlier]


def gaps(times: np.ndarray, pairs: PairIndices) -> np.ndarray:
    return seconds(times, pairs.clip, pairs.source, pairs.target)


def test_no_source_lies_across_the_hole(times: np.ndarray):
    rng = np.random.default_rng(0)
    pairs = sample_pairs(Shots.of([NUM_FRAMES] * NUM_CLIPS), 4000, rng, max_gap=8, start_share=0.3)
    longest = NUM_FRAMES / FPS
    before = gaps(times, pairs)
    assert (before > longest).mean() > 0.03
    near = with_near_sources(pairs, lambda one, other: seconds(times, pairs.clip, one, other), longest, rng)
    changed = before > longest
    assert (gaps(times, near) <= longest).all()
    for name in ("source", "target", "after"):
        np.testing.assert_array_equal(getattr(near, name)[~changed], getattr(pairs, name)[~changed])
    is_across = seconds(times, pairs.clip, pairs.before, pairs.source) > longest
    assert (is_across & ~changed).mean() > 0.01
    kept = np.where(is_across, near.source, pairs.before)
    np.testing.assert_array_equal(near.before[~changed], kept[~changed])
    assert (seconds(times, near.clip, near.before, near.source) <= longest).all()
    assert (near.first < near.source).all(where=changed) and (near.source < near.target).all()
    assert (near.after <= near.end).all() and (near.target <= near.after).all()
    assert (near.before == near.source).all(where=changed)
    own = near.source[changed & (near.target == 8)]
    assert set(own) == set(range(1, 8))  # each frame of the window may be one


def test_nothing_is_sampled_where_all_gaps_are_short(times: np.ndarray):
    rng = np.random.default_rng(0)
    pairs = sample_pairs(Shots.of([NUM_FRAMES] * 4), 8, rng, max_gap=2, start_share=0.0)
    state = rng.bit_generator.state
    near = with_near_sources(pairs, lambda earlier, later: 0.1 * (later - earlier), 2.0, rng)
    for name, rows in vars(pairs).items():
        np.testing.assert_array_equal(getattr(near, name), rows)
    assert rng.bit_generator.state == state


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["data.late_share=0.2", "data.frame_times=even"], "set frame_times to uneven"),
        (["data.late_share=0.2", "data.late_s=2"], "late_s is 2, but a clip has 2 s anyway"),
    ],
)
def test_settings_that_cannot_be(settings: list[str], words: str):
    with pytest.raises(UserError, match=words):
        config_file.load(CONFIG, Config, settings)

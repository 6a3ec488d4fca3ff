"""Whole sets: equal ones are at 0, the floor is measured, nothing depends on batches or order, windows are windows."""

import dataclasses

import numpy as np
import pytest
import torch
from oracle import Oracle

from cdcd_video.data.sprites import sample_scene
from cdcd_video.errors import UserError
from cdcd_video.metrics import feature_extractors, suite
from cdcd_video.metrics.eval_dataset import ClipDataset, Clips, SceneDataset
from cdcd_video.metrics.feature_extractors import FeatureExtractors
from cdcd_video.metrics.features import feature_weights
from cdcd_video.metrics.features.networks import FeatureNetwork
from cdcd_video.metrics.measurements import measured
from cdcd_video.metrics.protocol import Protocol
from cdcd_video.metrics.sets.distribution import frechet_distance
from cdcd_video.metrics.sets.feature_store import REAL, FeatureStore, set_scores
from cdcd_video.metrics.summary import per_video

RULE = Protocol(num_videos=12, num_real=12, num_frames=8, fps=8.0, size_px=32, window=4, hop=2)
SCENES = [sample_scene(5, index, "val") for index in range(24)]
SETS = ("fid", "kid", "is", "fvd", "kvd", "video_is")


def _means(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean colours of four quarters, of frames or of the change within videos."""
    values = pixels.double() / 255
    if values.ndim == 5:
        values = torch.cat([values.mean(1), 5 * (values[:, -1] - values[:, 0]).abs()], dim=-1)
    half = values.shape[1] // 2
    quarters = [values[:, a : a + half, b : b + half].mean((1, 2)) for a in (0, half) for b in (0, half)]
    features = torch.cat(quarters, dim=1)
    return features, 8 * features[:, :5]


FRAME = FeatureNetwork("means", "frames", "ab", _means, torch.device("cpu"), batch_size=7)
VIDEO = dataclasses.replace(FRAME, name="changes", input_kind="videos", digest="cd", least_frames=4, most_frames=4)
TOOLS = FeatureExtractors(
    {"frame": FRAME, "video": VIDEO},
    features={name: ("means", "ab") if name in ("fid", "kid", "is") else ("changes", "cd") for name in SETS},
)


def dataset(order=range(12)):
    scenes = [SCENES[number] for number in order]
    return SceneDataset(scenes, SCENES[12:], num_frames=RULE.num_frames, fps=RULE.rate)


def evaluated(order=range(12), metrics=SETS, **dials):
    pipe, seeds = Oracle(SCENES, size_px=32, protocol=RULE), [1000 + number for number in order]
    return suite.evaluate(pipe, dataset(order), RULE, None, seeds, metrics=metrics, tools=TOOLS, **dials).scores


@pytest.fixture(scope="module")
def found():
    return evaluated()


def pick(scores, metric, row="model", frame=None, window=None):
    (one,) = [s for s in scores if (s.metric, s.row, s.frame, s.window) == (metric, row, frame, window)]
    return one


def test_rows_of_the_same_videos_score_the_same_and_freezing_is_seen(found):
    for metric in SETS:
        truth, model = pick(found, metric, "truth"), pick(found, metric)
        assert (model.value, model.low, model.high) == (truth.value, truth.low, truth.high)
        assert (model.n, model.counted) == (12, "videos") and model.resamples == 100
        assert model.low < model.value < model.high
        assert (model.features, model.features_sha256) == TOOLS.features[metric]
    assert pick(found, "fvd", "copy-first").value > 2 * pick(found, "fvd", "truth").value
    assert pick(found, "fid", "copy-first", frame=0).value == pick(found, "fid", frame=0).value


def test_what_is_beyond_the_floor_is_surer_than_either_distance(found):
    assert (pick(found, "fvd_over_floor").value, pick(found, "fvd_over_floor").high) == (0, 0)
    whole, frozen = pick(found, "fvd", "copy-first"), pick(found, "fvd_over_floor", "copy-first")
    assert frozen.value == pytest.approx(whole.value - pick(found, "fvd", "truth").value, abs=1e-5)
    assert 0 < frozen.low < frozen.high and frozen.high - frozen.low < whole.high - whole.low
    places = [s.window for s in found if (s.metric, s.row) == ("fvd_over_floor", "copy-first")]
    assert places == [None, (0, 3), (2, 5), (4, 7)]
    slope = pick(found, "fid_over_floor_slope")
    assert (slope.value, slope.unit) == (0, "distance per frame")
    assert not [s for s in found if s.metric in ("is_over_floor", "video_is_over_floor")]
    assert not [s for s in found if s.metric == "fid_over_floor" and s.row == "truth"]


def test_every_frame_and_every_window_has_its_score(found):
    frames = {s.frame for s in found if s.metric == "fid" and s.row == "model"}
    assert frames == {None, *range(8)} and all(s.window is None for s in found if s.metric == "fid")
    windows = {s.window for s in found if s.metric == "fvd" and s.row == "model"}
    assert windows == {None, (0, 3), (2, 5), (4, 7)} and all(s.frame is None for s in found if s.metric == "fvd")
    real = [dataset().other(number, 32)[5] for number in range(12)]
    drawn = [dataset().real_video(number, 32)[5] for number in range(12)]
    expected = frechet_distance(FRAME(np.stack(drawn)).features, FRAME(np.stack(real)).features)
    assert pick(found, "fid", frame=5).value == pytest.approx(expected, abs=1e-5)


def test_the_whole_score_leaves_out_the_given_frame(found):
    pooled = [np.concatenate([get(n, 32)[1:] for n in range(12)]) for get in (dataset().real_video, dataset().other)]
    expected = frechet_distance(*(FRAME(frames).features for frames in pooled))
    assert pick(found, "fid").value == pytest.approx(expected, abs=1e-5)


def test_neither_batches_nor_the_order_of_the_videos_matter(found):
    some = ("fid", "video_is")
    expected = [score for score in found if score.metric.startswith(some)]
    assert evaluated(metrics=some, batch_size=5) == expected
    assert evaluated([7, 3, 11, 0, 1, 2, 10, 9, 4, 5, 6, 8], some, batch_size=4) == expected


def test_a_set_against_itself_is_at_zero_and_grows_apart_where_it_is_spoilt():
    rng = np.random.Generator(np.random.Philox(key=8))
    videos = rng.integers(0, 256, (16, 8, 8, 8, 3), dtype=np.uint8)
    spoilt = videos.copy()
    for frame in range(8):
        spoilt[:, frame] = np.clip(spoilt[:, frame] * (1 - 0.1 * frame), 0, 255)
    places = [(frame, frame) for frame in range(8)]
    for shown, is_equal in ((videos, True), (spoilt, False)):
        feature_store = FeatureStore(FRAME, places)
        for number in range(16):
            for row, own in (("model", shown), ("truth", videos), (REAL, videos)):
                feature_store.add_video(row, f"{number:02d}", f"{number:02d}", own[number])
        found = set_scores("fid", feature_store, ["model", "truth"], RULE, ("means", "ab"))
        scores = {(s.metric, s.frame): s.value for s in found if s.row == "model"}
        curve = [scores["fid", frame] for frame in range(8)]
        if is_equal:
            assert max(curve) == pytest.approx(0, abs=1e-6) and scores["fid", None] == pytest.approx(0, abs=1e-6)
        else:
            assert curve == sorted(curve)
            assert scores["fid_slope", None] == pytest.approx(scores["fid_over_floor_slope", None], abs=1e-5) != 0


def test_where_one_window_holds_the_video_shorter_ones_follow_it(found):
    """The score is the whole window's; a defect that begins late is seen late."""
    network = dataclasses.replace(VIDEO, least_frames=8, most_frames=8, short_frames=4)
    tools = dataclasses.replace(TOOLS, networks={**TOOLS.networks, "video": network})
    protocol = RULE.settled(window=8, hop=8)
    pipe, seeds = Oracle(SCENES, size_px=32, protocol=protocol), range(1000, 1012)
    seen = suite.evaluate(pipe, dataset(), protocol, None, seeds, metrics=["fvd"], tools=tools).scores
    windows = {s.window for s in seen if s.metric == "fvd" and s.row == "model"}
    assert windows == {None, (0, 3), (1, 4), (2, 5), (3, 6), (4, 7)}
    pair = [np.stack([get(n, 32) for n in range(12)]) for get in (dataset().real_video, dataset().other)]
    assert pick(seen, "fvd").value == pytest.approx(frechet_distance(*(network(v).features for v in pair)), abs=1e-5)
    first = frechet_distance(*(network(v[:, 1:5]).features for v in pair))
    assert pick(seen, "fvd", window=(1, 4)).value == pytest.approx(first, abs=1e-5)
    assert pick(seen, "fvd_frames_kept", "truth").value == 8 and pick(seen, "fvd_slope", "copy-first").value is not None
    assert pick(found, "fvd", window=(0, 3)).value == pytest.approx(pick(seen, "fvd", window=(0, 3)).value, abs=1e-5)

    feature_store = FeatureStore(network, protocol.windows(), protocol.short_windows(4))
    for number in range(12):
        true, late = dataset().real_video(number, 32), dataset().real_video(number, 32)
        late[4:] = late[4]
        for row, frames in (("model", late), ("truth", true), (REAL, dataset().other(number, 32))):
            feature_store.add_video(row, f"{number:02d}", f"{number:02d}", frames)
    scores = list(set_scores("fvd", feature_store, ["model", "truth"], protocol, ("a", "b")))
    beyond = [s.value for s in scores if s.metric == "fvd_over_floor" and s.row == "model" and s.window]
    assert beyond[0] == 0 < beyond[-1]


def test_a_repeated_frame_is_looked_at_once():
    looked = []
    spy = dataclasses.replace(FRAME, run=lambda pixels: (looked.append(len(pixels)), _means(pixels))[1])
    feature_store = FeatureStore(spy, [(frame, frame) for frame in range(8)])
    frames = np.full((8, 8, 8, 3), 100, np.uint8)
    frames[6] = 50
    feature_store.add_video("copy-first", "a", "a", frames)
    assert looked == [2]
    features = feature_store.samples("copy-first").features[0]
    np.testing.assert_allclose(features, FRAME(frames).features, atol=1e-6)


# Clips ------------------------------------------------------------------------------------------------------------


class Grey(Clips):
    """Clips of one grey each, with two captions."""

    size_px, fps, mode = 32, 8.0, "crop"

    def __init__(self, num: int):
        self.num = num

    def __len__(self):
        return self.num

    def name(self, clip):
        return f"grey{clip:03d}"

    def caption(self, clip):
        return self.captions(clip)[0]

    def captions(self, clip):
        return (f"grey {clip}", f"again grey {clip}")

    def num_frames(self, clip):
        return 20

    def frames(self, clip, frames):
        return np.stack([np.full((32, 32, 3), 5 * clip + frame, np.uint8) for frame in frames])

    def digest(self):
        return "grey"


def clips(num, drawn=4, others=4, **shape):
    return ClipDataset(Grey(num), drawn, others, num_frames=8, size_px=32, **shape)


@pytest.mark.parametrize(
    ("num", "drawn", "others", "compared"), [(20, 4, 4, 4), (8, 4, 4, 4), (6, 4, 3, 3), (3, 3, 1, 2)]
)
def test_no_clip_is_compared_with_its_own_truth(num: int, drawn: int, others: int, compared: int):
    made = clips(num)
    assert (made.num_chosen, made.num_others, len(made.compared)) == (drawn, others, compared)
    own = {made.real_video(video, 32).tobytes() for video in made.compared}
    assert not own & {made.other(number, 32).tobytes() for number in range(made.num_others)}


def test_several_captions_of_a_clip_are_drawn_and_counted_as_one_clip():
    made = clips(12, captions_per_video=2, stride=2)
    assert made.captions["model"][:3] == ["grey 0", "again grey 0", "grey 1"]
    assert [eval_video.name for eval_video in made.eval_videos][:3] == ["grey000", "grey000#2", "grey001"]
    assert made.eval_videos[0].clip == made.eval_videos[1].clip
    assert made.real_video(2, 32)[:, 0, 0, 0].tolist() == [5, 7, 9, 11, 13, 15, 17, 19]
    feature_store = FeatureStore(FRAME, [(0, 0)])
    for video, eval_video in enumerate(made.eval_videos):
        feature_store.add_video("model", eval_video.name, eval_video.clip, made.real_video(video, 32))
    assert feature_store.samples("model").num_clips == 4 and len(feature_store.samples("model").clip) == 8
    lines = list(
        per_video("model", [measured("psnr", eval_video, [9, 1]) for eval_video in made.eval_videos], 1, by_frame=False)
    )
    assert [line.clip or line.video for line in lines][:3] == ["grey000", "grey000", "grey001"], "pairs of comparisons"


def test_too_few_real_videos_are_told_before_anything_is_drawn():
    with pytest.raises(UserError, match="fid needs at least 2 real videos of other scenes or clips"):
        suite.check(clips(3), RULE, ["psnr", "fid"])
    suite.check(clips(3), RULE, ["psnr", "is", "discontinuity"])
    with pytest.raises(UserError, match="8 frames hold no window of 16"):
        suite.check(clips(12), RULE.settled(window=16), ["fvd"])


# Networks ---------------------------------------------------------------------------------------------------------


def test_missing_weights_are_one_sentence_with_the_way_out(monkeypatch, tmp_path):
    monkeypatch.setenv(feature_weights.FOLDER_VARIABLE, str(tmp_path))
    named = RULE.settled(frame_network="inception", video_network="i3d", window=16, num_frames=16)
    for metric, words in (
        ("fid", f"inception needs weights-inception.* in {tmp_path}.*sprites-frame needs no download"),
        ("fvd", "i3d needs i3d_pretrained_400.pt"),
        ("cd_fvd", "videomae needs config.json and model.safetensors"),
        ("jedi", "vjepa2 needs config.json and model.safetensors"),
        ("lpips", "lpips-alex needs alexnet-owt-7be5be79.pth .244 MB, sha256 7be5be79"),
    ):
        with pytest.raises(UserError, match=words):
            feature_extractors.load([metric], named)
    settled = feature_extractors.settle_networks(Protocol())
    assert (settled.frame_network, settled.video_network) == ("sprites-frame", "sprites-video")
    (tmp_path / feature_weights.WEIGHTS["inception"].file).write_bytes(b"")
    assert feature_extractors.settle_networks(Protocol()).frame_network == "inception"  # without another flag


def test_a_network_that_cannot_do_it_is_told_at_once(monkeypatch):
    silent = dataclasses.replace(FRAME, name="silent", run=lambda pixels: (_means(pixels)[0], None))
    monkeypatch.setattr(
        feature_extractors.networks, "load", lambda name, device: {"silent": silent, "changes": VIDEO}[name]
    )
    for metric, frame_network, words in (
        ("is", "silent", "is needs a classifier, and silent has no classes"),
        ("fid", "changes", "changes takes videos, but fid is computed on frames"),
    ):
        with pytest.raises(UserError, match=words):
            feature_extractors.load([metric], RULE.settled(frame_network=frame_network))
    with pytest.raises(UserError, match="changes takes 4 frames, not 6"):
        feature_extractors.load(["fvd"], RULE.settled(video_network="changes", window=6))
    found = feature_extractors.load(["fid", "fvd"], RULE.settled(frame_network="silent", video_network="changes"))
    assert found.features == {"fid": ("silent", "ab"), "fvd": ("changes", "cd")} and found.lpips is None is found.clip

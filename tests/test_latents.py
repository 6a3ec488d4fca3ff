"""The latent space seen: every number on constructed cases whose answer is known, then the whole study and its page."""

import json
import re
import shutil
import sys
import types
from dataclasses import replace
from pathlib import Path

import chromium
import numpy as np
import pytest
import torch

from cdcd_video.config import Config, config_file
from cdcd_video.data.sprites import World
from cdcd_video.engine.runtime import seed_for
from cdcd_video.errors import UserError, exit_code
from cdcd_video.evaluation.report import latent_page as page
from cdcd_video.metrics.eval_dataset import Clips
from cdcd_video.metrics.latent import clusters, inbetween, latent_scores, latent_study, trajectories
from cdcd_video.metrics.latent.counterfactuals import ClipsCases, SpritesCases
from cdcd_video.model import build_denoiser, load_model, save_module
from cdcd_video.pipeline import ImageToVideo
from cdcd_video.tools import latents as tool


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


def blobs(num_blobs: int = 8, each: int = 12, width: int = 6, noise: float = 0.01) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors around well-parted directions, and which one each belongs to."""
    centres = rng().normal(size=(num_blobs, width))
    points = np.repeat(centres, each, axis=0) + noise * rng(1).normal(size=(num_blobs * each, width))
    return points / np.linalg.norm(points, axis=1, keepdims=True), np.repeat(np.arange(num_blobs), each)


# ------------------------------------------------------------------------------------------------------------- clusters


def test_perfect_clusters_are_pure_and_shuffled_ones_are_not():
    points, labels = blobs()
    found = clusters.kmeans(points, 8, rng(2))
    assert clusters.in_majority(found, labels).all()
    between = clusters.distances(points, points)
    assert clusters.silhouette(between, labels).min() > 0.9
    shuffled = rng(3).permutation(labels)
    assert clusters.in_majority(found, shuffled).mean() < 0.45
    assert abs(clusters.silhouette(between, shuffled).mean()) < 0.35


def test_kmeans_is_repeatable_and_bears_points_that_coincide():
    points, _ = blobs(noise=0.4)
    assert (clusters.kmeans(points, 8, rng(2)) == clusters.kmeans(points, 8, rng(2))).all()
    assert set(clusters.kmeans(np.zeros((5, 2)), 3, rng())) <= {0, 1, 2}


def test_purity_by_hand():
    # Manning et al. 2008, figure 16.4: three clusters of 6, 6 and 5 with majorities of 5, 4 and 3: purity 12 / 17.
    found = np.array([0] * 6 + [1] * 6 + [2] * 5)
    labels = np.array([0] * 5 + [1] + [1] * 4 + [0, 2] + [2] * 3 + [0] * 2)
    assert clusters.in_majority(found, labels).sum() == 12


def test_silhouette_is_the_definition_point_by_point():
    points, labels = blobs(noise=0.5)
    labels[0] = 99  # one point alone with its label
    between = clusters.distances(points, points)
    for point, label in enumerate(labels):
        means = {other: between[point, labels == other].mean() for other in set(labels) - {label}}
        mates = [place for place in np.flatnonzero(labels == label) if place != point]
        near, own = min(means.values()), between[point, mates].mean() if mates else 0.0
        wanted = (near - own) / max(near, own) if mates else 0.0
        assert clusters.silhouette(between, labels)[point] == pytest.approx(wanted)


def test_retrieval_counts_ranks_and_gives_nothing_for_a_collapse():
    away = np.array([[0.1, 0.2, 0.3], [0.1, 0.2, 0.3], [0.1, 0.2, 0.3]])
    assert clusters.is_retrieved(away, np.array([0, 1, 2]), 1).tolist() == [True, False, False]
    assert clusters.is_retrieved(away, np.array([0, 1, 2]), 2).tolist() == [True, True, False]
    assert not clusters.is_retrieved(np.zeros((3, 3)), np.array([0, 1, 2]), 1).any()
    last_bit = np.array([[1.0, np.nextafter(1, 2)], [np.nextafter(1, 2), 1.0]])
    assert not clusters.is_retrieved(last_bit, np.array([0, 1]), 1).any(), "rounding retrieves nothing"


def test_points_that_coincide_are_at_no_distance_whatever_is_rounded():
    points = np.repeat(rng().normal(size=(1, 301)), 9, axis=0)
    nudged = points * (1 + 1e-15 * rng(1).normal(size=points.shape))
    assert not clusters.distances(points, nudged).any()
    assert clusters.distances(points, points * 1.001) == pytest.approx(0.001 * np.linalg.norm(points[0]), rel=1e-6)


def test_alignment_and_uniformity_at_their_ends():
    points, _ = blobs()
    assert clusters.alignment(points, points).max() == 0
    assert clusters.alignment(points, -points) == pytest.approx(4)
    assert clusters.uniformity(clusters.potentials(np.ones((4, 3, 1))))[0] == pytest.approx(0)
    apart = np.eye(6)[:, None]  # every two at a squared distance of 2
    value, low, high = clusters.uniformity(clusters.potentials(apart))
    assert value == pytest.approx(-4) == low == high
    assert np.isnan(clusters.uniformity(np.ones((1, 1)))).all()


def test_uniformity_counts_pairs_of_different_groups_only_and_its_interval_holds_it():
    groups = rng().normal(size=(12, 5, 3))
    groups /= np.linalg.norm(groups, axis=-1, keepdims=True)
    found = clusters.potentials(groups)
    pairs = [
        np.exp(-2 * ((x - y) ** 2).sum())
        for one in range(12)
        for other in range(12)
        if one != other
        for x in groups[one]
        for y in groups[other]
    ]
    value, low, high = clusters.uniformity(found)
    assert value == pytest.approx(np.log(np.mean(pairs))) and low < value < high


# --------------------------------------------------------------------------------------------------------- trajectories


def test_a_straight_path_has_even_steps_and_no_curvature():
    path = (np.arange(6)[:, None] * np.array([3.0, 4.0, 0.0]))[None]
    assert trajectories.step_length(path)[0, 1:] == pytest.approx(5)
    assert np.isnan(trajectories.step_length(path)[0, 0])
    found = trajectories.curvature(path)[0]
    assert np.isnan(found[[0, -1]]).all() and found[1:-1] == pytest.approx(0, abs=1e-6)


def test_a_circle_turns_by_the_same_angle_and_back_again_is_180():
    angle = np.radians(30) * np.arange(8)
    circle = 7 * np.stack([np.cos(angle), np.sin(angle)], axis=-1)[None]
    assert trajectories.curvature(circle)[0, 1:-1] == pytest.approx(30)
    there_and_back = np.array([[[0.0], [1.0], [0.0]]])
    assert trajectories.curvature(there_and_back)[0, 1] == pytest.approx(180)


def test_standing_still_has_no_direction_and_jitter_is_near_120():
    still = np.array([[[0.0, 0], [1, 0], [1, 0], [2, 0]]])
    assert np.isnan(trajectories.curvature(still)).all()
    jitter = rng().normal(size=(1, 4000, 16))
    assert np.nanmean(trajectories.curvature(jitter)) == pytest.approx(120, abs=1.5)


def test_distance_to_paths_is_0_on_them_and_perpendicular_beside_them():
    bank = np.array([[[0.0, 0], [10, 0]], [[0, 50.0], [10, 50]]])
    on_it, beside, beyond = [5.0, 0.0], [5.0, 2.0], [13.0, 4.0]
    assert trajectories.distance_to_paths(np.array([on_it, beside, beyond]), bank) == pytest.approx([0, 2, 5])
    path = rng().normal(size=(3, 9, 40)) * 100
    assert trajectories.distance_to_own(path, path) == pytest.approx(0, abs=1e-6)
    assert trajectories.distance_to_own(path, path[:, ::-1]) == pytest.approx(0, abs=1e-6)
    assert trajectories.distance_to_own(path, np.roll(path, 1, axis=0)).min() > 100
    assert trajectories.distance_to_own(path[:, :1], path[:, :1]).tolist() == [[0], [0], [0]]


def test_a_plane_is_fitted_on_what_it_is_given_and_keeps_flat_distances():
    flat = rng().normal(size=(50, 2)) * [5, 1] @ np.linalg.qr(rng(1).normal(size=(7, 7)))[0][:2] + 3
    plane = trajectories.fit_plane(flat)
    assert plane.explained.sum() == pytest.approx(1) and plane.explained[0] > 0.9
    placed = plane.project(flat)
    assert clusters.distances(placed, placed) == pytest.approx(clusters.distances(flat, flat), abs=1e-6)
    assert plane.project(flat.reshape(5, 10, 7)).shape == (5, 10, 2)


def test_umap_says_how_to_get_it_and_sees_others_by_the_real_ones(monkeypatch: pytest.MonkeyPatch):
    real, others = rng().normal(size=(2, 3, 4)), rng(1).normal(size=(5, 3, 4))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="umap-learn"):
        trajectories.umap_view(real, others, 0)
    monkeypatch.undo()

    class Firsts:
        def __init__(self, **dials: int):
            assert dials == {"n_components": 2, "n_neighbors": 5, "random_state": 5, "n_jobs": 1}

        def fit_transform(self, points: np.ndarray) -> np.ndarray:
            return points[:, :2]

        transform = fit_transform

    library = types.ModuleType("umap")
    library.UMAP, library.__spec__ = Firsts, types.SimpleNamespace()
    monkeypatch.setitem(sys.modules, "umap", library)
    placed, moved = trajectories.umap_view(real, others, 5)
    assert (placed == real[..., :2]).all() and (moved == others[..., :2]).all()


def test_the_real_umap_puts_what_is_new_beside_its_like_and_repeats_itself():
    pytest.importorskip("umap", reason="umap-learn is not installed; pip install '.[umap]'")
    centres = 5 * rng().normal(size=(6, 1, 1, 20))
    real, others = (centres + 0.1 * rng(seed).normal(size=(6, 3, 8, 20)) for seed in (1, 2))
    placed, moved = trajectories.umap_view(real, others, 3)
    middles = placed.mean(axis=(1, 2))
    for cluster, points in enumerate(moved.reshape(6, -1, 2)):
        assert (clusters.distances(points, middles).argmin(axis=1) == cluster).all()
    for first, again in zip((placed, moved), trajectories.umap_view(real, others, 3), strict=True):
        np.testing.assert_array_equal(first, again)
    few = trajectories.umap_view(real[:2, :2, :2], others[:2, :2, :2], 3)
    assert np.isfinite(few).all()


# ------------------------------------------------------------------------------------------------------- between frames


def test_slerp_keeps_the_length_where_lerp_cuts_the_corner():
    right, up = np.array([2.0, 0.0]), np.array([0.0, 2.0])
    assert np.linalg.norm(inbetween.slerp(right, up)) == pytest.approx(2)
    assert np.linalg.norm(inbetween.lerp(right, up)) == pytest.approx(np.sqrt(2))
    assert inbetween.slerp(right, up, 1 / 3) == pytest.approx([2 * np.cos(np.pi / 6), 2 * np.sin(np.pi / 6)])
    assert inbetween.slerp(right, 3 * right) == pytest.approx([4, 0])
    for odd in (-right, 0 * right):
        assert inbetween.slerp(right, odd) == pytest.approx(inbetween.lerp(right, odd))


def test_a_cross_fade_is_exact_where_nothing_moves_and_shows_two_ghosts_where_a_dot_does():
    earlier, true, later = np.full((3, 1, 16, 16, 3), 40, np.uint8)
    for frame, left in ((earlier, 1), (true, 6), (later, 11)):
        frame[0, 6:10, left : left + 4] = 250
    faded = inbetween.cross_fade(earlier, later)
    assert (faded[0, 6:10, 1:5] == 145).all() and (faded[0, 6:10, 11:15] == 145).all()
    dot = np.zeros((1, 16, 16), bool)
    dot[0, 6:10] = True
    assert inbetween.masked_psnr(faded, true, ~dot) == pytest.approx(60)
    assert inbetween.masked_psnr(faded, true, dot) < 10 < inbetween.masked_psnr(true, true, dot)
    assert np.isnan(inbetween.masked_psnr(faded, true, np.zeros_like(dot)))


def test_masked_psnr_of_one_level_is_48_decibels():
    true = np.full((1, 8, 8, 3), 100, np.uint8)
    drawn = true + np.uint8(1)
    assert inbetween.masked_psnr(drawn, true, np.ones((1, 8, 8), bool)) == pytest.approx(48.13, abs=0.01)


# ------------------------------------------------------------------------------------------------- scores of a study


def scores_by_name(found, frame: int | None = None) -> dict:
    return {(score.row, score.metric): score for score in found if score.frame == frame}


def videos(noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Real paths of 6 images with 4 sentences that leave their image step by step, and drawn ones around them."""
    images = 5 * rng().normal(size=(6, 1, 1, 12))
    steps = rng(1).normal(size=(6, 4, 1, 12)) * np.arange(5)[:, None] * 0.2
    real = images + steps
    return real + noise * rng(2).normal(size=real.shape), real


def test_videos_that_stay_with_their_image_score_so_and_shuffled_labels_do_not():
    drawn, real = videos(0.01)
    drawn, real = (side / np.linalg.norm(side, axis=-1, keepdims=True) for side in (drawn, real))
    found = scores_by_name(latent_scores.image_scores(drawn, real, "embedding", 0))
    assert found["model", "purity"].value == found["model", "retrieval@1"].value == 1
    assert found["model", "silhouette"].value > 0.6
    chance = found["shuffled", "retrieval@1"]
    assert chance.value == pytest.approx(1 / 6, abs=0.03) and chance.low < 1 / 6 < chance.high
    assert found["shuffled", "silhouette"].high < 0.1
    assert found["model", "alignment"].value < 0.2 < 1 < found["shuffled", "alignment"].value
    assert found["model", "uniformity"].value == pytest.approx(found["real", "uniformity"].value, abs=0.05)
    assert found["model", "purity"].n == 24 and found["model", "purity"].low < 1  # 6 images do not prove certainty


def test_sentences_part_towards_their_own_true_video_or_do_not():
    drawn, real = videos(0.01)
    found = scores_by_name(latent_scores.caption_scores(drawn, real, "codes", 0))
    assert found["model", "caption_retrieval@1"].value == 1
    assert found["model", "caption_spread"].value == pytest.approx(found["real", "caption_spread"].value, rel=0.05)
    deaf = np.repeat(real[:, :1], 4, axis=1) + 1e-3 * rng().normal(size=real.shape)
    found = scores_by_name(latent_scores.caption_scores(deaf, real, "codes", 0))
    assert found["model", "caption_retrieval@1"].value == pytest.approx(0.25)
    assert found["shuffled", "caption_retrieval@1"].value == pytest.approx(0.25, abs=0.05)
    assert found["model", "caption_spread"].value < 0.01


def test_paths_equal_to_the_real_ones_are_at_0_and_frozen_ones_do_not_step():
    _, real = videos(0.0)
    found = latent_scores.path_scores(real, real, None, "codes", 0)
    whole = scores_by_name(found)
    assert whole["model", "distance_to_own"].value == pytest.approx(0, abs=1e-6)
    assert whole["model", "distance_in_time"].value == pytest.approx(0, abs=1e-6)
    assert whole["copy-first", "distance_to_own"].value == 0 < 0.5 < whole["copy-first", "distance_in_time"].value
    assert whole["other-sentence", "distance_to_own"].value > 0.5 < whole["other-sentence", "distance_in_time"].value
    assert whole["model", "curvature"].value == pytest.approx(0, abs=1e-4)
    assert ("model", "distance_to_real") not in whole
    assert {score.frame for score in found if score.metric == "step_length"} == {None, 1, 2, 3, 4}
    frozen = np.repeat(real[:, :, :1], 5, axis=2)
    found = scores_by_name(latent_scores.path_scores(frozen, real, real[0], "codes", 0))
    assert found["model", "step_length"].value == 0 and found["model", "curvature"].value is None


# --------------------------------------------------------------------------------------------------- images and sentences


def test_sprites_give_other_sentences_for_the_same_first_frame():
    cases = SpritesCases(3, 4, 5, num_frames=4, bank_size=2)
    assert all(len(set(row)) == 5 for row in cases.captions)
    start = np.zeros(1)
    firsts = [[cases.real_video(image, caption, start) for caption in range(5)] for image in range(4)]
    assert all((frame == row[0]).all() for row in firsts for frame in row)
    again = SpritesCases(3, 4, 5, num_frames=4, bank_size=2)
    assert again.captions == cases.captions and (again.bank(1, start) == cases.bank(1, start)).all()
    with pytest.raises(UserError, match="lower --captions-per-image"):
        SpritesCases(0, 1, 4, world=World(motions=("stays still", "grows"), adverbs=False, max_objects=1))


def test_the_judge_of_sprites_likes_the_truth_and_sees_ghosts():
    cases = SpritesCases(0, 4, 2, num_frames=4)
    times = np.array([0.75])
    image = next(i for i, row in enumerate(cases.captions) if "moves" in row[0])
    true = cases.real_video(image, 0, times)
    right = cases.measure(image, 0, times, true)
    assert right["position_error"][0] < 0.3 and right["identity_iou"][0] > 0.95
    ghosts = inbetween.cross_fade(cases.real_video(image, 0, times - 0.75), cases.real_video(image, 0, times + 0.75))
    where = cases.objects(image, 0, times)
    assert inbetween.masked_psnr(ghosts, true, where)[0] < 25
    assert cases.measure(image, 0, times, ghosts)["identity_iou"][0] < 0.7


class FewClips(Clips):
    """Four clips of noise; the first two share their caption."""

    size_px, fps, mode = 32, 8.0, "crop"

    def __len__(self) -> int:
        return 4

    def num_frames(self, clip: int) -> int:
        return 6

    def caption(self, clip: int) -> str:
        return f"the red circle moves {('left', 'left', 'up', 'right')[clip]}"

    def frames(self, clip: int, frames: list[int]) -> np.ndarray:
        return np.stack([rng(10 * clip + frame).integers(0, 256, (32, 32, 3), dtype=np.uint8) for frame in frames])


def test_clips_lend_each_other_their_captions():
    cases = ClipsCases(FewClips(), 3, 2, num_frames=6, fps=8.0, size_px=32)
    assert all(len(set(row)) == 2 for row in cases.captions)
    assert [row[0] for row in cases.captions] == [FewClips().caption(clip) for clip in range(3)]
    assert cases.bank_size == 1 and (cases.bank(0, np.array([0.25])) == FewClips().frames(3, [2])).all()
    with pytest.raises(UserError, match="2 different captions; set --captions-per-image"):
        ClipsCases(FewClips(), 3, 3, num_frames=6, fps=8.0, size_px=32)
    with pytest.raises(UserError, match="lower --num-images"):
        ClipsCases(FewClips(), 5, 2, num_frames=6, fps=8.0, size_px=32)


# ------------------------------------------------------------------------------------------------------ the whole study


@pytest.fixture(scope="module")
def pipe(tiny_model: Path) -> ImageToVideo:
    return ImageToVideo.from_pretrained(tiny_model, "cpu")


@pytest.fixture(scope="module")
def found(pipe: ImageToVideo) -> latent_study.LatentStudy:
    done = []
    cases = SpritesCases(0, 3, 3, num_frames=5, size_px=32, bank_size=4)
    params = pipe.defaults(num_frames=5)
    study = latent_study.study(pipe, cases, params, batch_size=4, progress=done.append)
    assert sum(done) == latent_study.frames_of_work(cases, params)
    return study


def test_a_study_has_every_score_and_is_json(found: latent_study.LatentStudy):
    assert {score.metric for score in found.scores} == set(latent_scores.MEASURES) - {"retrieval@5"}  # of 3 images
    record = json.loads(json.dumps(found.record(), allow_nan=False))
    assert len(record["scores"]) == len(found.scores) and record["captions"][0][0] == found.captions[0][0]
    assert {view["space"] for view in record["views"]} == {"embedding", "codes"}
    assert all(np.isfinite(path["points"]).all() for view in record["views"] for path in view["paths"])
    groups = {score.group for score in found.scores}
    assert groups == {"space=embedding", "space=codes", "fps=2->4", "fps=4->8", "fps=8->16"}


def test_a_study_does_not_depend_on_the_batch(pipe: ImageToVideo, found: latent_study.LatentStudy):
    cases = SpritesCases(0, 3, 3, num_frames=5, size_px=32, bank_size=4)
    again = latent_study.study(pipe, cases, pipe.defaults(num_frames=5), batch_size=9)
    assert again.captions == found.captions
    for one, other in zip(again.scores, found.scores, strict=True):
        assert one.value == pytest.approx(other.value, abs=1e-4), one


def test_the_true_frames_between_are_the_scenes_own(pipe: ImageToVideo, found: latent_study.LatentStudy):
    cases = SpritesCases(0, 3, 3, num_frames=5, size_px=32, bank_size=4)
    for gap in found.gaps:
        rate = float(gap.group.removeprefix("fps=").split("->")[0])
        true = cases.real_video(gap.image, gap.caption, np.array([gap.frame, gap.frame + 0.5, gap.frame + 1]) / rate)
        for name, frame in zip(("earlier", "truth", "later"), true, strict=True):
            assert (gap.frames[name] == frame).all(), (gap.group, name)
    ways = {score.row for score in found.scores if score.group == "fps=8->16"}
    assert ways == {"hold", "cross-fade", "codes-lerp", "latents-lerp", "latents-slerp", "model", "codec-ceiling"}


def test_clips_can_be_studied_as_far_as_their_truth_goes(pipe: ImageToVideo):
    cases = ClipsCases(FewClips(), 3, 2, num_frames=6, fps=8.0, size_px=32)
    study = latent_study.study(pipe, cases, pipe.defaults(num_frames=6).changed(fps=8.0))
    names = {(score.row, score.metric) for score in study.scores}
    assert ("real", "alignment") in names and ("real", "purity") not in names
    assert ("model", "caption_retrieval@1") not in names and ("model", "inbetween_object_psnr") not in names
    assert {score.group for score in study.scores if score.metric == "inbetween_psnr"} == {"fps=2->4", "fps=4->8"}
    assert "<svg" in page.fragment(study)


@pytest.mark.sweep(most=1)
@pytest.mark.parametrize("kind", ["gaussian", "categorical_flow", "autoregressive"])
def test_baselines_are_looked_at_in_the_same_spaces(tiny_model: Path, tmp_path: Path, kind: str):
    """`gaussian` samples code values, off the grid of the codes; the others sample codes."""
    folder = tmp_path / "baseline"
    shutil.copytree(tiny_model, folder)
    no_contrast = ["loss.contrast.frame_frame=0", "loss.contrast.frame_text=0"]
    config = config_file.load(folder / "config.yaml", Config, [f"baseline.kind={kind}", *no_contrast])
    model = load_model(tiny_model)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_module(build_denoiser(config, model.codec, model.clip.text_width), folder / "denoiser.safetensors")
    (folder / "config.yaml").write_text(config_file.dump(config))
    pipe = ImageToVideo.from_pretrained(folder, "cpu")
    cases = SpritesCases(0, 2, 2, num_frames=4, size_px=32, bank_size=2)
    study = latent_study.study(pipe, cases, pipe.defaults(num_frames=4))
    found = {(s.row, s.metric, s.group): s.value for s in study.scores if s.frame is None}
    assert found["model", "purity", "space=codes"] is not None and found["model", "inbetween_psnr", "fps=4->8"] > 0
    assert all(np.isfinite(path.points).all() for view in study.views for path in view.paths)
    latent = latent_study.LatentModel(pipe, lambda num: None)
    start = cases.real_video(0, 0, np.zeros(1))[None]
    drawn = latent.sample(start, [cases.captions[0][:1]], pipe.defaults(num_frames=4), 0, 1)
    assert np.issubdtype(drawn.dtype, np.floating) == (kind == "gaussian")
    shown = pipe.sample(
        start[0], list(cases.captions[0][:1]), pipe.defaults(num_frames=4), [seed_for(0, "latents", 0, 0)]
    )
    decoded = latent.decode(latent.values(drawn)[0, 0], start[0, 0])
    np.testing.assert_array_equal(decoded[1:], shown[0, 1:], err_msg="the very latents of the video")


def test_a_study_needs_something_to_compare(pipe: ImageToVideo):
    cases = SpritesCases(0, 2, 2, num_frames=5, size_px=32, bank_size=0)
    with pytest.raises(UserError, match="3 frames"):
        latent_study.study(pipe, cases, pipe.defaults(num_frames=2))


# ------------------------------------------------------------------------------------------------------------- the page

FACTS = {"checkpoint": "tiny", "data": "sprites", "split": "val", "seed": 0, "drawing": {"fps": 8.0}}


def test_the_fragment_is_self_contained_small_and_escaped(found: latent_study.LatentStudy):
    hostile = replace(found, captions=(('<script>alert("x")</script>', *found.captions[0][1:]), *found.captions[1:]))
    text = page.fragment(hostile)
    assert len(text) < 2_000_000
    assert '<script>alert("x")' not in text and "&lt;script&gt;" in text
    assert not re.search(r"(src|href)=\"(?!data:)", text) and "http" not in text and "@import" not in text
    assert text.count("<script>") == 1 and "shuffled" in text and "first gap" in text
    whole = page.page(found, FACTS)
    assert whole.startswith("<!doctype html>") and "prefers-color-scheme: dark" in whole


@pytest.mark.skipif(chromium.find() is None, reason="no Chromium here")
def test_paths_can_be_hovered_and_the_page_fits_a_phone(found: latent_study.LatentStudy, tmp_path: Path):
    path = tmp_path / "latents.html"
    path.write_text(page.page(found, FACTS), encoding="utf-8")
    browser = chromium.Chromium(tmp_path / "profile")
    try:
        tab = browser.tab(path.as_uri(), width=390)
        tab.wait("document.readyState == 'complete' && document.querySelector('.latents .read')")
        assert tab.value("document.documentElement.scrollWidth") <= 390
        over = "new PointerEvent('pointerover', {bubbles: true})"
        tab.value(f"document.querySelector('.plane .model circle[data-f=\"2\"]').dispatchEvent({over})")
        said = tab.value("document.querySelector('.latents .read').textContent")
        assert said.startswith("sampled: the ") and said.endswith(", frame 2")
        tab.value("document.querySelector('.latents input[value=real]').click()")
        assert tab.value("getComputedStyle(document.querySelector('.plane .real')).display") == "none"
        assert tab.complaints() == []
    finally:
        browser.close()


def test_the_command_writes_page_and_scores_and_says_what_is_wrong(
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
):
    command = ["latents", "--checkpoint", str(tiny_model), "--num-images", "2", "--captions-per-image", "2"]
    command += ["--num-frames", "3", "--num-bank", "1", "--device", "cpu", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", command)
    assert exit_code(tool.main) == 0
    assert "caption_silhouette" in capsys.readouterr().out
    facts = json.loads((tmp_path / "latents.json").read_text())
    assert facts["num_images"] == 2 and len(facts["model_sha256"]) == 64 and facts["scores"]
    assert "Frame-rate doubling" in (tmp_path / "latents.html").read_text()
    monkeypatch.setattr("sys.argv", [*command, "--num-images", "1"])
    assert exit_code(tool.main) == 2 and "at least 2" in capsys.readouterr().err

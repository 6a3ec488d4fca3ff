"""A study of the latent space of one model: clusters by image and caption, paths, and frames between frames.

Videos are sampled from the same image with several captions. Every sampled frame is a point in two spaces: `embedding` (the
codec's joint embedding of the codes, of unit length, on which the contrastive terms act) and `codes` (the concatenated code
vectors of all patches, in which the diffusion model samples). References: `real` (the true videos encoded by the same codec)
and `shuffled` (the points of the model with random labels; its interval holds 95% of the shuffles, all others are bootstrap
intervals over source images).
"""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float

from cdcd_video.errors import UserError
from cdcd_video.metrics.latent import trajectories
from cdcd_video.metrics.latent.counterfactuals import Cases
from cdcd_video.metrics.latent.frame_rate import MOST_PICTURES, Gap, Videos, double, doublings
from cdcd_video.metrics.latent.latent_model import SPACES, LatentModel, Progress
from cdcd_video.metrics.latent.latent_scores import Points, caption_scores, image_scores, path_scores
from cdcd_video.metrics.scores import Score

MOST_PLOTTED = 12
"""Images whose paths are kept for plots."""


@dataclasses.dataclass(frozen=True)
class Path:
    """One video in a plane."""

    row: str
    """`model` or `real`."""
    image: int
    caption: int
    points: tuple[tuple[float, float], ...]


@dataclasses.dataclass(frozen=True)
class View:
    """A projection of a space to a plane, fitted on real paths alone."""

    space: str
    method: str
    """`pca` or `umap`."""
    image: int | None
    """Fitted on the videos of this image; None for all images."""
    explained: tuple[float, ...]
    """Shares of the real points' variance along the two axes; empty for UMAP."""
    paths: tuple[Path, ...]


@dataclasses.dataclass(frozen=True)
class LatentStudy:
    """The result of a study."""

    scores: tuple[Score, ...]
    captions: tuple[tuple[str, ...], ...]
    """Captions of each image."""
    views: tuple[View, ...]
    gaps: tuple[Gap, ...]
    notes: dict[str, str]
    """By frame-rate doubling, the warnings of the model at that rate; empty where there are none."""
    seconds: float = 0.0
    """Duration; not in the record, because it differs between runs."""

    def record(self) -> dict[str, Any]:
        """Everything but the pictures, as plain values for JSON."""
        kept = {name: getattr(self, name) for name in ("scores", "captions", "views")}
        plain = {name: [_plain(entry) for entry in entries] for name, entries in kept.items()}
        return plain | {"notes": self.notes}


def frames_of_work(cases: Cases, params: Any, inbetween_captions: int = 2) -> int:
    """Total of the progress of `study`: frames that are encoded, sampled or decoded."""
    images, frames = len(cases.captions), params.num_frames
    num_captions = len(cases.captions[0])
    work = (images * cases.num_true + cases.bank_size) * frames + images * num_captions * (frames - 1)
    chosen = images * min(inbetween_captions, cases.num_true)
    return work + chosen * sum(doubling.frames_of_work for doubling in doublings(cases, params))


def study(
    pipe: Any,
    cases: Cases,
    params: Any,
    *,
    seed: int = 0,
    batch_size: int = 32,
    inbetween_captions: int = 2,
    umap: bool = False,
    progress: Progress | None = None,
) -> LatentStudy:
    """Samples a video for every caption of every image, and measures the latents.

    Args:
      pipe: the model, a `pipeline.ImageToVideo`.
      cases: images and captions, at the size of the model.
      params: sampling parameters; number of frames and frame rate are also those of the true videos.
      seed: of sampling, k-means, shuffles and bootstrap.
      batch_size: videos sampled at a time.
      inbetween_captions: number of captions of each image for which frames between frames are made.
      umap: whether UMAPs are added to the views.
      progress: called with the number of frames that are done; see `frames_of_work`.

    Raises:
      UserError: fewer than two images, two captions or three frames; or UMAP is not installed.
    """
    if len(cases.captions) < 2 or len(cases.captions[0]) < 2 or params.num_frames < 3:
        raise UserError("a study of the latent space needs at least 2 images, 2 captions per image and 3 frames")
    if umap:
        trajectories.umap_library()  # a missing library is reported before minutes of work
    latent = LatentModel(pipe, progress or (lambda num: None))
    times = np.arange(params.num_frames) / params.fps
    num_images, num_captions, num_true = len(cases.captions), len(cases.captions[0]), cases.num_true
    true = np.stack([[cases.real_video(image, c, times) for c in range(num_true)] for image in range(num_images)])
    latents = latent.latents(true)
    real_codes = latent.codes_of(latents)
    bank = [cases.bank(number, times) for number in range(cases.bank_size)]
    bank_codes = latent.codes_of(latent.latents(np.stack(bank))) if bank else None
    starts, grid = np.repeat(true[:, :1, 0], num_captions, axis=1), latent.codec.grid_of(*true.shape[-3:-1])
    sampled_codes = latent.sample(starts, cases.captions, params, seed, batch_size)
    scores: list[Score] = []
    views: list[View] = []
    for space in SPACES:
        model, real = latent.points(sampled_codes, space, grid), latent.points(real_codes, space, grid)
        scores += image_scores(model, real, space, seed)
        scores += caption_scores(model, real, space, seed)
        others = None if bank_codes is None else latent.points(bank_codes, space, grid)
        scores += path_scores(model, real, others, space, seed)
        views += _views(model, real, space, seed, umap)
    part = slice(0, min(inbetween_captions, num_true))
    videos = Videos(true[:, part], latents[:, part], real_codes[:, part], sampled_codes[:, part])
    gaps: list[Gap] = []
    notes: dict[str, str] = {}
    for doubling in doublings(cases, params):
        found, pictures = double(latent, cases, params, videos, doubling, seed, batch_size)
        scores += found
        gaps += pictures
        twice = doubling.params(params)
        usual = pipe.warnings(cases.captions[0][0], params)
        notes[doubling.group] = "; ".join(w for w in pipe.warnings(cases.captions[0][0], twice) if w not in usual)
    name = f"codec-{latent.digest[:8]}"
    scored = tuple(dataclasses.replace(score, features=name, features_sha256=latent.digest) for score in scores)
    return LatentStudy(scored, cases.captions, tuple(views), tuple(gaps), notes)


def _views(model: Points, real: Points, space: str, seed: int, umap: bool) -> list[View]:
    """All images in one plane, and some images each in its own."""
    plotted = slice(0, MOST_PLOTTED)
    plane = trajectories.fit_plane(real)
    sides = {"real": plane.project(real[plotted]), "model": plane.project(model[plotted])}
    views = [View(space, "pca", None, tuple(plane.explained.round(4).tolist()), _paths(sides))]
    if umap:
        placed = trajectories.umap_view(real[plotted], model[plotted], seed)
        views.append(View(space, "umap", None, (), _paths(dict(zip(("real", "model"), placed, strict=True)))))
    for image in range(min(len(real), MOST_PICTURES)):
        plane = trajectories.fit_plane(real[image])
        sides = {"real": plane.project(real[image : image + 1]), "model": plane.project(model[image : image + 1])}
        views.append(View(space, "pca", image, tuple(plane.explained.round(4).tolist()), _paths(sides, image)))
    return views


def _paths(sides: dict[str, Float[np.ndarray, "S C F 2"]], first: int = 0) -> tuple[Path, ...]:
    return tuple(
        Path(row, first + image, caption, tuple((round(float(x), 4), round(float(y), 4)) for x, y in path))
        for row, images in sides.items()
        for image, paths in enumerate(images)
        for caption, path in enumerate(paths)
    )


def _plain(entry: Any) -> Any:
    return dataclasses.asdict(entry) if dataclasses.is_dataclass(entry) else entry

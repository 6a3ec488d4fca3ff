"""Training clips as paths in a plane of the latent space, and sampled videos in the same plane, as SVG."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from cdcd_video.data.buckets import spread
from cdcd_video.errors import UserError
from cdcd_video.kernels.threads import threads
from cdcd_video.metrics.latent.latent_model import LatentModel
from cdcd_video.metrics.latent.trajectories import Plane, fit_plane
from cdcd_video.pages import chart_style
from cdcd_video.pipeline import ImageToVideo
from cdcd_video.records import Grid
from cdcd_video.training.training_data import open_clips

NUM_CLIPS, NUM_FRAMES = 24, 12
"""Clips that are plotted, and frames of each, evenly apart."""
SPACE = "embedding"
"""CLIP's joint space, in which the contrastive terms act; see `metrics.latent.latent_study`."""
_SIZE_PX, _MARGIN_PX = (460, 320), 16


@dataclass(frozen=True)
class TrainingPaths:
    """What is shown beside the latent paths of sampled videos."""

    paths: Float[np.ndarray, "R F 2"]
    plane: Plane | None
    """The principal plane of the training frames; None without them."""
    note: str
    """What the plane is, or why there are no training paths."""


def training_paths(pipe: ImageToVideo) -> TrainingPaths:
    """The first training clips of a model in the plane of their largest variance."""
    try:
        clips = open_clips(pipe.model.config, "train")
    except UserError as error:
        note = f"No training clips: {error}. The plane is that of the videos themselves."
        return TrainingPaths(np.zeros((0, 0, 2)), None, note)
    latents, found = LatentModel(pipe, lambda _: None), []
    for of_size, numbers in spread(clips, NUM_CLIPS):
        chosen = np.stack(
            [
                of_size.frames(
                    clip, np.linspace(0, of_size.num_frames(clip) - 1, NUM_FRAMES).round().astype(int).tolist()
                )
                for clip in numbers
            ]
        )
        grid = pipe.model.codec.grid_of(*chosen.shape[2:4])
        with threads(pipe.num_threads):
            found.append(latents.points(latents.codes_of(latents.latents(chosen)), SPACE, grid))
    points = np.concatenate(found)
    plane = fit_plane(points)
    shares = " and ".join(f"{100 * share:.0f}%" for share in plane.explained)
    note = f"PCA of {len(points)} training clips in CLIP's joint space; the axes explain {shares} of their variance."
    return TrainingPaths(plane.project(points), plane, note)


def path_plot(
    pipe: ImageToVideo, known: TrainingPaths, latents: Tensor, labels: Sequence[str], grid: Grid | None = None
) -> str:
    """An SVG figure of the videos' paths over the training paths; a filled dot is the starting frame.

    Args:
      pipe: the model.
      known: of `training_paths`.
      latents: (B, F, N) codes, or (B, F, P, V) values.
      labels: one per video.
      grid: rows and columns of the frames' patches; None for the square grid.
    """
    with threads(pipe.num_threads):
        points = LatentModel(pipe, lambda _: None).points(latents.cpu().numpy(), SPACE, grid)
    own = (known.plane or fit_plane(points)).project(points)
    corners = np.concatenate([own.reshape(-1, 2), known.paths.reshape(-1, 2)])
    low, high = corners.min(0), corners.max(0)
    room = np.array(_SIZE_PX) - 2 * _MARGIN_PX
    scale = (room / np.maximum(high - low, 1e-9)).min()
    middle = np.array(_SIZE_PX) / 2

    def line(path: Float[np.ndarray, "F 2"], colour: str, title: str, width: float, *, is_dashed: bool = False) -> str:
        spots = (path - (low + high) / 2) * (scale, -scale) + middle
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
        x, y = spots[0]
        dashes = ' stroke-dasharray="4 3"' if is_dashed else ""
        return (
            f'<g stroke="{colour}" fill="none" stroke-width="{width}"{dashes}><title>{html.escape(title)}</title>'
            f'<polyline points="{joined}"/><circle cx="{x:.1f}" cy="{y:.1f}" r="{1.5 * width}" fill="{colour}"/></g>'
        )

    colours = [chart_style.SERIES[place % len(chart_style.SERIES)] for place in range(len(labels))]
    again = [place >= len(chart_style.SERIES) for place in range(len(labels))]  # these would look like earlier ones
    lines = [line(path, chart_style.INK, "a training clip", 0.5) for path in known.paths]
    for path, colour, label, is_dashed in zip(own, colours, labels, again, strict=True):
        lines.append(line(path, colour, label, chart_style.THICK, is_dashed=is_dashed))
    entries = "".join(
        f'<li><span style="color: {colour}" aria-hidden="true">{"&#9676;" if is_dashed else "&#9679;"}</span>'
        f" {html.escape(label)}</li>"
        for colour, label, is_dashed in zip(colours, labels, again, strict=True)
    )
    width, height = _SIZE_PX
    about = html.escape(f"Latent paths of {len(labels)} videos. {known.note}")
    return (
        f'<figure class="plane"><svg viewBox="0 0 {width} {height}" role="img" aria-label="{about}">{"".join(lines)}</svg>'
        f"<figcaption>{html.escape(known.note)} Grey: training clips.<ul>{entries}</ul></figcaption></figure>"
    )

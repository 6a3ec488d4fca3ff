"""Fidelity of each frame to the true one, and the change from frame to frame."""

import math

import numpy as np
import torch
from jaxtyping import Float, UInt8

BEST_PSNR_DB = 60.0
"""PSNR of equal frames, so that means stay finite; a difference of one level everywhere has 48 dB."""

_RADIUS, _SIGMA = 5, 1.5
"""Of the windows of SSIM, in pixels."""


def psnr(sampled: UInt8[np.ndarray, "F H W 3"], true: UInt8[np.ndarray, "F H W 3"]) -> Float[np.ndarray, " F"]:
    """Peak signal-to-noise ratio of each frame in dB, at most `BEST_PSNR_DB`."""
    ours, truth = _as_tensor(sampled), _as_tensor(true)
    mean_square = (ours - truth).square().sum((1, 2, 3)) / ours[0].numel()
    return np.minimum(-10 / math.log(10) * mean_square.log().numpy(), BEST_PSNR_DB)


def ssim(sampled: UInt8[np.ndarray, "F H W 3"], true: UInt8[np.ndarray, "F H W 3"]) -> Float[np.ndarray, " F"]:
    """Structural similarity of frames of 11 px or more a side, at most 1 (Wang et al. 2004, eq. 13 and 17), mean over channels.

    Gaussian windows of 11 x 11, sigma 1.5, only those within the frame, as the authors define it. (torchmetrics also
    counts windows over mirrored borders: at 64 px these are 29 % of them.) Frames are not downsampled first.
    """
    ours, truth = (_as_tensor(frames, torch.float64) for frames in (sampled, true))
    rows, columns = (_windows(length) for length in ours.shape[-2:])

    def means(values: torch.Tensor) -> torch.Tensor:
        return rows @ values @ columns.T

    mean_ours, mean_truth = means(ours), means(truth)
    variances = means(ours**2) - mean_ours**2 + means(truth**2) - mean_truth**2
    covariance = means(ours * truth) - mean_ours * mean_truth
    c1, c2 = 0.01**2, 0.03**2
    likeness = (2 * mean_ours * mean_truth + c1) * (2 * covariance + c2)
    likeness /= (mean_ours**2 + mean_truth**2 + c1) * (variances + c2)
    return likeness.mean((1, 2, 3)).numpy()


def _windows(length: int) -> Float[torch.Tensor, "P length"]:
    """Weights of each window along one side; a product with them is far cheaper than a convolution in float64."""
    away = torch.arange(length, dtype=torch.float64) - torch.arange(_RADIUS, length - _RADIUS)[:, None]
    weights = torch.exp(-0.5 * (away / _SIGMA) ** 2).where(away.abs() <= _RADIUS, 0)
    return weights / weights.sum(1, keepdim=True)


def motion(frames: UInt8[np.ndarray, "F H W 3"]) -> Float[np.ndarray, " F"]:
    """Mean absolute difference of each frame to the one before, in levels of 255; NaN for the first.

    Read it as a ratio to the true video's, where 1 is right: on its own, flicker scores high and a frozen video low.
    """
    change = np.abs(np.diff(frames.astype(np.int16), axis=0)).mean(axis=(1, 2, 3))
    return np.concatenate([[np.nan], change])


def _as_tensor(frames: np.ndarray, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).to(dtype).div(255)

"""How close drawn frames are to the true ones, frame by frame, and how much moves at all."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

BEST_PSNR_DB = 60.0
"""What frames equal to the truth score, so that means stay finite; 48 dB is one level of 255 everywhere."""

_RADIUS = 5
"""Of the windows of SSIM: so many places from the border on, they lie within the frame."""


def psnr(drawn: UInt8[np.ndarray, "F H W 3"], true: UInt8[np.ndarray, "F H W 3"]) -> Float[np.ndarray, " F"]:
    """Peak signal-to-noise ratio of each frame in dB, at most `BEST_PSNR_DB`."""
    per_frame = peak_signal_noise_ratio(
        _as_tensor(drawn), _as_tensor(true), data_range=1.0, reduction="none", dim=(1, 2, 3)
    )
    return np.minimum(per_frame.numpy(), BEST_PSNR_DB)


def ssim(drawn: UInt8[np.ndarray, "F H W 3"], true: UInt8[np.ndarray, "F H W 3"]) -> Float[np.ndarray, " F"]:
    """Structural similarity of each frame, at most 1 (Wang et al. 2004, eq. 13 and 17), mean over the three channels.

    Gaussian windows of 11 x 11, sigma 1.5, and only those that lie within the frame, as the authors count. (torchmetrics
    counts windows over mirrored borders, too: at 64 px that is 29 % of them.) Nothing is made smaller first.
    """
    _, by_window = structural_similarity_index_measure(
        *(_as_tensor(frames, torch.float64) for frames in (drawn, true)),
        sigma=1.5,
        data_range=1.0,
        reduction="none",
        return_full_image=True,
    )
    return by_window[..., _RADIUS:-_RADIUS, _RADIUS:-_RADIUS].mean((1, 2, 3)).numpy()


def motion(frames: UInt8[np.ndarray, "F H W 3"]) -> Float[np.ndarray, " F"]:
    """Mean absolute difference of each frame to the one before, in levels of 255; NaN for the first.

    Alone it means nothing, for flicker scores high and a frozen video is steady: its ratio to the truth's says how
    much of the true motion there is, and 1 is right.
    """
    change = np.abs(np.diff(frames.astype(np.int16), axis=0)).mean(axis=(1, 2, 3))
    return np.concatenate([[np.nan], change])


def _as_tensor(frames: np.ndarray, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.from_numpy(frames).permute(0, 3, 1, 2).to(dtype).div(255)

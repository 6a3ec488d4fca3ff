"""Published weights of feature networks: read from a local file, downloaded only by command, unpickled as tensors only."""

import hashlib
import io
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cdcd_video.errors import UserError

FOLDER_VARIABLE = "CDCD_VIDEO_WEIGHTS"


@dataclass(frozen=True)
class WeightsFile:
    """A published file, pinned by its content."""

    file: str
    megabytes: int
    sha256: str
    url: str
    instead: str
    """A network or metric for the same purpose that needs no download."""
    git_blob: str = ""
    """Its name in git, where the file lies in repositories that state nothing else."""


_INCEPTION = "weights-inception-2015-12-05-6726825d.pth"
WEIGHTS = {
    "inception": WeightsFile(
        _INCEPTION,
        96,
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{_INCEPTION}",
        "sprites-frame",
    ),
    "i3d": WeightsFile(
        "i3d_pretrained_400.pt",
        51,
        "55095f049e706479d48e221adcdb145b2b9dc930ba28b081ed72367ffaa32343",
        "https://github.com/songweige/TATS/raw/03bbce1daa3da7e9bff8221e9ec433df9484817f/tats/fvd/i3d_pretrained_400.pt",
        "sprites-video",
        git_blob="a867b87ac3a9097d200598b1d48a1b890d8ec744",
    ),
    "lpips-alex": WeightsFile(
        "alexnet-owt-7be5be79.pth",
        244,
        "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        "ssim",
    ),
    "lpips-vgg": WeightsFile(
        "vgg16-397923af.pth",
        553,
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        "https://download.pytorch.org/models/vgg16-397923af.pth",
        "ssim",
    ),
}
"""Known files, by the name of the network. The hashes are those that the publishers or mirrors state."""


def folder() -> Path:
    """The folder of weights: the one that `CDCD_VIDEO_WEIGHTS` names, or `~/.cache/cdcd_video`."""
    return Path(os.environ.get(FOLDER_VARIABLE) or Path.home() / ".cache" / "cdcd_video").expanduser()


def is_here(name: str) -> bool:
    """Whether the file of a network of `WEIGHTS` lies in the folder; its content is not checked."""
    return (folder() / WEIGHTS[name].file).is_file()


def read(name: str) -> dict[str, Tensor]:
    """Reads a network's weights: checks the hash, then unpickles those same bytes as tensors only.

    Args:
      name: one of `WEIGHTS`.

    Raises:
      UserError: the file is missing, or has another hash.
    """
    wanted = WEIGHTS[name]
    path = folder() / wanted.file
    if not path.is_file():
        raise UserError(
            f"{name} needs {wanted.file} ({wanted.megabytes} MB, sha256 {wanted.sha256}) in {folder()}; get it by"
            f" `python -m cdcd_video.tools.weights get {name}` from {wanted.url}, copy it there, or name its folder in"
            f" {FOLDER_VARIABLE}; {wanted.instead} needs no download"
        )
    data = path.read_bytes()
    if not is_content_of(wanted, data):
        raise UserError(
            f"{path} is not the {wanted.file} that {name} needs: its sha256 is {hashlib.sha256(data).hexdigest()}, not"
            f" {wanted.sha256}; delete it and run `python -m cdcd_video.tools.weights get {name}`"
        )
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def is_content_of(wanted: WeightsFile, data: bytes) -> bool:
    """Whether the bytes are the pinned file."""
    if hashlib.sha256(data).hexdigest() == wanted.sha256:
        return True
    git_name = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    return git_name == wanted.git_blob

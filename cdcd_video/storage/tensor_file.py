"""Reads and checks weights: every tensor that is read or written is checked once for unusable numbers."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cdcd_video.errors import UserError
from cdcd_video.storage.memory import raise_if_out_of_memory
from cdcd_video.storage.small_file import MIB, Unreadable, open_plain

MOST_IN_16_BITS = torch.finfo(torch.float16).max
"""Larger numbers become infinite in the format of a model's weights."""
MOST = torch.finfo(torch.bfloat16).max
"""The limit for weights that stay in 32 bits and are used in bfloat16."""
_MOST_LOGIT_SCALE = math.log(MOST_IN_16_BITS)
"""CLIP's is at most log 100."""
_MOST_HEADER_BYTES = 64 * MIB


@dataclass(frozen=True)
class Fault:
    """The first unusable number.

    Attributes:
      tensor: its name.
      value: the number.
      reason: what is wrong with it, as an end of a sentence.
    """

    tensor: str
    value: float
    reason: str

    def __str__(self) -> str:
        return f"tensor {self.tensor} holds {self.value:g}, {self.reason}"


def find_fault(tensors: Mapping[str, Tensor], most: float = MOST) -> Fault | None:
    """Checks weights; costs one pass over memory.

    Args:
      tensors: by name. Those of whole numbers are let be.
      most: the largest number that may be held.

    Returns:
      What is wrong with the first that holds a number that is not finite or too large, a variance below 0, or a scale of
      logits whose exponential is too large; None where all is well.
    """
    for name, tensor in tensors.items():
        if not tensor.numel() or not tensor.is_floating_point():
            continue
        low, high = _extremes(tensor)
        largest = max(high, -low)
        if math.isnan(low) or math.isinf(largest):  # one NaN makes both of them NaN
            return Fault(name, low if math.isnan(low) or math.isinf(low) else high, "which is not finite")
        if largest > most:
            return Fault(name, high if high == largest else low, f"but the maximum is {most:g}")
        own_name = name.rpartition(".")[2]  # not step/logit_scale, which is the optimiser's number of steps
        if own_name == "running_var" and low < 0:
            return Fault(name, low, "but a variance cannot be negative")
        if own_name == "logit_scale" and high > _MOST_LOGIT_SCALE:
            return Fault(name, high, f"but the maximum logit scale is exp({_MOST_LOGIT_SCALE:.2f})")
    return None


def check_numbers(tensors: Mapping[str, Tensor], what: str, way_out: str, most: float = MOST) -> None:
    """Refuses weights with a fault.

    Args:
      tensors, most: as for `find_fault`.
      what: where they are or are to be, such as "model file x.safetensors".
      way_out: what to do then.

    Raises:
      UserError: names the file and the first tensor with a fault.
    """
    fault = find_fault(tensors, most)
    if fault is not None:
        raise UserError(f"{what} cannot be used ({fault}); {way_out}")


def read_tensors(path: Path, what: str, way_out: str, most: float = MOST) -> dict[str, Tensor]:
    """Reads a safetensors file and checks its numbers.

    Args:
      path: of the file.
      what: what it is, such as "model file".
      way_out: what to do where it is damaged.
      most: as for `find_fault`.

    Raises:
      UserError: it is no plain file, damaged, or holds a number that cannot be worked with.
    """
    check_header(path, what, way_out)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise_if_out_of_memory(error)
        raise UserError(f"{what} {path} is damaged ({error}); {way_out}") from error
    check_numbers(tensors, f"{what} {path}", way_out, most)
    return tensors


def check_header(path: Path, what: str, way_out: str) -> None:
    """Refuses what is not a regular file, or has an impossibly large header, before a library opens it.

    Raises:
      UserError: says so.
    """
    try:
        with open_plain(path, what) as file:
            size = int.from_bytes(file.read(8), "little")
    except OSError as error:
        raise UserError(f"{what} {path} cannot be read ({error.strerror}); {way_out}") from error
    except Unreadable as error:
        if isinstance(error.__context__, PermissionError):  # copying it would not help
            raise
        raise UserError(f"{what} {path} {error.reason.split(';')[0]}; {way_out}") from None
    if size > _MOST_HEADER_BYTES:
        raise UserError(f"{what} {path} is damaged (its header claims {size:,} bytes); {way_out}")


def _extremes(tensor: Tensor) -> tuple[float, float]:
    tensor = tensor.detach()
    if tensor.element_size() == 1:  # 8-bit floats know no order
        tensor = tensor.float()
    low, high = torch.aminmax(tensor)
    return float(low), float(high)

"""The precision of training if a config has `auto`: bf16 where it is fast, else fp32; and that of a dtype, for sampling."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch

from cdcd_video.errors import UserError

Precision = Literal["bf16", "fp32"]
PRECISIONS: dict[torch.dtype, Precision] = {torch.float32: "fp32", torch.bfloat16: "bf16"}

UNITS = ("avx512_bf16", "amx_bf16")
"""Instructions that multiply bf16, as Linux names them. Without one bf16 is emulated: on a processor with AVX-512 a
training step took 3 times as long as in fp32, and with AVX2 alone single layers took 8 times as long."""
_TORCH_LIMITS = ("default", "avx2")
"""Values of ATEN_CPU_CAPABILITY that disable AVX-512 in torch's own kernels."""
_ONEDNN_WITH = ("avx512_core_bf16", "avx512_core_fp16", "avx512_core_amx", "avx10", "default", "all")
"""Beginnings of values of ONEDNN_MAX_CPU_ISA with which oneDNN still has products in bf16."""
_LEAST_CAPABILITY = (8, 0)
"""Lowest compute capability of an NVIDIA GPU with bf16; older ones emulate it."""


def best_for(device: torch.device) -> tuple[Precision, str]:
    """The precision that trains fast on a device, and the reason as a clause.

    On a CPU it is bf16 only if the operating system lists the instructions (Linux on x86-64) and no variable disables them in
    torch or oneDNN; other processors and devices get fp32, which works everywhere.

    Args:
      device: where the training will run; of a GPU, one that is there.
    """
    if device.type == "cuda":
        return _of_gpu(device)
    if device.type != "cpu":
        return "fp32", f"bf16 is not known to be fast on the device {device.type}"
    limit = _limit(os.environ)
    if limit:
        return "fp32", f"{limit} keeps this processor from its bf16 instructions"
    if not torch.backends.mkldnn.is_available():
        return "fp32", "this torch is built without oneDNN, whose products in bf16 are the fast ones"
    has = [unit for unit in UNITS if unit in _cpu_flags()]
    return ("bf16", f"this processor has {has[0]}") if has else ("fp32", f"this processor has no {' or '.join(UNITS)}")


def for_sampling(device: torch.device) -> Precision:
    """bf16 on a GPU that has it; elsewhere fp32, in which a video does not depend on what the processor multiplies."""
    return best_for(device)[0] if device.type == "cuda" else "fp32"


def precision_of(dtype: torch.dtype | str) -> Precision:
    """The precision of the matrix products in a dtype, which may be given by its name: "bfloat16".

    Raises:
      UserError: neither float32 nor bfloat16.
    """
    named = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if not isinstance(named, torch.dtype) or named not in PRECISIONS:
        raise UserError(f"sampling in {dtype} is not supported; use torch.float32 or torch.bfloat16")
    return PRECISIONS[named]


def _of_gpu(device: torch.device) -> tuple[Precision, str]:
    if torch.version.hip:
        return ("bf16", "this GPU has bf16") if torch.cuda.is_bf16_supported() else ("fp32", "this GPU has no bf16")
    capability = torch.cuda.get_device_capability(device)
    version = ".".join(map(str, capability))
    if capability >= _LEAST_CAPABILITY:
        return "bf16", f"this GPU has bf16 (compute capability {version})"
    return "fp32", f"this GPU has no bf16 (compute capability {version}; it begins at 8.0)"


def _limit(environ: Mapping[str, str]) -> str:
    """The environment variable that disables the processor's bf16 in torch or oneDNN; empty if none does."""
    name = "ATEN_CPU_CAPABILITY"
    if environ.get(name, "").lower() in _TORCH_LIMITS:
        return f"{name}={environ[name]}"
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):  # oneDNN reads the older name if the newer is not set
        if environ.get(name):
            return "" if environ[name].lower().startswith(_ONEDNN_WITH) else f"{name}={environ[name]}"
    return ""


def _cpu_flags(path: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Flags that all processors of this machine have; empty where Linux does not list them (macOS, Windows, ARM)."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    flags = [frozenset(line.partition(":")[2].split()) for line in lines if line.partition(":")[0].strip() == "flags"]
    return frozenset.intersection(*flags) if flags else frozenset()

"""A stand-in for ComfyUI: the parts of it that the nodes use, and its way to import them. Seen in 0.3.64 and 0.33.0."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from cdcd_video.data.images import read_image

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "integrations" / "comfyui"
START = ROOT / "examples" / "red-circle.png"


class Host:
    """What ComfyUI offers to nodes: progress, interruption and the device.

    Attributes:
      bars: of every progress bar its total, then each place that it came to.
      stop_after: this many steps of the last bar, the user presses Cancel.
      interruption: its InterruptProcessingException is an Exception in 0.3.64, and a BaseException in 0.33.0.
    """

    def __init__(self) -> None:
        self.bars: list[list[float]] = []
        self.stop_after: int | None = None
        self.interruption: type[BaseException] = type("InterruptProcessingException", (BaseException,), {})

    def modules(self) -> dict[str, ModuleType]:
        host = self

        class ProgressBar:
            def __init__(self, total: float, node_id: str | None = None):
                self.total, self.current = total, 0
                self.steps = [total]
                host.bars.append(self.steps)

            def update(self, value: float) -> None:
                self.current = min(self.current + value, self.total)
                self.steps.append(self.current)

        def throw_exception_if_processing_interrupted() -> None:
            if self.stop_after is not None and len(self.bars[-1]) > self.stop_after:
                self.stop_after = None
                raise self.interruption

        comfy, management, utils = (ModuleType(f"comfy{name}") for name in ("", ".model_management", ".utils"))
        management.throw_exception_if_processing_interrupted = throw_exception_if_processing_interrupted
        management.get_torch_device = lambda: torch.device("cpu")
        utils.ProgressBar = ProgressBar
        comfy.model_management, comfy.utils = management, utils
        return {module.__name__: module for module in (comfy, management, utils)}


def installed(monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host whose modules the nodes can import until the test ends."""
    found = Host()
    for name, module in found.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    return found


def load_pack() -> ModuleType:
    """The nodes, imported as ComfyUI does: by the path of their folder."""
    spec = importlib.util.spec_from_file_location("custom_nodes_cdcd", FOLDER / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def as_image(*paths: Path) -> torch.Tensor:
    """Pictures as ComfyUI's IMAGE: float32 (B, H, W, 3) from 0 to 1."""
    return torch.from_numpy(np.stack([read_image(path) for path in paths]).astype(np.float32) / 255)

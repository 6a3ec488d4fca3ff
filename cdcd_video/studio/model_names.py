"""Names of models that can be chosen without typing: shipped, of runs in the current folder, and in the Hub's cache."""

from pathlib import Path

from cdcd_video.model import SHIPPED

RUNS = Path("runs")
"""Where `train.py` puts runs, relative to the current folder."""


def known_models() -> list[str]:
    """Shipped models; runs that have a model, the newest first, also while they train; models of the Hub in its cache."""
    from huggingface_hub import constants

    shipped = sorted(path.parent.name for path in SHIPPED.glob("*/model.json"))
    depths = ("*", "*/*", "*/*/*")  # the cells of an ablation are in runs/ablations/NAME/
    found = [path for depth in depths for path in RUNS.glob(f"{depth}/model/model.json")]
    written = [path for path in found if (path.parent / "denoiser.safetensors").is_file()]
    runs = [path.parent.parent.as_posix() for path in sorted(sorted(written), key=lambda path: -path.stat().st_mtime)]
    downloaded = Path(constants.HF_HUB_CACHE).glob("models--*--*/snapshots/*/denoiser.safetensors")
    names = {path.parts[-4].removeprefix("models--").replace("--", "/", 1) for path in downloaded}
    return [*shipped, *runs, *sorted(names)]

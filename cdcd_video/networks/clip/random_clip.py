"""Stand-in CLIPs: random weights in a published shape, for rehearsals, with four marks, any of which is enough.

The marks: a file beside the weights, a key in config.json, an entry in the header of the weights' file, and a temperature
with which no training of a CLIP ends.
"""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from cdcd_video.errors import UserError
from cdcd_video.networks.clip.clip_files import ClipFiles, not_readable, read_json, sha256_of
from cdcd_video.storage.tensor_file import check_header

MARK_FILE, MARK = "STAND_IN.json", "stand_in"
STAND_IN = "clip_stand_in"
"""The key of the mark in everything made with one: run.json, model.json, a video's .json, scores, a cache's recipe."""
STAMP = -1.0
"""Their `logit_scale`: a temperature of e, where training begins at 0.07 and ends near 0.01."""


def mark_of(files: ClipFiles, trust: bool = False) -> str | None:
    """The mark of a stand-in, one sentence; None for any other CLIP.

    Args:
      trust: do not check the hash of the weights, for callers that do not read them.

    Raises:
      UserError: the mark belongs to other weights, or a file is damaged.
    """
    beside = read_json(files.folder / MARK_FILE)
    if beside and not trust and beside.get("sha256") != sha256_of(files.weights):
        raise UserError(
            f"CLIP folder {files.folder} has a {MARK_FILE} that belongs to other weights; delete the folder and write"
            " it again"
        )
    check_header(files.weights, "file of a CLIP", "copy it again")
    try:
        with safe_open(files.weights, "pt") as weights:
            header = (weights.metadata() or {}).get(MARK)
            names = weights.keys()
            scale = weights.get_tensor("logit_scale") if "logit_scale" in names else torch.tensor(0.0)
    except PermissionError as error:
        raise not_readable(files.weights) from error
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"CLIP folder {files.folder} is damaged ({files.weights.name}: {error}); copy it again"
        ) from error
    inside = read_json(files.folder / "config.json").get(MARK)
    is_stamped = scale.numel() == 1 and float(scale) == STAMP
    if not (beside or header or inside or is_stamped):
        return None
    what = beside.get("what") or header or inside or "a shape that its marks no longer tell"
    return (
        f"STAND-IN CLIP: {files.source} holds random weights in the shape of {what}; it knows nothing of pictures or words,"
        " and whatever is trained on it is a rehearsal, not a result"
    )


def write_mark(folder: Path, what: str, seed: int, tokenizer: str) -> None:
    """Writes `STAND_IN.json` beside the weights of a stand-in."""
    facts = {"what": what, "seed": seed, "tokenizer": tokenizer, "sha256": sha256_of(folder / "model.safetensors")}
    note = "Random weights. Made by python -m cdcd_video.tools.stand_in_clip; never to be reported as a CLIP."
    (folder / MARK_FILE).write_text(json.dumps({"note": note, **facts}, indent=1) + "\n")

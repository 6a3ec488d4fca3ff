"""Encode once, train many times: codes of every frame and states of every caption, memory-mapped."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from cdcd_video.data.shots import Shots
from cdcd_video.data.store import Clips
from cdcd_video.errors import UserError
from cdcd_video.records import TextStates

FORMAT = 1


def write_cache(
    folder: Path,
    clips: Clips,
    encode: Callable[[Float[Tensor, "F 3 H W"]], Int[Tensor, "F N"]],
    read: Callable[[list[str]], TextStates],
    identity: dict[str, str],
    max_frames: int,
) -> None:
    """Writes the cache of a set of clips, unless `folder` already holds the one asked for.

    Args:
      folder: where; written under another name first, so that a killed run leaves no half cache.
      clips: the frames and captions.
      encode: frames of one clip -> codes.
      read: captions -> text states.
      identity: what the codes depend on (codec, CLIP and data hashes); another identity is written anew.
      max_frames: frames of each clip that are encoded.
    """
    manifest = folder / "manifest.json"
    wanted = {"format": FORMAT, "max_frames": max_frames, **identity}
    if manifest.is_file() and json.loads(manifest.read_text())["identity"] == wanted:
        return
    temporary = folder.with_name(folder.name + f".{os.getpid()}.tmp")
    temporary.mkdir(parents=True, exist_ok=True)
    lengths = np.array([min(clips.num_frames(clip), max_frames) for clip in range(len(clips))])
    distinct = sorted({caption for clip in range(len(clips)) for caption in clips.captions(clip)})
    number = {caption: i for i, caption in enumerate(distinct)}
    caption_of = [[number[caption] for caption in clips.captions(clip)] for clip in range(len(clips))]

    codes = None
    for clip in tqdm(range(len(clips)), desc="encode clips", unit="clip", mininterval=5):
        frames = torch.from_numpy(clips.frames(clip, range(lengths[clip]))).permute(0, 3, 1, 2).float().div(255)
        row = encode(frames).cpu().numpy().astype(np.uint16)
        if codes is None:
            codes = np.lib.format.open_memmap(
                temporary / "codes.npy", "w+", np.uint16, (int(lengths.sum()), row.shape[1])
            )
        start = int(lengths[:clip].sum())
        codes[start : start + len(row)] = row
    codes.flush()
    _write_captions(temporary, distinct, read)
    facts = dict(
        identity=wanted, lengths=lengths.tolist(), fps=clips.fps, caption_of=caption_of, num_captions=len(distinct)
    )
    if any(cuts := [clips.cuts(clip) for clip in range(len(clips))]):
        facts["cuts"] = cuts
    (temporary / "manifest.json").write_text(json.dumps(facts))
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def _write_captions(folder: Path, captions: list[str], read: Callable[[list[str]], TextStates]) -> None:
    batches = [
        read(captions[i : i + 256]) for i in tqdm(range(0, len(captions), 256), desc="read captions", mininterval=5)
    ]
    longest = max(batch.tokens.shape[1] for batch in batches)
    pad = torch.nn.functional.pad
    tokens = torch.cat([pad(batch.tokens, (0, 0, 0, longest - batch.tokens.shape[1])) for batch in batches])
    is_word = torch.cat([pad(batch.is_word, (0, longest - batch.is_word.shape[1])) for batch in batches])
    np.save(folder / "tokens.npy", tokens.half().cpu().numpy())
    np.save(folder / "is_word.npy", is_word.cpu().numpy())
    np.save(folder / "embeddings.npy", torch.cat([batch.embedding for batch in batches]).cpu().numpy())


class CodeCache:
    """A written cache, memory-mapped.

    Raises:
      UserError: the folder holds no cache, or a file of it is cut short.
    """

    def __init__(self, folder: Path):
        try:
            facts = json.loads((folder / "manifest.json").read_text())
            arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("codes", "tokens", "is_word")}
            self.embeddings = torch.from_numpy(np.load(folder / "embeddings.npy"))
        except (OSError, ValueError) as error:
            raise UserError(f"code cache {folder} cannot be read ({error}); delete it and run again") from error
        self.codes, self.tokens, self.is_word = (arrays[name] for name in ("codes", "tokens", "is_word"))
        self.lengths = np.array(facts["lengths"])
        self.offsets = np.concatenate([[0], np.cumsum(self.lengths)[:-1]])
        self.shots = Shots.of(self.lengths, facts.get("cuts"))
        self.fps: float = facts["fps"]
        self.caption_of: list[list[int]] = facts["caption_of"]

    def __len__(self) -> int:
        return len(self.lengths)

    def frame_codes(self, clip: np.ndarray, frame: np.ndarray) -> Int[Tensor, "B N"]:
        """Codes of one frame of each of several clips."""
        return torch.from_numpy(self.codes[self.offsets[clip] + frame].astype(np.int64))

    def some_codes(self, most: int) -> Int[Tensor, "M N"]:
        """Codes of at most this many frames, evenly spread over all clips."""
        every = -(-len(self.codes) // most)
        return torch.from_numpy(self.codes[::every].astype(np.int64))

    def text(self, caption: np.ndarray) -> TextStates:
        """States of several captions, cut to the longest of them."""
        is_word = torch.from_numpy(self.is_word[caption])
        longest = int(is_word.sum(1).max())
        tokens = torch.from_numpy(self.tokens[caption][:, :longest].astype(np.float32))
        return TextStates(tokens, is_word[:, :longest], self.embeddings[caption])

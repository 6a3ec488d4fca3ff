"""Targets of what the project itself has written and a disk, or somebody, has changed: checkpoints, models, clips.

Half of the inputs are signed anew after they were broken, so that readers meet what no hash warns them of.
"""

import hashlib
import json
import shutil
import struct
from pathlib import Path

import numpy as np
from torch import nn

from cdcd_video.data import cache, cache_plan
from cdcd_video.data.store import StoredClips
from cdcd_video.data.store_files import CLIPS, FORMAT, MANIFEST, REJECTED, VERSION
from cdcd_video.engine import checkpoint
from cdcd_video.engine.checkpoint import load_weights
from cdcd_video.model import SHIPPED, load_model, load_module, save_module
from cdcd_video.tools.dev.fuzzing.mutate import as_json, mutated, mutated_json
from cdcd_video.tools.dev.fuzzing.target import Target

_STEP = 7


def targets(scratch: Path) -> list[Target]:
    """All targets of this file.

    Args:
      scratch: where valid examples may be made.
    """
    network = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    own = {name: value.clone() for name, value in network.state_dict().items()}
    parts = dict.fromkeys(("model", "ema", "optimizer"), own)
    facts = {
        "seconds": 1.5,
        "evaluation": {"psnr_db": 20.0},
        "averages": {"sums": {"loss": [1.0]}, "counts": {"loss": [1.0]}},
    }
    good = checkpoint.save(scratch / "run", "toy", _STEP, parts, identity={"seed": "0"}, facts=facts)
    state = json.loads((good / "state.json").read_text())
    save_module(network, scratch / "net.safetensors")
    weights, network_file = (good / "model.safetensors").read_bytes(), (scratch / "net.safetensors").read_bytes()
    manifest, rows, array = _prepared(scratch / "clips")
    cache_manifest, arrays = _encoded(scratch / "latents")

    def put_checkpoint(folder: Path, rng: np.random.Generator) -> None:
        here = checkpoint.home(folder, "toy") / good.name
        here.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(here.with_name(f"{here.name}.damaged"), ignore_errors=True)
        broken = weights if rng.random() < 0.4 else _broken_safetensors(weights, rng)
        told = dict(state) if rng.random() < 0.4 else mutated_json(state, rng)
        if isinstance(told, dict) and rng.random() < 0.7:  # signed anew
            if isinstance(told.get("sha256"), dict):
                told["sha256"]["model"] = hashlib.sha256(broken).hexdigest()
            told.pop("state_sha256", None)
            told["state_sha256"] = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
        (here / "model.safetensors").write_bytes(broken)
        for part in ("ema", "optimizer"):
            (here / f"{part}.safetensors").write_bytes(weights)
        content = json.dumps(told).encode()
        (here / "state.json").write_bytes(mutated(content, [content], rng) if rng.random() < 0.2 else content)

    def read_checkpoint(folder: Path) -> object:
        load_weights(folder, "toy", "model")
        found = checkpoint.latest(folder, "toy")
        return checkpoint.check_identity(found, {"seed": "0"}, {})

    def put_model(folder: Path, rng: np.random.Generator) -> None:
        (folder / "net.safetensors").write_bytes(_broken_safetensors(network_file, rng))

    def put_clips(folder: Path, rng: np.random.Generator) -> None:
        told = manifest if rng.random() < 0.4 else mutated_json(manifest, rng)
        lines = list(rows) if rng.random() < 0.4 else mutated_json(rows, rng)
        content = b"".join(json.dumps(row).encode() + b"\n" for row in (lines if isinstance(lines, list) else [lines]))
        content = mutated(content, [content], rng) if rng.random() < 0.2 else content
        pixels = array if rng.random() < 0.7 else mutated(array[:128], [array[:128]], rng) + array[128:]
        told = json.loads(json.dumps(told))
        files = told.get("files") if isinstance(told, dict) else None
        for name, bytes_ in ((CLIPS, content), ("frames-00000.npy", pixels)):
            if isinstance(files, dict) and isinstance(files.get(name), dict) and rng.random() < 0.8:
                files[name] = {"bytes": len(bytes_), "sha256": hashlib.sha256(bytes_).hexdigest()}
            (folder / name).write_bytes(bytes_)
        (folder / REJECTED).write_bytes(b"")
        (folder / MANIFEST).write_bytes(as_json(told, rng))

    def read_clips(folder: Path) -> object:
        clips = StoredClips(folder, "train")
        clips.digest()
        return [(clips.frames(clip, [0]), clips.captions(clip), clips.cuts(clip)) for clip in range(len(clips))]

    def put_latents(folder: Path, rng: np.random.Generator) -> None:
        told = cache_manifest if rng.random() < 0.5 else mutated_json(cache_manifest, rng)
        told = json.loads(json.dumps(told))
        broken = list(arrays)[int(rng.integers(len(arrays)))]
        files = told.get("files") if isinstance(told, dict) else None
        for name, content in arrays.items():
            if name == broken and rng.random() < 0.7:
                content = _broken_array(content, rng)
            if isinstance(files, dict) and isinstance(files.get(name), dict) and rng.random() < 0.9:
                files[name] = {"bytes": len(content), "sha256": "0" * 64}
            (folder / name).write_bytes(content)
        (folder / cache.MANIFEST).write_bytes(as_json(told, rng))

    def read_latents(folder: Path) -> object:
        latents = cache.CodeCache(folder, "train")
        every = np.arange(len(latents))
        captions = np.array([caption for own in latents.caption_of for caption in own])
        return latents.frame_codes(every, latents.lengths - 1), latents.text(captions), latents.some_codes(4)

    def put_facts(folder: Path, rng: np.random.Generator) -> None:
        for name in ("denoiser.safetensors", "codec.safetensors"):
            (folder / name).touch()
        facts, config = (SHIPPED / "sprites" / name for name in ("model.json", "config.yaml"))
        told = json.loads(facts.read_text())
        (folder / "model.json").write_bytes(as_json(mutated_json(told, rng) if rng.random() < 0.7 else told, rng))
        content = config.read_bytes()
        (folder / "config.yaml").write_bytes(mutated(content, [content], rng) if rng.random() < 0.3 else content)

    return [
        Target("cache of latents", 8, put_latents, read_latents),
        Target("model folder", 1, put_facts, load_model),
        Target("checkpoint", 10, put_checkpoint, read_checkpoint),
        Target("model file", 8, put_model, lambda folder: load_module(network, folder / "net.safetensors")),
        Target("prepared folder", 10, put_clips, read_clips),
    ]


def _broken_safetensors(content: bytes, rng: np.random.Generator) -> bytes:
    """A file of safetensors with its header's length, its header or its data changed."""
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    if rng.random() < 0.3:
        return mutated(content, [content], rng)
    told = as_json(mutated_json(header, rng), rng)
    size = len(told) if rng.random() < 0.9 else int(rng.integers(2**62))
    return struct.pack("<Q", size) + told + (data if rng.random() < 0.8 else data[: int(rng.integers(len(data) + 1))])


def _broken_array(content: bytes, rng: np.random.Generator) -> bytes:
    """An array with its header changed, or some of its numbers."""
    if rng.random() < 0.5:
        return mutated(content[:128], [content[:128]], rng) + content[128:]
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        data[int(rng.integers(128, len(data)))] = int(rng.integers(256))
    return bytes(data)


def _encoded(folder: Path) -> tuple[dict, dict[str, bytes]]:
    """Manifest and arrays of a cache of two clips of two frames and a caption each."""
    folder.mkdir()
    values = {
        "codes": np.zeros((4, 6), np.uint16),
        "words": np.zeros((5, 3), np.float16),
        "embeddings": np.zeros((2, 3), np.float32),
        "captions": np.array([[2, 0], [3, 1]], np.int64),
        "clips": np.array([[2, 1, 1, 0], [2, 1, 0, 0]], np.int32),
        "cuts": np.array([1], np.int32),
    }
    for name, value in values.items():
        np.save(folder / f"{name}.npy", value)
    arrays = {f"{name}.npy": (folder / f"{name}.npy").read_bytes() for name in values}
    files = {name: {"bytes": len(content), "sha256": "0" * 64} for name, content in arrays.items()}
    plan = {
        "version": cache_plan.VERSION,
        "fps": 8.0,
        "size_px": 32,
        "codec": {},
        "recipe": {},
        "codes": "",
        "clip": "",
        "data": "",
    }
    plan |= {"num_patches": 6, "joint_width": 3, "text_width": 3}
    return {"format": cache.FORMAT, "plan": plan, "splits": {"train": 2}, "files": files}, arrays


def _prepared(folder: Path) -> tuple[dict, list[dict], bytes]:
    """Manifest, rows and array of a prepared folder of two clips."""
    folder.mkdir(exist_ok=True)
    np.save(folder / "frames-00000.npy", np.zeros((5, 4, 4, 3), np.uint8))
    array = (folder / "frames-00000.npy").read_bytes()
    rows = [
        {
            **dict(id=f"clip{number}", captions=["it spins"], split="train", source="a.mp4", file="frames-00000.npy"),
            **dict(offset=2 * number, num_frames=2, fps=8.0, seconds=0.25, source_width=4, source_height=4),
            **dict(source_fps=8.0, about={}, cuts=[1]),
        }
        for number in range(2)
    ]
    files = {
        name: {"bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()} for name in (CLIPS, "frames-00000.npy", REJECTED)
    }
    return {"format": FORMAT, "version": VERSION, "size_px": 4, "fps": 8.0, "mode": "crop", "files": files}, rows, array

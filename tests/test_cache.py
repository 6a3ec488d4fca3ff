"""Caches of latents: what goes in comes out, whoever writes them, and wherever a writer is killed."""

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import traceback
import tracemalloc
from pathlib import Path

import children
import numpy as np
import pytest
import sweeps
import torch

from cdcd_video.data import cache as caches
from cdcd_video.data import cache_blocks, cache_writer
from cdcd_video.data.cache import CodeCache
from cdcd_video.data.cache_blocks import Encoder, LoadedClip, Refused, encode_block, sentence_number
from cdcd_video.data.cache_plan import CachePlan
from cdcd_video.data.cache_writer import CacheWriter, write_cache, write_private_cache
from cdcd_video.errors import UserError
from cdcd_video.records import TextStates

N, DT, J = 5, 3, 2


class Clips:
    """Clips of random length whose pixels are their number; every third one holds a cut, and some share a sentence."""

    size_px, fps, mode = 8, 8.0, "crop"

    def __init__(self, num_clips: int):
        rng = np.random.Generator(np.random.Philox(key=1))
        self.lengths = rng.integers(1, 80, num_clips)

    def __len__(self) -> int:
        return len(self.lengths)

    def name(self, clip: int) -> str:
        return f"clip/\udc80{clip}"

    def num_frames(self, clip: int) -> int:
        return int(self.lengths[clip])

    def caption(self, clip: int) -> str:
        return self.captions(clip)[0]

    def captions(self, clip: int) -> tuple[str, ...]:
        return (f"clip {clip}", *["word " * (clip % 4 + 1)] * (clip % 3))

    def cuts(self, clip: int) -> tuple[int, ...]:
        return (1, 60) if clip % 3 == 0 and self.num_frames(clip) > 60 else ()

    def frames(self, clip: int, indices) -> np.ndarray:
        frames = np.full((len(indices), 8, 8, 3), clip % 256, np.uint8)
        frames[:, 0, 0, 0] = np.asarray(indices)
        return frames


def encode(frames: torch.Tensor) -> torch.Tensor:
    assert len(frames) <= 64
    frames = (frames * 255).round().long()
    return frames[:, 0, 0, 0, None] * 100 + frames[:, 1, 1, 1, None] + torch.arange(N)


def read(captions: list[str]) -> TextStates:
    """A state is the length of the word and those around; the padding is rubbish, which must not be kept."""
    words = [[len(word) for word in caption.split()] for caption in captions]
    longest = max(map(len, words))
    tokens = torch.full((len(words), longest, DT), 77.0)
    is_word = torch.zeros(len(words), longest, dtype=torch.bool)
    for row, own in enumerate(words):
        tokens[row, : len(own)] = torch.tensor(own, dtype=torch.float32)[:, None] + torch.arange(DT)
        is_word[row, : len(own)] = True
    embedding = torch.tensor([[len(caption), hash_of(caption)] for caption in captions], dtype=torch.float32)
    return TextStates(tokens, is_word, embedding)


def hash_of(caption: str) -> int:
    return int(hashlib.sha256(caption.encode()).hexdigest()[:6], 16)


ENCODER = Encoder(encode, read)


def plan_of(clips: Clips, **changes) -> CachePlan:
    facts = dict(codes="c" * 64, clip="a" * 64, data="d" * 64, num_items=len(clips), num_codes=2**16, num_tokens=N)
    facts |= dict(num_patches=N, text_width=DT, joint_width=J, size_px=8, fps=8.0, max_frames=None, codec={}, recipe={})
    return CachePlan(**{**facts, **changes})


def write(folder: Path, clips: Clips, shard: int = 0, num_shards: int = 1, **changes) -> CacheWriter:
    shards = dict(shard=shard, num_shards=num_shards)
    return write_cache(folder, clips, ENCODER, plan_of(clips, **changes), b"space", split="train", **shards)


def content(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(cache_writer, "BLOCK_CLIPS", 3)


# ------------------------------------------------------------------------------------------------ what goes in comes out


def test_codes_and_states_come_back(tmp_path, small_blocks):
    clips = Clips(20)
    assert write(tmp_path / "cache", clips).is_finished
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache"]
    cache = CodeCache(tmp_path / "cache")
    assert len(cache) == 20 and cache.fps == 8.0 and cache.codes.dtype == np.uint16
    for clip in range(20):
        frames = clips.frames(clip, range(clips.num_frames(clip)))
        expected = encode(torch.from_numpy(frames[:64]).permute(0, 3, 1, 2) / 255)
        some = np.arange(len(expected))
        assert torch.equal(cache.frame_codes(np.full_like(some, clip), some), expected)
        assert cache.lengths[clip] == clips.num_frames(clip) and cache.cuts(clip) == clips.cuts(clip)
        captions = clips.captions(clip)
        numbers = np.array(cache.caption_of[clip])
        got, wanted = cache.text(numbers), read(list(captions))
        mask = wanted.is_word
        assert torch.equal(got.is_word, mask) and torch.equal(got.embedding, wanted.embedding)
        assert torch.equal(got.tokens[mask], wanted.tokens[mask]) and not got.tokens[~mask].any()
        assert cache.sentence[numbers].tolist() == [sentence_number(caption) for caption in captions]
    assert any(clips.cuts(clip) for clip in range(20)) and len(cache.shots.begins) > len(cache.shots.clips)
    rows = [json.loads(line) for line in (tmp_path / "cache" / "index.jsonl").read_bytes().splitlines()]
    assert [row["id"] for row in rows] == [clips.name(clip) for clip in range(20)]
    assert [tuple(row["captions"]) for row in rows] == [clips.captions(clip) for clip in range(20)]


@pytest.mark.parametrize("most", [1, 7, 100, 10_000])
def test_some_codes_are_spread_over_the_clips_of_a_split(tmp_path, small_blocks, most):
    clips = Clips(9)
    plan = plan_of(clips)
    writer = CacheWriter(tmp_path / "cache", plan, b"")
    for block in writer.missing():
        entries = cache_blocks.loaded_clips(clips, range(3 * block, 3 * block + 3), f"split{block}", None)
        writer.add(block, encode_block(entries, ENCODER, plan))
    assert writer.join()
    every = torch.from_numpy(CodeCache(tmp_path / "cache").codes.astype(np.int64))
    assert torch.equal(CodeCache(tmp_path / "cache").some_codes(most), every[:: -(-len(every) // most)])
    middle = CodeCache(tmp_path / "cache", "split1")
    own = every[clips.lengths[:3].sum() :][: clips.lengths[3:6].sum()]
    assert len(middle) == 3 and torch.equal(middle.some_codes(most), own[:: -(-len(own) // most)])
    with pytest.raises(UserError, match="no clips of the split 'test'; choose from split0, split1, split2"):
        CodeCache(tmp_path / "cache", "test")


def test_only_so_many_frames_are_encoded(tmp_path):
    clips = Clips(20)
    write(tmp_path / "cache", clips, max_frames=61)
    cache = CodeCache(tmp_path / "cache")
    assert cache.lengths.tolist() == np.minimum(clips.lengths, 61).tolist()
    cut = next(clip for clip in range(20) if clips.cuts(clip))
    assert cache.cuts(cut) == (1, 60)
    write(tmp_path / "shorter", clips, max_frames=60)
    assert CodeCache(tmp_path / "shorter").cuts(cut) == (1,)


def test_many_codes_are_kept_wide(tmp_path):
    clips = Clips(2)
    wide = Encoder(lambda frames: torch.full((len(frames), N), 2**16), read)
    write_cache(tmp_path / "cache", clips, wide, plan_of(clips, num_codes=2**16 + 1), b"", split="train")
    cache = CodeCache(tmp_path / "cache")
    assert cache.codes.dtype == np.uint32 and cache.some_codes(10).unique().tolist() == [2**16]


def test_what_is_refused_is_listed_in_order(tmp_path, small_blocks):
    writer = CacheWriter(tmp_path / "cache", plan_of(Clips(7)), b"")
    for block in writer.missing():
        some = range(3 * block, min(3 * block + 3, 7))
        bad = [Refused(f"{number}", "x.mp4", "it is broken") for number in some]
        good = [LoadedClip("4", "train", "", ("a b",), (), np.zeros((2, 8, 8, 3), np.uint8))]
        entries = [good[0] if row.id == "4" else row for row in bad]
        writer.add(block, encode_block(entries, ENCODER, writer.plan))
    assert writer.join() and len(CodeCache(tmp_path / "cache")) == 1
    lines = (tmp_path / "cache" / "rejected.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == list("012356")


def test_a_cache_of_nothing_is_refused(tmp_path):
    writer = CacheWriter(tmp_path / "cache", plan_of(Clips(1)), b"")
    writer.add(0, encode_block([Refused("x", "x.mp4", "it is broken")], ENCODER, writer.plan))
    with pytest.raises(UserError, match="none of 1 clips could be used; for the reasons see .*rejected.jsonl") as told:
        writer.join()
    assert "it is broken" in Path(str(told.value).split("see ")[1].split(", and delete ")[0]).read_text()
    assert not (tmp_path / "cache").exists()


def test_memory_does_not_grow_with_the_clips(tmp_path, small_blocks):
    def peak(num_clips: int) -> int:
        clips = Clips(num_clips)
        clips.lengths[:] = 100
        tracemalloc.start()
        write(tmp_path / f"{num_clips}", clips)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    few, many = peak(150), peak(600)
    written = [sum(path.stat().st_size for path in (tmp_path / name).iterdir()) for name in ("150", "600")]
    assert many - few < 450 * 250, (few, many)
    assert written[1] - written[0] > 450 * 1000, written


# ------------------------------------------------------------------------------------------- killed, shared, raced for


def in_child(work) -> int:
    """Runs something in a child; how it ended, as `os.waitpid` has it."""
    child = children.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return os.waitpid(child, 0)[1]


STEPS = ("fsync", "replace", "rename", "rmdir", "unlink", "mkdir")
"""Calls of the system between which something lasting changes."""


def killed_at(step: int, work) -> bool:
    """Whether the work was killed just before the step-th of these calls; else it came to its end."""

    def dies() -> None:
        left = [step]
        for name in STEPS:
            call = getattr(os, name)

            def counted(*args, call=call, **kwargs):
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **kwargs)

            setattr(os, name, counted)
        work()

    status = in_child(dies)
    assert status in (0, signal.SIGKILL)
    return status == signal.SIGKILL


def test_killed_anywhere_it_goes_on_and_the_result_is_the_same(tmp_path, small_blocks):
    clips = Clips(7)
    write(tmp_path / "whole", clips)
    expected, deaths = content(tmp_path / "whole"), 0
    folder = tmp_path / "cache"
    while killed_at(deaths, lambda: write(folder, clips)):
        killed_at(deaths % 7, lambda: write(folder, clips))  # a second time, elsewhere; then it is left alone
        assert write(folder, clips).is_finished
        assert content(folder) == expected and not folder.with_name(folder.name + ".part").exists()
        shutil.rmtree(folder)
        deaths += 1 if sweeps.IS_WHOLE else 4
    assert deaths > 25  # plan, three blocks, six arrays, manifest, the renaming, and clearing up


def test_a_killed_run_keeps_its_finished_blocks(tmp_path, small_blocks):
    clips, seen = Clips(10), []
    assert killed_at(9, lambda: write(tmp_path / "cache", clips))
    counting = Encoder(lambda frames: seen.append(len(frames)) or encode(frames), read)
    writer = CacheWriter(tmp_path / "cache", plan_of(clips), b"space")
    missing = writer.missing()
    assert 0 < len(missing) < 4
    write_cache(tmp_path / "cache", clips, counting, plan_of(clips), b"space", split="train")
    assert sum(seen) == sum(clips.lengths[clip] for clip in range(10) if clip // 3 in missing)


@pytest.mark.parametrize("num_shards", [2, 3, 7])
def test_shards_in_any_order_make_the_same_cache(tmp_path, small_blocks, num_shards):
    clips = Clips(20)
    write(tmp_path / "whole", clips)
    for shard in reversed(range(num_shards)):
        writer = write(tmp_path / "cache", clips, shard, num_shards)
        assert writer.is_finished == (shard == 0)
    assert content(tmp_path / "cache") == content(tmp_path / "whole")


def test_shards_at_the_same_time_make_the_same_cache(tmp_path, small_blocks):
    clips = Clips(20)
    write(tmp_path / "whole", clips)
    expected = content(tmp_path / "whole")
    for turn in range(sweeps.examples(8)):
        folder = tmp_path / f"turn{turn}"
        started = []
        for shard in (0, 1, 2, 0, 1, 2):  # each twice: somebody gave a command again while it still ran
            child = children.fork()
            if child == 0:
                try:
                    write(folder, clips, shard, 3)
                    os._exit(0)
                except BaseException:
                    traceback.print_exc()
                    os._exit(1)
            started.append(child)
        assert [os.waitpid(child, 0)[1] for child in started] == [0] * 6
        assert write(folder, clips).is_finished and content(folder) == expected
        assert not folder.with_name(folder.name + ".part").exists()


# ---------------------------------------------------------------------------------------- made by others, or damaged


@pytest.mark.parametrize(
    "changes, told",
    [
        (
            dict(codes="e" * 64),
            "was made with the codec c{16}, but this is the codec e{16}; choose another folder",
        ),
        (
            dict(codes="e" * 64, clip="b" * 64),
            "was made with the CLIP a{16}, but this is the CLIP b{16}; choose another",
        ),
        (dict(data="f" * 64), "was made with the data d{16}, but this is the data f{16}; choose another folder"),
        (dict(max_frames=4), "was made with max_frames None, but this run has 4; choose another folder"),
    ],
)
def test_the_cache_of_another_is_refused_and_left_alone(tmp_path, small_blocks, changes, told):
    clips = Clips(8)
    write(tmp_path / "cache", clips)
    before = content(tmp_path / "cache")
    with pytest.raises(UserError, match=f"cache {told}") as error:
        write(tmp_path / "cache", clips, **changes)
    assert "\n" not in str(error.value) and content(tmp_path / "cache") == before

    write(tmp_path / "begun", clips, 0, 2)
    begun = sorted((tmp_path / "begun.part").rglob("*"))
    with pytest.raises(UserError, match=f"begun.part {told}"):
        write(tmp_path / "begun", clips, **changes)
    assert sorted((tmp_path / "begun.part").rglob("*")) == begun


def test_a_private_cache_of_another_is_made_anew(tmp_path, small_blocks):
    clips = Clips(8)
    write(tmp_path / "cache", clips)
    write(tmp_path / "begun", clips, 0, 2)
    old = json.loads((tmp_path / "cache" / "manifest.json").read_text())
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "manifest.json").write_text(json.dumps({"identity": {"format": 1}}))
    plan = dataclasses.replace(plan_of(clips), codes="e" * 64)
    for name in ("cache", "begun", "old"):
        write_private_cache(tmp_path / name, clips, ENCODER, plan, b"space", "train")
        new = json.loads((tmp_path / name / "manifest.json").read_text())
        assert new["plan"]["codes"] == "e" * 64 and new["files"] == old["files"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["begun", "cache", "old"]


def test_other_folders_are_left_alone(tmp_path):
    clips = Clips(2)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    (tmp_path / "file").write_text("x")
    (tmp_path / "new.part").mkdir()
    (tmp_path / "new.part" / "x").write_text("x")
    for name, told in (
        ("mine", "is not a cache of latents"),
        ("file", "is a file"),
        ("new", "is not an unfinished cache"),
    ):
        with pytest.raises(UserError, match=told):
            write(tmp_path / name, clips)
        with pytest.raises(UserError, match=told):
            write_private_cache(tmp_path / name, clips, ENCODER, plan_of(clips), b"", "train")
    assert (tmp_path / "mine" / "thesis.tex").exists() and (tmp_path / "new.part" / "x").exists()


@pytest.mark.parametrize("name", ["codes", "words", "embeddings", "captions", "clips", "cuts"])
def test_a_damaged_array_is_reported(tmp_path, name):
    write(tmp_path / "cache", Clips(8))
    path = tmp_path / "cache" / f"{name}.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(UserError, match=f"{name}.npy is truncated or was changed; encode the clips again"):
        CodeCache(tmp_path / "cache")
    path.write_bytes(bytes(len(whole)))
    with pytest.raises(UserError, match=f"{name}.npy cannot be read"):
        CodeCache(tmp_path / "cache")
    path.unlink()
    with pytest.raises(UserError, match=f"{name}.npy cannot be read"):
        CodeCache(tmp_path / "cache")


@pytest.mark.parametrize(
    "name", ["codes.npy", "words.npy", "embeddings.npy", "captions.npy", "clips.npy", "space.safetensors"]
)
def test_a_flipped_bit_is_reported_before_anything_is_read(tmp_path, name):
    write(tmp_path / "cache", Clips(8))
    path = tmp_path / "cache" / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{name} does not match its recorded hash|do not fit"):
        CodeCache(tmp_path / "cache")


def test_what_training_does_not_read_may_be_touched(tmp_path):
    write(tmp_path / "cache", Clips(8))
    with (tmp_path / "cache" / "index.jsonl").open("a") as file:
        file.write("\n")
    CodeCache(tmp_path / "cache")


@pytest.mark.parametrize("value", [2**16, -1])
def test_codes_that_are_none_are_reported(tmp_path, value):
    """Where somebody has written them, and the hash too."""
    write(tmp_path / "cache", Clips(8))
    path = tmp_path / "cache" / "codes.npy"
    codes = np.load(path)
    np.save(path, np.where(codes == codes.max(), value, codes.astype(np.int32)))
    manifest = tmp_path / "cache" / "manifest.json"
    facts = json.loads(manifest.read_text())
    facts["files"]["codes.npy"] = {
        "bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    manifest.write_text(json.dumps(facts))
    with pytest.raises(UserError, match="contains values that are not codes of its codec"):
        CodeCache(tmp_path / "cache")


def test_a_cache_is_read_against_its_hashes_once(tmp_path, monkeypatch):
    write(tmp_path / "cache", Clips(8))
    CodeCache(tmp_path / "cache")
    asked = []
    monkeypatch.setattr(caches, "require", lambda path, *others: asked.append(path.name))
    CodeCache(tmp_path / "cache", "train")
    assert asked == []
    path = tmp_path / "cache" / "words.npy"
    os.utime(path, ns=(1, 1))  # written again
    CodeCache(tmp_path / "cache")
    assert asked == ["words.npy"]
    CodeCache(tmp_path / "cache", trusted=True)
    assert asked == ["words.npy"]


def test_a_damaged_manifest_is_reported(tmp_path):
    write(tmp_path / "cache", Clips(3))
    path = tmp_path / "cache" / "manifest.json"
    facts = json.loads(path.read_text())
    for text, told in (
        ("{", "damaged"),
        ("[1]", "damaged"),
        (json.dumps({"format": "another"}), "does not belong to a cache"),
        (json.dumps({**facts, "plan": {**facts["plan"], "version": 9}}), "has version 9, but this one reads 2"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=told):
            CodeCache(tmp_path / "cache")
    path.unlink()
    with pytest.raises(UserError, match="is not a cache of latents; make one with `python -m data_prep encode`"):
        CodeCache(tmp_path / "cache")


def test_a_damaged_block_is_reported(tmp_path, small_blocks):
    clips = Clips(8)
    write(tmp_path / "cache", clips, 0, 2)
    block = next((tmp_path / "cache.part").rglob("*.safetensors"))
    block.write_bytes(block.read_bytes()[:-9])
    with pytest.raises(UserError, match=f"{block.name} is damaged .*; delete it and run the command again"):
        write(tmp_path / "cache", clips, 1, 2)
    block.unlink()
    assert write(tmp_path / "cache", clips).is_finished


def test_a_full_disk_is_reported(tmp_path, small_blocks, monkeypatch):
    def full(file):
        raise OSError(28, "No space left on device")

    clips = Clips(8)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match="the disk is full"):
            write(tmp_path / "cache", clips)
    assert write(tmp_path / "cache", clips).is_finished

"""Encodes clips into a cache of latents, or into one shard of it."""

import argparse
import contextlib
import hashlib
import itertools
import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from tqdm import tqdm

from cdcd_video.config.option_parser import OptionParser
from cdcd_video.config.value_types import Size
from cdcd_video.data.cache import read_manifest
from cdcd_video.data.cache_blocks import BLOCK_CLIPS, LoadedClip, Refused, encode_block
from cdcd_video.data.cache_writer import CacheWriter, counted, write_cache
from cdcd_video.data.clips import DecodedClip
from cdcd_video.data.store import StoredClips, stored_by_size
from cdcd_video.data.store_files import sizes_in
from cdcd_video.engine.runtime import device_for, take_gpu
from cdcd_video.errors import UserError, say
from cdcd_video.storage.folder_lock import folder_lock
from cdcd_video.training.latent_encoder import FrameEncoder, open_frame_encoder
from data_prep.items import Item
from data_prep.job import Job
from data_prep.prepare import Plan, decoded
from data_prep.recipes import RECIPES
from data_prep.sizes import is_of_one_size, places_of


def encode(job: Job) -> str:
    """Encodes one shard, or everything, as far as it is not done yet.

    Returns:
      One line that says what came out, or what is missing.

    Raises:
      UserError: the model, the clips or the place cannot be used, the place holds the cache of another plan, or
        another process is at it.
    """
    with held_for(job):
        return _encode(job)


@contextlib.contextmanager
def held_for(job: Job) -> Iterator[None]:
    """Locks what a job writes: the whole cache, or one shard of it, beside its other shards.

    Raises:
      FolderInUse: another process makes this cache, or this shard of it.
    """
    is_shard = job.num_shards > 1
    with contextlib.ExitStack() as held:
        held.enter_context(folder_lock(job.out, shared=is_shard))
        if is_shard:
            name = f"{job.out.name}.shard-{job.shard}-of-{job.num_shards}"
            held.enter_context(folder_lock(job.out.resolve().with_name(name)))
        yield


def _encode(job: Job) -> str:
    began = time.monotonic()
    take_gpu(job.device)
    frame_encoder = open_frame_encoder(job.model, device_for(job.device))
    if job.data is not None:
        writers = _of_folder(job, job.data, frame_encoder)
    else:
        plan = plan_of(job, frame_encoder.size_px)
        if isinstance(plan, str):
            return plan
        writers = [_of_videos(job, frame_encoder, plan)]
    unfinished = [writer for writer in writers if not writer.is_finished]
    if unfinished:
        missing, blocks = (
            sum(len(writer.missing()) for writer in unfinished),
            sum(writer.num_blocks for writer in writers),
        )
        return (
            f"shard {job.shard} of {job.num_shards} is done; {missing} of {blocks} blocks of other "
            "shards are missing, and the last shard to finish writes the cache"
        )
    return summary(job, time.monotonic() - began)


def plan_of(job: Job, size_px: int) -> Plan | str:
    """The plan that a recipe makes of its options, for frames of this size, or its report (`--check-only`).

    Raises:
      UserError: there is no such recipe, or it is asked for another size.
    """
    name, *rest = job.recipe
    of_videos = {known: recipe for known, recipe in RECIPES.items() if recipe.reads_videos}
    if name not in of_videos:
        raise UserError(f"there is no recipe {name!r} for videos; choose from {', '.join(of_videos)}")
    recipe = of_videos[name]
    parser = OptionParser(prog=f"python -m data_prep encode ... {name}", description=recipe.description)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    recipe.add_options(parser)
    options = parser.parse_args(["--size-px", str(size_px), *rest, "--out", str(job.out)])
    if options.sizes:
        raise UserError(
            "encode brings videos to one size; leave out --sizes, or prepare a folder with it and name that by --data"
        )
    if options.size_px != size_px:
        raise UserError(f"--size-px is {options.size_px}, but {job.model} was trained on {size_px} px; leave it out")
    return recipe.run(options)


def summary(job: Job, seconds: float) -> str:
    """One line that says what a cache holds; of several sizes one for each."""
    folders = [job.out] if is_of_one_size(job.out) else [job.out / name for name in sizes_in(job.out)]
    return "\n".join(_summary(folder, seconds) for folder in folders)


def _summary(folder: Path, seconds: float) -> str:
    manifest = read_manifest(folder)
    splits = ", ".join(f"{count} {split}" for split, count in manifest["splits"].items())
    refused = f"; {manifest['num_rejected']} refused, see {folder}/rejected.jsonl" if manifest["num_rejected"] else ""
    frames = f"{manifest['num_frames']} frames of {manifest['plan']['num_tokens']} codes"
    captions = f"{manifest['num_captions']} captions"
    return f"{folder}: {manifest['num_clips']} clips ({splits}), {frames}, {captions}{refused}; {seconds:.0f} s"


def _of_folder(job: Job, folder: Path, frame_encoder: FrameEncoder) -> list[CacheWriter]:
    """The cache of a prepared folder, or one for each of its sizes."""
    by_size = {clips.size: clips for clips in stored_by_size(folder)}
    size_px = next(iter(by_size.values())).size_px
    if size_px != frame_encoder.size_px:
        raise UserError(
            f"{job.data} has frames of {size_px} px, but {job.model} was trained on {frame_encoder.size_px}; prepare the "
            f"clips with --size-px {frame_encoder.size_px}"
        )
    known = getattr(frame_encoder.config.data, "sizes", None) or (Size.square(size_px),)
    others = [Size(*size) for size in by_size if size not in known]
    if others:
        raise UserError(
            f"{job.data} has frames of {others[0]} px, but {job.model} was trained on {', '.join(map(str, known))}; prepare the"
            f" clips with --sizes {' '.join(map(str, known))}, or train the codec on frames of that size, too"
        )
    places = places_of(job.out, sorted(by_size), size_px, is_one=is_of_one_size(folder))
    return [_of_size(job, by_size[size], place.folder, frame_encoder) for size, place in places.items()]


def _of_size(job: Job, clips: StoredClips, out: Path, frame_encoder: FrameEncoder) -> CacheWriter:
    facts = dict(data=clips.digest(), num_items=len(clips), fps=clips.fps, max_frames=job.max_frames, size=clips.size)
    shards = dict(shard=job.shard, num_shards=job.num_shards)
    plan = frame_encoder.plan(**facts, recipe={"mode": clips.mode, **clips.manifest["recipe"]})
    return write_cache(out, clips, frame_encoder.encoder(), plan, frame_encoder.space(), split=None, **shards)


def _of_videos(job: Job, frame_encoder: FrameEncoder, source: Plan) -> CacheWriter:
    settings = source.settings
    recipe = {"mode": settings.mode, **source.facts()}
    named = json.dumps([settings.size_px, settings.fps, recipe], sort_keys=True)
    data = hashlib.sha256(named.encode()).hexdigest()
    facts = dict(data=data, num_items=source.digest.num_items, fps=settings.fps, max_frames=job.max_frames)
    writer = CacheWriter(job.out, frame_encoder.plan(**facts, recipe=recipe), frame_encoder.space())
    missing = writer.missing(job.shard, job.num_shards)
    _say_what_is_kept(writer, len(range(job.shard, writer.num_blocks, job.num_shards)), len(missing))
    sizes = [min(BLOCK_CLIPS, writer.plan.num_items - block * BLOCK_CLIPS) for block in missing]
    todo, encoder = _items_of(source.items, frozenset(missing)), frame_encoder.encoder()
    with tqdm(total=sum(sizes), unit="clip", file=sys.stderr, mininterval=5) as progress:
        entries = counted((_entry(item, clip, job.max_frames) for item, clip in decoded(todo, settings)), progress)
        for block, size in zip(missing, sizes, strict=True):
            writer.add(block, encode_block(itertools.islice(entries, size), encoder, writer.plan))
    writer.join()
    return writer


def _say_what_is_kept(writer: CacheWriter, num_own: int, num_missing: int) -> None:
    """Says what is not encoded again: the plan knows clips by their names, not whether a video was mended since."""
    if writer.is_finished:
        say(
            "note",
            f"{writer.folder} is complete and stays as it is; delete it to encode it again, such as after mending videos.",
        )
    elif num_missing < num_own:
        say(
            "note",
            f"{num_own - num_missing} of {num_own} blocks in {writer.part} are of an earlier start, and what was refused in them"
            " stays refused; delete that folder to encode all of it again, such as after mending videos.",
        )


def _items_of(items: Iterable[Item], blocks: frozenset[int]) -> Iterator[Item]:
    return (item for place, item in enumerate(items) if place // BLOCK_CLIPS in blocks)


def _entry(item: Item, clip: DecodedClip | str, max_frames: int | None) -> LoadedClip | Refused:
    if isinstance(clip, str):
        return Refused(item.name, item.source, clip)
    frames = clip.frames[:max_frames]
    cuts = tuple(int(cut) for cut in clip.cuts if cut < len(frames))
    return LoadedClip(item.name, item.split, item.source, item.captions, cuts, frames, item.about)

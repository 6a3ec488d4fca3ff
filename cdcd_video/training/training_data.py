"""Training data of a config: the clips that it names, or a cache of their latents."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from cdcd_video.config import Config, FolderData, SpritesData
from cdcd_video.config.config_difference import describe_differences, unequal
from cdcd_video.config.data_section import Data
from cdcd_video.config.fingerprint import of_codes
from cdcd_video.data.buckets import BucketedCaches, BucketedClips, Caches, buckets_of, size_of
from cdcd_video.data.cache import CodeCache
from cdcd_video.data.cache import read_manifest as read_cache_manifest
from cdcd_video.data.cache_writer import clear_private_cache, write_private_cache
from cdcd_video.data.digits_clips import DigitsClips
from cdcd_video.data.digits_world import PROTOCOLS
from cdcd_video.data.sprites import BACKGROUNDS, MOTIONS, SQUARE_VIEW, VIEW_PX, World
from cdcd_video.data.sprites_grounds import pictures_in
from cdcd_video.data.store import Clips, SpritesClips, StoredClips, TimedClips, UnevenSpritesClips
from cdcd_video.data.store_files import MANIFEST, read_manifest, read_rows, sizes_in
from cdcd_video.data.val_share import way_to_val
from cdcd_video.engine import distributed
from cdcd_video.errors import UserError, say
from cdcd_video.networks.clip import STAND_IN, FrozenClip, find, mark_of
from cdcd_video.networks.codec.frame_codec import CodeSpace
from cdcd_video.storage.folder_lock import folder_lock
from cdcd_video.training.latent_encoder import FrameEncoder, load_space


def open_clips(config: Config, split: Literal["train", "val"]) -> Clips:
    """The clips of a config; `split` is "train" or "val".

    Raises:
      UserError: they are missing, of another size or made square in another way, or there are only latents.
    """
    data = config.data
    if data.kind == "latents":
        raise UserError(f"{data.path} holds latents and no pixels; set data.path to a prepared folder")
    if data.kind == "folder":
        return _stored(data, split)
    num_clips = data.num_clips if split == "train" else data.num_val_clips
    if data.kind == "digits":
        return DigitsClips(data.path, data.protocol, split, num_clips, data.scene_seed, data.fps)
    is_uneven = split == "train" and data.frame_times == "uneven"
    late = dict(late_share=data.late_share, late_s=data.late_s)
    kind = functools.partial(UnevenSpritesClips, **late) if is_uneven else SpritesClips
    given = (data.num_frames, data.size_px, data.fps)
    if data.sizes is None:
        return kind(data.scene_seed, num_clips, split, sprites_world(data), *given)
    if num_clips < len(data.sizes):
        raise UserError(
            f"{num_clips} {split} clips cannot have {len(data.sizes)} sizes; raise data.num_clips and num_val_clips"
        )
    buckets = []
    for place, (height, width) in enumerate(data.sizes):
        world = sprites_world(data, (width * VIEW_PX / data.size_px, height * VIEW_PX / data.size_px))
        numbers = range(place, num_clips, len(data.sizes))
        buckets.append(kind(data.scene_seed, len(numbers), split, world, *given, numbers))
    return BucketedClips(buckets)


def _stored(data: FolderData, split: str) -> Clips:
    """The clips of a prepared folder, or of the prepared folders of several sizes."""
    if data.sizes is None:
        return _of_one_size(data, Path(data.path), split)
    made, path = sizes_in(Path(data.path)) if Path(data.path).is_dir() else [], Path(data.path)
    asked = [f"{height}x{width}" for height, width in data.sizes]
    if sorted(made) != sorted(asked):
        raise UserError(
            f"{path} has frames of {', '.join(made) or 'one size'}, and data.sizes is {', '.join(asked)}; make them equal, or"
            f" prepare the clips with --sizes {' '.join(asked)}"
        )
    manifests = {name: read_manifest(path / name) for name in asked}
    has_clips = [name for name, manifest in manifests.items() if manifest["splits"].get(split)]
    if not has_clips:
        way_out = "prepare more clips"
        if split == "val":
            rows = [row for name, manifest in manifests.items() for row in read_rows(path / name, manifest)]
            way_out = way_to_val(next(iter(manifests.values())).get("recipe"), rows)
        raise UserError(f"{path} has no clips of the split {split!r} in any size; {way_out}")
    return BucketedClips([_of_one_size(data, path / name, split) for name in has_clips])


def _of_one_size(data: FolderData, path: Path, split: str) -> StoredClips:
    clips = StoredClips(path, split)
    if clips.size_px != data.size_px:
        raise UserError(
            f"{path} holds frames of {clips.size_px} px and data.size_px is {data.size_px}; make them equal"
        )
    if clips.mode != data.mode:
        raise UserError(f"{path} was made with --mode {clips.mode} and data.mode is {data.mode}; make them equal")
    if data.sizes is None:
        clips.require_squares("a config without data.sizes")
    return clips


def sprites_world(data: SpritesData, view: tuple[float, float] = SQUARE_VIEW) -> World:
    """The settings of the sprites world in a config.

    Args:
      view: width and height of what is seen, in the unit of the world.

    Raises:
      UserError: a motion or background that does not exist, or a folder without pictures.
    """
    grounds = BACKGROUNDS if data.world == "v1" else (*BACKGROUNDS, "noise")
    kinds = data.backgrounds or grounds
    photographs: tuple[str, ...] = ()
    if isinstance(kinds, str):
        if data.world == "v1":
            raise UserError(f"data.backgrounds is the folder {kinds}, and the world v1 has none; set data.world=v2")
        photographs, kinds = pictures_in(Path(kinds)), (*grounds, "photo")
    for name, given, known in (
        ("motions", data.motions, MOTIONS),
        ("motion_weights", data.motion_weights, MOTIONS),
        ("backgrounds", kinds, (*grounds, "photo") if photographs else grounds),
    ):
        unknown = sorted(set(given or ()) - set(known))
        if unknown:
            raise UserError(f"data.{name} holds {unknown[0]!r}, which is unknown; use some of {', '.join(known)}")
    return World(
        max_objects=data.max_objects,
        two_object_share=data.two_object_share,
        motions=data.motions or MOTIONS,
        backgrounds=kinds,
        num_frames=data.num_frames,
        fps=data.fps,
        version=data.world,
        photographs=photographs,
        view=view,
        motion_weights=tuple(sorted((data.motion_weights or {}).items())),
    )


@dataclass(frozen=True)
class Latents:
    """Training data of the stages on codes.

    Attributes:
      space: the code space; the whole codec, if it is available.
      text_width: of the captions' states.
      codes: SHA-256 of what made the codes.
      clip_sha256: of the CLIP's weights.
      caches: of training and of validation clips; each of one size, or of several.
      clip: both towers, if they are available.
    """

    space: CodeSpace
    text_width: int
    codes: str
    clip_sha256: str
    caches: tuple[Caches, Caches]
    clip: FrozenClip | None = None


def open_latents(config: Config, device: torch.device) -> Latents:
    """The cache that a config names.

    Raises:
      UserError: it is missing, of frames of another size, or of another codec than the config's.
    """
    data = config.data
    assert data.kind == "latents"
    at = latents_in(Path(data.path), ("train", "val"), device, data.sizes)
    plan = latents_plan(at)
    size_px = plan["size_px"]
    if size_px != data.size_px:
        raise UserError(
            f"{data.path} was made of frames of {size_px} px and data.size_px is {data.size_px}; make them equal"
        )
    mode = plan["recipe"].get("mode", data.mode)
    if mode != data.mode:
        raise UserError(f"{data.path} was made with --mode {mode} and data.mode is {data.mode}; make them equal")
    there, here = of_codes(at.space.cfg), of_codes(config.codec)
    if there != here:
        differing = describe_differences(unequal(there, here, "codec."))
        raise UserError(
            f"the section `codec` behind {data.path} differs from this config's ({differing}); make them equal"
        )
    return at


def latents_in(
    folder: Path, splits: tuple[str, str], device: torch.device, sizes: Sequence[tuple[int, int]] | None = None
) -> Latents:
    """A cache, for training on one of its splits and validating on the other.

    Args:
      folder: the cache, or the folder of the caches of several sizes.
      splits: of training and of validation.
      device: where the code space is used.
      sizes: height and width of the frames of each cache, px; None where there is one.

    Raises:
      UserError: it is missing or damaged, or of other sizes.
    """
    caches = (caches_in(folder, splits[0], sizes), caches_in(folder, splits[1], sizes))
    every = [cache for of_split in caches for cache in buckets_of(of_split)]
    plan = every[0].manifest["plan"]
    if any(cache.manifest["plan"]["codes"] != plan["codes"] for cache in every):
        raise UserError(f"the sizes in {folder} were encoded by different models; encode the clips again")
    return Latents(load_space(every[0]).to(device), plan["text_width"], plan["codes"], plan["clip"], caches)


def caches_in(folder: Path, split: str, sizes: Sequence[tuple[int, int]] | None) -> Caches:
    """The cache of a split, or one for each size that has clips of it."""
    is_one = (folder / MANIFEST).is_file()
    made = sizes_in(folder) if folder.is_dir() and not is_one else []
    asked = [f"{height}x{width}" for height, width in sizes or ()]
    if sorted(made) != sorted(asked) and (made or is_one):
        raise UserError(
            f"{folder} has latents of {', '.join(made) or 'one size'}, and data.sizes is {', '.join(asked) or 'null'}; make them"
            " equal"
        )
    if not made:
        return open_cache(folder, split)
    has_clips = [name for name in asked if read_cache_manifest(folder / name)["splits"].get(split)]
    if not has_clips:
        raise UserError(f"{folder} has no clips of the split {split!r} in any size; encode a folder that has some")
    return BucketedCaches([open_cache(folder / name, split) for name in has_clips])


def open_cache(folder: Path, split: str | None = None) -> CodeCache:
    """A cache whose hashes one of the processes has checked.

    Raises:
      UserError: see `CodeCache`.
    """
    distributed.by_main(lambda: CodeCache(folder, split))
    return CodeCache(folder, split, trusted=not distributed.is_main())


def longest_of(data: Data) -> int | None:
    """Frames of a clip that are encoded, at most; None: as many as there are."""
    if data.kind == "sprites":
        return data.num_frames
    if data.kind == "digits":
        return PROTOCOLS[data.protocol].num_frames
    return getattr(data, "max_frames_per_clip", None)


def latents_plan(latents: Latents) -> dict[str, Any]:
    """The plan in the manifest of the training clips' cache, of the first where there are several."""
    return buckets_of(latents.caches[0])[0].manifest["plan"]


def cached(frame_encoder: FrameEncoder, clips: Clips, folder: Path) -> Caches:
    """The cache of a split's latents, made by the run unless it exists; of clips of several sizes one for each.

    Args:
      folder: of the cache, named for the split; those of several sizes lie beside it, in a folder for each size.
    """
    if not isinstance(clips, BucketedClips):
        return _cached(frame_encoder, clips, folder)
    names = ["x".join(map(str, size_of(bucket))) for bucket in clips.buckets]
    return BucketedCaches(
        [
            _cached(frame_encoder, bucket, folder.parent / name / folder.name)
            for name, bucket in zip(names, clips.buckets, strict=True)
        ]
    )


def _cached(frame_encoder: FrameEncoder, clips: Clips, folder: Path) -> CodeCache:
    data = frame_encoder.config.data
    longest = longest_of(data)
    facts: dict[str, Any] = dict(data=clips.digest(), num_items=len(clips), fps=clips.fps, max_frames=longest)
    facts |= dict(is_timed=isinstance(clips, TimedClips), size=size_of(clips))
    plan, space = frame_encoder.plan(**facts, recipe={}), frame_encoder.space()
    # Runs of an ablation share it: one makes it, the others wait.
    with distributed.for_all(lambda: folder_lock(folder, wait=lambda message: say("cache", message))):
        distributed.by_main(lambda: clear_private_cache(folder, plan))
        world = distributed.world()
        shards = dict(shard=world.rank, num_shards=world.size)
        write_private_cache(folder, clips, frame_encoder.encoder(), plan, space, folder.name, **shards)
        distributed.barrier()  # the last process has joined the parts
        return open_cache(folder)


def stand_in_of(config: Config, latents: Latents | None) -> dict[str, str]:
    """The entry of run.json, model.json and the card for a CLIP with random weights; empty for any other.

    Args:
      latents: name it instead, if the training uses latents.
    """
    if latents is not None:
        mark = latents_plan(latents)["recipe"].get(STAND_IN)
    elif config.clip.kind == "pretrained":
        mark = mark_of(find(config.clip.folder))
    else:
        mark = None
    return {STAND_IN: mark} if mark else {}

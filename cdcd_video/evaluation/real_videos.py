"""The real videos that a protocol names, and the protocol with the fields that they settle."""

from pathlib import Path
from typing import Any, cast

from cdcd_video.config import Config
from cdcd_video.config.value_types import Size
from cdcd_video.data import sprites, store
from cdcd_video.data.digits_clips import DigitsClips
from cdcd_video.data.digits_world import DigitsSplit
from cdcd_video.data.shots import LongestShots
from cdcd_video.data.store_files import MANIFEST
from cdcd_video.errors import UserError
from cdcd_video.metrics.dataset_parts import MixedDataset
from cdcd_video.metrics.digits_dataset import DigitsDataset
from cdcd_video.metrics.eval_dataset import ClipDataset, Clips, EvalDataset, SceneDataset, choose_pairs, choose_scenes
from cdcd_video.metrics.protocol import DIGITS, SPRITES, TABLE, Protocol
from cdcd_video.training import training_data


def with_sizes(config: Config, protocol: Protocol) -> Protocol:
    """The protocol with its sizes of frames: its own; else all of the prepared clips, or the square of a model that has it, or
    all of the model.

    Args:
      config: of the model.
      protocol: with `size_px`.

    Raises:
      UserError: the data have no frames of such a size, or there is not a video for each size.
    """
    if protocol.data == TABLE or protocol.world == DIGITS:
        protocol = protocol.at(protocol.sizes)
        if protocol.size is not None and protocol.data == DIGITS:
            raise UserError(
                f"digits are squares by their published protocols, and size is {protocol.size[0]}; leave --size out"
            )
        require_one_size(protocol)
        return protocol
    there = None if protocol.data == SPRITES else _stored_sizes(protocol)
    known = there or _of_model(config, protocol)
    missing = [size for size in protocol.size or () if there and size not in there]
    if missing:
        raise UserError(
            f"{protocol.data} has no clips of {missing[0]} px in the split {protocol.split!r}; choose from --size"
            f" {' '.join(map(str, known))}, or prepare them with --sizes {missing[0]}"
        )
    square = Size.square(protocol.square_px)  # of a rendered world alone, so that all models of it have the same videos
    default = known if there or square not in known else (square,)
    protocol = protocol.at(protocol.size or default)
    num, what = protocol.num_videos, "videos"
    if protocol.scenes == "mirrored_pairs":
        num, what = num // 2, "mirrored pairs"
    if num < len(protocol.sizes):
        raise UserError(
            f"{num} {what} cannot have {len(protocol.sizes)} sizes; raise --num-videos, or name one, as in"
            f" --size {protocol.sizes[0]}"
        )
    return protocol


def require_one_size(protocol: Protocol) -> None:
    """Refuses several sizes for videos that are known by their table alone.

    Raises:
      UserError: there are several.
    """
    if len(protocol.sizes) > 1:
        raise UserError(
            f"videos without scenes or clips of their names are evaluated at one size, and there are {len(protocol.sizes)};"
            f" name one, as in --size {protocol.sizes[0]}"
        )


def _of_model(config: Config, protocol: Protocol) -> tuple[Size, ...]:
    """The sizes that a model was trained on, at the scale of the protocol."""
    own_px = config.data.size_px
    trained = getattr(config.data, "sizes", None) or (Size.square(own_px),)
    try:
        return tuple(size.scaled(protocol.square_px, own_px) for size in trained)
    except ValueError as error:
        raise UserError(f"{error}; set --size-px {own_px}") from error


def world_of(config: Config, protocol: Protocol | None = None, size: Size | None = None) -> sprites.World:
    """The world that a model was trained on; the full one for a model of clips.

    Args:
      config: of the model.
      protocol, size: settled, and the one of its sizes that the world's view has; None for the square view.

    Raises:
      UserError: the view would have no whole number of pixels at the size at which scenes are judged.
    """
    view = sprites.SQUARE_VIEW
    if protocol is not None and size is not None:
        try:
            height, width = size.scaled(sprites.VIEW_PX, protocol.square_px)
        except ValueError as error:
            raise UserError(f"{error}, and scenes are judged at that size; choose another --size") from error
        view = (width, height)
    if config.data.kind == "sprites":
        return training_data.sprites_world(config.data, view)
    return sprites.World(view=view)


def scenes(config: Config, protocol: Protocol) -> tuple[SceneDataset | MixedDataset, Protocol]:
    """Scenes of the built-in world.

    Args:
      config: of the model; gives world and frame rate where the protocol does not.
      protocol: the protocol, with its sizes.

    Raises:
      UserError: sprites have no such split, or the protocol has more captions than a scene.
    """
    if protocol.split not in sprites.SPLITS:
        raise UserError(f"sprites have no split {protocol.split!r}; choose one of {', '.join(sprites.SPLITS)}")
    if protocol.captions_per_video != 1:
        raise UserError(
            f"a sprites scene has one caption, not {protocol.captions_per_video}; set --captions-per-video 1"
        )
    split, num_others = cast("sprites.Split", protocol.split), num_real(protocol)
    protocol = protocol.settled(fps=protocol.fps or config.sample.fps * protocol.stride, num_real=num_others)
    length: dict[str, Any] = {"num_frames": protocol.num_frames, "fps": protocol.rate}
    parts, each, sizes = [], 2 if protocol.scenes == "mirrored_pairs" else 1, protocol.sizes
    for place, size in enumerate(sizes):
        world, own = world_of(config, protocol, size), {**length, "first": place, "step": len(sizes)}
        num = each * _share(protocol.num_videos // each, place, len(sizes))
        nums = (num, _share(num_others, place, len(sizes)))
        if protocol.scenes == "mirrored_pairs":
            sampled, others, world = choose_pairs(protocol.seed, *nums, split, world, **own)
        else:
            chosen, world = choose_scenes(protocol.seed, sum(nums), split, world, **own)
            sampled, others = chosen[:num], chosen[num:]
        parts.append(SceneDataset(sampled, others, world=world, seed=protocol.seed, **length))
    return (parts[0] if len(parts) == 1 else MixedDataset(parts, sizes)), protocol


def _share(total: int, place: int, num_sizes: int) -> int:
    """How many of a number of things have the size at this place: an equal part, the first ones one more."""
    return len(range(place, total, num_sizes))


def dataset_of(config: Config, protocol: Protocol) -> tuple[EvalDataset, Protocol]:
    """The real videos of a protocol.

    Args:
      config: of the model.
      protocol: with its sizes; its data are a rendered world or a folder.

    Raises:
      UserError: they are missing, or do not fit the protocol.
    """
    if protocol.data == SPRITES:
        return scenes(config, protocol)
    if protocol.data == DIGITS:
        return digits(config, protocol)
    found, sizes = [], protocol.sizes
    for place, size in enumerate(sizes):
        share = {"num_videos": _share(protocol.num_videos, place, len(sizes))}
        share["num_real"] = _share(num_real(protocol), place, len(sizes))
        found.append(clips(stored(protocol, size), protocol.settled(**share)))
        protocol = protocol.settled(fps=found[0][1].fps, mode=found[0][1].mode)  # the next sizes must agree
    if len(found) == 1:
        return found[0]
    counts = {name: sum(getattr(own, name) for _, own in found) for name in ("num_videos", "num_real")}
    return MixedDataset([dataset for dataset, _ in found], sizes), protocol.settled(**counts)


def digits(config: Config, protocol: Protocol) -> tuple[DigitsDataset, Protocol]:
    """Clips of the captioned moving digits, none of which is a training clip of the model.

    Args:
      config: of the model; it names the protocol of the digits, and MNIST's folder.
      protocol: the protocol of the evaluation.

    Raises:
      UserError: the model is of other data, the digits have no such split, rate, length or number of captions, or a file is
        missing.
    """
    data = config.data
    if data.kind != "digits":
        raise UserError(
            f"--data digits is for models of digits, and {config.name} was trained on data.kind {data.kind}; name such a"
            " model by --checkpoint"
        )
    if protocol.split not in ("val", "train"):
        raise UserError(f"digits have no split {protocol.split!r}; choose val or train")
    if protocol.captions_per_video != 1 or protocol.stride != 1:
        raise UserError(
            "a clip of digits has one caption and is evaluated whole; set --captions-per-video 1 and --stride 1"
        )
    split: DigitsSplit = "train" if protocol.split == "train" else "val"
    first = data.num_clips if split == "train" else 0  # those before are training clips
    fps, num_others = protocol.fps or config.sample.fps, num_real(protocol)
    num_clips = first + protocol.num_videos + num_others
    found = DigitsClips(data.path, data.protocol, split, num_clips, protocol.seed, fps)
    dataset = DigitsDataset(found, first, protocol.num_videos, num_others, protocol.num_frames)
    return dataset, protocol.settled(fps=fps, num_real=num_others)


def stored(protocol: Protocol, size: Size | None = None) -> LongestShots:
    """The prepared clips of the protocol; of each its longest shot, because a sampled video has no cuts either.

    Args:
      protocol: its data are a prepared folder, or have one for each size.
      size: of the frames; None where there is one size.

    Raises:
      UserError: they are missing, have another frame rate, or were brought to their shape in another way.
    """
    folder = Path(protocol.data)
    of_size = folder if size is None or (folder / MANIFEST).is_file() else folder / str(size)
    clips = LongestShots(store.StoredClips(of_size, protocol.split))
    if protocol.fps not in (None, clips.fps):
        raise UserError(
            f"the clips of {protocol.data} have {clips.fps:g} frames per second, but the protocol says {protocol.fps:g};"
            f" prepare them with --fps {protocol.fps:g}, or set --fps {clips.fps:g}"
        )
    if protocol.mode not in (None, clips.mode):
        raise UserError(
            f"the clips of {protocol.data} were prepared with --mode {clips.mode}, but the protocol says {protocol.mode}; prepare"
            f" them with --mode {protocol.mode}, or set --mode {clips.mode}"
        )
    return clips


def scale_of(protocol: Protocol) -> int:
    """`size_px` of the prepared clips of the protocol.

    Raises:
      UserError: there are none.
    """
    return store.stored_by_size(Path(protocol.data), protocol.split)[0].size_px


def _stored_sizes(protocol: Protocol) -> tuple[Size, ...]:
    """The sizes in which a prepared folder has clips of the split.

    Raises:
      UserError: it has none, or they have another scale than the protocol.
    """
    found = store.stored_by_size(Path(protocol.data), protocol.split)
    if found[0].size_px != protocol.size_px:
        raise UserError(
            f"the clips of {protocol.data} are {found[0].size_px} px, but the protocol says {protocol.size_px} px; set --size-px"
            f" {found[0].size_px}, or prepare them with --size-px {protocol.size_px}"
        )
    return tuple(sorted(Size(*clips.size) for clips in found))


def clips(found: Clips, protocol: Protocol) -> tuple[ClipDataset, Protocol]:
    """Clips of one size to be sampled, and others.

    Raises:
      UserError: none is long enough.
    """
    shape: dict[str, Any] = {
        "num_frames": protocol.num_frames,
        "stride": protocol.stride,
        "size_px": protocol.size_px,
        "resize": protocol.resize,
    }
    dataset = ClipDataset(
        found, protocol.num_videos, num_real(protocol), captions_per_video=protocol.captions_per_video, **shape
    )
    return dataset, protocol.settled(
        fps=found.fps, mode=found.mode, num_videos=dataset.num_chosen, num_real=dataset.num_others
    )


def num_real(protocol: Protocol) -> int:
    """Number of other real videos; as many as are sampled, where the protocol has none."""
    return protocol.num_videos if protocol.num_real is None else protocol.num_real

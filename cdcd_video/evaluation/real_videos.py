"""The real videos that a protocol names, and the protocol with the fields that they settle."""

from typing import Any, cast

from cdcd_video.config import Config
from cdcd_video.data import sprites, store
from cdcd_video.data.digits_clips import DigitsClips
from cdcd_video.data.digits_world import DigitsSplit
from cdcd_video.data.shots import LongestShots
from cdcd_video.errors import UserError
from cdcd_video.metrics.digits_dataset import DigitsDataset
from cdcd_video.metrics.eval_dataset import ClipDataset, Clips, EvalDataset, SceneDataset, choose_pairs, choose_scenes
from cdcd_video.metrics.protocol import DIGITS, SPRITES, Protocol
from cdcd_video.training import training_data


def world_of(config: Config) -> sprites.World:
    """The world that a model was trained on; the full one for a model of clips."""
    return training_data.sprites_world(config.data) if config.data.kind == "sprites" else sprites.World()


def scenes(config: Config, protocol: Protocol) -> tuple[SceneDataset, Protocol]:
    """Scenes of the built-in world.

    Args:
      config: of the model; gives world and frame rate where the protocol does not.
      protocol: the protocol.

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
    world = world_of(config)
    if protocol.scenes == "mirrored_pairs":
        nums = (protocol.num_videos, num_others)
        sampled, others, world = choose_pairs(protocol.seed, *nums, split, world, **length)
    else:
        num = protocol.num_videos + num_others
        chosen, world = choose_scenes(protocol.seed, num, split, world, **length)
        sampled, others = chosen[: protocol.num_videos], chosen[protocol.num_videos :]
    return SceneDataset(sampled, others, world=world, seed=protocol.seed, **length), protocol


def dataset_of(config: Config, protocol: Protocol) -> tuple[EvalDataset, Protocol]:
    """The real videos of a protocol.

    Args:
      config: of the model.
      protocol: with `size_px`; its data are a rendered world or a folder.

    Raises:
      UserError: they are missing, or do not fit the protocol.
    """
    if protocol.data == SPRITES:
        return scenes(config, protocol)
    if protocol.data == DIGITS:
        return digits(config, protocol)
    return clips(stored(protocol), protocol)


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


def stored(protocol: Protocol) -> LongestShots:
    """The prepared clips of the protocol; of each its longest shot, because a sampled video has no cuts either.

    Raises:
      UserError: they are missing, have another frame rate, or were made square in another way.
    """
    found = store.StoredClips(protocol.data, protocol.split)
    found.require_squares("an evaluation")
    clips = LongestShots(found)
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


def clips(found: Clips, protocol: Protocol) -> tuple[ClipDataset, Protocol]:
    """Clips to be sampled, and others.

    Raises:
      UserError: they have another size than the protocol, or none is long enough.
    """
    if found.size_px != protocol.size_px:
        raise UserError(
            f"the clips of {protocol.data} are {found.size_px} px, but the protocol says {protocol.size_px} px; set --size-px"
            f" {found.size_px}, or prepare them with --size-px {protocol.size_px}"
        )
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

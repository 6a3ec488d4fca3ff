"""The real videos that a protocol names, and the protocol with what they settle."""

from cdcd_video.config import Config
from cdcd_video.data import sprites, store
from cdcd_video.data.shots import LongestShots
from cdcd_video.errors import UserError
from cdcd_video.metrics.eval_dataset import ClipDataset, Clips, SceneDataset, choose_scenes
from cdcd_video.metrics.protocol import Protocol
from cdcd_video.training import training_data


def world_of(config: Config) -> sprites.World:
    """The world a model was trained on, and the full one for a model of clips."""
    return training_data.sprites_world(config) if config.data.kind == "sprites" else sprites.World()


def scenes(config: Config, rule: Protocol) -> tuple[SceneDataset, Protocol]:
    """Scenes of the built-in world.

    Args:
      config: of the model, whose world and rate hold where the protocol says nothing.
      rule: the protocol.

    Raises:
      UserError: sprites have no such split, or more captions are asked for than a scene has.
    """
    if rule.split not in sprites.SPLITS:
        raise UserError(f"sprites have no split {rule.split!r}; they have {', '.join(sprites.SPLITS)}")
    if rule.captions_per_video != 1:
        raise UserError(f"a sprites scene has one caption, not {rule.captions_per_video}; set --captions-per-video 1")
    rule = rule.settled(fps=rule.fps or config.sample.fps * rule.stride, num_real=num_real(rule))
    length = {"num_frames": rule.num_frames, "fps": rule.rate}
    world = world_of(config)
    chosen, world = choose_scenes(rule.seed, rule.num_videos + rule.num_real, rule.split, world, **length)
    drawn, others = chosen[: rule.num_videos], chosen[rule.num_videos :]
    return SceneDataset(drawn, others, world=world, seed=rule.seed, **length), rule


def stored(rule: Protocol) -> LongestShots:
    """The prepared clips of the protocol, of each its longest shot: what is drawn from one frame has no cuts either.

    Raises:
      UserError: they are not there, at another rate, or made square in another way.
    """
    clips = LongestShots(store.StoredClips(rule.data, rule.split))
    if rule.fps not in (None, clips.fps):
        raise UserError(
            f"the clips of {rule.data} are stored at {clips.fps:g} frames per second and the protocol says {rule.fps:g};"
            f" prepare them with --fps {rule.fps:g}, or set --fps {clips.fps:g}"
        )
    if rule.mode not in (None, clips.mode):
        raise UserError(
            f"the clips of {rule.data} were prepared with --mode {clips.mode} and the protocol says {rule.mode}; prepare them"
            f" with --mode {rule.mode}, or set --mode {clips.mode}"
        )
    return clips


def clips(found: Clips, rule: Protocol) -> tuple[ClipDataset, Protocol]:
    """Clips to be drawn again, and others.

    Raises:
      UserError: they are of another size than the protocol's, or none is long enough.
    """
    if found.size_px != rule.size_px:
        raise UserError(
            f"the clips of {rule.data} are {found.size_px} px and the protocol judges at {rule.size_px} px; set --size-px"
            f" {found.size_px}, or prepare them with --size-px {rule.size_px}"
        )
    shape = {"num_frames": rule.num_frames, "stride": rule.stride, "size_px": rule.size_px, "resize": rule.resize}
    dataset = ClipDataset(found, rule.num_videos, num_real(rule), captions_per_video=rule.captions_per_video, **shape)
    return dataset, rule.settled(
        fps=found.fps, mode=found.mode, num_videos=dataset.num_chosen, num_real=dataset.num_others
    )


def num_real(rule: Protocol) -> int:
    """How many real videos are compared with: as many as are drawn, where the protocol says nothing."""
    return rule.num_videos if rule.num_real is None else rule.num_real

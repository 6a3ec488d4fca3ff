"""Who looks at the videos: the networks of a settled protocol, loaded, and the ruler that they make with it."""

from collections.abc import Callable, Sequence
from pathlib import Path

from cdcd_video import model
from cdcd_video.config.fingerprint import saved_config
from cdcd_video.engine import runtime
from cdcd_video.errors import UserError
from cdcd_video.metrics import feature_extractors
from cdcd_video.metrics.eval_dataset import EvalDataset
from cdcd_video.metrics.features import offline
from cdcd_video.metrics.protocol import OWN, Protocol, SettledProtocol
from cdcd_video.metrics.scores import SETS
from cdcd_video.networks.clip import FrozenClip
from cdcd_video.networks.clip.published import KNOWN


def load(
    metrics: Sequence[str], rule: Protocol, dataset: EvalDataset, own_clip: Callable[[], FrozenClip], device: str
) -> tuple[SettledProtocol, feature_extractors.FeatureExtractors]:
    """The ruler, and the networks that the metrics need.

    Args:
      metrics: some of `scores.METRICS`.
      rule: settled.
      dataset: the real videos.
      own_clip: the CLIP of the system that is measured; called where the protocol asks for it.
      device: where networks run.

    Raises:
      UserError: weights are missing, or a metric cannot be measured with them.
    """

    def clip() -> FrozenClip:
        return own_clip() if rule.clip == OWN else FrozenClip(_clip_folder(rule.clip))

    tools = feature_extractors.load(metrics, rule, clip=clip, device=runtime.device_for(device))
    digests = {name: feature_extractors.digest_of(getattr(rule, f"{name}_network")) for name in ("frame", "video")}
    clips = {"Drawn again": [subject.name for subject in dataset.subjects], "Compared with": dataset.other_names}
    return SettledProtocol(rule, digests, dataset.digest, clips), tools


def unread(
    rule: Protocol, metrics: Sequence[str], tools: feature_extractors.FeatureExtractors, dataset: EvalDataset
) -> list[str]:
    """A sentence where the CLIP of `clip_text` does not know all words of the captions.

    Raises:
      UserError: it cannot read one of them at all, and its agreement would mean nothing.
    """
    if "clip_text" not in metrics:
        return []
    told = 0
    captions = dataset.captions["model"]
    for caption in captions:
        try:
            told += bool(tools.clip.clip.check_caption(caption))
        except UserError as error:
            raise UserError(
                f"clip_text looks through the CLIP of {rule.clip}, which cannot read {caption[:80]!r}; name another by --clip,"
                " or leave out clip_text"
            ) from error
    return [f"the CLIP of {rule.clip} does not know all of {told} of {len(captions)} sentences"] if told else []


def blindness(rule: Protocol, metrics: Sequence[str], are_sprites: bool) -> list[str]:
    """A sentence where networks that know the built-in world alone are to look at other videos."""
    blind = {rule.frame_network, rule.video_network} & set(offline.NETWORKS)
    if are_sprites or not blind or not set(SETS) & set(metrics):
        return []
    return [
        f"{' and '.join(sorted(blind))} know the built-in world alone: on other videos their scores say little;"
        " for the field's own networks see `python -m cdcd_video.tools.weights list`"
    ]


def one_window(rule: Protocol, metrics: Sequence[str], tools: feature_extractors.FeatureExtractors) -> list[str]:
    """A sentence where videos are so short that a network of videos sees all of them at once, and nothing shorter."""
    of_videos = [metric for metric in metrics if SETS.get(metric, "frame") != "frame"]
    along = [metric for metric in of_videos if tools.networks[SETS[metric]].short_frames is None]
    if not along or len(rule.windows()) > 1:
        return []
    return [
        f"videos of {rule.num_frames} frames hold one window of {rule.window}: no curve along the video for"
        f" {', '.join(along)}; configs/eval/sprites_long.yaml has one, or more --num-frames and a shorter --hop"
    ]


def _clip_folder(name: str) -> Path | str:
    """A published CLIP's name, a folder with one, or the CLIP of a model."""
    is_clip = any((Path(name) / file).is_file() for file in ("preprocessor_config.json", "open_clip_config.json"))
    if name in KNOWN or is_clip:
        return name
    folder = model.folder_of(name)
    return model.clip_folder(saved_config(folder / "config.yaml"), folder)

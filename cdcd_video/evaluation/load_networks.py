"""Loads the feature networks of a protocol, and notes what they cannot measure."""

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
    metrics: Sequence[str], protocol: Protocol, dataset: EvalDataset, own_clip: Callable[[], FrozenClip], device: str
) -> tuple[SettledProtocol, feature_extractors.FeatureExtractors]:
    """The settled protocol with its digests, and the networks that the metrics need.

    Args:
      metrics: some of `scores.METRICS`.
      protocol: settled.
      dataset: the real videos.
      own_clip: the CLIP of the model under evaluation; called only if the protocol says `own`.
      device: where networks run.

    Raises:
      UserError: weights are missing, or a metric cannot be measured with them.
    """

    def clip() -> FrozenClip:
        return own_clip() if protocol.clip == OWN else FrozenClip(_clip_folder(protocol.clip))

    tools = feature_extractors.load(metrics, protocol, clip=clip, device=runtime.device_for(device))
    digests = {name: feature_extractors.digest_of(getattr(protocol, f"{name}_network")) for name in ("frame", "video")}
    clips = {
        "Sampled": [eval_video.name for eval_video in dataset.eval_videos],
        "Compared with": dataset.other_names,
    }
    return SettledProtocol(protocol, digests, dataset.digest, clips), tools


def unknown_words(
    protocol: Protocol, metrics: Sequence[str], tools: feature_extractors.FeatureExtractors, dataset: EvalDataset
) -> list[str]:
    """A note where the CLIP of `clip_text` does not know all words of the captions.

    Raises:
      UserError: it cannot encode one of them at all.
    """
    if "clip_text" not in metrics:
        return []
    incomplete = 0
    captions = dataset.captions["model"]
    for caption in captions:
        try:
            incomplete += bool(tools.clip.clip.check_caption(caption))
        except UserError as error:
            raise UserError(
                f"clip_text uses the CLIP of {protocol.clip}, which cannot encode {caption[:80]!r}; name another by --clip, or"
                " leave out clip_text"
            ) from error
    return (
        [f"the CLIP of {protocol.clip} does not know all words of {incomplete} of {len(captions)} captions"]
        if incomplete
        else []
    )


def blindness(protocol: Protocol, metrics: Sequence[str], are_sprites: bool) -> list[str]:
    """A note where networks that were trained on the built-in world are used on other videos."""
    blind = {protocol.frame_network, protocol.video_network} & set(offline.NETWORKS)
    if are_sprites or not blind or not set(SETS) & set(metrics):
        return []
    return [
        f"{' and '.join(sorted(blind))} were trained on the built-in world, so their scores mean little on other videos;"
        " `python -m cdcd_video.tools.weights list` shows the usual networks"
    ]


def one_window(protocol: Protocol, metrics: Sequence[str], tools: feature_extractors.FeatureExtractors) -> list[str]:
    """A note where a video is a single window, so that metrics of windows have no curve."""
    of_videos = [metric for metric in metrics if SETS.get(metric, "frame") != "frame"]
    along = [metric for metric in of_videos if tools.networks[SETS[metric]].short_frames is None]
    if not along or len(protocol.windows()) > 1:
        return []
    return [
        f"videos of {protocol.num_frames} frames hold one window of {protocol.window}, so there is no curve along the video for"
        f" {', '.join(along)}; raise --num-frames and lower --hop, or use configs/eval/sprites_long.yaml"
    ]


def _clip_folder(name: str) -> Path | str:
    """The name of a published CLIP, a folder with one, or the CLIP folder of a model."""
    is_clip = any((Path(name) / file).is_file() for file in ("preprocessor_config.json", "open_clip_config.json"))
    if name in KNOWN or is_clip:
        return name
    folder = model.folder_of(name)
    return model.clip_folder(saved_config(folder / "config.yaml"), folder)

"""The action of each clip of a set of captioned actions, and the sentences that a first frame of the set may be given."""

from collections.abc import Sequence
from dataclasses import dataclass

from cdcd_video.data.mirrored_captions import mirrored_caption
from cdcd_video.data.store import StoredClips
from cdcd_video.errors import UserError

COLUMN, SET = "label", "set"
"""Keys of `about`: of the action, where no other is named, and of the set in a folder made by `data_prep join`."""


@dataclass(frozen=True, order=True)
class ActionLabel:
    """What happens in a clip.

    Attributes:
      set: the set of the clip; empty in a folder of one set. Sentences are exchanged within a set only.
      action: the action; the same for a sentence and its mirror image.
      caption: the sentence.
    """

    set: str
    action: str
    caption: str

    def mirrored(self) -> "ActionLabel":
        """The label of the mirrored clip."""
        return ActionLabel(self.set, self.action, mirrored_caption(self.caption))


def action_labels(clips: StoredClips, column: str | None = None) -> list[ActionLabel]:
    """The label of each clip, by its first caption.

    Args:
      clips: of any split.
      column: key of `about` that has the action. None: `COLUMN` if every clip has it; otherwise the sentence is the action,
        where a sentence and its mirror image count as one.

    Raises:
      UserError: a clip has no such entry.
    """
    abouts = [row.about for row in clips.rows]
    missing = next((row.id for row in clips.rows if not row.about.get(column or COLUMN)), None)
    if column is not None and missing is not None:
        raise UserError(
            f"{missing} in {clips.folder} has no {column}; prepare the clips with --about-columns {column}, or leave --label out"
        )
    captions = [clips.caption(clip) for clip in range(len(clips))]
    if missing is None:
        actions = [str(about[column or COLUMN]) for about in abouts]
    else:
        actions = [min(caption, mirrored_caption(caption)) for caption in captions]
    sets = [str(about.get(SET, "")) for about in abouts]
    return [ActionLabel(*parts) for parts in zip(sets, actions, captions, strict=True)]


def classes_of(labels: Sequence[ActionLabel]) -> list[ActionLabel]:
    """The different labels and their mirror images, sorted."""
    return sorted({one for label in labels for one in (label, label.mirrored())})

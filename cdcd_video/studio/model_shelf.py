"""The models of a studio: loaded when first asked for, a few kept, and worked on by one request at a time."""

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from cdcd_video.errors import UserError
from cdcd_video.model import folder_of
from cdcd_video.pipeline import ImageToVideo
from cdcd_video.storage.small_file import read_small_json
from cdcd_video.studio.model_names import known_models
from cdcd_video.studio.training_paths import TrainingPaths, training_paths


@dataclass(frozen=True)
class LoadedModel:
    """A model, and what is shown beside its videos."""

    name: str
    pipe: ImageToVideo
    paths: TrainingPaths
    turn: threading.Lock = field(default_factory=threading.Lock)
    """Held while a frame is sampled, so that requests take turns."""

    @property
    def notes(self) -> list[str]:
        """Whether its training goes on, and has written newer weights; one sentence each."""
        model = self.pipe.model
        if not model.unfinished or model.folder is None:
            return []
        notes = [f"{self.name} is still training, or was stopped; its weights are those of {model.unfinished}"]
        try:
            now = read_small_json(model.folder / "model.json", "model file").get("unfinished") or "its end"
        except UserError:  # moved, deleted, or being replaced at this moment; the model is in memory
            return notes
        if now != model.unfinished:
            notes.append(f"newer weights are there, of {now}; load the model again to sample with them")
        return notes


class ModelShelf:
    """Loads models by name.

    Attributes:
      names: what is offered; the first is loaded at the start.
      is_open: whether any other name, folder or Hub id may be asked for, too.
    """

    def __init__(self, names: Sequence[str] = ("sprites",), *, is_open: bool = False, device: str = "auto"):
        self.names, self.is_open, self._device = tuple(names), is_open, device
        self._loading = threading.Lock()
        self._loaded: OrderedDict[str, LoadedModel] = OrderedDict()

    def offered(self) -> list[str]:
        """Names to choose from: `names`, and where any may be asked for, all that are on this machine."""
        return list(dict.fromkeys([*self.names, *(known_models() if self.is_open else ())]))

    def is_here(self, name: str) -> bool:
        """Whether a model may be asked for, and is loaded or on this machine, so that nothing is downloaded."""
        if name in self.names:
            return True
        if not self.is_open:
            return False
        with contextlib.suppress(UserError):
            return name in self._loaded or folder_of(name).is_dir()
        return False

    def get(self, name: str, *, is_anew: bool = False) -> LoadedModel:
        """The model of a name.

        Args:
          name: of a shipped model, a model or run folder, or `owner/name` on the Hub.
          is_anew: reads it again, as for a run that is still training.

        Raises:
          UserError: it is not offered, or cannot be loaded.
        """
        name = (name or "").strip() or self.names[0]
        if not self.is_open and name not in self.names:
            raise UserError(f"this studio has no model {name!r}; choose one of {', '.join(self.names)}")
        with self._loading:
            if name not in self._loaded or is_anew:
                pipe = ImageToVideo.from_pretrained(name, self._device)
                self._loaded[name] = LoadedModel(name, pipe, training_paths(pipe))
            self._loaded.move_to_end(name)
            while len(self._loaded) > _MOST_KEPT:
                self._loaded.popitem(last=False)
            return self._loaded[name]


_MOST_KEPT = 2
"""Models in memory beside those that are being sampled from."""

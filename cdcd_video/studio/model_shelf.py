"""The models of a studio: loaded when first asked for, a few kept, and worked on by one request at a time."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from cdcd_video.errors import UserError
from cdcd_video.pipeline import ImageToVideo
from cdcd_video.studio.training_paths import TrainingPaths, training_paths


@dataclass(frozen=True)
class LoadedModel:
    """A model, and what is shown beside its videos."""

    name: str
    pipe: ImageToVideo
    paths: TrainingPaths
    turn: threading.Lock = field(default_factory=threading.Lock)
    """Held while a frame is sampled, so that requests take turns."""


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

"""Registries that a config chooses from and others may extend: processes, baselines, contrastive terms. Imports no
torch.

A process and a baseline are registered as the section of the config that chooses them (`kind: NAME` and its settings), which
also builds what it describes. A contrastive term has no settings but its weight.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Union, get_args

from pydantic import Field, GetCoreSchemaHandler

from cdcd_video.config.registry import Registry
from cdcd_video.config.section import Section
from cdcd_video.errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from cdcd_video.diffusion.process import DiscreteProcess


class ProcessSection(Section, ABC):
    """Base of the sections under `diffusion.process`: one forward process with its settings."""

    kind: str

    @abstractmethod
    def build(self, num_codes: int, num_steps: int) -> "DiscreteProcess":
        """The process.

        Args:
          num_codes: K.
          num_steps: `diffusion.num_steps`, for a chain that exists at the times i / S only.
        """


class BaselineSection(Section, ABC):
    """Base of the sections under `baseline`: one baseline with its settings."""

    kind: str
    unused: ClassVar[tuple[str, ...]] = ()
    """Sampling parameters that it ignores; a user who sets one is warned."""
    refines_generations: ClassVar[bool] = False
    """Whether `learn` goes through `batch.generations` samples of its own, as the discrete diffusion does in `refine`."""

    @abstractmethod
    def build(self, denoiser: Section, **shape: Any) -> "nn.Module":
        """The network with fresh weights, a `networks.next_frame.Baseline`.

        Args:
          denoiser: size of the denoiser in whose place it stands (`DenoiserConfig`).
          **shape: `levels`, `table`, `num_patches`, `groups` and `text_width`, as the denoiser's; and `mlp_width`, the width
            of the MLP in each block, by which the number of weights is made equal to the denoiser's.
        """


def _is_section(base: type[Section], what: str) -> Callable[[str, type[Any]], None]:
    def check(name: str, section: type[Any]) -> None:
        if not (isinstance(section, type) and issubclass(section, base)):
            raise UserError(f"the {what} {name} is registered with {section!r}, which is not a {base.__name__}")
        if missing := sorted(getattr(section, "__abstractmethods__", ())):
            raise UserError(
                f"the {what} {name} does not implement {' and '.join(missing)}; add it to {section.__name__}"
            )
        kind = section.model_fields["kind"]
        if get_args(kind.annotation) != (name,) or kind.default != name:
            raise UserError(
                f'the {what} {name} must have its name as its kind: write `kind: Literal["{name}"] = "{name}"` in'
                f" {section.__name__}"
            )

    return check


def _is_term(name: str, term: object) -> None:
    if not callable(term):
        raise UserError(f"the contrastive term {name} is registered with {term!r}, which is not a function")
    if name in _PARTS or name.endswith(("_wins", "_temperature")):
        raise UserError(f"the contrastive term {name} has the name of another entry of the training log; rename it")


_PARTS = ("bound", "auxiliary", "auxiliary_changed", "auxiliary_still", "right_changed", "cdcd")
"""Other parts of the loss, as the training log names them."""


def _registry(what: str, kinds: str, built_in: Mapping[str, str], check: Any = None) -> Registry[Any]:
    """Args: `built_in` has the names of each module that comes with the project."""
    modules = {name: module for module, names in built_in.items() for name in names.split()}
    return Registry(what, f"cdcd_video.{kinds}", f"cdcd_video.extensions.{kinds}", modules, check)


PROCESSES: Registry[type[ProcessSection]] = _registry(
    *("process", "processes", {"cdcd_video.config.processes": "mask replace bridge hybrid cdcd"}),
    _is_section(ProcessSection, "process"),
)
"""Forward processes: `diffusion.process.kind`."""
BASELINES: Registry[type[BaselineSection]] = _registry(
    *("baseline", "baselines", {"cdcd_video.config.baselines": "gaussian categorical_flow autoregressive"}),
    _is_section(BaselineSection, "baseline"),
)
"""Baselines: `baseline.kind`."""
STEP_TERMS = ("difference", "counterfactual", "flow_contrast", "own_negatives", "alignment")
"""Contrastive terms with a loss of their own, each in a file of this name."""
CONTRAST_TERMS: Registry[Callable[..., Any]] = _registry(
    *("contrastive term", "contrast_terms"),
    {"cdcd_video.contrast_terms.frames_and_captions": "frame_frame frame_text"}
    | {f"cdcd_video.contrast_terms.{name}": name for name in STEP_TERMS},
    _is_term,
)
"""Contrastive terms: `loss.contrast.frame_frame`, `loss.contrast.frame_text` and the names in `loss.contrast.extra`."""
WITH_FIELDS = ("frame_frame", "frame_text")
"""Contrastive terms whose weight is a field of its own; the others' stand in `extra`."""


class AnyOf:
    """Marks a field that holds any section of a registry; its schema is the tagged union of those that are registered."""

    def __init__(self, registry: Registry[Any]):
        self.registry = registry

    def sections(self) -> Iterator[type[Section]]:
        """All sections that are registered so far."""
        return iter(self.registry.registered().values())

    def find(self, kind: object) -> None:
        """Imports the extension of this kind; for an unknown kind, all extensions, so that the message can list
        them."""
        if kind is None:
            return
        if isinstance(kind, str) and kind in self.registry:
            self.registry[kind]
        else:
            self.registry.load_all()

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        union: Any = Union[tuple(self.sections())]  # noqa: UP007 - made of a list
        return handler.generate_schema(Annotated[union, Field(discriminator="kind")])

"""Renders Jinja templates; those of pages include the shared `style.css`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

STYLE = Path(__file__).with_name("style.css")


def render(template: Path, values: Mapping[str, Any], filters: Mapping[str, Callable[..., Any]] | None = None) -> str:
    """Fills a template; text is escaped in `.html` files only.

    Args:
      template: the file. It can include files of its own folder, and `style.css`.
      values: by name; a name that the template uses and that is missing is an error.
      filters: further filters by name.
    """
    environment = Environment(
        loader=FileSystemLoader([template.parent, STYLE.parent]),
        autoescape=template.suffix == ".html",
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters or {}
    return environment.get_template(template.name).render(values)

"""Text in Markdown tables."""

import re


def as_is(text: str) -> str:
    """Escapes text for a Markdown table: no cell ends in it, and it makes no tag and no link."""
    marked = re.sub(r"[\\|`]|\](?=[(\[:])|:(?=//)", r"\\\g<0>", " ".join(text.split()))
    return marked.replace("<", "&lt;")

"""Headings, and numbers that people can read."""


def scaled(value: float, unit: str) -> str:
    """A number with a prefix of a thousand: 12,300,000 B -> 12.3 MB."""
    for prefix, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            number = value / size
            return f"{number:.0f} {prefix}{unit}" if number >= 100 else f"{number:.1f} {prefix}{unit}"
    return f"{value:.0f} {unit}"


def underlined(text: str) -> list[str]:
    """A line of text, underlined."""
    return [text, "-" * len(text)]

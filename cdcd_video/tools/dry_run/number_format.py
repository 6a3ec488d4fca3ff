"""Headings, and numbers with units."""


def scaled(value: float, unit: str) -> str:
    """A number with a prefix of a thousand: 12,300,000 B -> 12.3 MB."""
    for prefix, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            number = value / size
            return f"{number:.0f} {prefix}{unit}" if number >= 100 else f"{number:.1f} {prefix}{unit}"
    return f"{value:.0f} {unit}"


def lasting(seconds: float) -> str:
    """A duration in a suitable unit: 40 s, 12 min, 3.5 hours, 20 days."""
    for least, unit, size in ((72 * 3600, "days", 24 * 3600), (5400, "hours", 3600), (90, "min", 60)):
        if seconds >= least:
            return f"{seconds / size:.1f} {unit}" if seconds < 10 * size else f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1g} s"


def underlined(text: str) -> list[str]:
    """A line of text, underlined."""
    return [text, "-" * len(text)]

"""Numbers in words, the same on every page, line and terminal."""

from __future__ import annotations


def duration(seconds: float | None) -> str:
    """Seconds in words: "12 ms", "4.2 s", "3 min 20 s", "2 h 5 min", "3 d 4 h"; "–" for None."""
    if seconds is None:
        return "–"
    if seconds < 0.9995:  # else it would be written as 1000 ms
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    seconds = max(seconds, 60.0)
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} {int(seconds % size // part)} {smaller}"
    raise AssertionError(seconds)


def brief(seconds: float | None) -> str:
    """The same of a round span, which is told exactly: "30 s", "5 min", "3630 s"."""
    if seconds is not None and seconds > 3600 and seconds % (60 if seconds < 86400 else 3600):
        return f"{seconds:g} s"
    return duration(seconds).replace(".0 s", " s").removesuffix(" 0 s").removesuffix(" 0 min").removesuffix(" 0 h")

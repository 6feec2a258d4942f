"""Numbers and names as sentences want them; pure text, no Streamlit."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from cxr_core.diagnosis.sentences import asked as asked
from cxr_core.diagnosis.sentences import finding as finding
from cxr_core.diagnosis.sentences import percent as percent
from cxr_core.diagnosis.sentences import probability as probability
from cxr_core.diagnosis.sentences import threshold_method as threshold_method


def count(number: int, one: str, many: str = "") -> str:
    """Write a number with its noun: "1 film", "5,232 films"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def figure(value: float | None, digits: int = 3) -> str:
    """Write a figure with fixed decimals, a dash where it is undefined."""
    return "–" if value is None or value != value else f"{value:.{digits}f}"


def interval(bounds: Sequence[float | None] | None, digits: int = 3) -> str:
    """Write a 95 % interval as "0.971 to 0.990", a dash where it is undefined."""
    if not bounds or any(bound is None for bound in bounds):
        return "–"
    low, high = bounds
    return f"{figure(low, digits)} to {figure(high, digits)}"


def duration(seconds: float) -> str:
    """Write a time span with at most two units: "45 s", "3 min 20 s", "2 h 5 min"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest and minutes < 10 else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def estimate(seconds: float) -> str:
    """Write an estimated time span no finer than it is known: "under a minute", "about 5 min"."""
    if seconds < 60:
        return "under a minute"
    return f"about {duration(60 * round(seconds / 60))}"


def ago(moment: datetime, now: datetime | None = None) -> str:
    """Write how long ago a moment (with a time zone) was: "just now", "5 min ago", "3 days ago"."""
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    if seconds < 60:
        return "just now"
    if seconds < 3600:
        return f"{int(seconds // 60)} min ago"
    if seconds < 86400:
        return f"{int(seconds // 3600)} h ago"
    return f"{count(int(seconds // 86400), 'day')} ago"


def size(number: int) -> str:
    """Write a file size: "512 B", "38.2 kB", "1.4 MB"."""
    amount = float(number)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def listing(names: Sequence[str], most: int = 5) -> str:
    """Write names as a list in a sentence, cut after ``most``: "a, b and 3 more"."""
    shown = list(names[:most])
    if len(names) > most:
        return ", ".join(shown) + f" and {len(names) - most} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)


def unbroken(text: str) -> str:
    """Keep each percentage on one line with its sign."""
    return text.replace(" %", "\u00a0%")


def plain(text: str) -> str:
    """Write a text that may hold a pattern or a path so that Markdown shows it as it is."""
    return re.sub(r"([\\`*_\[\]$~<>#|])", r"\\\1", text)

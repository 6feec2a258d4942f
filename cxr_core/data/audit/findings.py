"""What an audit says of a set: the form of a finding, and the register of the checks."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from cxr_core.data.audit.subject import Subject

Severity = Literal["high", "medium", "low", "info"]
SEVERITIES: tuple[Severity, ...] = ("high", "medium", "low", "info")  # the most severe first


@dataclass(frozen=True)
class Finding:
    """One thing to know about a set, with the films it concerns and what to do about them."""

    kind: str  # one word a check: "twins_across_labels", "shortcut", ...
    title: str  # a few words, for a card
    severity: Severity
    count: int  # of what the title names: films, groups of twins, patients
    paths: tuple[str, ...]  # the films concerned, the most telling first; twins stand together
    sentence: str  # what was found, with its number
    advice: str  # what to do about it
    details: Mapping[str, Any] = field(default_factory=dict)  # figures for a table; fit for JSON

    def as_json(self) -> dict[str, Any]:
        """Return the finding as plain values."""
        return {**vars(self), "paths": list(self.paths), "details": dict(self.details)}


Check = Callable[["Subject"], Iterable[Finding]]

_REGISTERED: dict[str, Check] = {}


def check(step: str) -> Callable[[Check], Check]:
    """Register the decorated check; ``step`` says in words what is looked for, for a progress bar.

    A check takes a :class:`Subject` and yields its findings, nothing where all is well. What
    several checks need is measured once, by the subject.
    """

    def register(function: Check) -> Check:
        if step in _REGISTERED:
            raise ValueError(f"two checks are called {step!r}")
        _REGISTERED[step] = function
        return function

    return register


def checks() -> Iterator[tuple[str, Check]]:
    """Yield all registered checks with what each looks for, in the order of registration."""
    yield from _REGISTERED.items()


def films(number: int) -> str:
    """Return a number of films in words."""
    return f"{number:,} film{'s' * (number != 1)}"


def are(number: int) -> str:
    """Return the verb that a number takes."""
    return "is" if number == 1 else "are"


def listed(words: Iterable[str]) -> str:
    """Join words as a sentence does."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last

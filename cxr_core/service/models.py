"""The models that are served: what they are at once, their networks once they are loaded."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cxr_core.diagnosis import bundle
from cxr_core.diagnosis.bundle import BundleInfo
from cxr_core.errors import ServiceError

_UNFIT = re.compile(r"[^A-Za-z0-9_.-]+")  # for a part of an address


@dataclass(frozen=True)
class Model:
    """A model by the name that clients ask for it."""

    name: str
    folder: Path
    info: BundleInfo
    card: str  # as Markdown


def read(folders: Sequence[Path]) -> tuple[Model, ...]:
    """Read what bundles say of themselves.

    Args:
        folders: at least one; the first is asked where a client names none.

    Raises:
        BundleError: a bundle is missing or damaged.
        ServiceError: two have one name.
    """
    found: dict[str, Model] = {}
    for folder in folders:
        info = bundle.read(folder)
        name = _UNFIT.sub("-", info.name)
        if name in found:
            raise ServiceError(
                f"Two models are called {name}: {found[name].folder} and {folder}. Serve one of "
                "them, or publish one under another name."
            )
        card = (folder / bundle.CARD_FILE).read_text(encoding="utf-8")
        found[name] = Model(name, folder, info, card)
    return tuple(found.values())

"""What the server does while the first visitor's browser still loads its scripts."""

import importlib
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from streamlit.starlette import App

# What the first page needs, then what the others share; each brings much with it.
_SHARED = ("cxr_core.ui.style", "cxr_core.ui.overview", "cxr_core.ui.run_views")


@asynccontextmanager
async def lifespan(_: App) -> AsyncIterator[None]:
    """Begin to load what all pages need, and let the server start beside it."""
    threading.Thread(target=_load, name="opening", daemon=True).start()
    yield


def _load() -> None:
    for name in _SHARED:
        importlib.import_module(name)

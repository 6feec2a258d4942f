"""What the server does beside the first pages, so that nobody waits for it later."""

import importlib
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from cxr_core.errors import TrainingError

if TYPE_CHECKING:
    from streamlit.starlette import App

# What the first page needs, then what the others share; each brings much with it.
_SHARED = ("cxr_core.ui.style", "cxr_core.ui.overview", "cxr_core.ui.run_views")

first_page = threading.Event()  # set once one is drawn


@asynccontextmanager
async def lifespan(_: "App") -> AsyncIterator[None]:
    """Begin to load what all pages need, and let the server start beside it.

    The first visitor's browser has its own scripts to load meanwhile.
    """
    threading.Thread(target=_load, name="opening", daemon=True).start()
    yield


def _load() -> None:
    for name in _SHARED:
        importlib.import_module(name)
    first_page.wait()
    from cxr_core.training.tracking import RunStore

    try:
        RunStore().prepare()  # the first run to be started need not wait for MLflow
    except TrainingError:
        return  # the pages say so

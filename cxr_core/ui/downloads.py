"""Files of a run to take away."""

import io
import zipfile
from pathlib import Path

import streamlit as st

from cxr_core.errors import TrainingError
from cxr_core.ui import loaders


def artefact(run_id: str, name: str) -> None:
    """Offer a file of a run; nothing where the run has none of that name."""
    try:
        path = loaders.store().path(run_id, name)
    except TrainingError:
        return
    st.download_button(
        name,
        data=path.read_bytes,
        file_name=name,
        icon=":material/download:",
        on_click="ignore",
        key=f"file:{run_id}:{name}",
    )


def zipped(folder: Path) -> bytes:
    """Return a folder as a zip archive."""
    buffer = io.BytesIO()
    # A .keras file is a zip already: packing it again would cost time and save nothing.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder.parent))
    return buffer.getvalue()

"""What a network looks at: Grad-CAM over the same few validation films, epoch by epoch."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import streamlit as st

from cxr_core.errors import TrainingError
from cxr_core.training.tracking import RunRecord
from cxr_core.ui import epochs, loaders, style

FOLDER = "attention"
_LEAST_WIDTH = 110  # px a film


def panel(record: RunRecord, key: str) -> None:
    """Draw the films with their heat maps at one epoch, and the slider through all of them.

    Args:
        record: the run.
        key: prefix of the widgets' keys.
    """
    strips = epochs.written(record, FOLDER, ".jpg")
    films = _films(record)
    if not strips or not films:
        st.markdown(
            ":gray[The first heat maps come with the first epoch.]"
            if record.status.active
            else ":gray[This run kept no heat maps.]"
        )
        return
    chosen = epochs.choose([epoch for epoch, _ in strips], f"{key}:{record.run_id}:attention")
    strip = dict(strips).get(chosen, strips[-1][1])
    tiles = cut(str(strip), strip.stat().st_mtime, len(films))
    classes = sorted({film["label"] for film in films})
    with st.grid(len(films), min_column_width=_LEAST_WIDTH, gap="small"):
        for tile, film in zip(tiles, films, strict=False):
            with st.container(gap=None):
                st.image(
                    tile,
                    width="stretch",
                    alt=f"Where the network looked on {film['path']} at epoch {chosen}",
                )
                st.caption(f"{style.dot(film['label'], classes)}  \n{Path(film['path']).name}")
    st.caption(
        "Grad-CAM on the same validation films at every epoch: bright where the film spoke for its "
        "finding, on normal films for the first finding there is. It shows what moved the network, "
        "which need not be the disease."
    )


@st.cache_data(max_entries=200, show_spinner=False)
def cut(strip: str, modified: float, films: int) -> list[bytes]:
    """Return the films of a strip as JPEGs, from left to right; empty where it cannot be read.

    Args:
        strip: path of the picture, in which the films stand side by side, equally wide.
        modified: tells a strip that was drawn again, by a resumed run, from the one before.
        films: how many there are.
    """
    pixels = cv2.imread(strip, cv2.IMREAD_COLOR_RGB)
    if pixels is None:  # half written: the next look finds it whole
        return []
    width = pixels.shape[1] // films
    return [
        loaders.jpeg(np.ascontiguousarray(pixels[:, place * width : (place + 1) * width]), width)
        for place in range(films)
    ]


def _films(record: RunRecord) -> list[dict[str, Any]]:
    try:
        listed = loaders.store().path(record.run_id, f"{FOLDER}/films.json")
        found: list[dict[str, Any]] = json.loads(listed.read_text(encoding="utf-8"))
    except (TrainingError, OSError, json.JSONDecodeError):
        return []
    return found

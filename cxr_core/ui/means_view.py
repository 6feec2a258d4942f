"""What the films of each class have in common: their mean image, and how it differs."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from cxr_core import images
from cxr_core.data.catalog import Catalog
from cxr_core.errors import UnreadableImageError
from cxr_core.ui import loaders, style, words

MOST = 200  # films a class; more change a mean image by less than can be seen
_SIDE = 96  # px
_SHOWN = 256  # px
_READERS = 2
_DARKER, _BRIGHTER = np.array([86, 180, 233]), np.array([230, 159, 0])  # sky blue and orange


def panel(catalog: Catalog, films: pd.DataFrame) -> None:
    """Draw the mean film of each class, and its difference from the reference class.

    Args:
        catalog: the data set.
        films: its rows that are readable and have a label.
    """
    means = _means(loaders.key(catalog), catalog, films)
    if len(means) < 2:
        return
    st.subheader("The mean film of each class", anchor=False)
    reference = next(iter(means))
    scale = widest(means)
    with st.grid(min_column_width=150, gap="small"):
        for label, mean in means.items():
            _picture(np.rint(mean).astype(np.uint8), style.dot(label, catalog.classes), label)
        for label in list(means)[1:]:
            away = difference(means[label], means[reference], scale)
            caption = f"{words.finding(label).capitalize()} less {words.finding(reference)}"
            _picture(away, caption, caption)
    st.caption(
        f"Of at most {MOST} films a class, squashed to {_SIDE} px. Orange: brighter than "
        f"{words.finding(reference)}, blue: darker; full colour is {scale:.0f} gray levels. A "
        "difference outside the lungs, at the rim or in the corners, is no sign of disease."
    )


def sample(frame: pd.DataFrame, most: int = MOST) -> pd.DataFrame:
    """Return at most ``most`` films of each class, the same ones each time."""
    shuffled = frame.sample(frac=1, random_state=0)
    return shuffled.groupby("label").head(most)


def widest(means: Mapping[str, np.ndarray]) -> float:
    """Return the largest difference from the first mean, in gray levels, at least 1."""
    first, *others = means.values()
    return max(1.0, *(float(np.abs(mean - first).max()) for mean in others))


def difference(mean: np.ndarray, reference: np.ndarray, scale: float) -> np.ndarray:
    """Colour how a mean image differs from another.

    Args:
        mean: float (side, side), gray levels.
        reference: the same.
        scale: the difference that gets the full colour, gray levels.

    Returns:
        uint8 RGB (side, side, 3): black where equal, orange where brighter, blue where darker.
    """
    away = ((mean - reference) / scale).clip(-1, 1)[..., None]
    return np.rint(np.where(away > 0, away * _BRIGHTER, -away * _DARKER)).astype(np.uint8)


@st.cache_data(max_entries=4, show_spinner="Averaging the films of each class")
def _means(key: str, _catalog: Catalog, _films: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the mean image a class, reference first; ``key`` names the set to the cache."""
    films = sample(_films)
    sums = {label: np.zeros((_SIDE, _SIDE)) for label in _catalog.classes}
    counts = dict.fromkeys(_catalog.classes, 0)
    with ThreadPoolExecutor(_READERS) as pool:
        squares = pool.map(_square, [_catalog.root / path for path in films["path"]])
        for label, square in zip(films["label"], squares, strict=True):
            if square is not None:
                sums[label] += square
                counts[label] += 1
    return {label: sums[label] / counts[label] for label in sums if counts[label]}


def _square(path: Path) -> np.ndarray | None:
    try:
        return images.to_square(images.read(path).pixels, _SIDE, "squash")
    except UnreadableImageError:  # changed since the scan; the next one will say so
        return None


def _picture(pixels: np.ndarray, caption: str, alt: str) -> None:
    large = np.kron(pixels, np.ones((3, 3, 1)[: pixels.ndim], np.uint8))  # crisp on fine screens
    with st.container(gap=None):
        st.image(loaders.jpeg(large, 3 * _SHOWN), width="stretch", alt=f"Mean film: {alt}")
        st.caption(caption)

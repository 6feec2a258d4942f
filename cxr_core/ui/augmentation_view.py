"""The Augmentation tab: one film and nine random changes of it, at the settings being chosen."""

from pathlib import Path

import numpy as np
import streamlit as st

from cxr_core import images
from cxr_core.config import AugmentConfig, settings
from cxr_core.data.augment import augment
from cxr_core.data.catalog import Catalog
from cxr_core.errors import UnreadableImageError
from cxr_core.training import recipes
from cxr_core.ui import films, forms, launch, loaders, notices

_VARIANTS = 9
_SIDE = 288  # px, of the squares shown
_DRAW = "augment_draw"


@st.fragment
def panel(catalog: Catalog) -> None:
    """Draw the settings on the left and, live, what they do to a film on the right."""
    left, right = st.columns([1, 1.9], gap="large")
    recipe = st.session_state.get(launch.RECIPE, launch.FIRST_RECIPE)
    base = recipes.load(recipe)
    start = base.flat()
    with left:
        st.subheader("How films are changed in training", anchor=False)
        values = {}
        fields = [setting for setting in settings() if setting.section == "augment"]
        columns = st.columns(2)
        for place, setting in enumerate(fields):
            with columns[place % 2]:
                # The keys of the Train page's form: what is set here holds there.
                values[setting.path] = forms.widget(
                    setting, start[setting.path], f"train:{recipe}:{setting.path}"
                )
        st.caption(
            f"These are the settings of the recipe {recipe.replace('_', ' ')} on the Train page; "
            "what you change here holds there. Only training films are changed."
        )
    with right:
        row = films.picked(catalog)
        if row is None:
            st.markdown("No film can be read.")
            return
        st.subheader(f"{Path(row['path']).name}, as it is and nine times changed", anchor=False)
        chosen = base.with_values(values)
        try:
            square = _square(
                str(catalog.root / row["path"]), str(row["modified"]), chosen.image.fit
            )
        except UnreadableImageError as error:
            notices.wrong(error)
            return
        draw = st.session_state.setdefault(_DRAW, 0)
        with st.grid(5, min_column_width=110, gap="small"):
            _film(square, "As it is")
            for number, film in enumerate(variants(square, chosen.augment, draw), start=1):
                _film(film, f"Variant {number}")
        st.button("Draw nine others", icon=":material/casino:", on_click=_again)


def variants(square: np.ndarray, chosen: AugmentConfig, seed: int) -> np.ndarray:
    """Return nine random changes of a film.

    Args:
        square: uint8 (side, side).
        chosen: how far each change may go.
        seed: the same one gives the same nine.

    Returns:
        uint8 (9, side, side).
    """
    copies = np.repeat(square[None], _VARIANTS, axis=0)
    return np.rint(augment(copies, chosen, np.random.default_rng(seed))).astype(np.uint8)


@st.cache_data(max_entries=8, show_spinner=False)
def _square(path: str, modified: str, fit: str) -> np.ndarray:
    return images.to_square(images.read(Path(path)).pixels, _SIDE, fit)


def _film(pixels: np.ndarray, caption: str) -> None:
    with st.container(gap=None):
        st.image(loaders.jpeg(pixels, _SIDE), width="stretch", alt=caption)
        st.caption(caption)


def _again() -> None:
    st.session_state[_DRAW] += 1

"""The Augmentation tab: one film and nine random changes of it, at the settings being chosen."""

from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from cxr_core import images
from cxr_core.config import AugmentConfig, ImageConfig, Scalar, settings
from cxr_core.data.augment import augment, mix
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
        values: dict[str, Scalar] = {}
        fields = [setting for setting in settings() if setting.section == "augment"]
        numbers = [setting for setting in fields if setting.type is not bool]
        switches = [setting for setting in fields if setting.type is bool]
        rows = [numbers[place : place + 2] for place in range(0, len(numbers), 2)]
        for members in (*rows, switches):
            # A switch's words stand beside it and need the whole width.
            places = st.columns(1 if members is switches else 2, vertical_alignment="bottom")
            for place, setting in enumerate(members):
                with places[place % len(places)]:
                    # The keys of the Train page's form: what is set here holds there.
                    values[setting.path] = forms.widget(
                        setting, start[setting.path], f"train:{recipe}:{setting.path}"
                    )
        st.caption(
            f"These are the settings of the recipe {recipe.replace('_', ' ')} on the Train page; "
            "what you change here holds there. Only training films are changed."
        )
    for path in ("image.fit", "image.clahe"):  # asked for there alone
        values[path] = st.session_state.get(f"train:{recipe}:{path}", start[path])
    with right:
        row = films.picked(catalog)
        if row is None:
            st.markdown("No film can be read.")
            return
        st.subheader(f"{Path(row['path']).name}, as it is and nine times changed", anchor=False)
        chosen = base.with_values(values)
        draw = st.session_state.setdefault(_DRAW, 0)
        mixing = bool(chosen.augment.mixup or chosen.augment.cutmix)
        other = partner(catalog.frame, row, draw) if mixing else row
        try:
            square, its = (_square(catalog, film, chosen.image) for film in (row, other))
        except UnreadableImageError as error:
            notices.wrong(error)
            return
        changed, shares = variants(square, its, chosen.augment, draw)
        with st.grid(5, min_column_width=110, gap="small"):
            _film(square, "As it is")
            for number, film in enumerate(changed, start=1):
                share = f": {100 * shares[number - 1]:.0f} %" if mixing else ""
                _film(film, f"Variant {number}{share}")
        if mixing:
            label = f" ({other['label']})" if other["label"] else ""
            st.caption(
                f"Blended with {Path(other['path']).name}{label}. The percentage is the share of "
                "the film that was picked, in the picture and in the label."
            )
        st.button("Draw nine others", icon=":material/casino:", on_click=_again)


def variants(
    square: np.ndarray, other: np.ndarray, chosen: AugmentConfig, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return nine random changes of a film.

    Args:
        square: uint8 (side, side).
        other: the film to blend it with where mixup or CutMix are on, uint8 (side, side).
        chosen: how far each change may go.
        seed: the same one gives the same nine.

    Returns:
        uint8 (9, side, side), and the first film's share in each, (9,) in 0-1.
    """
    changed, shares = [], []
    for number in range(_VARIANTS):  # each a batch of two, since a batch draws how it is mixed
        rng = np.random.default_rng([seed, number])
        both, share, _ = mix(
            augment(np.stack([square, other]), chosen, rng),
            np.array([[1], [0]], np.float32),
            np.ones(2, np.float32),
            chosen,
            rng,
        )
        changed.append(np.rint(both[0]).astype(np.uint8))
        shares.append(share[0, 0])
    return np.stack(changed), np.array(shares)


def partner(frame: pd.DataFrame, row: pd.Series, seed: int) -> pd.Series:
    """Return a film to blend with a film: of another class, another one, or the film itself.

    Args:
        frame: a catalog's rows.
        row: the film.
        seed: the same one gives the same film.
    """
    others = frame[frame["readable"] & frame["path"].ne(row["path"])]
    unlike = others[others["label"] != row["label"]]
    pool = others if unlike.empty else unlike
    return row if pool.empty else pool.iloc[np.random.default_rng(seed).integers(len(pool))]


def _square(catalog: Catalog, film: pd.Series, image: ImageConfig) -> np.ndarray:
    path = str(catalog.root / film["path"])
    return _read(path, str(film["modified"]), image.fit, image.clahe)


@st.cache_data(max_entries=16, show_spinner=False)
def _read(path: str, modified: str, fit: str, clahe: float) -> np.ndarray:
    """Read a film as a square; ``modified`` only tells a changed file from the one before."""
    return images.read_square(Path(path), size=_SIDE, fit=fit, clahe=clahe)


def _film(pixels: np.ndarray, caption: str) -> None:
    with st.container(gap=None):
        st.image(loaders.jpeg(pixels, _SIDE), width="stretch", alt=caption)
        st.caption(caption)


def _again() -> None:
    st.session_state[_DRAW] += 1

"""Pairs of one picture: the same as of comparing all films with all others, whatever the set."""

from typing import Literal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_core.data import likeness

Kind = Literal["smooth", "clustered", "noise"]


def by_brute_force(thumbnails: np.ndarray) -> pd.DataFrame:
    """What `likeness.pairs` shall find, from the correlation of every film with every other."""
    telling = np.flatnonzero(thumbnails.std(axis=(1, 2)) >= 2)
    films = likeness.unit(thumbnails).reshape(thumbnails.shape)
    best: dict[tuple[int, int], tuple[float, str]] = {}
    for view, turn in likeness.VIEWS.items():
        for first in telling:
            turned, own = turn(films[telling]), films[np.full(len(telling), first)]
            correlations = np.einsum("nij,nij->n", own, turned).tolist()
            for second, value in zip(telling, correlations, strict=True):
                pair = (min(first, second), max(first, second))
                known = best.get(pair, (0.0, ""))[0]
                if first != second and value >= likeness.SAME and value > known:
                    best[pair] = (value, view)
    rows = [(*pair, view, value) for pair, (value, view) in sorted(best.items())]
    return pd.DataFrame(rows, columns=["first", "second", "view", "correlation"])


def drawn(kind: Kind, number: int, side: int, seed: int) -> np.ndarray:
    """Films uint8 (number, side, side): some of their own, the others versions of these."""
    rng = np.random.default_rng(seed)
    own = max(2, number // (8 if kind == "clustered" else 2))
    cells = side if kind == "noise" else 4
    coarse = rng.normal(0, 45, (own, cells, cells))
    films = coarse.repeat(side // cells, axis=1).repeat(side // cells, axis=2)
    if kind == "clustered":  # all near one picture: axes tell them badly apart
        films = films[:1] + 0.2 * films
    views = list(likeness.VIEWS.values())
    versions = [
        views[n % len(views)](films[[origin]])[0]
        for n, origin in enumerate(rng.integers(own, size=number - own))
    ]
    films = [*films, *versions]
    grain = rng.normal(0, 8, (number, side, side)) * rng.uniform(0, 1, (number, 1, 1)) ** 2
    return np.clip(128 + np.stack(films) + grain, 0, 255).astype(np.uint8)


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(["smooth", "clustered", "noise"]),
    number=st.integers(2, 60),
    side=st.sampled_from([8, 16]),
    leaf=st.sampled_from([1, 4, 256]),
    seed=st.integers(0, 1000),
)
def test_no_pair_is_missed_and_none_is_made_up(
    kind: Kind, number: int, side: int, leaf: int, seed: int
):
    films = drawn(kind, number, side, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(likeness, "_LEAF", leaf)
        patch.setattr(likeness, "_WIDE", 3 * leaf)
        patch.setattr(likeness, "_CHUNK", 16)
        found = likeness.pairs(films)
    pd.testing.assert_frame_equal(found, by_brute_force(films), check_dtype=False, atol=1e-6)


@pytest.mark.parametrize("kind", ["smooth", "clustered", "noise"])
def test_what_is_drawn_for_that_holds_twins_of_every_view_and_films_that_are_none(kind: Kind):
    films = drawn(kind, 48, 16, 0)
    found = likeness.pairs(films)
    assert set(found["view"]) == set(likeness.VIEWS)
    assert len(found) < 48 * 47 / 2


def test_a_set_of_several_leaves_is_searched_whole():
    films = drawn("smooth", 700, 16, 1)
    found = likeness.pairs(films)
    flat = likeness.unit(films)
    as_they_are = np.argwhere(np.triu(flat @ flat.T >= likeness.SAME, 1))
    pairs = set(zip(found["first"], found["second"], strict=True))
    assert {tuple(pair) for pair in as_they_are} <= pairs
    assert len(as_they_are) > 20


def test_equal_films_are_all_pairs_and_gray_ones_are_none():
    film = np.random.default_rng(0).integers(0, 255, (1, 16, 16), dtype=np.uint8)
    found = likeness.pairs(np.concatenate([film.repeat(40, axis=0), np.full_like(film, 90)]))
    assert len(found) == 40 * 39 / 2
    assert set(found["view"]) == {""}
    assert likeness.pairs(np.full((3, 16, 16), 90, np.uint8)).empty
    assert likeness.pairs(np.empty((0, 16, 16), np.uint8)).empty

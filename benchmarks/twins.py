"""Which films of a large set are one picture: the audit's search against a k-d tree.

Thumbnails like those of `growth`'s films, a few of them a second time in one of the views. The tree
is SciPy's, on the twelve principal axes of the films' low frequencies: what lies within reach of
each other is compared in full, view by view on all processors. Both sides must find the same. Each
search is a process of its own, so that its peak memory is its own; as many thumbnails are made
before its time begins.
"""

import functools
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from benchmarks import growth, harness
from benchmarks.harness import Case, Figure, Setting, Size
from cxr_core.data import likeness
from cxr_core.data.catalog import THUMBNAIL

SIZES: dict[Size, tuple[int, ...]] = {
    "smallest": (500, 1_000),
    "quick": (5_000, 20_000),
    "full": (10_000, 40_000, 100_000),
}
_LEAST_RATIO, _LEAST_OF_FEWER = 4.0, 1.0  # times as fast: among 100,000 films, among fewer

_AGAIN = 100  # films for one that is there a second time
_AXES, _CHUNK = 12, 20_000  # of the tree; pairs compared at a time

Search = Callable[[np.ndarray], pd.DataFrame]


# -- in processes of their own ---------------------------------------------------------------------


def write_thumbnails(path: str, number: int) -> dict[str, Any]:
    """Leave thumbnails, uint8 (number, side, side), in a file; nothing is found."""
    import cv2

    side = (THUMBNAIL, THUMBNAIL)
    films = [cv2.resize(film, side, interpolation=cv2.INTER_AREA) for film in growth.films(number)]
    turns = list(likeness.VIEWS.values())
    for copy, film in enumerate(range(0, number - 1, _AGAIN)):
        levels = films[film][None].astype(np.int64) - 128
        films[film + 1] = (turns[copy % len(turns)](levels)[0] + 128).clip(0, 255).astype(np.uint8)
    np.save(path, np.stack(films))
    return {}


def ours(path: str) -> dict[str, Any]:
    """Search as the audit does."""
    return _timed(likeness.pairs, path)


def with_a_tree(path: str) -> dict[str, Any]:
    """Search with a k-d tree."""
    return _timed(_in_a_tree, path)


def _timed(search: Search, path: str) -> dict[str, Any]:
    thumbnails = np.load(path)
    began = time.perf_counter()
    pairs = search(thumbnails)
    taken = time.perf_counter() - began
    return {"seconds": taken, "pairs": pairs[["first", "second", "view"]].to_numpy().tolist()}


def _in_a_tree(thumbnails: np.ndarray) -> pd.DataFrame:
    """Return what `likeness.pairs` does; the films show something, all of them."""
    films = likeness.unit(thumbnails).reshape(thumbnails.shape)
    half = THUMBNAIL // 2
    low = films.reshape(-1, half, 2, half, 2).sum(axis=(2, 4)) / 2
    axes = np.linalg.eigh(np.cov(low.reshape(len(low), -1), rowvar=False))[1][:, -_AXES:]
    reach = float(np.sqrt(2 * (1 - likeness.SAME)))

    def tree(turn: Callable[[np.ndarray], np.ndarray]) -> cKDTree:
        return cKDTree(np.reshape(turn(low), (len(low), -1)) @ axes)

    as_they_are = tree(likeness.VIEWS[""])

    def look(view: str) -> pd.DataFrame:
        turn = likeness.VIEWS[view]
        near = as_they_are.sparse_distance_matrix(tree(turn), reach, output_type="ndarray")
        near = near[near["i"] != near["j"]]
        correlation = np.empty(len(near))
        for start in range(0, len(near), _CHUNK):
            at = near[start : start + _CHUNK]
            others = turn(films[at["j"]])
            correlation[start : start + _CHUNK] = np.einsum("nij,nij->n", films[at["i"]], others)
        first, second = np.minimum(near["i"], near["j"]), np.maximum(near["i"], near["j"])
        columns = {"first": first, "second": second, "view": view, "correlation": correlation}
        return pd.DataFrame(columns)[correlation >= likeness.SAME]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pd.concat(list(pool.map(look, likeness.VIEWS)))
    best = found.sort_values("correlation", ascending=False, kind="stable")
    return best.drop_duplicates(["first", "second"]).sort_values(["first", "second"])


# -- the case --------------------------------------------------------------------------------------


SIDES = {"ours": ours, "a k-d tree": with_a_tree}


def measure(setting: Setting) -> list[Figure]:
    """Return time and memory of both sides at each size, their ratio at the largest, and growth."""
    sizes, rounds = SIZES[setting.size], setting.pick(1, 1, 2)
    found = {size: _searched(size, rounds) for size in sizes}
    figures: list[Figure] = []
    points: dict[str, list[growth.Point]] = {name: [] for name in SIDES}
    for size, rows_of in found.items():
        pairs = rows_of["ours"][0]["pairs"]
        figures.append(Figure(f"{size:,} films: pairs to be found", len(pairs), "pairs"))
        for name, rows in rows_of.items():
            words = f"{size:,} films: {name}"
            taken = harness.median(words, [row["seconds"] for row in rows], "s")
            peak = harness.median(f"{words}: peak memory", [row["peak_mib"] for row in rows], "MiB")
            figures += [taken, peak]
            points[name].append(growth.Point(size, taken.value, peak.value))
    differing = sum(
        row["pairs"] != rows_of["ours"][0]["pairs"]
        for rows_of in found.values()
        for rows in rows_of.values()
        for row in rows
    )
    mine, theirs = ([row["seconds"] for row in rows] for rows in found[sizes[-1]].values())
    words = f"as fast as a k-d tree, {sizes[-1]:,} films"
    least = _LEAST_RATIO if setting.size == "full" else _LEAST_OF_FEWER
    return [
        *figures,
        Figure("searches that found other pairs", differing, "faults", most=0),
        harness.ratio(words, theirs, mine, least=least),
        *(
            Figure(f"{name}: exponent of time", growth.exponent(*of_sizes[-2:]), "")
            for name, of_sizes in points.items()
        ),
    ]


def _searched(size: int, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Return what each side found and took among so many thumbnails, by round."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "thumbnails.npy")
        harness.call(write_thumbnails, path, size)
        sides = {name: functools.partial(harness.call, side, path) for name, side in SIDES.items()}
        return harness.by_turns(sides, rounds)


CASES = (
    Case("twins", "films that are one picture sought among many, against a k-d tree", measure),
)

"""Which films are the same picture: found by their low frequencies, confirmed by correlation."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

# Of 5,232 films of children, no two different ones correlate above 0.98 at 32 x 32 px, and copies
# that were resized and compressed again stay above 0.998.
SAME = 0.99
# Views of a film that copies come in, on films of mean 0; "" is the film as it is. A rotation by
# 270 degrees is one by 90 degrees seen from the other film.
VIEWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "": lambda films: films,
    "mirrored": lambda films: films[:, :, ::-1],
    "upside down": lambda films: films[:, ::-1],
    "rotated by 90°": lambda films: np.rot90(films, 1, (1, 2)),
    "rotated by 180°": lambda films: films[:, ::-1, ::-1],
    "inverted": lambda films: -films,
}
_REACH = float(np.sqrt(2 * (1 - SAME)))  # distance of unit vectors that correlate at SAME
_AXES = 12  # principal axes: enough to leave few candidates that are no twins
_SAMPLE = 10_000  # films that the axes are drawn from
_BLANK = 2.0  # gray levels; a film that varies less shows nothing to compare
_CHUNK = 20_000  # pairs confirmed at a time


def unit(films: np.ndarray) -> np.ndarray:
    """Return films as vectors of mean 0 and length 1, so that a product is a correlation.

    Args:
        films: (n, height, width), any scale.

    Returns:
        float32 (n, height * width); 0 for an evenly gray film.
    """
    vectors = np.reshape(films, (len(films), -1)).astype(np.float32)
    vectors -= vectors.mean(axis=1, keepdims=True)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(length, 1e-6)


def pairs(thumbnails: np.ndarray) -> pd.DataFrame:
    """Return the pairs of films that are one picture: resized, re-encoded, brighter, turned.

    Films are compared by the distance of their projections on the set's principal axes, through a
    k-d tree. A projection only shortens distances, so no pair that correlates at SAME is missed.

    Args:
        thumbnails: uint8 (n, side, side); side even.

    Returns:
        A row a pair: ``first`` < ``second`` (row numbers), ``view`` (how the one shows the other,
        a key of VIEWS), ``correlation``; the best view of each pair.
    """
    from scipy.spatial import cKDTree  # slow to load, and no page opens with it

    telling = np.flatnonzero(thumbnails.std(axis=(1, 2)) >= _BLANK)
    if len(telling) < 2:
        columns = {"first": int, "second": int, "view": str, "correlation": float}
        return pd.DataFrame(columns=list(columns)).astype(columns)
    films = unit(thumbnails[telling]).reshape(-1, *thumbnails.shape[1:])
    low = _low(films)
    axes = _principal_axes(low)

    def project(films: np.ndarray) -> cKDTree:
        return cKDTree(np.reshape(films, (len(films), -1)) @ axes)

    tree = project(low)

    def look(view: str) -> pd.DataFrame:
        turn = VIEWS[view]
        near = tree.sparse_distance_matrix(project(turn(low)), _REACH, output_type="ndarray")
        # A rotation by 90° is found in one order only, all other views in both.
        once = near["i"] != near["j"] if view == "rotated by 90°" else near["i"] < near["j"]
        first, second = near["i"][once], near["j"][once]
        correlation = np.empty(len(first))
        for start in range(0, len(first), _CHUNK):
            at = slice(start, start + _CHUNK)
            others = turn(films[second[at]])
            correlation[at] = np.einsum("nij,nij->n", films[first[at]], others)
        pair = pd.DataFrame({"first": telling[first], "second": telling[second], "view": view})
        return pair.assign(correlation=correlation)[correlation >= SAME]

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        found = list(pool.map(look, VIEWS))
    table = pd.concat(found)
    table[["first", "second"]] = np.sort(table[["first", "second"]].to_numpy(), axis=1)
    best = table.sort_values("correlation", ascending=False, kind="stable")
    best = best.drop_duplicates(["first", "second"]).sort_values(["first", "second"])
    return best.reset_index(drop=True)


def groups(number: int, *links: Sequence[tuple[int, int]] | np.ndarray) -> np.ndarray:
    """Return the group, 0 upwards, of each of ``number`` films; linked films share one."""
    from scipy.sparse import coo_array  # slow to load, and no page opens with it
    from scipy.sparse.csgraph import connected_components  # slow to load, and no page opens with it

    ends = np.concatenate([np.reshape(np.asarray(link, np.int64), (-1, 2)) for link in links])
    graph = coo_array((np.ones(len(ends), np.int8), (ends[:, 0], ends[:, 1])), (number, number))
    return connected_components(graph, directed=False)[1]


def chain(marks: np.ndarray) -> np.ndarray:
    """Return the links (m, 2) that tie all films of equal mark together."""
    order = np.argsort(marks, kind="stable")
    same = marks[order][1:] == marks[order][:-1]
    return np.stack([order[:-1][same], order[1:][same]], axis=1)


def _low(films: np.ndarray) -> np.ndarray:
    """Return films at half the side, (n, side / 2, side / 2), scaled so that no distance grows."""
    number, side, _ = films.shape
    return films.reshape(number, side // 2, 2, side // 2, 2).sum(axis=(2, 4)) / 2


def _principal_axes(low: np.ndarray) -> np.ndarray:
    """Return the orthonormal directions (pixels, axes) along which the films vary most."""
    sample = low[:: max(1, len(low) // _SAMPLE)].reshape(-1, low[0].size)
    with threadpool_limits(1):  # a matrix this small only waits for other processes' threads
        return np.linalg.eigh(np.cov(sample, rowvar=False, bias=True))[1][:, -_AXES:]

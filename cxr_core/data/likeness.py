"""Which films are the same picture: found by their low frequencies, confirmed by correlation."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

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
_AXES = 16  # principal axes: enough to leave hardly any candidates that are no twins
_SAMPLE = 10_000  # films that the axes are drawn from
_BLANK = 2.0  # gray levels; a film that varies less shows nothing to compare
_ROUNDING = 3e-4  # more than products of sketches may lose by it; see `_sketches`
_LEAF = 256  # films that are compared with their candidates at a time
_WIDE = 512  # candidates at a time: such a product stays in a processor's cache
_CHUNK = 20_000  # pairs confirmed, and films sketched, at a time
_MANY = 0.03  # of all pairs of some films: from here on one product of all is the cheaper


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

    Films are compared by sketches whose product is never below the films' correlation, so no pair
    that correlates at SAME is missed. A k-d tree names those that a leaf of films is to be compared
    with; in so many dimensions these are some tenth of all, so that the time of a large set grows
    nearly with the square of its size, but a matrix product makes little of each.

    Args:
        thumbnails: uint8 (n, side, side); side even.

    Returns:
        A row a pair: ``first`` < ``second`` (row numbers), ``view`` (how the one shows the other,
        a key of VIEWS), ``correlation``; the best view of each pair.
    """
    telling = _telling(thumbnails)
    if len(telling) < 2:
        return _table([], [], "", [])
    with threadpool_limits(1):  # the views share the processors; see also `_principal_axes`
        sketches = _sketches(thumbnails, telling)
        tree = _Tree.of(sketches[""])

        def look(view: str) -> pd.DataFrame:
            # A rotation by 90° is found in one order only, all other views in both.
            once = view != "rotated by 90°"
            near = tree.near(sketches[""], sketches[view], once=once)
            found = [
                _confirmed(thumbnails, telling[first], telling[second], view)
                for first, second in near
            ]
            return pd.concat(found) if found else _table([], [], view, [])

        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            table = pd.concat(list(pool.map(look, VIEWS)))
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


@dataclass(frozen=True)
class _Tree:
    """Sketches halved again and again along the axis on which they differ most."""

    order: np.ndarray  # int (n,), all rows; those of a node stand side by side
    # Of a node, by the places in ``order`` that it begins and ends at: the axis, the highest value
    # of its first half and the lowest of its second. A leaf has none.
    cuts: dict[tuple[int, int], tuple[int, float, float]]

    @classmethod
    def of(cls, sketches: np.ndarray) -> "_Tree":
        """Plant a tree on sketches (n, axes)."""
        order = np.arange(len(sketches))
        cuts = {}
        nodes = [(0, len(order))]
        while nodes:
            begin, end = nodes.pop()
            half = (end - begin) // 2
            if end - begin <= _LEAF:
                continue
            own = sketches[order[begin:end]]
            axis = int(own.var(axis=0).argmax())
            sorted_halves = np.argpartition(own[:, axis], half)
            order[begin:end] = order[begin:end][sorted_halves]
            values = own[sorted_halves, axis]
            cuts[begin, end] = axis, float(values[:half].max()), float(values[half:].min())
            nodes += [(begin, begin + half), (begin + half, end)]
        return cls(order, cuts)

    def near(
        self, sketches: np.ndarray, others: np.ndarray, *, once: bool
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield rows of sketches and of others whose product reaches SAME, but for rounding.

        Args:
            sketches: those the tree was planted on, (n, axes).
            others: of the same films in a view, (n, axes).
            once: whether of two films either order will do: the lower row then is the first.
        """
        least = SAME - _ROUNDING
        reach = float(np.sqrt(2 * (1 - least)))  # distance of unit vectors with such a product
        own, others = sketches[self.order], others[self.order]
        columns = np.ascontiguousarray(others.T)

        def leaves(
            begin: int, end: int, among: np.ndarray
        ) -> Iterator[tuple[int, int, np.ndarray]]:
            """Yield leaves and, as places in ascending order, who may be near one of theirs."""
            if once:
                among = among[np.searchsorted(among, begin) :]
            if (begin, end) not in self.cuts:
                yield begin, end, among
                return
            axis, highest, lowest = self.cuts[begin, end]
            half = begin + (end - begin) // 2
            values = columns[axis][among]
            yield from leaves(begin, half, among[values <= highest + reach])
            yield from leaves(half, end, among[values >= lowest - reach])

        for begin, end, among in leaves(0, len(own), np.arange(len(own))):
            for start in range(0, len(among), _WIDE):
                at = among[start : start + _WIDE]
                products = own[begin:end] @ others[at].T
                hits = np.flatnonzero(products >= least)
                first, second = begin + hits // len(at), at[hits % len(at)]
                apart = first < second if once else first != second
                if apart.any():
                    rows = self.order[first[apart]], self.order[second[apart]]
                    yield (np.minimum(*rows), np.maximum(*rows)) if once else rows


def _telling(thumbnails: np.ndarray) -> np.ndarray:
    """Return the rows of films that show something to compare."""
    deviations = [
        thumbnails[start : start + _CHUNK].std(axis=(1, 2))
        for start in range(0, len(thumbnails), _CHUNK)
    ]
    return np.flatnonzero(np.concatenate([np.empty(0), *deviations]) >= _BLANK)


def _sketches(thumbnails: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return short vectors of films, by view; none is further from another than the films are.

    A sketch is the film's projection on the set's principal axes, with the length of what the
    projection leaves over as one more axis. The product of two is never below the correlation of
    the films: what is left over of two films has a product of at most that of its lengths.

    Returns:
        float32 (rows, axes + 1) of length 1. The last axis is exact to 1e-3 where it is near 0, and
        to 1e-7 elsewhere, which moves products near SAME by less than _ROUNDING.
    """

    def low(some: np.ndarray) -> np.ndarray:
        return _low(unit(thumbnails[some]).reshape(-1, *thumbnails.shape[1:]))

    axes = _principal_axes(low(rows[:: max(1, len(rows) // _SAMPLE)]))
    parts: dict[str, list[np.ndarray]] = {view: [] for view in VIEWS}
    for start in range(0, len(rows), _CHUNK):
        films = low(rows[start : start + _CHUNK])
        for view, turn in VIEWS.items():
            projected = np.reshape(turn(films), (len(films), -1)) @ axes
            left_over = 1 - np.einsum("na,na->n", projected, projected, dtype=np.float64)
            last = np.sqrt(np.maximum(0, left_over))
            parts[view].append(np.column_stack([projected, last]).astype(np.float32))
    return {view: np.concatenate(part) for view, part in parts.items()}


def _confirmed(
    thumbnails: np.ndarray, first: np.ndarray, second: np.ndarray, view: str
) -> pd.DataFrame:
    """Return the pairs of rows whose films, the second in a view, correlate at SAME."""
    ones, one = np.unique(first, return_inverse=True)
    others, other = np.unique(second, return_inverse=True)
    films, unturned = (
        unit(thumbnails[rows]).reshape(-1, *thumbnails.shape[1:]) for rows in (ones, others)
    )
    turn, likely = VIEWS[view], np.arange(len(first))
    if len(first) > _MANY * len(ones) * len(others):
        turned = turn(unturned).reshape(len(others), -1)
        products = films.reshape(len(ones), -1) @ turned.T
        likely = np.flatnonzero(products[one, other] >= SAME - _ROUNDING)
    correlation = np.zeros(len(first))
    for start in range(0, len(likely), _CHUNK):
        at = likely[start : start + _CHUNK]
        correlation[at] = np.einsum("nij,nij->n", films[one[at]], turn(unturned[other[at]]))
    same = correlation >= SAME
    return _table(first[same], second[same], view, correlation[same])


def _table(
    first: Sequence[int] | np.ndarray,
    second: Sequence[int] | np.ndarray,
    view: str,
    correlation: Sequence[float] | np.ndarray,
) -> pd.DataFrame:
    """Return pairs that were found in one view, of the same types even where there are none."""
    found = {"first": first, "second": second, "view": view, "correlation": correlation}
    types = {"first": np.int64, "second": np.int64, "view": str, "correlation": np.float64}
    return pd.DataFrame(found).astype(types)


def _low(films: np.ndarray) -> np.ndarray:
    """Return films at half the side, (n, side / 2, side / 2), scaled so that no distance grows."""
    number, side, _ = films.shape
    return films.reshape(number, side // 2, 2, side // 2, 2).sum(axis=(2, 4)) / 2


def _principal_axes(low: np.ndarray) -> np.ndarray:
    """Return the orthonormal directions (pixels, axes) along which films (n, side, side) vary."""
    flat = low.reshape(len(low), -1)
    with threadpool_limits(1):  # a matrix this small only waits for other processes' threads
        return np.linalg.eigh(np.cov(flat, rowvar=False, bias=True))[1][:, -_AXES:].astype(
            np.float32
        )

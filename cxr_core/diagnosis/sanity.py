"""Are heat maps made by what was learned? The same network's maps, its weights made random from the
top down (cascading randomisation, Adebayo et al. 2018, arXiv 1810.03292).
"""

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cxr_core.diagnosis import explain
from cxr_core.evaluation import probes

if TYPE_CHECKING:
    import keras

STEPS = 5  # of the cascade
_SIDE = 56  # px, that maps of any grid are compared at: the finest grid of the zoo at 224 px


@dataclass(frozen=True, eq=False)
class Cascade:
    """How like the trained network's maps stay while its weights become random."""

    layers: tuple[str, ...]  # the lowest layer that is random, step by step
    likeness: np.ndarray  # SSIM, float (steps, shown); the last step has no trained weight left
    rows: np.ndarray  # int (shown,): of the films, those whose trained map is not empty


def cascade(
    model: "keras.Model",
    squares: np.ndarray,
    selectors: np.ndarray,
    *,
    layer: str,
    seed: int,
) -> Cascade:
    """Compare the heat maps of a network with those of ever more random ones.

    The model itself is not touched: one copy of it takes the random weights, kernels from a normal
    distribution that keeps the scale (He et al. 2015), the others as layers begin. Of what random
    weights show for and against the class, the map that is more like the trained one counts.

    Args:
        model: flat functional network, (batch, size, size, 1) in 0-255 to raw logits.
        squares: uint8 (n, size, size), a few films.
        selectors: float32 (n, outputs), see `explain.selector`: the class whose evidence is shown.
        layer: name of the layer whose feature maps are weighed.
        seed: of the random weights.
    """
    import keras

    copy = keras.models.clone_model(model)
    rng = np.random.default_rng(seed)
    begun = {each.name: _random(each, rng) for each in copy.layers if each.weights}
    copy.set_weights(model.get_weights())
    compute = explain.traced(copy, [layer])
    films = squares.astype(np.float32)[..., None]
    raw = compute(films, selectors)[0]
    shown = np.flatnonzero(raw.max(axis=(1, 2)) > 0)  # an empty map is like any other empty one
    if not len(shown):
        return Cascade((), np.empty((0, 0)), shown)
    trained, films, selectors = normalised(raw[shown]), films[shown], selectors[shown]
    names = [each.name for each in model.layers if each.name in begun][::-1]
    ends = np.unique(np.linspace(0, len(names), STEPS + 1).round().astype(int))
    found, lowest = [], []
    for begin, end in itertools.pairwise(ends):
        for name in names[begin:end]:
            copy.get_layer(name).set_weights(begun[name])
        # Whether random weights speak for a class or against it is a coin's toss: both are shown.
        speaking, against = (normalised(compute(films, sign * selectors)[0]) for sign in (1, -1))
        found.append(
            [
                max(probes.likeness(own, one), probes.likeness(own, other))
                for own, one, other in zip(trained, speaking, against, strict=True)
            ]
        )
        lowest.append(names[end - 1])
    return Cascade(tuple(lowest), np.array(found), shown)


def normalised(maps: np.ndarray) -> np.ndarray:
    """Return maps at one size, each with its highest value at 1; an empty one stays empty.

    Args:
        maps: raw maps float32 (n, rows, columns), at least 0.

    Returns:
        float32 (n, side, side), 0-1.
    """
    peaks = maps.max(axis=(1, 2))
    spread = np.stack([explain.spread(cells, _SIDE) for cells in maps])
    return np.divide(
        spread,
        peaks[:, None, None],
        out=np.zeros_like(spread),
        where=np.isfinite(peaks[:, None, None]) & (peaks[:, None, None] > 0),
    )


def _random(layer: "keras.Layer", rng: np.random.Generator) -> list[np.ndarray]:
    """Return weights for a layer that was just made, its kernels drawn anew."""
    depthwise = "Depthwise" in type(layer).__name__
    drawn = []
    for weight in layer.get_weights():
        if weight.ndim > 1:  # a kernel; what a layer begins with elsewhere is no random matter
            fan = np.prod(weight.shape[:2] if depthwise else weight.shape[:-1])
            weight = rng.normal(0, np.sqrt(2 / fan), weight.shape).astype(weight.dtype)
        drawn.append(weight)
    return drawn

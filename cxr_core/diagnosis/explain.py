"""Heat maps: which parts of a film raised a class's score, and how to show them honestly."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from cxr_core import images

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import keras

# Logits by which the evidence must stand out from the map's own floor; 0.25 moves a probability of
# 50 % to 56 %. On 80 real films and a fine-tuned EfficientNet-Lite0, the maps of normal films held
# at most 0.2, those of films called pneumonia at a probability above 60 % at least 0.5.
MIN_EVIDENCE = 0.25


@dataclass(frozen=True, eq=False)
class HeatMap:
    """Evidence for one class, laid over the network's square."""

    values: np.ndarray  # float32 (size, size), at least 0, raw scale: logits a cell of the layer
    target: str  # the class that the evidence is for
    fit: str  # how the film became the square: squash, letterbox or crop
    evidence: float  # logits: the sum over the layer's cells of what rises above the lowest cell
    method: str = "Grad-CAM"

    @property
    def peak(self) -> float:
        """The highest raw value; what `overlay` shows in the brightest colour."""
        return float(self.values.max())

    @property
    def flat(self) -> bool:
        """True where nothing stands out: the map is no clear evidence for anything."""
        return self.evidence < MIN_EVIDENCE


def grad_cam(
    model: "keras.Model", square: np.ndarray, *, layer: str, target: int, classes: tuple[str, ...]
) -> tuple[np.ndarray, float]:
    """Compute Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391) for one film.

    The map's cells add up to about what the layer contributes to the class's logit (exactly so for
    a network that averages the layer and weighs the averages); only what speaks for the class is
    kept. Nothing is stretched to 0-1: a map without evidence must not look like a strong one.

    Args:
        model: flat functional network, (batch, size, size, 1) in 0-255 to raw logits.
        square: uint8 (size, size), as `images.to_square` gives it.
        layer: name of the layer whose feature maps are weighed.
        target: index of the class in ``classes``. A network with one logit speaks for class 1 with
            the logit, and for class 0 with its negative.
        classes: the class names, the reference class first.

    Returns:
        The raw map on the layer's own grid, float32 (rows, columns), and the evidence in logits.
    """
    import tensorflow as tf
    from tf_keras_vis.gradcam import Gradcam

    one_logit = len(classes) == 2
    column, sign = (0, 1.0 if target == 1 else -1.0) if one_logit else (target, 1.0)
    # Without clone and modifier the model is shared, not copied and not changed; its outputs are
    # logits already. The layer is named: the library's own search takes the wrong one on DenseNet.
    cells = Gradcam(model, clone=False)(
        lambda logits: sign * logits[:, column],
        tf.constant(square[None, :, :, None], tf.float32),
        penultimate_layer=layer,
        seek_penultimate_conv_layer=False,
        normalize_cam=False,
        expand_cam=False,
    )
    raw = np.asarray(cells, np.float32)[0]
    return raw, float((raw - raw.min()).sum())


def traced_grad_cam(
    model: "keras.Model", layer: str
) -> "Callable[[np.ndarray, np.ndarray], np.ndarray]":
    """Return a function that computes the maps of `grad_cam` for many films at once.

    One traced graph, a forward and a backward pass a call: for whoever needs maps again and again
    of the same network.

    Args:
        model: as for `grad_cam`.
        layer: name of the layer whose feature maps are weighed.

    Returns:
        (films float32 (n, size, size, 1), selectors float32 (n, outputs)) -> raw maps float32
        (n, rows, columns). A film's score is the sum of its logits times its selector, see
        `selector`.
    """
    import keras
    import tensorflow as tf

    parts = keras.Model(model.inputs, [model.get_layer(layer).output, model.output])

    def compute(films: tf.Tensor, selectors: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            maps, logits = parts(films, training=False)
            score = tf.reduce_sum(tf.cast(logits, tf.float32) * selectors)
        slopes = tf.cast(tape.gradient(score, maps), tf.float32)
        weights = tf.reduce_mean(slopes, axis=(1, 2), keepdims=True)
        return tf.nn.relu(tf.reduce_sum(weights * tf.cast(maps, tf.float32), axis=-1))

    traced = tf.function(compute, reduce_retracing=True)

    def maps(films: np.ndarray, selectors: np.ndarray) -> np.ndarray:
        return np.asarray(traced(films, selectors))

    return maps


def selector(target: int, classes: int) -> np.ndarray:
    """Return what a film's logits are multiplied with to get its score: float32 (outputs,).

    A network with one logit speaks for class 1 with it, and for class 0 with its negative.
    """
    if classes == 2:
        return np.array([1.0 if target == 1 else -1.0], np.float32)
    return np.eye(classes, dtype=np.float32)[target]


def spread(cells: np.ndarray, size: int) -> np.ndarray:
    """Return a coarse map over the whole square: float32 (size, size), linear between cells."""
    return cv2.resize(cells, (size, size), interpolation=cv2.INTER_LINEAR)


def together(maps: "Sequence[np.ndarray]", size: int) -> np.ndarray:
    """Return the sum of coarse maps over the whole square: float32 (size, size).

    A map's values are logits a cell. Where grids differ, so does the area of a cell: values are
    brought to the cells of the finest grid, so that each map still adds up to what its layer
    contributes.

    Args:
        maps: raw, as :func:`grad_cam` gives them, each on the grid of its own layer.
        size: side of the square, px.
    """
    finest = max(cells.size for cells in maps)
    spreads = [spread(cells * np.float32(cells.size / finest), size) for cells in maps]
    return np.stack(spreads).sum(axis=0)


def overlay(
    pixels: np.ndarray, heatmap: HeatMap, opacity: float = 0.6, *, peak: float | None = None
) -> np.ndarray:
    """Lay a heat map over its film.

    Colour (inferno) and opacity both grow with the evidence, so that the film stays as it is where
    there is none. A flat map leaves the whole film as it is.

    Args:
        pixels: uint8 (height, width), the film at any resolution.
        heatmap: computed from this film.
        opacity: 0-1, of the strongest evidence.
        peak: raw value shown as the strongest; the map's own by default. Give several maps the
            same to compare them.

    Returns:
        uint8 (height, width, 3), RGB.
    """
    film = cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    scale = heatmap.peak if peak is None else peak
    if heatmap.flat or scale <= 0:
        return film
    on_film = images.from_square(heatmap.values, (pixels.shape[0], pixels.shape[1]), heatmap.fit)
    share = np.clip(on_film / scale, 0, 1)
    levels = np.rint(255 * share).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    alpha = (np.clip(opacity, 0, 1) * share)[:, :, None].astype(np.float32)
    blended = film + alpha * (colours.astype(np.float32) - film)
    return np.rint(blended).astype(np.uint8)

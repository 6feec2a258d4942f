"""Heat maps that take many passes through the network: Score-CAM and SmoothGrad."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    import keras

CHANNELS = 64  # feature maps that Score-CAM tries at most, those with the most energy
SAMPLES = 24  # noisy films of SmoothGrad
NOISE = 0.15  # their noise, as a share of the film's span of gray; 0.1 to 0.2 in the paper
BATCH = 8  # films at a time

Score = Callable[[np.ndarray], np.ndarray]  # films float32 (n, size, size, 1) -> scores (n,)
# (films float32 (n, size, size, 1), selectors float32 (n, outputs)) -> size of the slopes of the
# films' scores, float32 (n, size, size)
Slopes = Callable[[np.ndarray, np.ndarray], np.ndarray]
Tell = Callable[[int, int], None]  # passes done, passes in all; may raise to end the work


def score_cam(
    score: Score, square: np.ndarray, maps: np.ndarray, tell: Tell | None = None
) -> tuple[np.ndarray, str]:
    """Compute Score-CAM (Wang et al. 2020, arXiv 1910.01279, algorithm 1) of one layer.

    Each feature map, stretched to 0-1, is laid over the film as a mask. What the score of the
    masked film is above that of a black one decides, by a softmax over the feature maps, what the
    map weighs. The score is the logit itself: a softmax over the network's outputs would give a
    network with one logit equal weights. Of more than `CHANNELS` feature maps those with the most
    energy (squared deviation from their mean) are tried.

    Args:
        score: of the class that the evidence is for.
        square: uint8 (size, size).
        maps: float32 (rows, columns, channels), the layer's feature maps for this film.
        tell: is told how many of the masks are done.

    Returns:
        The raw map float32 (rows, columns): the weighted mean of the activations, where positive;
        and which part of the feature maps was tried, a sentence, empty where all were.
    """
    size = len(square)
    deviation = maps - maps.mean(axis=(0, 1))
    energy = (deviation.astype(np.float64) ** 2).sum(axis=(0, 1))
    live = np.flatnonzero(energy > 0)  # a map that is the same everywhere masks nothing
    kept = live[np.argsort(energy[live], kind="stable")[::-1][:CHANNELS]]
    if not len(kept):
        return np.zeros(maps.shape[:2], np.float32), ""
    film = square.astype(np.float32)
    scores: list[float] = []
    for start in range(0, len(kept), BATCH):
        masked = [film * _mask(maps[:, :, k], size) for k in kept[start : start + BATCH]]
        scores += [float(value) for value in score(np.stack(masked)[..., None])]
        if tell is not None:
            tell(len(scores), len(kept))
    gains = np.array(scores) - float(score(np.zeros((1, size, size, 1), np.float32))[0])
    weights = np.exp(gains - gains.max())
    weights /= weights.sum()
    cells = np.maximum((maps[:, :, kept] * weights).sum(axis=-1), 0).astype(np.float32)
    if len(kept) == len(live):
        return cells, ""
    share = 100 * energy[kept].sum() / energy.sum()
    return cells, (
        f"Of {len(live)} feature maps the {len(kept)} with the most energy were tried, "
        f"{share:.0f} % of it."
    )


def traced_saliency(model: "keras.Model") -> Slopes:
    """Return a function that computes the slopes of films' scores at every pixel, by tf-keras-vis.

    The library's own computation, traced once: step by step it waits for Python at every layer, for
    seconds where a page is being drawn beside it.

    Args:
        model: flat functional network, (batch, size, size, 1) in 0-255 to raw logits.
    """
    import keras
    import tensorflow as tf
    from tf_keras_vis.saliency import Saliency

    # Without clone and modifier the layers are shared, not copied and not changed; the outputs are
    # logits already. The library gives its films as a list: the network is told to expect one.
    saliency = Saliency(keras.Model(model.inputs, model.output), clone=False)
    graph = tf.function(
        lambda films, selectors: saliency(
            lambda logits: tf.reduce_sum(tf.cast(logits, tf.float32) * selectors, axis=-1),
            films,
            keepdims=True,
            normalize_map=False,
        ),
        input_signature=[
            tf.TensorSpec(model.input_shape, tf.float32),
            tf.TensorSpec(model.output_shape, tf.float32),
        ],
        autograph=False,
    )

    def slopes(films: np.ndarray, selectors: np.ndarray) -> np.ndarray:
        return np.asarray(graph(films, selectors))[..., 0]

    return slopes


def smooth_grad(
    slopes: Callable[[np.ndarray], np.ndarray],
    square: np.ndarray,
    *,
    seed: int = 0,
    tell: Tell | None = None,
) -> np.ndarray:
    """Compute SmoothGrad (Smilkov et al. 2017, arXiv 1706.03825).

    The size of the score's slope at every pixel, averaged over copies of the film with noise. The
    noise is seeded, so that a film always has the same map.

    Args:
        slopes: films float32 (n, size, size, 1) to the size of the slopes (n, size, size).
        square: uint8 (size, size).
        seed: of the noise.
        tell: is told how many of the noisy films are done.

    Returns:
        float32 (size, size), at least 0: logits a gray level.
    """
    film = square.astype(np.float32)
    rng = np.random.default_rng(seed)
    deviation = NOISE * float(film.max() - film.min())
    total = np.zeros(square.shape, np.float64)
    for start in range(0, SAMPLES, BATCH):
        count = min(BATCH, SAMPLES - start)
        noisy = film + rng.normal(0, deviation, (count, *square.shape)).astype(np.float32)
        total += slopes(noisy[..., None]).sum(axis=0, dtype=np.float64)
        if tell is not None:
            tell(start + count, SAMPLES)
    return (total / SAMPLES).astype(np.float32)


def _mask(cells: np.ndarray, size: int) -> np.ndarray:
    """Return a feature map over the whole square, its lowest value 0 and its highest 1."""
    whole = cv2.resize(cells, (size, size), interpolation=cv2.INTER_LINEAR)
    low, high = float(whole.min()), float(whole.max())
    return (whole - low) / max(high - low, float(np.finfo(np.float32).tiny))

"""Random changes to training films: exposure, geometry, blur and noise, then blends of two.

Each film is resampled once, however many geometric changes are on: every further resampling costs
time and blurs. All is NumPy and OpenCV, so a page can preview it without TensorFlow.
"""

import functools

import cv2
import numpy as np

from cxr_core.config import AugmentConfig

_GRAY = np.arange(256, dtype=np.float32)
_SHARP = 0.2  # px; under a sigma below this a film looks the same
_OFFSETS = 2**20  # places in the stock of noise where a film's noise may begin
_ASPECTS = (3 / 4, 4 / 3)  # width by height of a random crop: the bounds of Szegedy and others 2015


def augment(pixels: np.ndarray, settings: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Return changed copies of films.

    Args:
        pixels: uint8 ``(n, size, size)``, 0 black to 255 white.
        settings: how far each change may go; where all are off the films come back as they are.
        rng: the source of every draw; the same state gives the same films.

    Returns:
        float32 ``(n, size, size)`` in 0-255. What an affine brings in from outside is black.
    """
    count, size = pixels.shape[0], pixels.shape[1]
    tables = matrices = None
    if settings.brightness or settings.contrast or settings.gamma:
        tables = exposure_tables(pixels.mean(axis=(1, 2)), settings, rng)
    if _moves(settings):
        matrices = affine_matrices(count, size, settings, rng)
    out = np.empty(pixels.shape, np.float32)
    # Film by film: what is changed next is still in the processor's cache.
    for place, changed in enumerate(out):
        film = pixels[place] if tables is None else cv2.LUT(pixels[place], tables[place])
        if matrices is None:
            changed[:] = film
        else:
            cv2.warpAffine(
                film.astype(np.float32, copy=False),
                matrices[place, :2],
                (size, size),
                dst=changed,
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            )
        if settings.blur:
            sigma = rng.uniform(0, settings.blur)
            if sigma > _SHARP:
                cv2.GaussianBlur(changed, (0, 0), sigma, dst=changed)
        if settings.noise:
            begin = rng.integers(_OFFSETS)
            grain = _noise(size)[begin : begin + size * size].reshape(size, size)
            cv2.scaleAdd(grain, rng.uniform(0, settings.noise), changed, dst=changed)
            np.clip(changed, 0, 255, out=changed)
    return out


def exposure_tables(
    means: np.ndarray, settings: AugmentConfig, rng: np.random.Generator
) -> np.ndarray:
    """Return one gray-level look-up table a film, float32 ``(n, 256)`` in 0-255.

    Gamma first, as the detector would, then contrast about the film's own mean gray ``means``
    ``(n,)``, then brightness.
    """
    shape = (len(means), 1)
    gamma = _factor(settings.gamma, shape, rng)
    contrast = 1 + rng.uniform(-settings.contrast, settings.contrast, shape)
    brightness = 255 * rng.uniform(-settings.brightness, settings.brightness, shape)
    curve = 255 * (_GRAY / 255) ** gamma
    pivot = 255 * (means[:, None] / 255) ** gamma
    return np.clip((curve - pivot) * contrast + pivot + brightness, 0, 255).astype(np.float32)


def affine_matrices(
    count: int, size: int, settings: AugmentConfig, rng: np.random.Generator
) -> np.ndarray:
    """Return ``(count, 3, 3)`` matrices from a changed film's pixel (x, y, 1) to the original's.

    A random part is stretched to the square; then mirror, zoom, shear, rotation and translation in
    this order about its centre, all composed.
    """
    angle = np.radians(rng.uniform(-settings.rotation, settings.rotation, count))
    shear = np.tan(np.radians(rng.uniform(-settings.shear, settings.shear, count)))
    zoom = _factor(settings.zoom, (count,), rng)
    shift = size * rng.uniform(-settings.translation, settings.translation, (2, count))
    mirror = np.where(rng.random(count) < 0.5, -1.0, 1.0) if settings.flip else np.ones(count)

    rotate = _matrices(count)
    rotate[:, 0, 0] = rotate[:, 1, 1] = np.cos(angle)
    rotate[:, 0, 1], rotate[:, 1, 0] = -np.sin(angle), np.sin(angle)
    deform = _matrices(count)
    deform[:, 0, 0], deform[:, 1, 1], deform[:, 0, 1] = mirror * zoom, zoom, shear * zoom
    to_centre, back = _matrices(count), _matrices(count)
    to_centre[:, :2, 2] = -(size - 1) / 2
    back[:, :2, 2] = (size - 1) / 2 + shift.T
    return _crops(count, size, settings, rng) @ np.linalg.inv(back @ rotate @ deform @ to_centre)


def mix(
    films: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    settings: AugmentConfig,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Blend each film of a batch with the next one, and their labels alike.

    Mixup (Zhang and others 2018, arXiv 1710.09412) or CutMix (Yun and others 2019, arXiv
    1905.04899), one of them a batch where both are on; the share is drawn anew for each film. The
    batch should be in random order.

    Args:
        films: float32 ``(n, size, size)``.
        targets: float32 ``(n, outputs)``: probabilities of the classes.
        weights: float32 ``(n,)``: the films' weights in the loss, above 0.
        settings: its ``mixup`` and ``cutmix``; where both are 0 all comes back as it is.
        rng: the source of every draw.

    Returns:
        New films, targets and weights. A film's loss is then what the two films' would be, each
        with its weight and its share, for any loss that is linear in the targets.
    """
    blends = [
        (blend, strength)
        for blend, strength in ((_fade, settings.mixup), (_paste, settings.cutmix))
        if strength
    ]
    if not blends or len(films) < 2:
        return films, targets, weights
    blend, strength = blends[rng.integers(len(blends))]
    mixed, shares = blend(films, rng.beta(strength, strength, len(films)), rng)
    own, other = shares * weights, (1 - shares) * np.roll(weights, -1)
    total = own + other
    both = own[:, None] * targets + other[:, None] * np.roll(targets, -1, axis=0)
    return mixed, (both / total[:, None]).astype(np.float32), total.astype(np.float32)


def _fade(
    films: np.ndarray, shares: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Lay the next film over each, transparently; return the films and how much each kept."""
    mixed = np.empty_like(films)
    for place, share in enumerate(shares):
        other = films[(place + 1) % len(films)]
        cv2.addWeighted(films[place], share, other, 1 - share, 0, dst=mixed[place])
    return mixed, shares


def _paste(
    films: np.ndarray, shares: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Paste a rectangle of the next film into each; return the films and how much each kept.

    The rectangle has the film's proportions and its centre anywhere, so that an edge may cut it.
    """
    size = films.shape[1]
    half = size * np.sqrt(1 - shares[:, None]) / 2
    centre = rng.uniform(0, size, (len(films), 2))
    begin = np.rint(np.clip(centre - half, 0, size)).astype(int)
    end = np.rint(np.clip(centre + half, 0, size)).astype(int)
    mixed = films.copy()
    for place, ((top, left), (bottom, right)) in enumerate(zip(begin, end, strict=True)):
        other = films[(place + 1) % len(films)]
        mixed[place, top:bottom, left:right] = other[top:bottom, left:right]
    return mixed, 1 - (end - begin).prod(axis=1) / size**2


def _crops(count: int, size: int, settings: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Return ``(count, 3, 3)`` matrices from the square to a random part of a film within it."""
    area = rng.uniform(settings.crop_area, 1, count)
    # A part of this area has an edge longer than the film's if its proportions are beyond these.
    low, high = np.maximum(_ASPECTS[0], area), np.minimum(_ASPECTS[1], 1 / area)
    aspect = np.exp(rng.uniform(np.log(low), np.log(high)))
    sides = np.sqrt([area * aspect, area / aspect])  # width and height, of the film's
    begin = size * rng.uniform(0, 1, (2, count)) * (1 - sides)
    crops = _matrices(count)
    crops[:, 0, 0], crops[:, 1, 1] = sides
    crops[:, :2, 2] = (begin + (sides - 1) / 2).T  # a pixel's place is its centre's
    return crops


@functools.cache
def _noise(size: int) -> np.ndarray:
    """Return a stock of standard normal noise, of which a film takes a piece at a random place.

    Drawing every pixel's noise anew would take longer than all else together.
    """
    return np.random.default_rng(0).standard_normal(_OFFSETS + size * size, dtype=np.float32)


def _moves(settings: AugmentConfig) -> bool:
    return bool(
        settings.rotation
        or settings.translation
        or settings.zoom
        or settings.shear
        or settings.flip
        or settings.crop_area < 1
    )


def _factor(extent: float, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Draw factors from 1/(1+extent) to 1+extent, as often below 1 as above."""
    return (1 + extent) ** rng.uniform(-1, 1, shape)


def _matrices(count: int) -> np.ndarray:
    return np.tile(np.eye(3), (count, 1, 1))

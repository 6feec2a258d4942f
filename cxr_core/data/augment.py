"""Random changes to training films: one look-up table for exposure, one affine for geometry.

Each film is resampled once, however many geometric changes are on: every further resampling costs
time and blurs. All is NumPy and OpenCV, so a page can preview it without TensorFlow.
"""

import cv2
import numpy as np

from cxr_core.config import AugmentConfig

_GRAY = np.arange(256, dtype=np.float32)


def augment(pixels: np.ndarray, settings: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Return changed copies of films.

    Args:
        pixels: uint8 ``(n, size, size)``, 0 black to 255 white.
        settings: how far each change may go; where all are 0 the films come back as they are.
        rng: the source of every draw; the same state gives the same films.

    Returns:
        float32 ``(n, size, size)`` in 0-255. What an affine brings in from outside is black.
    """
    count, size = pixels.shape[0], pixels.shape[1]
    out = pixels.astype(np.float32)
    if settings.brightness or settings.contrast or settings.gamma:
        tables = exposure_tables(pixels.mean(axis=(1, 2)), settings, rng)
        for film, table, changed in zip(pixels, tables, out, strict=True):
            changed[:] = cv2.LUT(film, table)
    if _moves(settings):
        for changed, matrix in zip(out, affine_matrices(count, size, settings, rng), strict=True):
            changed[:] = cv2.warpAffine(
                changed, matrix[:2], (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            )
    if settings.noise:
        strength = rng.uniform(0, settings.noise, (count, 1, 1)).astype(np.float32)
        out += strength * rng.standard_normal(out.shape, dtype=np.float32)
        np.clip(out, 0, 255, out=out)
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

    Mirror, zoom, shear, rotation and translation in this order about the film's centre, composed.
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
    return np.linalg.inv(back @ rotate @ deform @ to_centre)


def _moves(settings: AugmentConfig) -> bool:
    return bool(
        settings.rotation
        or settings.translation
        or settings.zoom
        or settings.shear
        or settings.flip
    )


def _factor(extent: float, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Draw factors from 1/(1+extent) to 1+extent, as often below 1 as above."""
    return (1 + extent) ** rng.uniform(-1, 1, shape)


def _matrices(count: int) -> np.ndarray:
    return np.tile(np.eye(3), (count, 1, 1))

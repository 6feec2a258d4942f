"""A heat map on its raw scale, laid over its film."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from cxr_core import images
from cxr_core.diagnosis.explain import methods

# Logits by which the evidence must stand out from the map's own floor; 0.25 moves a probability of
# 50 % to 56 %. On 80 real films and a fine-tuned EfficientNet-Lite0, the maps of normal films held
# at most 0.2, those of films called pneumonia at a probability above 60 % at least 0.5.
MIN_EVIDENCE = 0.25


# Perceptually uniform: a step of the map is a step of the same size to the eye.
COLOURS = {
    "inferno": cv2.COLORMAP_INFERNO,
    "viridis": cv2.COLORMAP_VIRIDIS,
    "magma": cv2.COLORMAP_MAGMA,
    "cividis": cv2.COLORMAP_CIVIDIS,
}
_LINES = (0.25, 0.5, 0.75)  # of the strongest evidence, where contour lines run


@dataclass(frozen=True, eq=False)
class HeatMap:
    """Evidence for one class, laid over the network's square."""

    values: np.ndarray  # float32 (size, size), at least 0, raw scale: see `unit`
    target: str  # the class that the evidence is for
    fit: str  # how the film became the square: squash, letterbox or crop
    # Logits: the sum over the layer's cells of what rises above the lowest cell. None where the
    # map has a scale of its own.
    evidence: float | None
    method: str = methods.DEFAULT  # a key of `METHODS`
    note: str = ""  # what was left out in computing it, a sentence

    @property
    def peak(self) -> float:
        """The highest raw value; what `overlay` shows in the brightest colour."""
        return float(self.values.max())

    @property
    def flat(self) -> bool:
        """True where nothing stands out: the map is no clear evidence for anything.

        On a scale of its own there is no saying how much is clear, only when there is nothing.
        """
        if self.evidence is None:
            return self.peak <= 0
        return self.evidence < MIN_EVIDENCE

    @property
    def title(self) -> str:
        """What the method is called."""
        return methods.METHODS[self.method].title

    @property
    def unit(self) -> str:
        """The unit of the values."""
        return methods.METHODS[self.method].unit


def assemble(
    cells: Sequence[np.ndarray],
    *,
    target: str,
    fit: str,
    size: int,
    method: str = methods.DEFAULT,
    note: str = "",
    judged: bool = True,
) -> HeatMap:
    """Make a heat map of the raw maps of one layer or several.

    Args:
        cells: raw, float32 (rows, columns), each on the grid of its own layer.
        target: the class that the evidence is for.
        fit: how the film became the square: squash, letterbox or crop.
        size: side of the square, px.
        method: a key of `METHODS`.
        note: what was left out in computing it.
        judged: whether these are the layers for which it is known how much evidence is clear.
    """
    in_logits = judged and methods.METHODS[method].in_logits
    above = sum(float((each - each.min()).sum()) for each in cells)
    return HeatMap(together(cells, size), target, fit, above if in_logits else None, method, note)


def spread(cells: np.ndarray, size: int) -> np.ndarray:
    """Return a coarse map over the whole square: float32 (size, size), linear between cells."""
    return cv2.resize(cells, (size, size), interpolation=cv2.INTER_LINEAR)


def together(maps: Sequence[np.ndarray], size: int) -> np.ndarray:
    """Return the sum of coarse maps over the whole square: float32 (size, size).

    A map's values are logits a cell. Where grids differ, so does the area of a cell: values are
    brought to the cells of the finest grid, so that each map still adds up to what its layer
    contributes.

    Args:
        maps: raw, float32 (rows, columns), each on the grid of its own layer.
        size: side of the square, px.
    """
    finest = max(cells.size for cells in maps)
    spreads = [spread(cells * np.float32(cells.size / finest), size) for cells in maps]
    return np.stack(spreads).sum(axis=0)


def overlay(
    pixels: np.ndarray,
    heatmap: HeatMap,
    opacity: float = 0.6,
    *,
    peak: float | None = None,
    colours: str = "inferno",
    contours: bool = False,
) -> np.ndarray:
    """Lay a heat map over its film.

    Colour and opacity both grow with the evidence, so that the film stays as it is where there is
    none. A flat map leaves the whole film as it is.

    Args:
        pixels: uint8 (height, width), the film at any resolution.
        heatmap: computed from this film.
        opacity: 0-1, of the strongest evidence.
        peak: raw value shown as the strongest; the map's own by default. Give several maps the
            same to compare them.
        colours: a key of `COLOURS`.
        contours: whether lines run where the evidence is a quarter, half and three quarters of the
            strongest.

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
    alpha = (np.clip(opacity, 0, 1) * share)[:, :, None].astype(np.float32)
    blended = film + alpha * (_coloured(levels, colours).astype(np.float32) - film)
    shown = np.rint(blended).astype(np.uint8)
    return _with_lines(shown, share, colours) if contours else shown


def colour_bar(colours: str, width: int = 256, height: int = 12) -> np.ndarray:
    """Return the colours of a map from nothing, left, to the strongest: uint8 RGB."""
    levels = np.rint(np.linspace(0, 255, width)).astype(np.uint8)
    return _coloured(np.tile(levels, (height, 1)), colours)


def _coloured(levels: np.ndarray, colours: str) -> np.ndarray:
    return cv2.cvtColor(cv2.applyColorMap(levels, COLOURS[colours]), cv2.COLOR_BGR2RGB)


def _with_lines(shown: np.ndarray, share: np.ndarray, colours: str) -> np.ndarray:
    """Draw contour lines, each in its level's colour with a dark edge, seen on black and white."""
    width = max(1, round(max(share.shape) / 450))
    framed = np.pad(share, 1)  # so that a line at the film's edge is closed
    for level in _LINES:
        above = (framed >= level).astype(np.uint8)
        lines, _ = cv2.findContours(above, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE, offset=(-1, -1))
        red, green, blue = (
            int(part) for part in _coloured(np.full((1, 1), 255 * level, np.uint8), colours)[0, 0]
        )
        cv2.drawContours(shown, lines, -1, (0, 0, 0), width + 2, cv2.LINE_AA)
        cv2.drawContours(shown, lines, -1, (red, green, blue), width, cv2.LINE_AA)
    return shown

"""Synthetic frontal chest radiographs with lesion masks: the built-in data set.

A film is composed as an X-ray is formed: every structure adds to, and air takes from, the
attenuation along the ray; quantum noise is laid over it; a tone curve turns it into gray levels.
The chest is described in the patient's own coordinates, whose unit is half the inner width of the
rib cage: x runs to the image's right (the patient's left), y runs down, the origin is the middle
of the chest. A :class:`View` maps them to the pixels of one film.

Anatomy, pose, exposure and film size are drawn from the same distributions for every class. Half of
what the lesions add to a film's brightness is taken back, as a photographer would who exposes for
what is before the lens: only the lesions themselves tell the classes apart.
"""

import csv
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator, SeedSequence, default_rng
from numpy.typing import NDArray

from cxr_core.errors import DatasetError

Array = NDArray[np.float32]
Points = NDArray[np.float64]  # (n, 2): x, y
Mask = NDArray[np.bool_]

CLASSES = ("NORMAL", "PNEUMONIA", "TUBERCULOSIS")
LICENCE = "CC0-1.0"
CITATION = "Synthetic chest radiographs drawn by CXR Studio (cxr_core.data.phantom); no patient."
COLUMNS = ("path", "label", "split", "patient_id", "mask", "synthetic")

SIDES = (-1, 1)  # the patient's right (image left), the patient's left (image right)
SIZES = (256, 360)  # px, the shortest and the longest side of a film
PARTS = {"val": 0.15, "test": 0.15}  # share of each class's films; the rest is train
FILMS_A_PATIENT = (1, 1, 1, 1, 2, 2, 3)  # drawn from with equal chances
LEAST_IMAGES = 3 * len(CLASSES)  # one film a class and part

README = f"""Synthetic chest radiographs
===========================
These films were drawn by a program. They show no patient, and nothing learnt from them says
anything about one. They are for teaching, testing and trying the app out.

images/       the films, 8 bit gray PNG
masks/        where the lesions are (255), for every film that has any
metadata.csv  {", ".join(COLUMNS)}

Licence: {LICENCE}. Source: {CITATION}
"""


@dataclass(frozen=True, eq=False)
class Phantom:
    """One synthetic film; the arrays are (height, width)."""

    pixels: NDArray[np.uint8]  # 0 black to 255 white
    mask: Mask  # where the lesions are; all False for NORMAL
    lungs: Mask  # the aerated lung fields, without heart and mediastinum
    label: str


# ---------------------------------------------------------------------------------- the patient


@dataclass(frozen=True, eq=False)
class Branches:
    """One generation of a vessel tree."""

    width: float
    paths: Points  # (n, 3, 2): start, bend and end of each branch


@dataclass(frozen=True, eq=False)
class Anatomy:
    """The shape of one patient's chest, in the patient's coordinates."""

    apex: float  # y of the lung apices
    domes: tuple[float, float]  # y of the tops of the diaphragm, by side
    angles: float  # y of the costophrenic angles
    taper: float  # how much narrower the upper chest is, 0-1
    wall: float  # thickness of the soft tissue outside the ribs
    shoulder: float  # x of the shoulder joint
    heart_left: float  # x of the heart's left border at its widest
    heart_right: float  # x of its right border, as a distance
    mediastinum: float  # half the width of the upper mediastinum
    knob: float  # how far the aortic knob stands out
    trachea: float  # x of the trachea's lower end
    first_rib: float  # y of the first rib at the spine
    rib_pitch: float  # distance from rib to rib at the spine
    rib_slope: float  # how far a rib falls from the spine to the side
    rib_width: float
    bone: float  # mineral density, 1 on average
    clavicle: float  # how far the clavicle rises to the side
    scapula: float  # x of the scapula's medial border
    breast: float  # density of the breast shadows; 0 for none
    bubble: float  # radius of the stomach's air bubble; 0 for none
    trees: tuple[tuple[Branches, ...], ...]  # the vessels, by side


@dataclass(frozen=True)
class Blob:
    """An ellipse of dense lung: a patch of consolidation, or a haze."""

    x: float
    y: float
    width: float  # half axes
    height: float
    tilt: float  # radians
    density: float  # 0 air to 1 solid


@dataclass(frozen=True)
class Nodule:
    """A small round focus."""

    x: float
    y: float
    radius: float
    density: float


@dataclass(frozen=True, eq=False)
class Cavity:
    """A hollow in the lung with a dense, uneven wall."""

    outer: Points  # outlines of the wall
    inner: Points
    density: float


@dataclass(frozen=True, eq=False)
class Findings:
    """What is wrong with a patient's lungs; nothing for NORMAL."""

    consolidations: tuple[Blob, ...] = ()
    hazes: tuple[Blob, ...] = ()
    nodules: tuple[Nodule, ...] = ()
    cavities: tuple[Cavity, ...] = ()
    raggedness: Array | None = None  # noise over the chest that makes edges ill-defined


@dataclass(frozen=True, eq=False)
class Patient:
    """A chest and what is wrong with it: the same on all of the patient's films."""

    label: str
    anatomy: Anatomy
    findings: Findings


def sample_patient(label: str, rng: Generator) -> Patient:
    """Draw a patient; the same generator state gives the same chest whatever the label.

    Raises:
        DatasetError: the label is none of :data:`CLASSES`.
    """
    if label not in CLASSES:
        raise DatasetError(
            f"There are no phantoms of the class '{label}': choose one of {', '.join(CLASSES)}."
        )
    chest_rng, lesion_rng = rng.spawn(2)
    anatomy = _sample_anatomy(chest_rng)
    if label == "PNEUMONIA":
        return Patient(label, anatomy, _sample_pneumonia(anatomy, lesion_rng))
    if label == "TUBERCULOSIS":
        return Patient(label, anatomy, _sample_tuberculosis(anatomy, lesion_rng))
    return Patient(label, anatomy, Findings())


def _sample_anatomy(rng: Generator) -> Anatomy:
    right_dome = rng.normal(0.66, 0.04)
    return Anatomy(
        apex=rng.normal(-1.16, 0.03),
        domes=(right_dome, right_dome + rng.uniform(0.03, 0.13)),
        angles=rng.normal(1.04, 0.03),
        taper=rng.normal(0.46, 0.03),
        wall=rng.uniform(0.1, 0.2),
        shoulder=rng.normal(1.36, 0.03),
        heart_left=rng.normal(0.55, 0.045),
        heart_right=rng.normal(0.27, 0.025),
        mediastinum=rng.normal(0.19, 0.02),
        knob=rng.uniform(0.02, 0.11),
        trachea=rng.normal(-0.03, 0.015),
        first_rib=rng.normal(-1.06, 0.03),
        rib_pitch=rng.normal(0.2, 0.008),
        rib_slope=rng.normal(0.36, 0.035),
        rib_width=rng.normal(0.062, 0.004),
        bone=rng.normal(1.0, 0.08),
        clavicle=rng.normal(0.2, 0.05),
        scapula=rng.normal(0.95, 0.04),
        breast=rng.uniform(0.02, 0.07) if rng.random() < 0.45 else 0.0,
        bubble=rng.uniform(0.1, 0.2) if rng.random() < 0.6 else 0.0,
        trees=tuple(_sample_tree(side, rng) for side in SIDES),
    )


def _sample_tree(side: int, rng: Generator) -> tuple[Branches, ...]:
    """Grow the pulmonary vessels of one side outwards from the hilum, two branches at each fork."""
    roots = 9
    angle = np.linspace(-1.45, 1.5, roots) + rng.normal(0, 0.09, roots)  # 0 points to the side
    start = np.stack([rng.normal(0.27, 0.03, roots), -0.12 + 0.12 * np.sin(angle)], axis=1)
    length, width = 0.24, 0.042
    generations = []
    for _ in range(5):
        reach = length * rng.uniform(0.7, 1.3, len(angle))[:, None]
        along = np.stack([np.cos(angle), np.sin(angle)], axis=1) * reach
        across = along[:, ::-1] * (1, -1) * rng.normal(0, 0.1, len(angle))[:, None]
        end = start + along
        paths = np.stack([start, (start + end) / 2 + across, end], axis=1)
        generations.append(Branches(width, paths * (side, 1)))
        start = np.repeat(end, 2, axis=0)
        fork = rng.uniform(0.12, 0.55, (len(angle), 2)) * (-1, 1)
        angle = (angle[:, None] + fork).ravel()
        length, width = length * 0.8, width * 0.66
    return tuple(generations)


def _sample_pneumonia(anatomy: Anatomy, rng: Generator) -> Findings:
    """One to three ill-defined patches, more often in the middle and lower zones.

    A patch is a haze with cotton-wool puffs in it: lobules that have filled with fluid.
    """
    patches: list[Blob] = []
    count = int(rng.choice([1, 2, 3], p=[0.15, 0.5, 0.35]))
    for _ in range(count):
        size = rng.uniform(0.27, 0.38) * (1.25 if count == 1 else 1.0)
        x, y = _place(anatomy, int(rng.choice(SIDES)), 0.92 * rng.beta(3.0, 1.6), rng.beta(2, 2))
        haze = [(1.0, rng.uniform(0.35, 0.55))] * 2
        puffs = [(rng.uniform(0.18, 0.34), rng.uniform(0.35, 0.6)) for _ in range(18)]
        for share, density in haze + puffs:
            patches.append(
                Blob(
                    x + rng.normal(0, 0.2 + 0.35 * (1 - share)) * size,
                    y + rng.normal(0, 0.2 + 0.35 * (1 - share)) * size,
                    share * size * rng.uniform(0.75, 1.1),
                    share * size * rng.uniform(0.75, 1.1),
                    rng.uniform(0, np.pi),
                    density,
                )
            )
    return Findings(consolidations=tuple(patches), raggedness=_raggedness(rng))


def _sample_tuberculosis(anatomy: Anatomy, rng: Generator) -> Findings:
    """Clusters of small nodules in one or both upper zones, mostly around ring-shaped cavities."""
    first = int(rng.choice(SIDES))
    sides = SIDES if rng.random() < 0.9 else (first,)
    hazes: list[Blob] = []
    nodules: list[Nodule] = []
    cavities: list[Cavity] = []
    for side in sides:
        x, y = _place(anatomy, side, rng.uniform(0.17, 0.33), rng.uniform(0.35, 0.7))
        hazes.append(
            Blob(x, y, rng.uniform(0.16, 0.28), rng.uniform(0.16, 0.26), 0.0, rng.uniform(0.1, 0.3))
        )
        nodules += [
            Nodule(
                x + rng.normal(0, 0.19),
                y + rng.normal(0, 0.2),
                radius=rng.uniform(0.024, 0.05),
                density=rng.uniform(0.42, 0.68),
            )
            for _ in range(rng.integers(26, 42))
        ]
        for _ in range(rng.choice([0, 1, 2, 3], p=[0.05, 0.35, 0.4, 0.2])):
            centre = (x + rng.normal(0, 0.13), y + rng.normal(0, 0.13))
            cavities.append(_sample_cavity(centre, rng))
    return Findings((), tuple(hazes), tuple(nodules), tuple(cavities), _raggedness(rng))


def _sample_cavity(centre: tuple[float, float], rng: Generator) -> Cavity:
    """Draw a ring whose outer and inner outlines wander apart, as a wall of uneven thickness."""
    radius = rng.uniform(0.09, 0.15)
    wall = rng.uniform(0.28, 0.5)
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    direction = np.stack([np.cos(angle), rng.uniform(0.75, 1.15) * np.sin(angle)], axis=1)

    def outline(size: float) -> Points:
        order = np.array([[2], [3], [5]])
        waves = np.cos(order * angle + rng.uniform(0, 2 * np.pi, (3, 1)))
        bumps = (rng.normal(0, 0.09, (3, 1)) / order * waves).sum(axis=0)
        return np.asarray(centre + direction * (size * (1 + bumps))[:, None])

    return Cavity(outline(radius), outline(radius * (1 - wall)), rng.uniform(0.5, 0.75))


def _raggedness(rng: Generator) -> Array:
    """Draw coarse and fine noise over the square from -1.5 to 1.5, mean 0, standard deviation 1."""
    coarse = cv2.resize(rng.standard_normal((14, 14)), (192, 192), interpolation=cv2.INTER_CUBIC)
    fine = cv2.resize(rng.standard_normal((64, 64)), (192, 192), interpolation=cv2.INTER_CUBIC)
    noise = coarse + 0.6 * fine
    return np.asarray((noise - noise.mean()) / noise.std(), np.float32)


def _place(anatomy: Anatomy, side: int, depth: float, across: float) -> tuple[float, float]:
    """Return the point of a lung at ``depth`` (0 apex to 1 dome) and ``across`` (0 heart to 1)."""
    y = anatomy.apex + 0.1 + depth * (anatomy.domes[side > 0] - anatomy.apex - 0.1)
    border = anatomy.heart_left if side > 0 else anatomy.heart_right
    inner = np.interp(y, [-0.3, 0.45], [anatomy.mediastinum + 0.08, border])
    outer = _wall(anatomy, y) - 0.05
    return side * float(inner + across * (outer - inner)), float(y)


def _wall(anatomy: Anatomy, y: float | Points) -> Points:
    """Return the distance from the midline to the inside of the rib cage at height ``y``."""
    down = np.clip((np.asarray(y) - anatomy.apex) / (0.35 - anatomy.apex), 0, 1)
    return 1.0 - anatomy.taper * (1 - down) ** 2.6


# ------------------------------------------------------------------------------------- the film


@dataclass(frozen=True, eq=False)
class View:
    """How one film sees the patient: an affine map from the patient's coordinates to pixels."""

    shape: tuple[int, int]  # px, (height, width)
    matrix: Points  # (2, 3)
    scale: float  # px a unit
    x: Array  # the patient's coordinates of every pixel
    y: Array

    def canvas(self) -> NDArray[np.uint8]:
        """Return an empty canvas to stroke on; :func:`_ink` reads it."""
        return np.zeros(self.shape, np.uint8)

    def fill(self, outline: Points) -> Array:
        """Return 1 inside a closed outline and 0 outside, with smooth edges."""
        canvas = self.canvas()
        cv2.fillPoly(canvas, [self._fixed(outline)], _FULL, cv2.LINE_AA, _SHIFT)
        return _ink(canvas)

    def stroke(self, canvas: NDArray[np.uint8], paths: Points, width: float, value: float) -> None:
        """Draw paths (n, k, 2) of a width (the patient's units) and a value (0-1) on a canvas."""
        exact = width * self.scale
        whole = max(1, round(exact))
        ink = _FULL * value * exact / whole  # whole pixels change the width, not the amount
        cv2.polylines(
            canvas, list(self._fixed(paths)), False, min(255, ink), whole, cv2.LINE_AA, _SHIFT
        )

    def dot(
        self, canvas: NDArray[np.uint8], centre: Sequence[float], radius: float, value: float
    ) -> None:
        """Draw a disc on a canvas."""
        x, y = self._fixed(np.array(centre))
        size = round(radius * self.scale * (1 << _SHIFT))
        cv2.circle(canvas, (int(x), int(y)), size, _FULL * value, -1, cv2.LINE_AA, _SHIFT)

    def window(self, centre: Sequence[float], reach: float) -> tuple[slice, slice]:
        """Return the rows and columns of the film within ``reach`` of a point."""
        pixels = self._fixed(np.array(centre)) >> _SHIFT
        return tuple(
            slice(max(0, int(p - reach * self.scale)), max(0, int(p + reach * self.scale) + 2))
            for p in pixels[::-1]
        )  # type: ignore[return-value]

    def depth(self, inside: Array) -> Array:
        """Return how deep each pixel lies inside a filled outline, in the patient's units."""
        near = cv2.distanceTransform((inside > 0.5).astype(np.uint8), cv2.DIST_L2, 5)
        return near / np.float32(self.scale)

    def blur(self, image: Array, sigma: float) -> Array:
        """Blur by a Gaussian of a width in the patient's units."""
        return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma * self.scale))

    def _fixed(self, points: Points) -> NDArray[np.int32]:
        pixels = points @ self.matrix[:, :2].T + self.matrix[:, 2]
        return np.round(pixels * (1 << _SHIFT)).astype(np.int32)


_VERTEBRA = 0.19  # from disc to disc, in the patient's units
_FULL = 160  # the gray level of a value of 1 on a canvas; there is room above it
_SHIFT = 4  # binary digits after the point in the coordinates OpenCV draws with


def _ink(canvas: NDArray[np.uint8]) -> Array:
    """Return the values drawn on a canvas."""
    return canvas.astype(np.float32) * np.float32(1 / _FULL)


def _sample_view(shape: tuple[int, int], rng: Generator) -> View:
    """Place the patient before a film: distance, a small shift and tilt, a deep breath or not."""
    height, width = shape
    scale = max(width, height) / rng.uniform(2.62, 2.82)
    tilt = rng.normal(0, 0.025)
    stretch = np.array([rng.normal(1, 0.015), rng.normal(1, 0.025)])
    turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    linear = scale * turn * stretch
    centre = np.array([width, height]) * (0.5 + rng.normal(0, 0.012, 2)) + (0, 0.04 * scale)
    inverse = np.linalg.inv(linear)
    columns = (np.arange(width) - centre[0])[None, :]
    rows = (np.arange(height) - centre[1])[:, None]
    return View(
        shape,
        np.column_stack([linear, centre]),
        float(scale),
        (inverse[0, 0] * columns + inverse[0, 1] * rows).astype(np.float32),
        (inverse[1, 0] * columns + inverse[1, 1] * rows).astype(np.float32),
    )


@dataclass(frozen=True, eq=False)
class Layers:
    """What a ray meets at each pixel of one film."""

    tissue: Array  # soft tissue with the lungs full of it
    air: Array  # air in the lungs, 0-1
    vessels: Array  # 0-1
    bronchi: Array  # 0-1, to be seen only where the lung about them is dense
    ribs: Array
    bones: Array  # all others
    lungs: Mask

    def attenuation(self, density: Array) -> Array:
        """Return the attenuation with lungs of a density, 0 healthy to 1 solid."""
        dense = density * (1 - 0.35 * self.bronchi)
        air = self.air * (1 - dense)
        ribs = self.ribs * (0.35 + 0.65 * air)  # scatter washes them out where the tissue is thick
        return self.tissue - 0.66 * air + 0.1 * self.vessels * air + ribs + self.bones


def draw(label: str, rng: Generator, *, size: tuple[int, int] | None = None) -> Phantom:
    """Draw one film of a new patient; the same seed with another label gives the same chest.

    Args:
        label: one of :data:`CLASSES`.
        rng: the only source of chance.
        size: (height, width) in px; None draws one.

    Raises:
        DatasetError: the label is none of :data:`CLASSES`.
    """
    patient_rng, film_rng = rng.spawn(2)
    return expose(sample_patient(label, patient_rng), film_rng, size=size)


def expose(patient: Patient, rng: Generator, *, size: tuple[int, int] | None = None) -> Phantom:
    """Take a film of a patient: pose, exposure, noise and film size are new each time.

    ``size`` is (height, width) in px; None draws one within :data:`SIZES`.
    """
    if size is None:
        size = _sample_size(rng)
    view = _sample_view(size, rng)
    layers = _lay(patient.anatomy, view, rng)
    healthy = layers.attenuation(np.zeros(size, np.float32))
    density = _density(patient.findings, view)
    film = layers.attenuation(density) if density.any() else healthy
    pixels = _develop(film, healthy, view, rng)
    return Phantom(pixels, (density > 0.15) & layers.lungs, layers.lungs, patient.label)


def _sample_size(rng: Generator) -> tuple[int, int]:
    """Draw (height, width) in px, both within :data:`SIZES`, one up to a fifth longer."""
    aspect = float(np.exp(rng.uniform(-0.18, 0.18)))
    length = rng.uniform(SIZES[0], SIZES[1]) / max(aspect, 1 / aspect) ** 0.5
    height, width = np.clip([length / aspect**0.5, length * aspect**0.5], *SIZES)
    return round(float(height)), round(float(width))


def _lay(anatomy: Anatomy, view: View, rng: Generator) -> Layers:
    """Draw every structure of the chest for one film."""
    body = _body(anatomy, view)
    lungs = [view.fill(_lung_outline(anatomy, side)) for side in SIDES]
    field = np.maximum(*lungs)
    heart = view.fill(_heart_outline(anatomy))
    shadow = view.blur(heart * (1 - np.exp(-view.depth(heart) / 0.07)), 0.012)
    air = view.blur(field * (0.35 + 0.65 * (1 - np.exp(-view.depth(field) / 0.1))), 0.007)
    air *= 1 - 0.94 * shadow
    vessels, bronchi = _vessels(anatomy, view)
    grain = _grain(view.shape, 3, rng) * 0.7 + _grain(view.shape, 8, rng) * 0.5
    tissue = body + _soft_shadows(anatomy, view, heart) + 0.012 * body * _grain(view.shape, 30, rng)
    solid = np.minimum(1, 2 * body)
    return Layers(
        tissue=tissue + 0.012 * air * grain,
        air=air,
        vessels=vessels,
        bronchi=bronchi,
        ribs=anatomy.bone * _ribs(anatomy, view) * solid,
        bones=anatomy.bone * (_spine(view) + _shoulder_girdle(anatomy, view)) * solid,
        lungs=(field > 0.5) & (heart < 0.5),
    )


def _grain(shape: tuple[int, int], cell: float, rng: Generator) -> Array:
    """Return smooth noise of unit standard deviation, its grains about ``cell`` px wide."""
    height, width = shape
    coarse = rng.standard_normal(
        (max(2, round(height / cell)), max(2, round(width / cell))), np.float32
    )
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


def _lung_outline(anatomy: Anatomy, side: int) -> Points:
    """The side wall down, sharp round the costophrenic angle, over the dome, up the midline."""
    y = np.linspace(anatomy.apex + 0.09, anatomy.angles, 24)
    wall = np.stack([_wall(anatomy, y) - 0.03, y], axis=1)
    dome_y = anatomy.domes[side > 0]
    dome = _smooth(
        [
            (wall[-1, 0], anatomy.angles),
            (0.8, 0.55 * dome_y + 0.45 * anatomy.angles - 0.06),
            (0.5, dome_y),
            (0.22, dome_y + 0.05),
            (0.05, dome_y + 0.14),
        ]
    )
    apex = _smooth(
        [(0.1, -0.5), (0.18, -0.88), (0.24, anatomy.apex + 0.1), (0.37, anatomy.apex), wall[0]]
    )
    return np.concatenate([wall, dome, apex]) * (side, 1)


def _heart_outline(anatomy: Anatomy) -> Points:
    """Draw heart and mediastinum as one silhouette, from the neck round the heart and back."""
    half, left, right = anatomy.mediastinum, anatomy.heart_left, anatomy.heart_right
    bottom = anatomy.domes[1] + 0.2
    left_border = _smooth(
        [
            (half + 0.02, -1.6),
            (half - 0.01, -1.0),
            (half + 0.2 * anatomy.knob, -0.72),
            (half + anatomy.knob, -0.56),
            (half - 0.0, -0.4),
            (half + 0.06, -0.22),
            (half + 0.4 * (left - half), 0.08),
            (left - 0.04, 0.38),
            (left, 0.6),
            (left - 0.08, 0.78),
            (0.2, bottom),
        ]
    )
    right_border = _smooth(
        [
            (-0.22, bottom),
            (-right + 0.02, 0.7),
            (-right, 0.42),
            (-right + 0.03, 0.12),
            (-half, -0.12),
            (-half + 0.02, -0.5),
            (-half + 0.01, -1.0),
            (-half - 0.04, -1.6),
        ]
    )
    return np.concatenate([left_border, right_border])


def _body(anatomy: Anatomy, view: View) -> Array:
    """Draw neck, shoulders, trunk and arms as thicknesses of soft tissue."""
    shoulder = anatomy.shoulder
    flank = 1 + anatomy.wall
    half = _smooth(
        [
            (0.4, -2.6),
            (0.4, -1.7),
            (0.52, -1.42),
            (0.95, -1.27),
            (shoulder, -1.2),
            (shoulder + 0.22, -0.95),
            (shoulder + 0.18, -0.6),
            (flank + 0.08, -0.28),
            (flank, 0.15),
            (flank - 0.01, 0.7),
            (flank - 0.02, 1.2),
            (flank + 0.03, 2.2),
        ]
    )
    trunk = view.fill(np.concatenate([half, half[::-1] * (-1, 1)]))
    body = trunk * (1 - np.exp(-view.depth(trunk) / 0.13))
    body *= np.interp(view.y, [-1.6, -1.0, -0.3, 0.6, 1.2], [0.66, 0.78, 0.88, 0.95, 1.05])
    arm = _smooth([(shoulder + 0.02, -0.95), (shoulder + 0.2, -0.35), (shoulder + 0.32, 2.0)])
    canvas = view.canvas()
    view.stroke(canvas, np.stack([arm * (side, 1) for side in SIDES]), 0.42, 1.0)
    arms = _ink(canvas)
    np.maximum(body, 0.55 * arms * (1 - np.exp(-view.depth(arms) / 0.08)), out=body)
    return view.blur(body, 0.01)


def _soft_shadows(anatomy: Anatomy, view: View, heart: Array) -> Array:
    """Add what lies in the trunk: abdomen, trachea, hila, breasts, the stomach's air bubble."""
    shadows = 0.1 * view.blur(heart, 0.03)
    for side in SIDES:
        shadows += 0.06 * _ellipse(view, side * 0.27, -0.12 - 0.03 * (side > 0), 0.11, 0.2)
        if anatomy.breast:
            shadows += anatomy.breast * _breast(view, side)
    airway = view.canvas()
    carina = (anatomy.trachea, -0.4)
    view.stroke(airway, np.array([[(0.0, -2.0), (0.0, -1.1), carina]]), 0.09, 1.0)
    for side in SIDES:
        bronchus = [carina, (side * 0.12, -0.28), (side * 0.26, -0.16)]
        view.stroke(airway, np.array([bronchus]), 0.06, 0.4)
    shadows -= 0.17 * view.blur(_ink(airway), 0.02)
    if anatomy.bubble:
        level = anatomy.domes[1] + 0.1 + 0.7 * anatomy.bubble
        stomach = _ellipse(view, 0.5, level, 1.4 * anatomy.bubble, 0.7 * anatomy.bubble)
        shadows -= 0.3 * view.blur(stomach * (view.y < level + 0.1 * anatomy.bubble), 0.01)
    return shadows


def _breast(view: View, side: int) -> Array:
    """Return the thickness of a breast: it fades upwards and ends in a curved fold below."""
    across, down = (view.x - side * 0.52) / 0.46, view.y - 0.32
    square = across * across + np.maximum(down / 0.42, down / -0.8) ** 2
    return view.blur(np.sqrt(np.clip(1 - square, 0, 1, dtype=np.float32)), 0.015)


def _ellipse(view: View, x: float, y: float, width: float, height: float) -> Array:
    """Return the thickness of an ellipsoid of half axes ``width`` and ``height``, 1 at most."""
    square = ((view.x - x) / width) ** 2 + ((view.y - y) / height) ** 2
    return view.blur(np.sqrt(np.clip(1 - square, 0, 1)), 0.015)


def _ribs(anatomy: Anatomy, view: View) -> Array:
    """Draw the ribs: the back parts run from the spine, the front parts, fainter, from the side."""
    courses = [_rib(anatomy, number) for number in range(10)]
    both = [[back * (s, 1) for back, _ in courses] for s in SIDES]
    back = _tubes(view, np.array(both[0] + both[1]), anatomy.rib_width, 1.0)
    fronts = np.array([front * (s, 1) for s in SIDES for _, front in courses[:7]])
    front = _tubes(view, fronts, 1.15 * anatomy.rib_width, 0.6)
    return view.blur(0.1 * back + 0.09 * front, 0.008)


def _rib(anatomy: Anatomy, number: int) -> tuple[Points, Points]:
    """Return the courses of the back and the front part of a rib on the patient's left."""
    top = anatomy.first_rib + number * anatomy.rib_pitch
    fall = anatomy.rib_slope * min(1.0, 0.5 + 0.14 * number)
    wall = float(_wall(anatomy, min(top + fall, 0.9)))
    back = [
        (0.1, top),
        (0.32 * wall, top - 0.03),
        (0.62 * wall, top + 0.2 * fall),
        (0.88 * wall, top + 0.6 * fall),
        (wall, top + fall),
    ]
    front = [
        (wall, top + fall),
        (0.95 * wall, top + 1.25 * fall),
        (0.76 * wall, top + 1.25 * fall + 0.13),
        (0.5 * wall, top + 1.25 * fall + 0.19),
    ]
    return _smooth(back), _smooth(front)


def _tubes(view: View, paths: Points, width: float, value: float) -> Array:
    """Draw hollow bones: bands whose edges, seen through more of the cortex, are brighter."""
    canvas = view.canvas()
    view.stroke(canvas, paths, width, value)
    view.stroke(canvas, paths, 0.55 * width, 0.68 * value)
    return _ink(canvas)


def _shoulder_girdle(anatomy: Anatomy, view: View) -> Array:
    """Draw the clavicles, the scapulae and the bones of the upper arms."""
    shoulder, rise, edge = anatomy.shoulder, anatomy.clavicle, anatomy.scapula
    blade = _smooth(
        [
            (edge + 0.1, -1.02),
            (edge, -0.72),
            (edge + 0.05, -0.42),
            (edge + 0.12, -0.24),
            (edge + 0.22, -0.42),
            (shoulder - 0.08, -0.84),
        ]
    )
    ridge = np.array([(edge + 0.02, -0.84), (shoulder - 0.02, -1.1)])
    arm = _smooth([(shoulder + 0.04, -0.92), (shoulder + 0.18, -0.4), (shoulder + 0.3, 2.0)])
    clavicle = _smooth(
        [
            (0.11, -0.84),
            (0.33, -0.83 - 0.1 * rise),
            (0.68, -0.88 - 0.7 * rise),
            (0.95, -0.92 - 1.05 * rise),
            (shoulder - 0.12, -0.92 - 0.95 * rise),
        ]
    )
    canvas = view.canvas()
    blades, ridges, arms, clavicles = (
        np.stack([bone * (side, 1) for side in SIDES]) for bone in (blade, ridge, arm, clavicle)
    )
    girdle = np.float32(0.17) * np.maximum(view.fill(blades[0]), view.fill(blades[1]))
    view.stroke(canvas, blades, 0.02, 0.3)
    view.stroke(canvas, ridges, 0.05, 0.3)
    for side in SIDES:
        view.dot(canvas, (side * (shoulder + 0.04), -0.92), 0.125, 0.5)
        view.dot(canvas, (side * 0.13, -0.84), 0.05, 0.4)
    np.maximum(girdle, _ink(canvas), out=girdle)
    np.maximum(girdle, _tubes(view, arms, 0.13, 0.55), out=girdle)
    np.maximum(girdle, _tubes(view, clavicles, 0.075, 0.5), out=girdle)
    return 0.3 * view.blur(girdle, 0.006)


def _spine(view: View) -> Array:
    """Draw the vertebral column: bodies with paler discs between them, and the pedicles."""
    column = view.canvas()
    view.stroke(column, np.array([[(0.0, -2.5), (0.0, 2.5)]]), 0.2, 0.75)
    heights = np.arange(-2.0, 2.0, _VERTEBRA)
    view.stroke(column, np.array([[(-0.09, y), (0.09, y)] for y in heights]), 0.03, 0.45)
    for y in heights + 0.4 * _VERTEBRA:
        for side in SIDES:
            view.dot(column, (side * 0.07, y), 0.025, 1.0)
    return 0.15 * view.blur(_ink(column), 0.015)


def _vessels(anatomy: Anatomy, view: View) -> tuple[Array, Array]:
    """Draw the vessel trees, and beside their larger branches the bronchi."""
    vessels, bronchi = (view.canvas() for _ in range(2))
    for tree in anatomy.trees:
        for branches in reversed(tree):
            strength = (branches.width / tree[0].width) ** 0.8
            view.stroke(vessels, branches.paths, branches.width, strength)
        for branches in tree[2:4]:
            beside = branches.paths + np.array([0.0, 0.03])
            view.stroke(bronchi, beside, 0.6 * branches.width, 1.0)
    return view.blur(_ink(vessels), 0.008), view.blur(_ink(bronchi), 0.008)


@lru_cache
def _basis(knots: int, points: int) -> Points:
    """Return the matrix (points, knots) of the natural cubic spline through evenly spaced knots."""
    from scipy.interpolate import CubicSpline  # slow to load, and no page opens with it

    spline = CubicSpline(np.linspace(0, 1, knots), np.eye(knots), bc_type="natural")
    return np.asarray(spline(np.linspace(0, 1, points)))


def _smooth(knots: Sequence[Sequence[float]] | Points) -> Points:
    """Return a smooth open curve (6 points a knot) through the knots."""
    return _basis(len(knots), 6 * len(knots)) @ np.asarray(knots, np.float64)


# ---------------------------------------------------------------------------------- the lesions


def _density(findings: Findings, view: View) -> Array:
    """Return how solid the lesions make the lung, 0 healthy to 1."""
    healthy = np.zeros(view.shape, np.float32)
    if findings.raggedness is None:
        return healthy
    side = findings.raggedness.shape[0]
    ragged = cv2.remap(
        findings.raggedness,
        (view.x + 1.5) * (side / 3),
        (view.y + 1.5) * (side / 3),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )
    air = np.ones(view.shape, np.float32)
    for patch in findings.consolidations + findings.hazes:
        part = view.window((patch.x, patch.y), 2.2 * max(patch.width, patch.height))
        hill = _hill(patch, view.x[part], view.y[part])
        air[part] *= 1 - patch.density * np.minimum(hill * (1 + 0.2 * ragged[part]), 1)
    foci = view.canvas()
    for nodule in findings.nodules:
        view.dot(foci, (nodule.x, nodule.y), nodule.radius, nodule.density)
    walls = np.zeros(view.shape, np.float32)
    for cavity in findings.cavities:
        wall = view.fill(cavity.outer) * (1 - 0.85 * view.fill(cavity.inner))
        np.maximum(walls, cavity.density * wall, out=walls)
    air *= 1 - view.blur(_ink(foci), 0.012)
    air *= 1 - view.blur(walls * (1 + 0.15 * ragged), 0.012)
    return np.clip(1 - air, 0, 1)


def _hill(blob: Blob, x: Array, y: Array) -> Array:
    """Return a Gaussian hill over the blob: 1 at its centre, 1/e on its ellipse."""
    cosine, sine = float(np.cos(blob.tilt)), float(np.sin(blob.tilt))
    x, y = x - np.float32(blob.x), y - np.float32(blob.y)
    along = (x * cosine + y * sine) / blob.width
    across = (y * cosine - x * sine) / blob.height
    return np.exp(-along * along - across * across)


# ----------------------------------------------------------------------------- exposure and film


def _develop(film: Array, healthy: Array, view: View, rng: Generator) -> NDArray[np.uint8]:
    """Turn attenuation into gray levels: noise, tone curve, exposure, the side marker.

    The exposure is drawn afresh for each film and set by ``healthy``, the same film without its
    lesions; half of what the lesions change in mean and spread is taken back. So neither the film
    as a whole nor its borders betray the class.
    """
    noise = cv2.GaussianBlur(rng.standard_normal(view.shape, np.float32), (0, 0), 0.6)
    noise *= rng.uniform(0.008, 0.018) * view.scale / 110  # smaller pixels catch fewer quanta
    noise *= 0.4 + healthy
    centre, softness = rng.uniform(0.56, 0.6), rng.uniform(0.23, 0.27)
    gamma, black, contrast = rng.uniform(0.9, 1.12), rng.uniform(0, 38), rng.uniform(188, 212)
    tone, reference = (
        1 / (1 + np.exp((centre - attenuation - noise) / softness))
        for attenuation in (film, healthy)
    )
    low, high = np.percentile(reference, [1, 99.5])
    gray, wanted = (
        black + contrast * np.clip((t - low) / (high - low), 0, 1) ** np.float32(gamma)
        for t in (tone, reference)
    )
    gain = np.sqrt(wanted.std() / gray.std())
    gray = (gray - gray.mean()) * gain + (gray.mean() + wanted.mean()) / 2
    pixels = np.clip(np.round(gray), 0, 255).astype(np.uint8)
    _mark(pixels, rng)
    return pixels


def _mark(pixels: NDArray[np.uint8], rng: Generator) -> None:
    """Lay a lead R on the upper corner beside the patient's right shoulder."""
    height, width = pixels.shape
    place = (round(width * rng.uniform(0.03, 0.06)), round(height * rng.uniform(0.07, 0.14)))
    cv2.putText(pixels, "R", place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 225, 1, cv2.LINE_AA)


# ---------------------------------------------------------------------------------- the data set


@dataclass(frozen=True, eq=False)
class _Case:
    """One patient's place in the data set, before anything is drawn."""

    label: str
    split: str
    films: int


def write(
    folder: Path,
    images: int = 600,
    seed: int = 0,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a data set of phantoms: films, masks, ``metadata.csv`` and a README.

    Classes are equally frequent; each is divided 70/15/15 into train, val and test by patient. The
    same seed gives the same files, however many processors draw them.

    Args:
        folder: where to write; made where it is not there.
        images: how many films, at least :data:`LEAST_IMAGES`.
        seed: 0 or more.
        progress: called with (films done, films in all), from the calling thread.

    Raises:
        DatasetError: too few images were asked for.
    """
    if images < LEAST_IMAGES:
        raise DatasetError(
            f"A phantom set of {images} images cannot be divided into train, val and test for "
            f"{len(CLASSES)} classes: ask for at least {LEAST_IMAGES}."
        )
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "masks").mkdir(exist_ok=True)
    (folder / "README.txt").write_text(README, encoding="utf-8")
    cases = _plan(images, default_rng(SeedSequence(seed, spawn_key=(0,))))
    rows: list[dict[str, str]] = []
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        jobs = [
            pool.submit(
                _write_patient, folder, number, case, SeedSequence(seed, spawn_key=(1, number))
            )
            for number, case in enumerate(cases)
        ]
        for job in jobs:
            rows += job.result()
            if progress:
                progress(len(rows), images)
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def _plan(images: int, rng: Generator) -> list[_Case]:
    """Deal the films out to classes, parts and patients, in an order that tells nothing."""
    cases: list[_Case] = []
    for place, label in enumerate(CLASSES):
        films = len(range(place, images, len(CLASSES)))
        sizes = {part: max(1, round(share * films)) for part, share in PARTS.items()}
        sizes = {"train": films - sum(sizes.values()), **sizes}
        for part, left in sizes.items():
            while left:
                count = min(left, int(rng.choice(FILMS_A_PATIENT)))
                cases.append(_Case(label, part, count))
                left -= count
    return [cases[i] for i in rng.permutation(len(cases))]


def _write_patient(
    folder: Path, number: int, case: _Case, seed: SeedSequence
) -> list[dict[str, str]]:
    """Draw and write a patient's films; return their rows of the table."""
    rng = default_rng(seed)
    patient = sample_patient(case.label, rng)
    name = f"P{number + 1:04d}"
    rows = []
    for film, film_rng in enumerate(rng.spawn(case.films), start=1):
        phantom = expose(patient, film_rng)
        path, mask = f"images/{name}_{film}.png", f"masks/{name}_{film}.png"
        _save(folder / path, phantom.pixels)
        if phantom.mask.any():
            _save(folder / mask, phantom.mask.astype(np.uint8) * 255)
        rows.append(
            {
                "path": path,
                "label": case.label,
                "split": case.split,
                "patient_id": name,
                "mask": mask if phantom.mask.any() else "",
                "synthetic": "true",
            }
        )
    return rows


def _save(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())

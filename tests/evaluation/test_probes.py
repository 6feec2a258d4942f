"""Probes change what they say they change, and accuse where there is something to accuse of."""

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cxr_core.evaluation import probes
from cxr_core.evaluation.probes import CHANGES, CORNERS, EDGES, Judge, Probe, Transplant

BINARY = ("NORMAL", "PNEUMONIA")
THREE = ("NORMAL", "PNEUMONIA", "TUBERCULOSIS")
SIZES = pytest.mark.parametrize("size", [32, 96, 224])


def noise(count: int = 12, size: int = 40, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size), dtype=np.uint8)


# -- how films are changed ------------------------------------------------------------------------


@SIZES
def test_corners_and_edges_ring_the_centre_without_a_gap_or_an_overlap(size: int) -> None:
    times = np.zeros((size, size), int)
    for region in CORNERS + EDGES:
        times[region.slices(size)] += 1
    assert times.max() == 1
    where = probes.border(size)
    np.testing.assert_array_equal(times == 1, where)
    edge = round(probes.BORDER * size)
    assert where[:edge].all() and where[:, :edge].all()
    assert where[-edge:].all() and where[:, -edge:].all()
    assert not where[size // 2, edge : size - edge].any()


@SIZES
def test_the_border_takes_the_same_share_of_every_size(size: int) -> None:
    assert probes.border(size).mean() == pytest.approx(0.40, abs=0.05)


def test_a_mask_takes_away_what_is_under_it_and_nothing_else() -> None:
    films = noise()
    where = probes.border(films.shape[1])
    changed = probes.masked(films, where)
    np.testing.assert_array_equal(changed[:, ~where], films[:, ~where])
    assert (changed[:, where] == changed[:1, where]).all()  # no film differs from another there
    assert changed[0, where].mean() == pytest.approx(films[:, where].mean(), abs=1)


def test_a_transplant_brings_one_region_of_the_donor() -> None:
    films = noise()
    donors = np.roll(np.arange(len(films)), 1)
    region = CORNERS[2]
    changed = probes.transplanted(films, donors, region)
    place = np.zeros(films.shape[1:], bool)
    place[region.slices(films.shape[1])] = True
    np.testing.assert_array_equal(changed[:, place], films[donors][:, place])
    np.testing.assert_array_equal(changed[:, ~place], films[:, ~place])
    assert place[-1, 0]  # the lower left corner is below and on the left
    assert not place[0].any()


def test_donors_are_of_the_class_asked_for_and_of_other_patients() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=90)
    groups = rng.integers(30, size=90)
    own, other = probes.donors(labels, groups, seed=1)
    np.testing.assert_array_equal(labels[own], labels)
    assert (labels[other] != labels).all()
    assert (groups[own] != groups).all()
    assert (groups[other] != groups).all()
    assert len(set(labels[other][labels == 0])) == 2  # of both other classes
    np.testing.assert_array_equal(own, probes.donors(labels, groups, seed=1)[0])
    assert (own != probes.donors(labels, groups, seed=2)[0]).any()


def test_a_film_whose_class_has_no_other_patient_is_its_own_donor() -> None:
    own, other = probes.donors(np.array([0, 0, 1]), np.array([7, 7, 8]), seed=0)
    np.testing.assert_array_equal(own, [0, 1, 2])
    assert set(other[:2]) == {2}


def test_brightness_is_in_percent_of_full_scale_and_clips() -> None:
    film = np.array([[[0, 100, 250]]], np.uint8)
    np.testing.assert_array_equal(probes.changed(film, "brightness", 10), [[[26, 126, 255]]])
    np.testing.assert_array_equal(probes.changed(film, "brightness", -20), [[[0, 49, 199]]])


def test_rotation_turns_anticlockwise_about_the_middle() -> None:
    film = np.zeros((1, 41, 41), np.uint8)
    film[0, 20, 38] = 255  # on the right
    turned = probes.rotated(film, 90)[0]
    assert np.unravel_index(turned.argmax(), turned.shape) == (2, 20)  # on top


def test_blur_leaves_the_mean_and_takes_the_detail() -> None:
    films = noise(3)
    blurred = probes.changed(films, "blur", 2)
    assert blurred.mean() == pytest.approx(films.mean(), abs=1)
    assert blurred.std() < films.std() / 3


@pytest.mark.parametrize("kind", CHANGES)
def test_a_curve_has_the_film_as_it_is_and_a_mild_change(kind: str) -> None:
    change = CHANGES[kind]
    assert 0 in change.steps
    assert list(change.steps) == sorted(change.steps)
    assert any(0 < abs(step) <= change.mild for step in change.steps)
    films = noise(2)
    np.testing.assert_array_equal(probes.changed(films, kind, 0), films)


# -- how answers are judged -----------------------------------------------------------------------


class Scene:
    """Films of which one knows what a network sees in them.

    A network is a weighing of two cues: the lungs, and a corner of the border.
    """

    def __init__(self, classes: tuple[str, ...] = BINARY, count: int = 120, seed: int = 0) -> None:
        self.classes = classes
        self.rng = np.random.default_rng(seed)
        self.labels = np.arange(count) % len(classes)
        self.patients = [f"P{row // 2}" for row in self.rng.permutation(count)]
        self.lungs = self.cue(self.labels)
        self.corner = self.cue(self.labels)
        self.nothing = self.rng.normal(size=count)

    def cue(self, labels: np.ndarray) -> np.ndarray:
        """What a part of the films says of each class, (n, classes)."""
        return np.eye(len(self.classes))[labels] * 4 + self.rng.normal(
            size=(len(labels), len(self.classes))
        )

    def logits(self, of_corner: float, lungs: np.ndarray, corner: np.ndarray) -> np.ndarray:
        mixed = (1 - of_corner) * lungs + of_corner * corner
        return mixed[:, 1:] - mixed[:, :1] if len(self.classes) == 2 else mixed

    def judge(self, of_corner: float) -> Judge:
        return self.judged(self.logits(of_corner, self.lungs, self.corner))

    def judged(self, logits: np.ndarray) -> Judge:
        return Judge(
            self.labels,
            self.classes,
            logits,
            temperature=1.0,
            threshold=0.5,
            patients=self.patients,
            seed=3,
        )

    def corners(self, of_corner: float) -> Probe:
        judge = self.judge(of_corner)
        own, other = probes.donors(self.labels, judge.groups, seed=5)
        answers = []
        for region in CORNERS:
            marked = region is CORNERS[1]
            with_own, with_other = (
                self.logits(of_corner, self.lungs, self.corner[donor] if marked else self.corner)
                for donor in (own, other)
            )
            blank = self.corner.mean(axis=0) + 0 * self.corner if marked else self.corner
            gone = self.logits(of_corner, self.lungs, blank)
            answers.append(Transplant(region, with_own, with_other, gone))
        return judge.carried("corners", answers, self.labels[other])


@pytest.mark.parametrize("classes", [BINARY, THREE])
@pytest.mark.parametrize("share", [0.2, 0.5, 1.0])
def test_the_share_that_a_corner_carries_is_found(classes: tuple[str, ...], share: float) -> None:
    found = Scene(classes, count=150).corners(share)
    assert found.level == "warning"
    assert found.value == pytest.approx(share, abs=0.1)
    assert found.ci95 is not None
    assert found.ci95[0] < share < found.ci95[1] + 0.03
    assert "The upper right corner speaks for" in found.words
    assert "the network reads a marker" in found.words


def test_a_corner_that_is_not_used_is_not_accused() -> None:
    found = Scene().corners(0.0)
    assert found.level == "fine"
    assert found.value == pytest.approx(0, abs=1e-9)
    assert "would mean that a mark there" in found.words


def test_networks_that_use_no_border_are_hardly_ever_accused() -> None:
    accused = 0
    for seed in range(40):
        scene = Scene(count=60, seed=seed)
        judge = scene.judge(0.0)
        own, other = probes.donors(scene.labels, judge.groups, seed)
        # Seams and borders move the answers at random, by a quarter of the classes' distance.
        answers = [
            Transplant(
                region,
                *(
                    scene.logits(0, scene.lungs + scene.rng.normal(size=scene.lungs.shape), 0)
                    for _ in (own, other)
                ),
                masked=None,
            )
            for region in CORNERS
        ]
        accused += judge.carried("corners", answers, scene.labels[other]).level == "warning"
        accused += judge.lungs_out(scene.nothing[:, None]).level == "warning"
    assert accused <= 1


def test_a_corner_is_named_with_the_class_it_speaks_for() -> None:
    scene = Scene(THREE, count=150)
    marked = scene.labels == 2
    scene.corner = np.zeros((150, 3))
    scene.corner[marked, 2] = 5  # a mark on one class alone
    found = scene.corners(0.4)
    assert found.level == "warning"
    assert "speaks for TUBERCULOSIS" in found.words


def test_knowing_the_class_without_lungs_is_an_accusation_and_guessing_is_none() -> None:
    scene = Scene()
    judge = scene.judge(0.5)
    bad = judge.lungs_out(scene.logits(1.0, scene.lungs, scene.corner))
    assert bad.level == "warning"
    assert "reads something else" in bad.words
    good = judge.lungs_out(scene.nothing[:, None])
    assert good.level == "fine"
    assert "Doubtful from 0.70 on" in good.words
    assert good.value == pytest.approx(roc_auc_score(scene.labels, scene.nothing), abs=1e-12)
    assert good.ci95 is not None and good.ci95[0] < good.value < good.ci95[1]


def test_of_several_classes_the_one_counts_that_is_told_without_lungs() -> None:
    scene = Scene(THREE, count=150)
    logits = scene.rng.normal(size=(150, 3))
    logits[scene.labels == 2, 2] += 3
    found = scene.judge(0.5).lungs_out(logits)
    assert found.level == "warning"
    assert "TUBERCULOSIS against the rest" in found.words


def test_a_drop_without_the_border_is_an_accusation_and_its_size_is_said() -> None:
    scene = Scene()
    judge = scene.judge(1.0)
    bad = judge.border_out(scene.logits(1.0, scene.lungs, scene.rng.normal(size=(120, 2))))
    assert bad.level == "warning"
    assert "Much of what it knows lies on the border" in bad.words
    good = judge.border_out(scene.logits(1.0, scene.lungs, scene.corner))
    assert good.level == "fine"
    assert "AUROC is 1.00, a change of 0.00. A large drop" in good.words


def test_a_network_that_knows_nothing_or_few_films_cannot_be_asked() -> None:
    scene = Scene()
    assert scene.judge(0.5).objection is None
    assert "hardly tells the classes apart" in str(scene.judged(scene.nothing[:, None]).objection)
    few = Scene(count=2 * probes.FEWEST - 1)
    assert f"{probes.FEWEST - 1} of PNEUMONIA" in str(few.judge(0.5).objection)


@pytest.mark.parametrize(
    ("auroc", "certain", "level"),
    [(0.6, True, "fine"), (0.85, True, "warning"), (0.85, False, "fine"), (0.98, True, "warning")],
)
def test_what_needs_no_network_is_held_against_it(auroc: float, certain: bool, level: str) -> None:
    found = Scene().judge(0.0).baseline("image width", auroc, "PNEUMONIA", certain)
    assert found.level == level
    assert f"image width alone tells PNEUMONIA from the rest with AUROC {auroc:.2f}" in found.words


def test_a_curve_is_the_figures_of_its_steps_and_a_fall_is_an_accusation() -> None:
    scene = Scene()
    judge = scene.judge(0.5)
    still = scene.logits(0.5, scene.lungs, scene.corner)
    shifted = still + 8  # ranks as well, and calls everything a finding
    answers = [still, shifted, still, still, still]
    curve = judge.points("brightness", answers)
    assert curve["x"] == [-20, -10, 0, 10, 20]
    assert curve["auc"][1] == pytest.approx(curve["auc"][2])
    assert curve["sensitivity"][1] == 1
    assert curve["specificity"][1] < 0.2 < 0.9 < curve["specificity"][2]
    found = judge.steadiness("brightness", answers)
    assert found.level == "warning"
    assert found.value == pytest.approx(
        (curve["sensitivity"][2] + curve["specificity"][2]) / 2 - (1 + curve["specificity"][1]) / 2
    )
    assert "It does not hold" in found.words
    assert probes.fall(found.value, None) in found.words
    held = judge.steadiness("brightness", [shifted, still, still, still, shifted])
    assert held.level == "fine"
    assert "Doubtful from a fall of 5 points on, its interval beyond 1" in held.words


def test_heat_maps_are_judged_against_chance() -> None:
    scene = Scene()
    judge, rows = scene.judge(0.5), np.flatnonzero(scene.labels)
    area = np.full(len(rows), 0.1)
    sharp, blunt = scene.rng.uniform(0.3, 0.5, len(rows)), scene.rng.uniform(0.0, 0.2, len(rows))
    assert judge.energy(sharp, area, rows).level == "fine"
    assert judge.energy(blunt, area, rows).level == "warning"
    always = judge.pointing(np.ones(len(rows), bool), area, rows)
    assert (always.level, always.value) == ("fine", 1.0)
    assert always.ci95 is not None and always.ci95[0] < 1
    never = judge.pointing(np.zeros(len(rows), bool), area, rows)
    assert never.level == "warning"
    assert "no more often than chance" in never.words


def test_maps_that_stay_the_same_with_random_weights_prove_nothing() -> None:
    judge, rows = Scene().judge(0.5), np.arange(12)
    same = judge.sanity(np.full(12, 0.9), rows)
    assert same.level == "warning"
    assert "show the film's edges" in same.words
    assert judge.sanity(np.full(12, 0.2), rows).level == "fine"


def test_findings_are_plain_values_and_full_sentences() -> None:
    scene = Scene()
    judge = scene.judge(0.5)
    found = [
        scene.corners(0.5),
        judge.lungs_out(scene.nothing[:, None]),
        probes.unknown("edges", "Edges", "share", "Too few test films to tell."),
    ]
    for each in found:
        plain = each.as_dict()
        assert json.loads(json.dumps(plain, allow_nan=False)) == plain
        assert plain["words"].endswith(".")
        assert "nan" not in plain["words"]


# -- likeness of maps -----------------------------------------------------------------------------


def test_likeness_of_even_maps_is_that_of_the_formula() -> None:
    one, two = np.full((20, 20), 0.8, np.float32), np.full((20, 20), 0.2, np.float32)
    expected = (2 * 0.8 * 0.2 + 1e-4) / (0.8**2 + 0.2**2 + 1e-4)  # Wang 2004: no spread, one term
    assert probes.likeness(one, two) == pytest.approx(expected, rel=1e-5)


def test_a_map_is_like_itself_and_unlike_noise() -> None:
    rng = np.random.default_rng(0)
    one, two = rng.random((2, 56, 56)).astype(np.float32)
    assert probes.likeness(one, one) == pytest.approx(1)
    assert abs(probes.likeness(one, two)) < 0.1
    assert probes.likeness(one, two) == pytest.approx(probes.likeness(two, one))

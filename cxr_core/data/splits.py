"""Divide a catalog into training, validation and test, never through a patient or a twin."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr_core.config import DataConfig
from cxr_core.data import twins
from cxr_core.data.allotment import allot
from cxr_core.data.catalog import Catalog, order_classes
from cxr_core.errors import DatasetError

PARTS = ("train", "val", "test")
COLUMNS = ["path", "label", "split", "patient_id", "md5"]

_NAMES = {"train": "training", "val": "validation", "test": "test"}
# A published part is kept where each class has ENOUGH films there, or at least FEW_ENOUGH that are
# SHARE_ENOUGH of the class: below that a threshold or a figure is a matter of luck.
_ENOUGH, _FEW_ENOUGH, _SHARE_ENOUGH = 20, 5, 0.05


@dataclass(frozen=True, eq=False)
class Split:
    """A division of the readable, labelled films, and why it is as it is."""

    table: pd.DataFrame  # COLUMNS, sorted by path; split is train, val or test
    notes: tuple[str, ...]  # sentences for people: what was kept or cut, and what to beware of


def cut(catalog: Catalog, data: DataConfig, seed: int) -> Split:
    """Divide a catalog by ``data.split``: keep published parts, cut the others by patient.

    What is cut keeps every patient and every picture on one side, whatever versions of it there are
    (:mod:`cxr_core.data.twins`), and each class near its share on each side; the same seed gives
    the same cut in any order of rows.

    Where ``data.fold`` names a fold, that one of :func:`folds` is the test, ``data.val_fraction``
    of the other films validate, and published parts mean nothing: so every film is a test film of
    exactly one fold.

    Raises:
        DatasetError: fewer than two classes, a class with fewer patients than parts or folds,
            ``published`` where the set does not publish all three parts, a fold that is not among
            the folds, or a film that changed since the scan.
    """
    films = _usable(catalog)
    notes = _left_out(catalog.frame, films)
    if data.fold:
        films, said = _held_out(catalog, films, data, seed)
    elif data.split == "published":
        films, said = _published(catalog, films)
    else:
        worthy, said = ((), []) if data.split == "recut" else _worth_keeping(films)
        films, kept, leaks = _without_leaks(films, worthy)
        films, more = _cut_rest(films, kept, data, seed)
        said += leaks + more
    table = films[COLUMNS].reset_index(drop=True)
    return Split(table, (*notes, *said, *_shared(films)))


def folds(catalog: Catalog, k: int, seed: int) -> pd.Series:
    """Return the fold, 0 to k-1, of each readable, labelled film; no group is divided.

    The index is that of the catalog's frame; the same seed gives the same folds in any order of
    rows.

    Raises:
        DatasetError: a class has films of fewer than k patients, or as for :func:`cut`.
    """
    films = _usable(catalog)
    found = _divided(films["label"], _together(films), k, seed, f"one for each of {k} folds")
    return pd.Series(found, index=films.index, name="fold").sort_index()


def parts(catalog: Catalog, paths: Sequence[str], k: int, seed: int) -> np.ndarray:
    """Return the part, 0 to k-1, of some of a catalog's films, int (n,); no group is divided.

    Raises:
        DatasetError: as for :func:`folds`.
    """
    films = _usable(catalog)
    films = films.assign(together=_together(films)).set_index("path").loc[list(paths)]
    purpose = f"one for each of {k} parts of the training films"
    return _divided(films["label"], films["together"].to_numpy(), k, seed, purpose)


def _divided(
    labels: pd.Series, together: np.ndarray, k: int, seed: int, purpose: str
) -> np.ndarray:
    # Imported on need: pages and audits should not wait a second for scikit-learn.
    from sklearn.model_selection import StratifiedGroupKFold

    _require_patients(labels, together, k, purpose)
    number_of = np.full(len(labels), -1)
    splitter = StratifiedGroupKFold(k, shuffle=True, random_state=seed)
    for number, (_, held_out) in enumerate(splitter.split(together, labels, together)):
        number_of[held_out] = number
    return number_of


def groups(catalog: Catalog) -> pd.Series:
    """Return, for each readable, labelled film, the number of the group it must stay with.

    A group is everything reachable through a shared patient or a shared picture: two patients who
    share a film are one group. The index is that of the catalog's frame.

    Raises:
        DatasetError: as for :func:`cut`.
    """
    films = _usable(catalog)
    found = _together(films)
    return pd.Series(found, index=films.index, name="group").sort_index()


def on_several_sides(table: pd.DataFrame, column: str) -> list[Hashable]:
    """Return the values of ``column`` (such as patient_id) that occur in more than one part."""
    known = table[(table[column] != "") & (table["split"] != "")]
    parts = known.groupby(column)["split"].nunique()
    return sorted(parts.index[parts > 1])


# ---- which films, and which published parts ----


def _usable(catalog: Catalog) -> pd.DataFrame:
    """Return the films that can be divided, sorted by path, with the number of their picture."""
    readable = catalog.frame[catalog.frame["readable"]]
    labelled = readable["label"] != ""
    classes = order_classes(readable.loc[labelled, "label"])
    if len(classes) < 2:
        found = f"only the class {classes[0]}" if classes else "no readable film with a label"
        raise DatasetError(
            f"{catalog.name} has {found}; a classifier needs at least two classes. Give each class "
            "a folder of its own, or a label column in metadata.csv."
        )
    films = readable.assign(picture=twins.find_twins(catalog).alike)[labelled]
    return films.sort_values("path")


def _together(films: pd.DataFrame) -> np.ndarray:
    return twins.together(films["patient_id"], films["picture"].to_numpy())


def _left_out(frame: pd.DataFrame, films: pd.DataFrame) -> list[str]:
    unreadable = int((~frame["readable"]).sum())
    unlabelled = len(frame) - len(films) - unreadable
    notes = []
    if unreadable:
        notes.append(f"{_films(unreadable)} could not be read and {_were(unreadable)} left out.")
    if unlabelled:
        notes.append(f"{_films(unlabelled)} without a label {_were(unlabelled)} left out.")
    return notes


def _published(catalog: Catalog, films: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    missing = [part for part in PARTS if not (films["split"] == part).any()]
    if missing:
        raise DatasetError(
            f"{catalog.name} publishes no {_join([_NAMES[part] for part in missing])} part. Set "
            "data.split to 'auto', which cuts what is missing by patient."
        )
    notes = ["The set's own parts were kept as they are."]
    for part in PARTS:
        labels = films.loc[films["split"] == part, "label"]
        absent = [c for c in order_classes(films["label"]) if c not in set(labels)]
        if absent and part == "train":
            raise DatasetError(
                f"The published training part of {catalog.name} has no films of {_join(absent)}, "
                "so a network cannot learn it. Set data.split to 'recut'."
            )
        if absent:
            notes.append(
                f"The set's own {_NAMES[part]} part has no films of {_join(absent)}: figures for "
                "it cannot be given there."
            )
    outside = int((films["split"] == "").sum())
    if outside:
        notes.append(f"{_films(outside)} in no published part {_were(outside)} left out.")
    return films[films["split"] != ""], notes


def _worth_keeping(films: pd.DataFrame) -> tuple[tuple[str, ...], list[str]]:
    """Return the published parts (val, test) that are large enough, and what to say of each."""
    if not (films["split"] != "").any():
        return (), ["The set publishes no division of its own."]
    whole = films["label"].value_counts()
    kept, notes = [], []
    for part in PARTS[1:]:
        there = films.loc[films["split"] == part, "label"]
        count = there.value_counts().reindex(whole.index, fill_value=0)
        enough = (count >= _ENOUGH) | ((count >= _FEW_ENOUGH) & (count >= _SHARE_ENOUGH * whole))
        if there.empty:
            notes.append(f"The set publishes no {_NAMES[part]} part.")
        elif enough.all():
            kept.append(part)
            notes.append(f"The set's own {_NAMES[part]} part was kept: {_tally(there)}.")
        else:
            notes.append(
                f"The set's own {_NAMES[part]} part has {_tally(there)}, too few to rely on; its "
                "films joined the training pool."
            )
    outside = int((films["split"] == "").sum())
    if outside:
        notes.append(f"{_films(outside)} in no published part joined the training pool.")
    pool = films.loc[~films["split"].isin(kept), "label"]
    absent = sorted(set(whole.index) - set(pool))
    if absent:
        return (), [
            f"The published parts leave no films of {_join(absent)} to train on, so none was kept."
        ]
    return tuple(kept), notes


def _without_leaks(
    films: pd.DataFrame, kept: Sequence[str]
) -> tuple[pd.DataFrame, Sequence[str], list[str]]:
    """Leave out what shares a patient or a twin with a kept part, or keep no part at all.

    A published test is worth more than a few training films of its patients; but a division that
    runs through most of a class is no division, and is cut anew.
    """
    together = pd.Series(_together(films), index=films.index)
    leaking = pd.Series(False, index=films.index)
    for number, part in enumerate(kept):
        before_it = ~films["split"].isin(kept[number:])  # val gives way to test, training to both
        leaking |= before_it & together.isin(together[films["split"] == part])
    if not leaking.any():
        return films, kept, []
    said = (
        f"{_films(int(leaking.sum()))} outside the published "
        f"{_join([_NAMES[part] for part in kept])} {'parts' if len(kept) > 1 else 'part'} "
    )
    pool = ~films["split"].isin(kept)
    before = films.loc[pool, "label"].value_counts()
    after = films.loc[pool & ~leaking, "label"].value_counts().reindex(before.index, fill_value=0)
    if (after < before / 2).any():
        return films, (), [f"{said}show the same patients or are twins, so none was kept."]
    was = _were(int(leaking.sum()))
    return films[~leaking], kept, [f"{said}share a patient or a twin with it and {was} left out."]


# ---- cutting ----


def _held_out(
    catalog: Catalog, films: pd.DataFrame, data: DataConfig, seed: int
) -> tuple[pd.DataFrame, list[str]]:
    """Make one fold the test, and cut training and validation from the films of the others."""
    if data.fold > data.folds:
        raise DatasetError(
            f"data.fold is {data.fold}, and there are {data.folds} folds (data.folds). Name a fold "
            f"from 1 to {data.folds}."
        )
    fold_of = folds(catalog, data.folds, seed).reindex(films.index)
    films = films.assign(split=(fold_of == data.fold - 1).map({True: "test", False: ""}))
    said = [
        f"Fold {data.fold} of {data.folds} was held out as the test part, by patient: "
        f"{_tally(films.loc[films['split'] == 'test', 'label'])}."
    ]
    # Folds of one seed draw their validation films each for itself.
    films, more = _cut_rest(films, ("test",), data, seed + 1000 * data.fold)
    return films, said + more


def _cut_rest(
    films: pd.DataFrame, kept: Sequence[str], data: DataConfig, seed: int
) -> tuple[pd.DataFrame, list[str]]:
    """Cut the parts that are not kept from the films that are in none of the kept ones."""
    films = films.assign(split=films["split"].where(films["split"].isin(kept), "train"))
    parts = [part for part in PARTS if part not in kept]
    if parts == ["train"]:
        return films, []
    pool = films[films["split"] == "train"]
    together = _together(films)[films["split"] == "train"]
    wanted = _join([_NAMES[part] for part in parts])
    _require_patients(pool["label"], together, len(parts), f"one for each of {wanted}")

    counts = pd.crosstab(together, pool["label"])
    fractions = {"val": data.val_fraction, "test": data.test_fraction}
    shares = [fractions[part] for part in parts[1:]]
    side = allot(counts.to_numpy(), [1 - sum(shares), *shares], np.random.default_rng(seed))
    part_of = dict(zip(counts.index, np.array(parts)[side], strict=True))
    films.loc[pool.index, "split"] = [part_of[group] for group in together]
    return films, _what_was_cut(pool, parts[1:], shares)


def _require_patients(labels: pd.Series, together: np.ndarray, least: int, purpose: str) -> None:
    present = pd.Series(together).groupby(labels.to_numpy()).nunique()
    for label, number in present[present < least].items():
        raise DatasetError(
            f"The class {label} has films of only {number} independent "
            f"patient{'s' * (number != 1)}, but {least} are needed, {purpose}. (A film of an "
            "unknown patient counts as a patient; films that show one picture count once.) Add "
            "films of other patients, or leave the class out."
        )


def _what_was_cut(pool: pd.DataFrame, parts: Sequence[str], shares: Sequence[float]) -> list[str]:
    known = pool.loc[pool["patient_id"] != "", "patient_id"]
    source = [f"{known.nunique():,} patients"] if len(known) else []
    unknown = len(pool) - len(known)
    if unknown:
        source.append(f"{_films(unknown)} of unknown patients")
    names = _join([_NAMES[part] for part in parts])
    percent = _join([f"{share:.0%}".replace("%", " %") for share in shares])
    notes = [
        f"{names.capitalize()} {'were' if len(parts) > 1 else 'was'} cut from "
        f"{_join(source)}: {percent} of each class."
    ]
    if unknown:
        notes.append(
            "Films of unknown patients count as one patient each, so films of one person may "
            "stand on two sides and figures may be too good."
        )
    sets = int((pool["picture"].value_counts() > 1).sum())
    if sets:
        notes.append(
            f"{sets:,} {'sets' if sets > 1 else 'set'} of identical or near-identical films "
            f"{_were(sets)} kept together."
        )
    return notes


def _shared(films: pd.DataFrame) -> list[str]:
    """Warn of patients and twins that a kept published part has in common with another part."""
    counts = {
        "patient": len(on_several_sides(films, "patient_id")),
        "film": len(on_several_sides(films, "picture")),
    }
    found = [f"{n:,} {word}{'s' * (n > 1)}" for word, n in counts.items() if n]
    if not found:
        return []
    return [
        f"{_join(found)} of the published parts stand on more than one side: figures will look "
        "better than they are. Set data.split to 'recut' to cut all parts by patient."
    ]


# ---- words ----


def _films(number: int) -> str:
    return f"{number:,} film{'s' * (number != 1)}"


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def _tally(labels: pd.Series) -> str:
    counts = labels.value_counts()
    return _join([f"{counts[label]:,} {label}" for label in order_classes(labels)]) + " films"


def _join(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))

"""A bundle: one trained model with everything needed to use and judge it, as a folder.

``model.keras`` (the network), ``bundle.json`` (what it means: classes, image settings, threshold,
temperature, provenance, metrics), ``MODEL_CARD.md`` (the same for people), ``splits.csv`` (which
film was trained, validated and tested on), ``gate.npz`` (what the films look like) and
``similar.npz`` (where training films lie among the network's features), both only where the films
were enough to tell. No TensorFlow here: a bundle can be listed, read and checked without it.
"""

import hashlib
import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path, PureWindowsPath
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cxr_core.config import ImageConfig
from cxr_core.diagnosis import card
from cxr_core.errors import BundleError
from cxr_core.evaluation import scores

# Raised only where an old reader would misread a new bundle; keys that it may skip do not count.
SCHEMA_VERSION = 1

MODEL_FILE = "model.keras"
INFO_FILE = "bundle.json"
CARD_FILE = "MODEL_CARD.md"
SPLITS_FILE = "splits.csv"
GATE_FILE = "gate.npz"
SIMILAR_FILE = "similar.npz"

NOT_REPORTED = "not reported"


class _Part(BaseModel):
    # Unknown keys come from later versions with the same schema version: optional by definition.
    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class ThresholdInfo(_Part):
    """The operating point on the abnormal probability."""

    value: float = Field(ge=0, le=1)  # a film at or above it is called a finding
    method: str  # how it was chosen, in words
    chosen_on: str = "validation"  # the films it was chosen on


class DataInfo(_Part):
    """What the model learned from."""

    name: str
    synthetic: bool
    licence: str = NOT_REPORTED
    citation: str = NOT_REPORTED
    fingerprint: str = ""  # of the catalog: paths, contents and labels
    counts: dict[str, dict[str, int]]  # films by split (train, val, test) and class
    patients: int | None = None  # None where patients are not known
    pictures: bool = False  # whether its licence lets small pictures of films go with the model


class GateInfo(_Part):
    """Where the gate's statistics come from."""

    train_films: int  # fitted on
    val_films: int  # thresholds chosen on
    val_refused: int  # of those, refused as turned, inverted or too far away
    member: str = ""  # of an ensemble, the one whose gate it is
    sha256: str = ""  # of gate.npz; filled by `write`


class SimilarInfo(_Part):
    """Where the training films come from that a film is compared with."""

    films: int
    pictures: bool  # whether small pictures of them are there
    member: str = ""  # of an ensemble, the one whose films and features they are
    sha256: str = ""  # of similar.npz; filled by `write`


class ScoreBin(_Part):
    """The test films whose probability lay in one range."""

    low: float = Field(ge=0, le=1)  # at least this
    high: float = Field(ge=0, le=1)  # below this; 1 itself is in the last range
    films: int
    found: int  # of them, those that had the finding
    ci95: tuple[float, float] | None = None  # of that share; None without films


class TrackRecord(_Part):
    """How the probabilities of a finding fared on the test films."""

    finding: str  # a class, or "" for any finding
    bins: tuple[ScoreBin, ...]  # from 0 to 1 without a gap


class Member(_Part):
    """One network among those that an ensemble joins."""

    name: str
    run_id: str
    architecture: str
    cam_layer: str  # in the ensemble's own graph
    temperature: float = Field(gt=0)  # its logits were divided by it before the mean was taken


class Estimate(_Part):
    """A figure from 0 to 1 and its 95 % interval."""

    value: float
    ci95: tuple[float, float]


class Variant(_Part):
    """One configuration among those that a recipe was chosen from, by cross-validation."""

    name: str
    words: str  # what sets it apart
    auc: Estimate
    balanced_accuracy: Estimate
    ece: Estimate
    altered_auc: float  # mean over the alterations
    altered_balanced_accuracy: float  # likewise
    altered_worst: float  # balanced accuracy under the alteration that costs most


class RecipeSelection(_Part):
    """How the settings of a model's recipe were chosen."""

    chosen: str  # a variant's name
    added: tuple[str, ...] = ()  # settings in which the recipe differs from it, in words
    data: str  # the films
    films: int  # each predicted by a model that never saw its patient
    folds: int
    altered_films: int  # of them, those that were altered
    alterations: tuple[str, ...]  # in words
    variants: tuple[Variant, ...]


class BundleInfo(_Part):
    """The contents of ``bundle.json``."""

    schema_version: int = SCHEMA_VERSION
    name: str = Field(min_length=1)
    created: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    run_id: str = ""  # of the run that made it, "" where there was none
    classes: tuple[str, ...] = Field(min_length=2)  # the reference class first
    image: ImageConfig
    architecture: str
    cam_layer: str  # the layer that heat maps are computed at; of an ensemble the first member's
    members: tuple[Member, ...] = ()  # of an ensemble; empty for a single network
    temperature: float = Field(default=1.0, gt=0)  # logits are divided by it before the softmax
    # What calibration added to the logits, one a class, the first 0: part of the network's last
    # bias. Empty where the temperature was fitted alone.
    offset: tuple[float, ...] = ()
    threshold: ThresholdInfo
    gate: GateInfo | None = None  # None where there are no statistics of the films it knows
    similar: SimilarInfo | None = None  # None where no training films go with it
    data: DataInfo
    metrics: dict[Literal["test", "val"], dict[str, Any]] = {}  # evaluation summaries
    track_record: tuple[TrackRecord, ...] = ()  # empty where it was not tested
    probes: dict[str, Any] | None = None  # what the network uses, see `probing.probe`
    config: dict[str, Any] = {}  # the full RunConfig
    selection: RecipeSelection | None = (
        None  # None where its settings were not compared with others
    )
    notes: tuple[str, ...] = ()  # what was done to films and weights, a sentence each
    versions: dict[str, str] = {}  # python, tensorflow, keras, numpy, cxr_core
    model_sha256: str = ""  # of model.keras; filled by `write`
    model_bytes: int = 0  # size of model.keras; filled by `write`

    @property
    def outputs(self) -> int:
        """Number of logits: one for two classes, else one a class."""
        return 1 if len(self.classes) == 2 else len(self.classes)

    def uncalibrated(self, logits: np.ndarray) -> np.ndarray:
        """Return the network's own probabilities, before offset and temperature, (n, classes).

        Args:
            logits: of the bundle's model, (n, classes), which have the offset in them.
        """
        return scores.probabilities(logits - np.array(self.offset or 0.0))

    @property
    def cam_layers(self) -> tuple[str, ...]:
        """The layers whose heat maps add up to the model's: one, or one a member."""
        return tuple(member.cam_layer for member in self.members) or (self.cam_layer,)


def write(
    folder: Path,
    info: BundleInfo,
    save_model: Callable[[Path], None],
    splits: pd.DataFrame,
    save_gate: Callable[[Path], None] | None = None,
    save_similar: Callable[[Path], None] | None = None,
) -> BundleInfo:
    """Write a bundle, whole or not at all.

    Everything is made in a hidden folder beside ``folder`` and moved into place at the end, so that
    no reader ever meets half a bundle. A bundle that stood there is replaced.

    Args:
        folder: where the bundle will be.
        info: all that is known; the hash and the size of the model are filled in here.
        save_model: saves the network to the path it is given (a ``.keras`` file).
        splits: path, label, split, patient_id and md5 of each film used.
        save_gate: saves the gate's statistics to the path it is given, where ``info.gate`` tells
            of some.
        save_similar: likewise for films to compare with, where ``info.similar`` tells of some.

    Returns:
        The info as written.

    Raises:
        BundleError: something that is no bundle stands at ``folder``, or it cannot be written.
    """
    if folder.exists() and not _replaceable(folder):
        raise BundleError(
            f"{folder} is there already and is no model bundle, so it is left alone. "
            "Name another folder for the bundle."
        )
    with _draft(folder) as draft:
        model = draft / MODEL_FILE
        save_model(model)
        info = info.model_copy(
            update={"model_sha256": _sha256(model), "model_bytes": model.stat().st_size}
        )
        if save_gate is not None and info.gate is not None:
            save_gate(draft / GATE_FILE)
            sha256 = _sha256(draft / GATE_FILE)
            known = info.gate.model_copy(update={"sha256": sha256})
            info = info.model_copy(update={"gate": known})
        if save_similar is not None and info.similar is not None:
            save_similar(draft / SIMILAR_FILE)
            sha256 = _sha256(draft / SIMILAR_FILE)
            alike = info.similar.model_copy(update={"sha256": sha256})
            info = info.model_copy(update={"similar": alike})
        _write_info(draft, info)
        splits.to_csv(draft / SPLITS_FILE, index=False)
    return info


def copy(
    source: Path, folder: Path, name: str, selection: RecipeSelection | None = None
) -> BundleInfo:
    """Copy a bundle under another name, whole or not at all; nothing is replaced.

    The copy may travel, so it says nothing of where the films lie on this machine.

    Args:
        source: the bundle.
        folder: where its copy will be; nothing may be there.
        name: the copy's, as people see it.
        selection: how its recipe was chosen, where that is newer than what the bundle says of it.

    Returns:
        The copy's info.

    Raises:
        BundleError: something is at ``folder``, the bundle is damaged, or it cannot be written.
    """
    if folder.exists():
        raise BundleError(f"{folder} is there already. Choose another name, or remove it first.")
    info = read(source)
    verified_model(source, info)
    verified_gate(source, info)
    verified_similar(source, info)
    info = info.model_copy(
        update={
            "name": name,
            "config": _without_place(info.config),
            "selection": selection or info.selection,
        }
    )
    with _draft(folder) as draft:
        shutil.copytree(source, draft, dirs_exist_ok=True)
        _write_info(draft, info)
    return info


def _without_place(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with the folders of films and first weights by their names alone."""
    data, model = dict(config.get("data") or {}), dict(config.get("model") or {})
    if "root" in data:
        data["root"] = PureWindowsPath(data["root"]).name  # it knows both kinds of slash
    kind, colon, place = str(model.get("weights", "")).partition(":")
    if colon:
        model["weights"] = f"{kind}:{PureWindowsPath(place).name}"
    parts = {name: part for name, part in (("data", data), ("model", model)) if part}
    return {**config, **parts}


def read(folder: Path) -> BundleInfo:
    """Read what a bundle says about itself; the model file is not opened.

    Raises:
        BundleError: no bundle is there, or its ``bundle.json`` is damaged or of a newer version.
    """
    path = folder / INFO_FILE
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "is not there"
        raise BundleError(
            f"The bundle {folder} {what}. A bundle is a folder with {MODEL_FILE} and {INFO_FILE}."
        )
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BundleError(
            f"{folder} is no model bundle: it has no {INFO_FILE}. Name the folder that a training "
            "run wrote."
        ) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BundleError(
            f"{path} cannot be read: {error}. Fetch the bundle again or train anew."
        ) from error
    _check_version(path, values)
    try:
        return BundleInfo.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg'].lower()}"
            for fault in error.errors()
        )
        raise BundleError(
            f"{path} is damaged ({faults}). Fetch the bundle again or train anew."
        ) from error


def verified_model(folder: Path, info: BundleInfo) -> Path:
    """Return the path of the model file after comparing it with the hash in ``bundle.json``.

    Raises:
        BundleError: the file is missing, cannot be read, or is not the one that was written.
    """
    return _verified(folder / MODEL_FILE, info.model_sha256, "model file")


def verified_gate(folder: Path, info: BundleInfo) -> Path | None:
    """Return the path of the gate's statistics, compared likewise; None where there are none.

    Raises:
        BundleError: as for :func:`verified_model`.
    """
    if info.gate is None:
        return None
    return _verified(folder / GATE_FILE, info.gate.sha256, "gate file")


def verified_similar(folder: Path, info: BundleInfo) -> Path | None:
    """Return the path of the films to compare with, likewise.

    Raises:
        BundleError: as for :func:`verified_model`.
    """
    if info.similar is None:
        return None
    return _verified(folder / SIMILAR_FILE, info.similar.sha256, "file of similar films")


def _verified(path: Path, expected: str, what: str) -> Path:
    try:
        found = _sha256(path)
    except OSError as error:
        raise BundleError(
            f"The {what} {path} cannot be read: {error.strerror or error}. Fetch the bundle "
            "again or train anew."
        ) from error
    if found != expected:
        raise BundleError(
            f"The {what} {path} is not the one that {INFO_FILE} describes (its SHA-256 is "
            f"{found[:12]}…, expected {expected[:12]}…). It was changed or damaged on the "
            "way, so it is not loaded. Fetch the bundle again or train anew."
        )
    return path


@contextmanager
def stored_arrays(data: bytes, source: str) -> Iterator[Mapping[str, np.ndarray]]:
    """Give the arrays of an ``.npz`` file of a bundle; what does not fit together is damage.

    Args:
        data: the file's contents.
        source: names the file in errors.

    Raises:
        BundleError: the file is damaged, or whoever reads it raises a ValueError.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            yield stored
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise BundleError(
            f"{source} is damaged ({error}). Fetch the bundle again or train anew."
        ) from error


def read_splits(folder: Path) -> pd.DataFrame:
    """Return which films the model was trained, validated and tested on (all columns text).

    Raises:
        BundleError: ``splits.csv`` is missing or damaged.
    """
    path = folder / SPLITS_FILE
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise BundleError(
            f"{path} cannot be read: {error}. Without it nobody knows which films were trained "
            "on. Fetch the bundle again."
        ) from error
    missing = {"path", "label", "split", "md5"} - set(table.columns)
    if missing:
        raise BundleError(f"{path} is damaged: it has no column {', '.join(sorted(missing))}.")
    return table


def _check_version(path: Path, values: Any) -> None:
    version = values.get("schema_version") if isinstance(values, Mapping) else None
    if not isinstance(version, int):
        raise BundleError(
            f"{path} is damaged: it names no schema version. Fetch the bundle again or train anew."
        )
    if version > SCHEMA_VERSION:
        raise BundleError(
            f"The bundle {path.parent} has schema version {version}, this program reads up to "
            f"{SCHEMA_VERSION}. Update CXR Studio to use it."
        )


@contextmanager
def _draft(folder: Path) -> Iterator[Path]:
    """Give a hidden folder beside ``folder``, which takes its place where nothing went wrong.

    Raises:
        BundleError: it cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise BundleError(f"The bundle {folder} cannot be written: {error}.") from error
    try:
        yield draft
        draft.chmod(0o755)  # mkdtemp makes it private
        _move_into_place(draft, folder)
    except OSError as error:
        raise BundleError(f"The bundle {folder} cannot be written: {error}.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write_info(draft: Path, info: BundleInfo) -> None:
    (draft / INFO_FILE).write_text(info.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (draft / CARD_FILE).write_text(card.render(info), encoding="utf-8")


def _replaceable(folder: Path) -> bool:
    """True for a bundle and for an empty folder."""
    return folder.is_dir() and ((folder / INFO_FILE).is_file() or not any(folder.iterdir()))


def _move_into_place(draft: Path, folder: Path) -> None:
    """Rename ``draft`` to ``folder``; a full folder in the way is set aside first, then removed."""
    aside = draft.with_name(f"{draft.name}-old")
    if folder.exists():
        folder.rename(aside)
    try:
        draft.rename(folder)
    except OSError:
        if aside.exists():
            aside.rename(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

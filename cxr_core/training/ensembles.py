"""Ensembles: the models of several runs joined to one, calibrated and tested on what none of them
learned from.

An ensemble is an entry of the run store like any other; its worker joins networks in place of
training one. Predictions that the members left are all it needs, so no film is read.
"""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr_core import workspace
from cxr_core.config import HardwareConfig
from cxr_core.diagnosis import bundle
from cxr_core.diagnosis.bundle import BundleInfo, DataInfo, ThresholdInfo
from cxr_core.errors import TrainingError
from cxr_core.training import folds, jobs
from cxr_core.training.tracking import (
    TAG_DATA,
    TAG_KIND,
    TAG_PHASE,
    TAG_SYNTHETIC,
    Kind,
    RunRecord,
    RunStore,
)
from cxr_core.training.writer import RunWriter

ARCHITECTURE = "ensemble"  # what stands where a single network's name would

_MEMBERS = "members"  # the parameter of the entry: ids, comma-separated
# Where the members were trained on different divisions: with fewer films that none of them knows,
# a temperature, a threshold or a figure would be luck.
ENOUGH = 50


# -- asking for one -------------------------------------------------------------------------------


def start(
    run_ids: Sequence[str],
    *,
    name: str = "",
    store: RunStore | None = None,
    launcher: jobs.Launcher | None = None,
) -> str:
    """Queue an ensemble of these runs, start its worker, and return the entry's id.

    It does not wait for the device: joining takes seconds.

    Args:
        run_ids: finished runs; a cross-validation stands for its folds.
        name: what to call it.
        store: where runs are kept.
        launcher: who starts the worker.

    Raises:
        TrainingError: the models cannot be joined (says which field differs), or the worker cannot
            be started.
        BundleError: a bundle is damaged.
    """
    store = store or RunStore()
    runs, infos = joinable([store.get(run_id) for run_id in run_ids], store)
    roots = {run.params.get("data.root", "") for run in runs}
    image = infos[0].image.model_dump()
    run_id = store.enter(
        {
            "model.architecture": ARCHITECTURE,
            **{f"image.{field}": value for field, value in image.items()},
            **({"data.root": roots.pop()} if len(roots) == 1 else {}),
            _MEMBERS: ",".join(run.run_id for run in runs),
        },
        name=name or f"ensemble of {len(runs)}",
        tags={
            TAG_KIND: Kind.ENSEMBLE,
            TAG_PHASE: "starting",
            TAG_DATA: " and ".join(dict.fromkeys(info.data.name for info in infos)),
            TAG_SYNTHETIC: str(any(info.data.synthetic for info in infos)).lower(),
        },
    )
    jobs.launch(run_id, store, launcher)
    return run_id


def joinable(
    asked: Sequence[RunRecord], store: RunStore
) -> tuple[list[RunRecord], list[BundleInfo]]:
    """Return the runs whose models would be joined, and what their bundles say.

    Raises:
        TrainingError: they cannot be joined; says why.
        BundleError: a bundle is damaged.
    """
    runs = _members(asked, store)
    infos = [_info(run, store) for run in runs]
    require_alike(infos)
    return runs, infos


def require_alike(infos: Sequence[BundleInfo]) -> None:
    """Refuse models that do not answer the same question about the same square.

    Raises:
        TrainingError: names the field and both values.
    """
    first = infos[0]
    for other in infos[1:]:
        fields = [("classes", ", ".join(first.classes), ", ".join(other.classes))]
        theirs = other.image.model_dump()
        fields += [
            (f"image.{field}", str(value), str(theirs[field]))
            for field, value in first.image.model_dump().items()
        ]
        for field, one, another in fields:
            if one != another:
                raise TrainingError(
                    f"These models cannot be joined: {field} is {one} for '{first.name}' "
                    f"({first.run_id[:8]}) and {another} for '{other.name}' "
                    f"({other.run_id[:8]}). Members must know the same classes in the same order, "
                    "and see films as the same square."
                )


def _members(asked: Sequence[RunRecord], store: RunStore) -> list[RunRecord]:
    """Return the runs to be joined, a cross-validation's folds in its place."""
    runs: list[RunRecord] = []
    for record in asked:
        if record.kind is Kind.FOLDS:
            runs += folds.by_number(folds.children(record.run_id, store)).values()
        elif record.kind is Kind.ENSEMBLE:
            raise TrainingError(
                f"Run {record.run_id} is an ensemble itself. Name the runs it was made of."
            )
        elif record.kind is Kind.SWEEP:
            raise TrainingError(
                f"Run {record.run_id} is a sweep. Name runs that have a model, such as its best "
                "trial."
            )
        else:
            runs.append(record)
    for run in runs:
        if not run.has_model:
            raise TrainingError(f"Run {run.run_id} has no model to join: it is {run.status}.")
    if len({run.run_id for run in runs}) < max(2, len(runs)):
        raise TrainingError("An ensemble needs two runs or more, each of them once.")
    return runs


def _info(run: RunRecord, store: RunStore) -> BundleInfo:
    return bundle.read(store.path(run.run_id, f"bundle/{bundle.INFO_FILE}").parent)


# -- which films no member learned from -----------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Common:
    """The films of an ensemble, and what it says of those that none of its members learned from."""

    split: pd.DataFrame  # path, label, split, patient_id, md5 of every film of any member
    predictions: pd.DataFrame  # path, label, split, patient_id, logit_<CLASS>: validation and test
    same: bool  # whether all members were trained on one division

    def part(self, name: str) -> pd.DataFrame:
        """Return the predictions of the validation or test films."""
        return self.predictions[self.predictions["split"] == name]


def common(
    divisions: Sequence[pd.DataFrame],
    predictions: Sequence[pd.DataFrame],
    temperatures: Sequence[float],
    classes: Sequence[str],
) -> Common:
    """Find what no member learned from, and the ensemble's logits there.

    A film that any member trained on is a training film of the ensemble, and so are all films of
    its patient; of the others one that any member validated on is a validation film. What is left
    is the test. The ensemble's logit is the mean of the members' logits, each divided by its
    temperature; a film that one of the members made no prediction for has none.

    Args:
        divisions: a member's splits.csv each: path, label, split, patient_id, md5.
        predictions: a member's predictions.parquet each.
        temperatures: a member's each.
        classes: the class names, the reference class first.
    """
    films = pd.concat(
        [table.assign(member=number) for number, table in enumerate(divisions)], ignore_index=True
    )
    rank = films["split"].map({"train": 0, "val": 1, "test": 2})
    person = films["patient_id"].where(films["patient_id"] != "", films["md5"])
    # By the film first: a patient may be named in one division only.
    rank = rank.groupby(films["md5"]).transform("min")
    rank = rank.groupby(person).transform("min")
    rank = rank.groupby(films["md5"]).transform("min")
    films["split"] = rank.map({0: "train", 1: "val", 2: "test"})
    # A film is known by its content, wherever it lay; of several copies the first is the first.
    films = films.sort_values(["member", "path"], ignore_index=True)
    films["copy"] = films.groupby(["member", "md5"]).cumcount()
    film = ["md5", "copy"]
    logits = [f"logit_{label}" for label in classes]
    told = []
    for number, (table, temperature) in enumerate(zip(predictions, temperatures, strict=True)):
        mine = films.loc[films["member"] == number, ["path", *film]]
        scaled = pd.concat([table["path"], table[logits] / temperature], axis=1)
        told.append(mine.merge(scaled, on="path"))
    by_film = pd.concat(told).groupby(film)[logits]
    mean = by_film.mean()[by_film.size() == len(divisions)].reset_index()
    split = films.drop_duplicates(film).sort_values("path", ignore_index=True)
    held_out = split[split["split"] != "train"].merge(mean, on=film)
    sides = [dict(zip(table["md5"], table["split"], strict=True)) for table in divisions]
    return Common(
        split=split[["path", "label", "split", "patient_id", "md5"]],
        predictions=held_out[["path", "label", "split", "patient_id", *logits]],
        same=all(side == sides[0] for side in sides),
    )


def enough(part: pd.DataFrame, same: bool) -> bool:
    """Tell if there are films enough to fit or to report something on.

    A training goes by what its validation part has, and so does an ensemble of its division.
    """
    kinds = part["label"].nunique()
    return kinds > 1 and (same or len(part) >= ENOUGH)


# -- making it, in the worker's process -----------------------------------------------------------


def build(store: RunStore, run: RunWriter) -> None:
    """Join the members of an ensemble's entry, calibrate and test it, and leave its papers.

    Raises:
        TrainingError: a member is gone, or they cannot be joined.
        BundleError: a member's bundle is damaged.
        RunCancelled: somebody asked for it.
    """
    from cxr_core.training import device, trainer  # TensorFlow: for the worker alone

    # It did not wait for its turn: the GPU and its memory are the run's that did.
    device.choose(HardwareConfig(device="cpu"))
    run.phase("reading the members")
    runs = [store.get(member) for member in run.recorded[_MEMBERS].split(",")]
    infos = [_info(each, store) for each in runs]
    require_alike(infos)
    folders = [store.path(each.run_id, "bundle") for each in runs]
    classes = infos[0].classes
    films = common(
        [bundle.read_splits(folder) for folder in folders],
        [pd.read_parquet(store.path(each.run_id, "predictions.parquet")) for each in runs],
        [info.temperature for info in infos],
        classes,
    )
    run.phase("joining the networks")
    joined = _join(folders, infos)
    run.phase("choosing the threshold")
    temperature, threshold = _decision(films, infos, run)
    run.phase("testing")
    summaries = {
        part: _results(films.part(part), temperature, threshold.value, classes)
        for part in ("val", "test")
        if enough(films.part(part), films.same)
    }
    if "test" not in summaries:
        run.note(_untested(films))
    run.phase("writing the bundle")
    from cxr_core.diagnosis import ensemble

    members = ensemble.members(infos)
    gate, similar = ensemble.gate(folders, infos), ensemble.similar_films(folders, infos)
    info = BundleInfo.model_validate(
        {
            "name": run.name,
            "run_id": run.run_id,
            "classes": classes,
            "image": infos[0].image,
            "architecture": ARCHITECTURE,
            "cam_layer": members[0].cam_layer,
            "members": members,
            "temperature": temperature,
            "threshold": threshold,
            "data": _provenance(infos, films),
            "metrics": summaries,
            "track_record": _fared(films.part("test"), temperature, classes)
            if "test" in summaries
            else (),
            "gate": gate[1] if gate else None,
            "similar": similar[1] if similar else None,
            "notes": run.notes,
            "versions": device.versions(),
        }
    )
    _keep(
        info,
        joined.save,
        films,
        run,
        save_gate=gate[0].save if gate else None,
        save_similar=similar[0].save if similar else None,
    )
    run.params(
        {
            "classes": ",".join(classes),
            "parameters": joined.count_params(),
            "val_films": len(films.part("val")),
            "test_films": len(films.part("test")),
            "data_fingerprint": info.data.fingerprint,
        }
    )
    if "test" in summaries:
        run.points(trainer.flat_metrics("test", summaries["test"]), step=0)


def _join(folders: Sequence[Path], infos: Sequence[BundleInfo]) -> Any:
    from cxr_core.diagnosis import ensemble
    from cxr_core.diagnosis.predictor import load

    models = [load(folder, info) for folder, info in zip(folders, infos, strict=True)]
    try:
        return ensemble.join(models, [info.temperature for info in infos])
    except ValueError as error:
        raise TrainingError(f"These networks cannot be joined: {error}") from error


def _decision(
    films: Common, infos: Sequence[BundleInfo], run: RunWriter
) -> tuple[float, ThresholdInfo]:
    """Fit temperature and threshold on the common validation films, where there are enough."""
    from cxr_core.evaluation import calibration, operating, scores

    val, classes = films.part("val"), infos[0].classes
    if not enough(val, films.same):
        run.note(
            f"No more than {len(val):,} films validated a member and were trained on by none. "
            f"That is too few to calibrate the ensemble on ({ENOUGH} of two classes are needed): "
            "its temperature is 1, and its threshold the mean of its members'."
        )
        mean = float(np.mean([info.threshold.value for info in infos]))
        return 1.0, ThresholdInfo(
            value=mean, method="the mean of the members'", chosen_on="the members' validation"
        )
    labels, logits = _labels(val, classes), _logits(val, classes)
    temperature = calibration.fit_temperature(logits, labels)
    found = operating.choose_threshold(
        labels, scores.probabilities(logits, temperature), _rule(infos)
    )
    return temperature, ThresholdInfo(value=found.value, method=found.method)


def _rule(infos: Sequence[BundleInfo]) -> Any:
    """Return the members' rule for a threshold; Youden's where they differ."""
    from cxr_core.evaluation.operating import Rule

    decide = [info.config.get("decide") or {} for info in infos]
    if not all(decide):
        return Rule()
    first, *others = [Rule(each["rule"], each["target"], each["miss_cost"]) for each in decide]
    return first if all(each == first for each in others) else Rule()


def _untested(films: Common) -> str:
    why = "" if films.same else ", because they were trained on different divisions of the films"
    return (
        f"The ensemble's test results are not reported: {len(films.part('test')):,} films are "
        f"test films of all its members{why}. Evaluate it on films that none of them knows: python "
        "-m cxr_core evaluate."
    )


def _results(
    part: pd.DataFrame, temperature: float, threshold: float, classes: Sequence[str]
) -> dict[str, Any]:
    from cxr_core.evaluation import metrics

    return metrics.summarise(
        _labels(part, classes),
        metrics.probabilities(_logits(part, classes), temperature),
        classes,
        threshold,
        patients=list(part["patient_id"]) if part["patient_id"].ne("").any() else None,
    )


def _fared(part: pd.DataFrame, temperature: float, classes: Sequence[str]) -> list[dict[str, Any]]:
    from cxr_core.evaluation import metrics, track_record

    return track_record.tables(
        _labels(part, classes),
        metrics.probabilities(_logits(part, classes), temperature),
        classes,
        list(part["patient_id"]),
    )


def _labels(part: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    return np.array([classes.index(label) for label in part["label"]], np.int64)


def _logits(part: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    return part[[f"logit_{label}" for label in classes]].to_numpy(np.float64)


def _provenance(infos: Sequence[BundleInfo], films: Common) -> DataInfo:
    """Return what the members learned from, all of them together."""

    def together(values: Sequence[str]) -> str:
        return "; ".join(dict.fromkeys(filter(None, values)))

    counts = pd.crosstab(films.split["split"], films.split["label"])
    known = bool(films.split["patient_id"].ne("").all())
    prints: Mapping[str, None] = dict.fromkeys(info.data.fingerprint for info in infos)
    return DataInfo.model_validate(
        {
            **infos[0].data.model_dump(),
            "name": " and ".join(dict.fromkeys(info.data.name for info in infos)),
            "synthetic": any(info.data.synthetic for info in infos),
            "pictures": all(info.data.pictures for info in infos),
            "licence": together([info.data.licence for info in infos]),
            "citation": together([info.data.citation for info in infos]),
            "fingerprint": next(iter(prints)) if len(prints) == 1 else "",
            "counts": {
                side: {label: int(row.get(label, 0)) for label in infos[0].classes}
                for side, row in counts.iterrows()
            },
            "patients": int(films.split["patient_id"].nunique()) if known else None,
        }
    )


def _keep(
    info: BundleInfo,
    save: Any,
    films: Common,
    run: RunWriter,
    *,
    save_gate: Callable[[Path], None] | None,
    save_similar: Callable[[Path], None] | None,
) -> None:
    """Write bundle, split, predictions and results, and keep them as artefacts of the entry."""
    with tempfile.TemporaryDirectory(dir=workspace.run_folder(run.run_id)) as name:
        scratch = Path(name)
        info = bundle.write(scratch / "bundle", info, save, films.split, save_gate, save_similar)
        films.split.to_csv(scratch / "splits.csv", index=False)
        # Too few films to report on: no page should make figures of them.
        told = films.predictions["split"].isin(list(info.metrics))
        films.predictions[told].to_parquet(scratch / "predictions.parquet", index=False)
        results = json.dumps(info.metrics, indent=2, allow_nan=False)
        (scratch / "evaluation.json").write_text(results, encoding="utf-8")
        for artefact in sorted(scratch.iterdir()):
            run.file(artefact)

"""What is looked at before a run starts: better a sentence now than a failed run in ten minutes.

Everything here is quick and needs no TensorFlow; the page calls it on every change of the form. How
the films will be divided is worked out once for a set and its settings, and remembered.
"""

import functools
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from cxr_core import workspace
from cxr_core.config import DataConfig, RunConfig, settings
from cxr_core.data import exclusions, sources, splits, twins
from cxr_core.data.catalog import Catalog
from cxr_core.data.exclusions import Exclusion
from cxr_core.diagnosis import bundle
from cxr_core.errors import ConfigError, CxrError, DatasetError
from cxr_core.training import bundle_index, machine
from cxr_core.training.machine import has_nvidia_driver
from cxr_core.training.tracking import TAG_SETTINGS, RunStore, Status, settings_key
from cxr_core.zoo import registry

_DISK_NEEDED = 1 << 30  # bytes: log, bundle and what a run writes beside films and checkpoint
_ENOUGH_TO_VALIDATE = 100  # films a class, below which threshold and best epoch are much luck
# Memory of a training, bytes; measured within 12 % of the peak for five networks at 224 px, batch
# 16 to 64, on a CPU (Adam, float32).
_TENSORFLOW = 700e6
_A_PARAMETER = 16  # weight, gradient and Adam's two means
_A_PARAMETER_KEPT = 16  # the best weights and the checkpoint, always in the machine's own memory
# Numbers that all layers of a network put out together, a pixel of its input.
_OUTPUTS = {
    "plain_cnn": 198,
    "deep_cnn": 430,
    "resnet50": 744,
    "resnet50v2": 629,
    "densenet121": 999,
    "efficientnet_b0": 499,
    "efficientnet_b3": 970,
    "efficientnet_lite0": 398,
    "mobilenet_v3": 309,
}
_OUTPUTS_ELSEWHERE = 750  # of a network that is not in the list
_FLATTENED = 512  # weights of a head that flattens, a pixel of the input: 2048 x 256 every 32 x 32


Severity = Literal["error", "warning", "note"]
_SEVERITIES: tuple[Severity, ...] = get_args(Severity)  # the gravest first


@dataclass(frozen=True)
class Problem:
    """Something to mend before a start ("error"), to think over ("warning") or to know ("note")."""

    severity: Severity
    title: str  # a few words
    message: str  # what is wrong, in sentences
    mend: str = ""  # what to do, in sentences; "" where the message has it
    changes: Mapping[str, Any] = field(default_factory=dict)  # settings that mend it, where some do

    @property
    def text(self) -> str:
        """All of it, in sentences."""
        return f"{self.title}. {self.message} {self.mend}".rstrip()


def check(
    config: RunConfig,
    store: RunStore | None = None,
    catalog: Catalog | None = None,
    there: Sequence[Problem] | None = None,
) -> list[Problem]:
    """Return what stands against a run, the errors first.

    Args:
        config: what is to be trained.
        store: where runs are kept.
        catalog: the data set, opened by ``data.root`` and ``data.patient_pattern``; without it
            nothing is said of the films.
        there: what the machines say against it on which it is to run; None for this machine, which
            is then looked at.
    """
    config = independent_of_folder(config)
    division: _Division | str | None = None
    found = [*_network(config, store), *(_place(config) if there is None else ())]
    found += _mirrored(config)
    if catalog is not None:
        try:
            left_out = exclusions.listed(catalog.root)
            division = _division(catalog, left_out, config.data, config.seed)
        except DatasetError as error:
            division = str(error)
    if isinstance(division, str):
        found.append(Problem("error", "The films cannot be divided", division))
        division = None
    if division is not None:
        drawn = catalog is not None and catalog.synthetic
        found += [*_films(division, config.data, drawn), *_steps(config, division)]
    found += [
        *_schedule(config),
        *_phases(config),
        *_idle(config),
        *(_this_machine(config, division) if there is None else there),
        *_identical(config, store, division),
    ]
    return sorted(found, key=lambda problem: _SEVERITIES.index(problem.severity))


def independent_of_folder(config: RunConfig) -> RunConfig:
    """Make paths absolute: the worker, or a repeat of the run, may stand in another folder."""
    changes = {}
    if config.data.root != sources.BUILT_IN:
        changes["data.root"] = str(Path(config.data.root).expanduser().resolve())
    kind, _, spec = config.model.weights.partition(":")
    if kind == "bundle" and Path(spec).expanduser().is_dir():
        changes["model.weights"] = f"bundle:{Path(spec).expanduser().resolve()}"
    return config.with_values(changes)


# -- the network ----------------------------------------------------------------------------------


def _network(config: RunConfig, store: RunStore | None) -> Iterator[Problem]:
    model = config.model
    kind, _, name = model.weights.partition(":")
    weights = "none" if kind == "bundle" else kind
    options = registry.Options(model.head, model.dropout, model.coordinates)
    small = _smallest(config)
    for size in sorted({config.image.size, small}, reverse=True):
        try:
            registry.check(model.architecture, size=size, weights=weights, options=options)
        except ConfigError as error:
            of_small = "" if size == config.image.size else "The size is optimise.small_size."
            yield Problem("error", "This network cannot be built", str(error), of_small)
            break
        except CxrError as error:
            yield Problem("error", "The weights are not to be had", str(error))
            break
    if kind != "bundle":
        return
    try:
        info = bundle.read(bundle_index.resolve(name, store))
    except CxrError as error:
        yield Problem("error", "The bundle to start from is missing", str(error))
        return
    if info.members:
        yield Problem(
            "error",
            "A training cannot go on from an ensemble",
            f"The bundle '{info.name}' joins {len(info.members)} networks, and a run trains one.",
            "Start from one of its members' bundles, or from other weights.",
        )
    elif info.architecture != model.architecture:
        yield Problem(
            "error",
            "The bundle is of another network",
            f"The bundle '{info.name}' is a {info.architecture}, the run trains a "
            f"{model.architecture}.",
            f"Set model.architecture to {info.architecture}, or start from other weights.",
            {"model.architecture": info.architecture},
        )
    if info.image.fit != config.image.fit:
        yield Problem(
            "warning",
            "Films will look unlike those of the bundle",
            f"The bundle '{info.name}' learned from films fitted by '{info.image.fit}', this run "
            f"fits them by '{config.image.fit}'.",
            f"Set image.fit to {info.image.fit} to go on alike.",
            {"image.fit": info.image.fit},
        )


def _smallest(config: RunConfig) -> int:
    """Return the side of the smallest films that the network will see, px."""
    optimise = config.optimise
    progressive = optimise.small_size and optimise.small_epochs and optimise.epochs > 1
    return min(config.image.size, optimise.small_size) if progressive else config.image.size


# -- the films ------------------------------------------------------------------------------------


def _place(config: RunConfig) -> Iterator[Problem]:
    root = config.data.root
    if root != sources.BUILT_IN and not Path(root).is_dir():
        yield Problem(
            "error",
            "The data set is not there",
            f"data.root is {root}, and there is no such folder on this machine.",
            f"Name a folder with films, or '{sources.BUILT_IN}' for the built-in set.",
        )


def _mirrored(config: RunConfig) -> Iterator[Problem]:
    if config.augment.flip:
        yield Problem(
            "warning",
            "Films are mirrored",
            "augment.flip puts the heart on the wrong side in half of the films.",
            "Turn it off unless that is meant.",
            {"augment.flip": False},
        )


@dataclass(frozen=True, eq=False)
class _Division:
    """How the films will be divided, as far as checks need to know."""

    fingerprint: str  # of the films without the excluded ones
    counts: Mapping[str, Mapping[str, int]]  # part -> class -> films
    patients: int  # on more than one side
    pictures: int  # on more than one side, in whatever versions

    def films(self, part: str) -> int:
        return sum(self.counts[part].values())


@functools.lru_cache(maxsize=8)
def _division(
    catalog: Catalog, left_out: tuple[Exclusion, ...], data: DataConfig, seed: int
) -> _Division | str:
    """Divide the films as the run will; return why not, in sentences, where they cannot be.

    ``left_out`` is the catalog's list of excluded films: with another one the answer is another.
    """
    del left_out
    try:
        catalog, _ = exclusions.without(catalog)
        table = splits.cut(catalog, data, seed).table
        patients = pictures = 0
        if data.split == "published" and not data.fold:  # any other division keeps them on one side
            readable = catalog.frame.loc[catalog.frame["readable"], "path"]
            picture = pd.Series(twins.find_twins(catalog).alike, index=readable)
            table = table.assign(picture=table["path"].map(picture))
            patients = len(splits.on_several_sides(table, "patient_id"))
            pictures = len(splits.on_several_sides(table, "picture"))
    except DatasetError as error:
        return str(error)
    here = table.groupby("split")["label"]
    counts = {part: labels.value_counts().to_dict() for part, labels in here}
    return _Division(
        fingerprint=catalog.fingerprint,
        counts={
            part: {label: int(counts.get(part, {}).get(label, 0)) for label in catalog.classes}
            for part in splits.PARTS
        },
        patients=patients,
        pictures=pictures,
    )


def _films(division: _Division, data: DataConfig, drawn: bool) -> Iterator[Problem]:
    """Look at the division: leaks, empty classes, too few films to validate with.

    ``drawn`` is whether the films are synthetic: those are there to learn the app with, and how few
    they are is no fault of anybody's choice.
    """
    leaks = [
        f"{number:,} {word}{'s' * (number > 1)}"
        for number, word in ((division.patients, "patient"), (division.pictures, "film"))
        if number
    ]
    if leaks:
        yield Problem(
            "warning" if data.accept_leaks else "error",
            "The division leaks",
            f"{' and '.join(leaks)} of the published parts, in whatever versions, stand in more "
            "than one of training, validation and test: the model would be tested on what it has "
            "seen, and its figures would be worth nothing.",
            "Set data.split to 'auto', which keeps a published part only without what leaks into "
            "it, or to 'recut', which cuts all parts by patient. To train on it all the same, say "
            "so with data.accept_leaks.",
            {"data.split": "auto"},
        )
    for part in splits.PARTS:
        empty = [label for label, number in division.counts[part].items() if not number]
        if empty:
            # Without films of each class there is nothing to learn from, or to choose a threshold
            # by. A test without them only lacks their figures.
            yield Problem(
                "warning" if part == "test" else "error",
                f"An empty class in {_PART_WORDS[part]}",
                f"The {_PART_WORDS[part]} part has no films of {', '.join(empty)}.",
                "Set data.split to 'recut', or add films.",
                {"data.split": "recut"},
            )
    few = {
        label: number
        for label, number in division.counts["val"].items()
        if 0 < number < _ENOUGH_TO_VALIDATE
    }
    if few:
        told = ", ".join(f"{number:,} of {label}" for label, number in few.items())
        yield Problem(
            "note" if drawn else "warning",
            "Few films to validate with",
            f"The validation part has {told}. With fewer than {_ENOUGH_TO_VALIDATE} films of a "
            "class the best epoch and the threshold are much luck.",
            "To learn the app with, these will do."
            if drawn
            else "Train on more films, or have all parts cut anew with a larger data.val_fraction.",
        )


_PART_WORDS = {"train": "training", "val": "validation", "test": "test"}


def _steps(config: RunConfig, division: _Division) -> Iterator[Problem]:
    """Compare numbers of films and steps with the settings that count in them."""
    optimise = config.optimise
    films = division.films("train")
    if optimise.batch_size > films:
        yield Problem(
            "warning",
            "The batch is larger than the training set",
            f"optimise.batch_size is {optimise.batch_size}, and there are {films:,} films to train "
            "on: an epoch is one step.",
            "Lower it to a tenth of the films or less.",
            {"optimise.batch_size": max(1, films // 10)},
        )
    steps = optimise.epochs * math.ceil(films / optimise.batch_size)
    if optimise.ema and steps * (1 - optimise.ema) < 3:
        yield Problem(
            "warning",
            "The mean of the weights lags behind",
            f"optimise.ema = {optimise.ema:g} looks back over about {1 / (1 - optimise.ema):,.0f} "
            f"steps, and the whole run has {steps:,}: the mean would be mostly the beginning.",
            f"Take {max(0.0, 1 - 10 / steps):.2g} or less, or train for more epochs.",
        )


# -- the settings among themselves ----------------------------------------------------------------


def _schedule(config: RunConfig) -> Iterator[Problem]:
    optimise, stop = config.optimise, config.stop
    if optimise.schedule == "cosine" and optimise.warmup_epochs >= optimise.epochs:
        yield Problem(
            "error",
            "The warm-up never ends",
            f"optimise.warmup_epochs is {optimise.warmup_epochs:g} of {optimise.epochs} epochs.",
            "Shorten it, or train for more epochs.",
        )
    if optimise.schedule != "constant" and stop.min_learning_rate > optimise.learning_rate:
        yield Problem(
            "error",
            "The lowest rate is above the rate",
            f"stop.min_learning_rate ({stop.min_learning_rate:g}) is above "
            f"optimise.learning_rate ({optimise.learning_rate:g}).",
            "Lower the first or raise the second.",
        )


def _phases(config: RunConfig) -> Iterator[Problem]:
    """Look at what is trained when: head and body, small films and large ones."""
    optimise, model = config.optimise, config.model
    frozen = optimise.head_epochs >= optimise.epochs or optimise.train_layers == 0
    if optimise.head_epochs >= optimise.epochs and optimise.train_layers != 0:
        yield Problem(
            "warning",
            "The body is never trained",
            f"All {optimise.epochs} epochs are within optimise.head_epochs "
            f"({optimise.head_epochs}), so optimise.train_layers and body_rate have no effect.",
            "Lower optimise.head_epochs, or set optimise.train_layers to 0 if that is meant.",
        )
    if frozen and model.weights == "none":
        yield Problem(
            "warning",
            "A random body stays as it is",
            "Only the head is trained, on what a body of random weights makes of the films.",
            "Start from 'imagenet' or a bundle, or train the body too.",
        )
    elif optimise.head_epochs and model.weights == "none":
        yield Problem(
            "warning",
            "The head learns from a random body first",
            f"optimise.head_epochs trains the head alone for {optimise.head_epochs} epochs, and "
            "the body starts from random weights: nothing there is worth keeping still.",
            "Set optimise.head_epochs to 0, or start from other weights.",
            {"optimise.head_epochs": 0},
        )
    if bool(optimise.small_size) != bool(optimise.small_epochs):
        yield Problem(
            "warning",
            "Progressive resolution has no effect",
            "It needs both optimise.small_size and optimise.small_epochs, and one of them is 0.",
            "Set both, or none.",
        )
    elif optimise.small_size:
        yield from _progressive(config)


def _progressive(config: RunConfig) -> Iterator[Problem]:
    optimise = config.optimise
    if optimise.small_size >= config.image.size:
        yield Problem(
            "error",
            "The small films are not small",
            f"optimise.small_size is {optimise.small_size} px, and image.size is "
            f"{config.image.size}.",
            "Lower the first, or set it to 0 to train at one size.",
            {"optimise.small_size": 0, "optimise.small_epochs": 0},
        )
    if optimise.small_epochs >= optimise.epochs:
        yield Problem(
            "warning",
            "Hardly an epoch at full size",
            f"optimise.small_epochs is {optimise.small_epochs} of {optimise.epochs} epochs; only "
            "the last one will have films of image.size.",
            "Lower it, or train for more epochs.",
        )
    if config.model.head == "flatten_mlp":
        yield Problem(
            "error",
            "This head is made for one size",
            "model.head 'flatten_mlp' has a weight for every cell of the feature map, so the "
            "network cannot go on from small films to larger ones.",
            "Set model.head to 'gap', or optimise.small_size to 0.",
            {"optimise.small_size": 0, "optimise.small_epochs": 0},
        )


def _idle(config: RunConfig) -> Iterator[Problem]:
    """Find settings that were changed and do nothing, because another one decides so."""
    optimise = config.optimise
    schedule = f"the schedule is {optimise.schedule}"
    rules: tuple[tuple[bool, str, str, Iterable[str]], ...] = (
        (
            optimise.optimizer == "adamw",
            "Weight decay has no effect",
            f"works with adamw alone, and the optimizer is {optimise.optimizer}",
            ("optimise.weight_decay",),
        ),
        (
            optimise.schedule == "cosine",
            "The warm-up has no effect",
            f"works with the cosine schedule alone, and {schedule}",
            ("optimise.warmup_epochs",),
        ),
        (
            optimise.schedule == "cosine_restarts",
            "The restarts have no effect",
            f"works with the schedule cosine_restarts alone, and {schedule}",
            ("optimise.restart_steps", "optimise.restart_growth", "optimise.restart_decay"),
        ),
        (
            optimise.schedule == "plateau",
            "The falling rate has no effect",
            f"works with the plateau schedule alone, and {schedule}",
            ("stop.plateau_patience", "stop.plateau_factor"),
        ),
        (
            optimise.loss == "focal",
            "Focal loss is off",
            f"works with the focal loss alone, and the loss is {optimise.loss}",
            ("optimise.focal_gamma",),
        ),
        (
            config.data.split != "published" or bool(config.data.fold),
            "The shares have no effect",
            "is for parts that are cut, and data.split is 'published'",
            ("data.val_fraction", "data.test_fraction"),
        ),
        (
            not config.data.fold,
            "The division has no effect",
            f"is for one division of the films, and fold {config.data.fold} is the test part",
            ("data.split", "data.test_fraction"),
        ),
    )
    values, defaults = config.flat(), {setting.path: setting.default for setting in settings()}
    for works, title, why, paths in rules:
        changed = [path for path in paths if values[path] != defaults[path]]
        if changed and not works:
            yield Problem(
                "warning",
                title,
                f"{' and '.join(changed)} {why}.",
                "Set it back, or change the other setting.",
                {path: defaults[path] for path in changed},
            )


# -- the machine ----------------------------------------------------------------------------------


def _this_machine(config: RunConfig, division: _Division | None) -> Iterator[Problem]:
    yield from _machine(config)
    yield from _memory(config)
    yield from _disk(config, division)


def _machine(config: RunConfig) -> Iterator[Problem]:
    hardware = config.hardware
    gpu = has_nvidia_driver()
    if hardware.device in ("gpu", "all_gpus") and not gpu:
        yield Problem(
            "error",
            "No GPU here",
            f"hardware.device is '{hardware.device}', and this machine has no NVIDIA driver.",
            "Choose 'auto' or 'cpu'.",
            {"hardware.device": "auto"},
        )
    if gpu and hardware.device != "cpu":
        return
    if hardware.precision == "mixed_float16":
        yield Problem(
            "warning",
            "Half precision is slow on a CPU",
            "hardware.precision is mixed_float16, which processors only emulate.",
            "Take float32, or mixed_bfloat16 on a recent one.",
            {"hardware.precision": "float32"},
        )
    if hardware.precision == "mixed_bfloat16" and machine.has_bfloat16() is False:
        yield Problem(
            "warning",
            "This processor lacks bfloat16",
            "hardware.precision is mixed_bfloat16, and this processor has no instructions for it "
            "(avx512_bf16 or amx_bf16): the run will be slower, not faster.",
            "Take float32, or 'auto', which times both.",
            {"hardware.precision": "float32"},
        )


def _memory(config: RunConfig) -> Iterator[Problem]:
    """Compare what a training takes with what the device has."""
    on_gpu = has_nvidia_driver() and config.hardware.device != "cpu"
    free = machine.gpu_memory() if on_gpu else machine.free_memory()
    parameters = _parameters(config)
    if free is None or parameters is None:
        return
    optimise, size = config.optimise, config.image.size
    each = 2 if config.hardware.precision.startswith("mixed_") else 4  # bytes a layer's output
    outputs = _OUTPUTS.get(config.model.architecture, _OUTPUTS_ELSEWHERE) * size**2
    for_films = optimise.batch_size * outputs * each
    for_weights = parameters * (_A_PARAMETER + (0 if on_gpu else _A_PARAMETER_KEPT))
    needed = _TENSORFLOW + for_films + for_weights
    if needed <= free:
        return
    yield Problem(
        "warning",
        "Memory may run out",
        f"The run needs about {needed / 1e9:.1f} GB: {for_films / 1e9:.1f} GB for a batch of "
        f"{optimise.batch_size} films at {size} px on their way through the network, "
        f"{for_weights / 1e9:.1f} GB for {parameters / 1e6:.1f} million parameters, the rest for "
        f"TensorFlow. {'The GPU has' if on_gpu else 'Free are'} {free / 1e9:.1f} GB.",
        "Lower optimise.batch_size or image.size, or close other programs.",
    )


def _parameters(config: RunConfig) -> int | None:
    """Return about how many weights the network has, None for one nobody knows."""
    try:
        known = registry.get(config.model.architecture).parameters
    except CxrError:
        return None
    flattened = _FLATTENED * config.image.size**2 if config.model.head == "flatten_mlp" else 0
    return known + flattened


def _disk(config: RunConfig, division: _Division | None) -> Iterator[Problem]:
    free = shutil.disk_usage(workspace.home()).free
    needed = _DISK_NEEDED + (_parameters(config) or 0) * _A_PARAMETER_KEPT
    decoded = ""
    if division is not None:
        films = sum(division.films(part) for part in splits.PARTS)
        sides = {config.image.size, _smallest(config)}
        pixels = films * sum(side**2 for side in sides)
        needed += pixels
        decoded = f", {pixels / 1e9:.1f} GB of it for {films:,} decoded films"
    if free < needed:
        yield Problem(
            "warning",
            "The disk is almost full",
            f"{workspace.home()} has {free / 1e9:.1f} GB left, and the run may need "
            f"{needed / 1e9:.1f} GB{decoded}.",
            "Free some space, or set CXR_HOME to a larger disk.",
        )


# -- other runs -----------------------------------------------------------------------------------


def _identical(
    config: RunConfig, store: RunStore | None, division: _Division | None
) -> Iterator[Problem]:
    """Find a run of the same settings on the same films: it would give the same model."""
    if store is None:
        return
    for run in store.list(tags={TAG_SETTINGS: settings_key(config)}):
        films = run.params.get("data_fingerprint")
        if division is not None and films is not None and films != division.fingerprint:
            continue
        if run.status is Status.FINISHED or run.status.active:
            how = "has finished" if run.status is Status.FINISHED else f"is {run.status}"
            yield Problem(
                "warning",
                "An identical run exists already",
                f"Run '{run.name}' ({run.run_id[:8]}, {run.created:%d %b %Y %H:%M} UTC) of the "
                f"same settings on the same films {how}. Another one would give the same model, "
                "or on a GPU nearly the same.",
                "Change a setting, such as seed, to learn something new.",
            )
            return

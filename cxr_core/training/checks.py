"""What is looked at before a run starts: better a sentence now than a failed run in ten minutes.

Everything here is quick and needs no TensorFlow; the page calls it on every change of the form.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cxr_core import workspace
from cxr_core.config import RunConfig
from cxr_core.data import sources
from cxr_core.diagnosis import bundle
from cxr_core.errors import CxrError
from cxr_core.training import bundle_index
from cxr_core.training.tracking import RunStore
from cxr_core.zoo import registry

_DISK_NEEDED = 1 << 30  # bytes: decoded films, checkpoints and a bundle of a usual run


@dataclass(frozen=True)
class Problem:
    """Something to mend before a start ("error"), or to know of ("warning")."""

    severity: Literal["error", "warning"]
    title: str  # a few words
    message: str  # what is wrong and what to do, in sentences


def check(config: RunConfig, store: RunStore | None = None) -> list[Problem]:
    """Return what stands against a run, the errors first."""
    found = [
        *_network(config, store),
        *_data(config),
        *_schedule(config),
        *_machine(config),
    ]
    return sorted(found, key=lambda problem: problem.severity)  # "error" < "warning"


def _network(config: RunConfig, store: RunStore | None) -> Iterator[Problem]:
    kind, _, name = config.model.weights.partition(":")
    weights = "none" if kind == "bundle" else kind
    try:
        registry.check(config.model.architecture, size=config.image.size, weights=weights)
    except CxrError as error:
        yield Problem("error", "This network cannot be built", str(error))
    if kind != "bundle":
        return
    try:
        info = bundle.read(bundle_index.resolve(name, store))
    except CxrError as error:
        yield Problem("error", "The bundle to start from is missing", str(error))
        return
    if info.architecture != config.model.architecture:
        yield Problem(
            "error",
            "The bundle is of another network",
            f"The bundle '{info.name}' is a {info.architecture}, the run trains a "
            f"{config.model.architecture}. Set model.architecture to {info.architecture}, or start "
            "from other weights.",
        )
    if info.image.fit != config.image.fit:
        yield Problem(
            "warning",
            "Films will look unlike those of the bundle",
            f"The bundle '{info.name}' learned from films fitted by '{info.image.fit}', this run "
            f"fits them by '{config.image.fit}'. Set image.fit to {info.image.fit} to go on alike.",
        )


def _data(config: RunConfig) -> Iterator[Problem]:
    root = config.data.root
    if root != sources.BUILT_IN and not Path(root).expanduser().is_dir():
        yield Problem(
            "error",
            "The data set is not there",
            f"data.root is {root}, and there is no such folder on this machine. Name a folder with "
            f"films, or '{sources.BUILT_IN}' for the built-in set.",
        )
    if config.augment.flip:
        yield Problem(
            "warning",
            "Films are mirrored",
            "augment.flip puts the heart on the wrong side in half of the films. Turn it off "
            "unless that is meant.",
        )


def _schedule(config: RunConfig) -> Iterator[Problem]:
    optimise, stop = config.optimise, config.stop
    if optimise.schedule == "cosine" and optimise.warmup_epochs >= optimise.epochs:
        yield Problem(
            "error",
            "The warm-up never ends",
            f"optimise.warmup_epochs is {optimise.warmup_epochs:g} of {optimise.epochs} epochs. "
            "Shorten it, or train for more epochs.",
        )
    if optimise.schedule != "constant" and stop.min_learning_rate > optimise.learning_rate:
        yield Problem(
            "error",
            "The lowest rate is above the rate",
            f"stop.min_learning_rate ({stop.min_learning_rate:g}) is above "
            f"optimise.learning_rate ({optimise.learning_rate:g}). Lower the first or raise the "
            "second.",
        )
    if optimise.weight_decay and optimise.optimizer != "adamw":
        yield Problem(
            "warning",
            "Weight decay has no effect",
            f"optimise.weight_decay works with adamw alone, and the optimizer is "
            f"{optimise.optimizer}.",
        )
    if optimise.warmup_epochs and optimise.schedule != "cosine":
        yield Problem(
            "warning",
            "The warm-up has no effect",
            "optimise.warmup_epochs works with the cosine schedule alone, and the schedule is "
            f"{optimise.schedule}.",
        )


def _machine(config: RunConfig) -> Iterator[Problem]:
    hardware = config.hardware
    gpu = has_nvidia_driver()
    if hardware.device == "gpu" and not gpu:
        yield Problem(
            "error",
            "No GPU here",
            "hardware.device asks for a GPU, and this machine has no NVIDIA driver. Choose 'auto' "
            "or 'cpu'.",
        )
    if hardware.precision == "mixed_float16" and (hardware.device == "cpu" or not gpu):
        yield Problem(
            "warning",
            "Half precision is slow on a CPU",
            "hardware.precision is mixed_float16, which processors only emulate. Take float32, or "
            "mixed_bfloat16 on a recent one.",
        )
    free = shutil.disk_usage(workspace.home()).free
    if free < _DISK_NEEDED:
        yield Problem(
            "warning",
            "The disk is almost full",
            f"{workspace.home()} has {free / 1e9:.1f} GB left, and a run may need more than "
            f"{_DISK_NEEDED / 1e9:.0f} GB. Free some space, or set CXR_HOME to a larger disk.",
        )


def has_nvidia_driver() -> bool:
    """Tell if an NVIDIA driver is there, without importing TensorFlow."""
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None

"""How fast a training is against PyTorch, and how soon a recipe is as good as its films allow.

`torch`: the same network (as many weights, see `torch_nets`) at 224 px in batches of 32 on the same
films, without augmentation, with Adam on the binary cross-entropy of logits, each side in a process
of its own. PyTorch computes channels last, under autocast to bfloat16 and in float32; its faster
format is what ours, which chooses by a trial of its own, is held against. It gets its films as is
usual, from a DataLoader whose processes read a JPEG whenever a batch needs it, and in another run
from memory, decoded before: what is left then is the network. Rates are films a second from the
first to the last step, after which all break off; a peak is of the main process, without those that
load.

`time_to_auroc`: from the start of ``python -m cxr_core train RECIPE`` to the validation that first
reaches a level, with all that is needed before: the scan of the folder, the split, the decoding.
"""

import functools
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import harness, peers
from benchmarks.harness import Case, Figure, Setting
from benchmarks.scan import copied
from benchmarks.train import OURS
from cxr_core import zoo  # noqa: F401  registers the networks
from cxr_core.zoo import registry

if TYPE_CHECKING:
    import torch

ARCHITECTURES = ("plain_cnn", "efficientnet_lite0")
FORMATS = ("bfloat16", "float32")
SOURCES = ("memory", "disk")
_QUICK_STEPS = {"plain_cnn": 6, "efficientnet_lite0": 3}
BATCH = 32
LOADERS = 2  # processes that decode: as many as the cores of the machine that the bars are for

RECIPES = ("quick", "plain_cnn")  # those that need no weights from the network
LEVELS = (0.95, 0.98)

_SUFFIXES = (".jpeg", ".jpg", ".png")

Batch = tuple["torch.Tensor", "torch.Tensor"]  # films uint8 (b, 1, size, size), targets (b, 1)


# -- in processes of their own ---------------------------------------------------------------------


class FilmFiles:
    """Films of a folder as PyTorch's loader wants them: decoded whenever one is asked for."""

    def __init__(self, folder: Path, size: int) -> None:
        self._paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES)
        self._size = size

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a film, uint8 (1, size, size), and its target."""
        import cv2

        path = self._paths[number]
        film = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        film = cv2.resize(film, (self._size, self._size), interpolation=cv2.INTER_AREA)
        return film[None], np.array([path.parent.name.upper() == "PNEUMONIA"], np.float32)


def train_in_torch(
    folder: str, architecture: str, size: int, steps: int, number_format: str, source: str
) -> dict[str, Any]:
    """Train some steps after a first one; return films a second and how many weights there are."""
    import torch

    from benchmarks import torch_nets

    torch.manual_seed(0)
    network = torch_nets.NETWORKS[architecture]().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters())
    objective = torch.nn.BCEWithLogitsLoss()
    reduced = torch.autocast("cpu", torch.bfloat16, enabled=number_format == "bfloat16")
    batches = _loaded(folder, size)
    if source == "memory":
        batches = list(itertools.islice(batches, steps + 1))
    times = []
    for films, targets in itertools.islice(batches, steps + 1):
        with reduced:
            logits = network(films.contiguous(memory_format=torch.channels_last))
        loss = objective(logits.float(), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        times.append(time.perf_counter())
    return {
        "films_per_second": (len(times) - 1) * BATCH / (times[-1] - times[0]),
        "parameters": torch_nets.parameters(network),
    }


def _loaded(folder: str, size: int) -> Iterable[Batch]:
    """Return shuffled batches without an end."""
    import cv2
    from torch.utils.data import DataLoader

    loader = DataLoader(
        FilmFiles(Path(folder), size),
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=LOADERS,
        persistent_workers=True,
        worker_init_fn=lambda _: cv2.setNumThreads(0),
    )
    return itertools.chain.from_iterable(itertools.repeat(loader))


def follow(recipe: str, folder: str) -> dict[str, Any]:
    """Train a recipe by the command line; return when each epoch was validated, and how well."""
    from cxr_core.training.tracking import RunStore

    began = time.time()
    command = (sys.executable, "-m", "cxr_core", "train", recipe, "--data", folder)
    subprocess.run(command, check=True)
    seconds = time.time() - began
    store = RunStore()
    (run,) = store.list()  # the workspace is new
    curve = store.curves(run.run_id, ["val_auroc"])
    return {
        "seconds": seconds,
        "validated": (curve["time"] - began).tolist(),
        "aurocs": curve["value"].tolist(),
    }


# -- the cases -------------------------------------------------------------------------------------


def measure(setting: Setting) -> list[Figure]:
    """Return rates and peaks of each network, and our rate over PyTorch's."""
    peer = peers.python()
    few = None if setting.size == "full" else 1_000
    with copied(setting, few) as films:
        return [
            figure
            for architecture in ARCHITECTURES[: setting.pick(1, 2, 2)]
            for figure in _against_torch(architecture, setting, str(films), peer)
        ]


def _against_torch(architecture: str, setting: Setting, folder: str, peer: str) -> list[Figure]:
    steps = setting.pick(2, _QUICK_STEPS[architecture], 60)
    size = setting.pick(64, 224, 224)
    sources = SOURCES[: setting.pick(2, 1, 2)]  # films from memory are the harder to match
    with tempfile.TemporaryDirectory() as home:
        values = json.dumps({"model.architecture": architecture})
        ours = functools.partial(
            harness.process, OURS, folder, str(steps), str(size), values, "step", CXR_HOME=home
        )
        given = (folder, architecture, size, steps)
        theirs = {
            f"PyTorch, {number_format}, films from {source}": functools.partial(
                harness.call, train_in_torch, *given, number_format, source, python=peer
            )
            for source in sources
            for number_format in FORMATS
        }
        found = harness.by_turns({"ours": ours, **theirs}, setting.pick(1, 1, 3))
    weights = {row["parameters"] for name in theirs for row in found[name]}
    assert weights == {registry.get(architecture).parameters}, "PyTorch's is another network"

    rates = {name: [row["films_per_second"] for row in rows] for name, rows in found.items()}
    figures = []
    for name, rows in found.items():
        peaks = [row["peak_mib"] for row in rows]
        figures += [
            harness.median(f"{architecture}: {name}: trains", rates[name], "films/s"),
            harness.median(f"{architecture}: {name}: peak memory", peaks, "MiB"),
        ]
    for source in sources:
        formats = [rates[name] for name in theirs if name.endswith(source)]
        faster = [max(of_a_round) for of_a_round in zip(*formats, strict=True)]
        words = f"{architecture}: our rate over PyTorch's with films from {source}"
        figures.append(harness.ratio(words, rates["ours"], faster, least=1.0))
    return figures


def measure_time_to_auroc(setting: Setting) -> list[Figure]:
    """Return how long each recipe takes to each level that it reaches, and to its end."""
    if setting.size != "full":
        raise harness.MissingError("whole trainings take minutes each: only without --quick")
    folder = str(setting.films.resolve())
    return [figure for recipe in RECIPES for figure in _milestones(recipe, folder)]


def _milestones(recipe: str, folder: str) -> list[Figure]:
    with tempfile.TemporaryDirectory() as home:
        found = harness.call(follow, recipe, folder, CXR_HOME=home)
    validations = list(zip(found["validated"], found["aurocs"], strict=True))
    reached = {
        level: next((seconds for seconds, auroc in validations if auroc >= level), None)
        for level in LEVELS
    }
    return [
        *(
            Figure(f"{recipe}: to a validation AUROC of {level}", seconds, "s")
            for level, seconds in reached.items()
            if seconds is not None
        ),
        Figure(f"{recipe}: highest validation AUROC", max(found["aurocs"]), ""),
        Figure(f"{recipe}: to its end, tested and kept", found["seconds"], "s"),
    ]


CASES = (
    Case("torch", "training at 224 px against the same networks in PyTorch", measure),
    Case(
        "time_to_auroc",
        "a recipe from its command to a validation AUROC of 0.95 and of 0.98",
        measure_time_to_auroc,
    ),
)

"""Distillation: teachers, each blind to a part of the training films, and what the network learns.

Every teacher is trained like the network itself, on all training films but one part that is cut by
patient, and is then asked about that part. So every training film has, beside its label, the
opinion of a network that never saw its patient, and the network learns from the mean of the two: in
place of several networks there is one (Hinton and others 2015, arXiv 1503.02531), and a label that
no other film supports weighs less. A teacher that had seen the film would only repeat its label.
"""

import logging
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from cxr_core.config import RunConfig
from cxr_core.data import splits
from cxr_core.errors import TrainingError
from cxr_core.evaluation import calibration, metrics
from cxr_core.training import losses, machine, network
from cxr_core.training.device import Device
from cxr_core.training.film_set import FilmSet, Part
from cxr_core.training.fitting import fit
from cxr_core.training.tracking import Request
from cxr_core.training.writer import RunCancelled, RunWriter, Unsent

_log = logging.getLogger(__name__)

_OPINIONS = "opinions.npy"  # in a teacher's folder, once it has been asked


def teach(
    films: FilmSet, config: RunConfig, run: RunWriter, device: Device, folder: Path
) -> FilmSet:
    """Train the teachers, and return the films with what the network is to learn of them.

    What is done is kept in ``folder``: a run that was killed goes on in the midst of a teacher.

    Raises:
        DatasetError: a class has fewer patients than there are teachers.
        TrainingError: as for `fitting.fit`.
        RunCancelled: somebody asked for it, or asked to stop: there is nothing to keep yet.
    """
    number = config.distil.teachers
    part_of = splits.parts(films.catalog, list(films.train.table["path"]), number, config.seed)
    opinions = np.empty((len(part_of), len(films.classes)))
    for part in range(number):
        blind = part_of == part
        taught = replace(films, train=_only(films.train, ~blind))
        asked = films.train.rows[blind]
        said = _opinions(
            taught,
            asked,
            config.with_values({"seed": (config.seed + part + 1) % 2**31}),
            _Aside(run, f"teacher {part + 1} of {number}", _shown(taught, config)),
            device,
            folder / f"teacher-{part + 1}",
        )
        opinions[blind] = said
    agreed = float((opinions.argmax(axis=1) == films.train.labels).mean())
    run.note(
        f"{number} teachers, each blind to the films it was asked about, agree with "
        f"{100 * agreed:.1f} % of the training labels; the network learned from both."
    )
    keras.utils.set_random_seed(config.seed)  # as if there had been no teachers
    share = config.distil.share
    own = losses.encode(films.train.labels, films.outputs)
    theirs = opinions[:, 1:] if films.outputs == 1 else opinions
    return replace(films, targets=((1 - share) * own + share * theirs).astype(np.float32))


def _opinions(
    films: FilmSet,
    asked: np.ndarray,
    config: RunConfig,
    run: RunWriter,
    device: Device,
    folder: Path,
) -> np.ndarray:
    """Train a teacher and return its calibrated probabilities for the films in these rows."""
    kept = folder / _OPINIONS
    earlier = _load(kept, (len(asked), len(films.classes))) if kept.is_file() else None
    if earlier is not None:
        return earlier
    keras.utils.set_random_seed(config.seed)
    fitted = fit(films, config, run, device, folder, pictures=False)
    if fitted.stopped:
        raise RunCancelled
    model = network.for_inference(fitted.weights, config, len(films.classes))
    infer, pixels = network.inference(model, run.obey), films.decoded[config.image.size]
    calibrated = calibration.fit(
        metrics.expand_logits(infer(pixels, films.val.rows)), films.val.labels
    )
    logits = metrics.expand_logits(infer(pixels, asked)) + calibrated.offset
    said = metrics.probabilities(logits, calibrated.temperature)
    part = kept.with_suffix(".part")
    with part.open("wb") as file:
        np.save(file, said)
    part.replace(kept)
    del model, infer
    machine.give_back_memory()
    return said


def _load(kept: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """Return what a teacher said; None where the file is damaged, and it must be asked again."""
    try:
        said = np.load(kept, allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        _log.warning("%s is damaged (%s): the teacher is asked again.", kept, error)
        return None
    if said.shape != shape:
        raise TrainingError(f"{kept} is of other films. Repeat the run.")
    return np.asarray(said)


def _only(part: Part, which: np.ndarray) -> Part:
    return Part(part.table[which].reset_index(drop=True), part.labels[which], part.rows[which])


def _shown(films: FilmSet, config: RunConfig) -> tuple[int, int]:
    """Return the steps of a teacher's training, and how many films it is shown in them."""
    batches = films.training(config, config.image.size)
    epochs = config.optimise.epochs
    return epochs * batches.steps_per_epoch, epochs * batches.films_per_epoch


class _Aside(RunWriter):
    """A run as a teacher's training sees it: it obeys requests and tells how far it is.

    Curves and facts are the network's own, so a teacher's go nowhere; pictures are not made of it.

    Args:
        run: the run.
        who: which teacher, in words.
        shown: steps of its training, and how many films it is shown in them.
    """

    def __init__(self, run: RunWriter, who: str, shown: tuple[int, int]) -> None:
        self.run_id, self.name, self.recorded = run.run_id, run.name, {}
        self._run, self._who, self._shown = run, who, shown

    @property
    def request(self) -> Request | None:
        return self._run.request

    @property
    def unsent(self) -> Unsent:
        return Unsent()

    def obey(self) -> None:
        self._run.obey()

    def phase(self, words: str) -> None:
        self._run.phase(f"{self._who}: {words}")

    def points(self, metrics: Mapping[str, float], step: int) -> None:
        if "batch_loss" in metrics:
            steps, films = self._shown
            self._run.progress(round(films * step / steps), films)

    def note(self, *sentences: str) -> None:
        pass

    def params(self, params: Mapping[str, object]) -> None:
        pass

    def send_again(self, unsent: Unsent) -> None:
        pass

"""From films to the best weights: stage by stage, kept after every epoch, resumable."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from cxr_core.config import RunConfig
from cxr_core.evaluation import metrics
from cxr_core.training import losses, machine, network, schedules, stages
from cxr_core.training.callbacks import (
    AveragedWeights,
    BatchPoints,
    BestWeights,
    Checkpoints,
    Requests,
    SettledNormalisation,
    Validation,
)
from cxr_core.training.checkpoint import Checkpoint, Saver
from cxr_core.training.device import Device, fastest_format, number_formats, precision
from cxr_core.training.film_set import FilmSet
from cxr_core.training.normalisation import fuse
from cxr_core.training.pictures import EpochPictures
from cxr_core.training.stages import Stage
from cxr_core.training.writer import RunWriter
from cxr_core.zoo import registry


@dataclass(frozen=True, eq=False)
class Fitted:
    """What training gave."""

    weights: list[np.ndarray]  # of the best epoch, in the order of the network's weights
    best_epoch: int  # counted from 1
    stopped: bool  # True where training ended early by request


def fit(
    films: FilmSet,
    config: RunConfig,
    run: RunWriter,
    device: Device,
    folder: Path,
    *,
    pictures: bool = True,
) -> Fitted:
    """Train as configured, going on from the checkpoint in ``folder`` where there is one.

    Args:
        films: what is learned from and validated with.
        config: all that decides the training.
        run: where figures go, and where requests come from.
        device: what it is computed on.
        folder: of the checkpoint.
        pictures: whether each epoch leaves its pictures with the run.

    Raises:
        ConfigError, BundleError: the network cannot be built.
        TrainingError: training diverged, or the checkpoint is damaged.
        RunCancelled: somebody asked for it.
    """
    machine.give_back_memory()  # of scanning and decoding
    state, saver = Checkpoint.load(folder), Saver(folder)
    policy = state.precision if state else _number_format(films, config, run, device)
    requests = Requests(run)
    keeper = BestWeights(config.stop.monitor, config.stop.patience)
    plateau = schedules.plateau(config.stop) if config.optimise.schedule == "plateau" else None
    if state is not None:
        run.note(f"The run was resumed after epoch {state.epoch}.")
        run.send_again(state.unsent)
        requests.stopped = state.stopped
        keeper.best = state.best
        if plateau is not None:
            plateau.memory = state.plateau

    *_, last = plan = stages.plan(config)
    size = plan[0].size
    for stage in plan:
        done = state.epoch if state else 0
        keeper.patient = stage is not last  # until then, a worse epoch is no reason to end
        over = done > stage.first and keeper.exhausted
        if done >= stage.end or requests.stopped or over:
            size = stage.size
            continue
        if done == stage.first:
            keeper.begin_stage(comparable=stage.size == size)
            if plateau is not None and stage.size != size:
                plateau.memory = schedules.NO_MEMORY
        size = stage.size
        run.phase("training" if len(plan) == 1 else stage.words)
        with device.strategy.scope(), precision(policy):
            model = _model(stage, films, config, run, device, fresh=state is None)
            if state is not None:
                state.restore(model, stage.rate)

        def keep(model: keras.Model, epoch: int, rate: float = stage.rate) -> None:
            nonlocal state
            memory = plateau.memory if plateau is not None else {}
            run.points({"best_epoch": keeper.best.epoch}, epoch)
            state = Checkpoint.of(
                model,
                epoch=epoch,
                rate=rate,
                best=keeper.best,
                plateau=memory,
                precision=policy,
                stopped=requests.stopped,
                unsent=run.unsent,
            )
            saver.save(state)

        training = films.training(config, stage.size)
        validate = Validate(model, films, config, stage.size, run.obey)
        cam_layer = registry.get(config.model.architecture).cam_layer
        averaged = [AveragedWeights()] if config.optimise.ema else []
        shown = [EpochPictures(run, films, stage.size, cam_layer, validate)] if pictures else []
        model.fit(
            training.dataset(stage.end, first=done),
            initial_epoch=done,
            epochs=stage.end,
            steps_per_epoch=training.steps_per_epoch,
            shuffle=False,  # the batches are shuffled already
            callbacks=[
                requests,
                BatchPoints(run, training),
                *averaged,
                SettledNormalisation(films.decoded[stage.size], films.train.rows, config.seed),
                Validation(run, training, validate),
                keeper,
                *shown,
                *([plateau] if plateau is not None else []),
                *averaged,
                Checkpoints(keep),
            ],
            verbose=0,
        )
        del model, validate
        machine.give_back_memory()
    return Fitted(keeper.best.weights, keeper.best.epoch, requests.stopped)


class Validate:
    """The figures of the validation films, for the model as it stands.

    Args:
        model: whose; takes films of ``size`` px.
        films: the run's.
        config: the run's.
        size: side of the squares, px.
        between: called before every batch.
    """

    def __init__(
        self,
        model: keras.Model,
        films: FilmSet,
        config: RunConfig,
        size: int,
        between: Callable[[], None],
    ) -> None:
        self._infer = network.inference(model, between)
        self._loss = losses.objective(config.optimise, films.outputs)
        self._pixels, self._part = films.decoded[size], films.val
        self._targets = losses.encode(films.val.labels, films.outputs)
        self.probabilities = np.empty((0, len(films.classes)))  # as last computed, (n, classes)

    def __call__(self) -> dict[str, float]:
        """Return loss, AUROC, and accuracy, sensitivity and specificity at a probability of 0.5."""
        logits = self._infer(self._pixels, self._part.rows)
        self.probabilities = metrics.probabilities(metrics.expand_logits(logits))
        labels = self._part.labels
        called = metrics.abnormal(self.probabilities) > 0.5
        return {
            "val_loss": float(self._loss(self._targets, logits)),
            "val_accuracy": float((self.probabilities.argmax(axis=1) == labels).mean()),
            "val_auroc": metrics.auroc(labels, self.probabilities),
            "val_sensitivity": _share(called, labels != 0),
            "val_specificity": _share(~called, labels == 0),
        }


def _share(right: np.ndarray, of: np.ndarray) -> float:
    return float(right[of].mean()) if of.any() else math.nan


def _model(
    stage: Stage,
    films: FilmSet,
    config: RunConfig,
    run: RunWriter,
    device: Device,
    *,
    fresh: bool,
) -> keras.Model:
    """Build and compile the network of a stage; a fresh one has the weights it starts from."""
    if fresh:
        model = network.build_model(config, stage.size, films.classes, run)
        run.params(
            {
                "parameters": network.count(model.weights),
                "trainable_parameters": network.trainable_parameters(model, config),
                "steps_per_epoch": films.training(config, stage.size).steps_per_epoch,
            }
        )
    else:
        model = network.build_bare(
            config.model, stage.size, len(films.classes), "none", config.seed
        )
    fuse(model)
    network.train_layers(model, config.model.architecture, stage.layers)
    if device.strategy.num_replicas_in_sync > 1:
        for layer in model.layers:  # statistics of the whole batch, not of each device's part
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = True
    _compile(model, films, config, stage, device)
    return model


def _compile(
    model: keras.Model, films: FilmSet, config: RunConfig, stage: Stage, device: Device
) -> None:
    steps = films.training(config, stage.size).steps_per_epoch
    model.compile(
        optimizer=schedules.optimizer(config.optimise, config.stop, steps, stage.rate),
        loss=losses.objective(config.optimise, films.outputs),
        metrics=losses.training_metrics(films.outputs),
        # XLA makes convolutions on a CPU several times slower; "auto" would choose it there too.
        jit_compile="auto" if device.is_gpu else False,
    )
    # Else Keras traces the first step twice: seconds to minutes, by the network.
    model.optimizer.build(model.trainable_variables)


def _number_format(films: FilmSet, config: RunConfig, run: RunWriter, device: Device) -> str:
    """Return the dtype policy to train in, chosen by a short trial where that is asked for."""
    policy: str = config.hardware.precision
    if policy == "auto":
        policy = run.recorded.get("precision", "auto")  # a resumed run keeps to its choice
    if policy == "auto":
        policy, *others = formats = number_formats(device)
        if others:
            run.phase("trying number formats")
            policy = _try(formats, films, config, run, device)
    run.params({"precision": policy})
    return policy


def _try(
    formats: Sequence[str], films: FilmSet, config: RunConfig, run: RunWriter, device: Device
) -> str:
    stage = stages.plan(config)[-1]

    def build() -> keras.Model:
        model = network.build_bare(
            config.model, stage.size, len(films.classes), "none", config.seed
        )
        fuse(model)
        network.train_layers(model, config.model.architecture, stage.layers)
        _compile(model, films, config, stage, device)
        return model

    chosen, rates = fastest_format(formats, build, films.training(config, stage.size).batch(0))
    machine.give_back_memory()
    keras.utils.set_random_seed(config.seed)  # as if there had been no trial
    tried = ", ".join(f"{rate:.0f} in {name}" for name, rate in rates.items())
    run.note(f"Trained in {chosen}: a trial gave films a second of {tried}.")
    return chosen

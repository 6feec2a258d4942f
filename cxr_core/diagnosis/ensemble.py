"""An ensemble's network: several networks side by side in one graph, their logits averaged."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from cxr_core.diagnosis import bundle, familiar, similar
from cxr_core.diagnosis.bundle import BundleInfo, GateInfo, Member, SimilarInfo
from cxr_core.diagnosis.familiar import Familiar
from cxr_core.diagnosis.similar import Similar

_TOLERANCE = 1e-4  # logits by which the graph may differ from the mean of its members


def members(infos: Sequence[BundleInfo]) -> tuple[Member, ...]:
    """Return what an ensemble's bundle says of its members, in their order."""
    return tuple(
        Member(
            name=info.name,
            run_id=info.run_id,
            architecture=info.architecture,
            cam_layer=_named(number, info.cam_layer),
            temperature=info.temperature,
        )
        for number, info in enumerate(infos, start=1)
    )


def gate(folders: Sequence[Path], infos: Sequence[BundleInfo]) -> tuple[Familiar, GateInfo] | None:
    """Return the gate of the first member that has one, as the joined network's own.

    It looks at that member's layers, which are in the joined graph, and its limits were set on
    films that were validation films to that member.

    Args:
        folders: the members' bundles.
        infos: what they say.

    Raises:
        BundleError: the member's gate is damaged.
    """
    for number, (folder, info) in enumerate(zip(folders, infos, strict=True), start=1):
        path = bundle.verified_gate(folder, info)
        if path is not None and info.gate is not None:
            known = familiar.load(path.read_bytes(), str(path))
            layers = tuple(_named(number, layer) for layer in known.layers)
            about = info.gate.model_copy(update={"member": info.name, "sha256": ""})
            return replace(known, layers=layers), about
    return None


def similar_films(
    folders: Sequence[Path], infos: Sequence[BundleInfo]
) -> tuple[Similar, SimilarInfo] | None:
    """Return the training films of the first member that has some; arguments as for :func:`gate`.

    Raises:
        BundleError: the member's file is damaged.
    """
    for number, (folder, info) in enumerate(zip(folders, infos, strict=True), start=1):
        path = bundle.verified_similar(folder, info)
        if path is not None and info.similar is not None:
            known = similar.load(path.read_bytes(), str(path))
            about = info.similar.model_copy(update={"member": info.name, "sha256": ""})
            return replace(known, layer=_named(number, known.layer)), about
    return None


def join(models: Sequence[keras.Model], temperatures: Sequence[float]) -> keras.Model:
    """Return one network whose logits are the mean of several networks' calibrated logits.

    The graph is flat, as heat maps need it: each member's layers are copied into it under the names
    "member1_..." and so on, and each member's logits divided by its temperature and by the number
    of members. So the networks weigh alike, however sure of themselves they were made by training
    (Guo and others 2017, arXiv 1706.04599), and a heat map at a member's layer is on the scale of
    the ensemble's logit.

    Args:
        models: flat functional networks of the same input and output shape.
        temperatures: theirs, in the same order.

    Raises:
        ValueError: the graph does not give the mean of its members: a layer is not what it seems.
    """
    film = keras.Input(models[0].input_shape[1:], name="film")
    parts = []
    for number, (model, temperature) in enumerate(zip(models, temperatures, strict=True), start=1):
        logits = _copy(model, number, film)
        share = keras.layers.Rescaling(
            1 / (len(models) * temperature), name=_named(number, "share"), dtype="float32"
        )
        parts.append(share(logits))
    joined = keras.Model(film, keras.layers.Add(name="logits", dtype="float32")(parts))
    _verify(joined, models, temperatures)
    return joined


def _copy(model: keras.Model, number: int, film: keras.KerasTensor) -> keras.KerasTensor:
    """Build a member's graph anew on the shared film, with its weights; return its logits."""

    def renamed(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        return type(layer).from_config({**config, "name": _named(number, layer.name)})

    inputs = keras.tree.map_structure(lambda _: film, model.input)  # a tensor, or a list of one
    copy = keras.models.clone_model(model, input_tensors=inputs, clone_function=renamed)
    for layer in model.layers:
        if layer.weights:
            copy.get_layer(_named(number, layer.name)).set_weights(layer.get_weights())
    return copy.outputs[0]


def _verify(
    joined: keras.Model, models: Sequence[keras.Model], temperatures: Sequence[float]
) -> None:
    """Compare the graph with the mean of its members on films of noise."""
    noise = np.random.default_rng(0).uniform(0, 255, (2, *joined.input_shape[1:]))
    films = keras.ops.convert_to_tensor(noise, "float32")
    wanted = np.mean(
        [
            keras.ops.convert_to_numpy(model(films, training=False)) / temperature
            for model, temperature in zip(models, temperatures, strict=True)
        ],
        axis=0,
    )
    found = keras.ops.convert_to_numpy(joined(films, training=False))
    off = float(np.abs(found - wanted).max())
    if not off <= _TOLERANCE * max(1.0, float(np.abs(wanted).max())):
        raise ValueError(f"The joined network is {off:g} logits off the mean of its members.")


def _named(member: int, layer: str) -> str:
    return f"member{member}_{layer}"

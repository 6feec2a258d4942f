"""Whether another engine answers for films faster than the predictor, with the same weights.

The predictor's traced graph against `keras.Model.predict`, ONNX Runtime and OpenVINO, for one film
and for a batch, in float32 on two threads; each engine in a process of its own, which asks one
network after the other. All are given uint8 squares and return logits; ours returns features and
what the gate looks at besides. Keras models are converted to ONNX once, which both engines read.
OpenVINO would choose bfloat16 on a processor that has it, and then differ in the third digit.
"""

import functools
import math
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness, peers
from benchmarks.harness import Case, Figure, Setting

THREADS = 2
BATCHES = (1, 32)

# An engine much faster than ours would be worth a dependency of the app.
_MOST_AHEAD = 1.5
_MOST_APART = 1e-4  # of two probabilities of the same film

_KERAS, _ONNX, _FILMS = "model.keras", "model.onnx", "films.npy"

Engine = Callable[[np.ndarray], np.ndarray]  # films float32 (n, size, size, 1) -> logits


@dataclass(frozen=True)
class Network:
    """A network to ask, and where its weights are from."""

    architecture: str
    size: int  # px
    bundle: str = ""  # of `models`; "" for random weights

    @property
    def words(self) -> str:
        """What figures call it."""
        return f"{self.bundle or self.architecture}, {self.size} px"


NETWORKS = (Network("efficientnet_lite0", 160, "pneumonia_v1"), Network("plain_cnn", 224))


# -- in processes of their own ---------------------------------------------------------------------


def prepare(folder: str) -> dict[str, Any]:
    """Leave each network's Keras model and films for it in a folder of its own in this one."""
    import cxr_core.zoo  # noqa: F401  registers the networks
    from cxr_core import images
    from cxr_core.data import phantom
    from cxr_core.zoo import registry

    kinds = ("NORMAL", "PNEUMONIA")
    drawn = [
        phantom.draw(kinds[number % 2], np.random.default_rng(number)).pixels
        for number in range(max(BATCHES))
    ]
    for network in NETWORKS:
        own = Path(folder) / network.words
        own.mkdir()
        if network.bundle:
            shutil.copy(harness.REPOSITORY / "models" / network.bundle / _KERAS, own)
        else:
            built = registry.build(network.architecture, size=network.size, outputs=1, seed=0)
            built.save(own / _KERAS)
        squares = [images.to_square(pixels, network.size, "squash") for pixels in drawn]
        np.save(own / _FILMS, np.stack(squares))
    return {}


def convert(folder: str) -> dict[str, Any]:
    """Write the Keras models as ONNX."""
    for network in NETWORKS:
        own = Path(folder) / network.words
        model = _keras_model(own)
        model(np.zeros((1, *model.input_shape[1:]), np.float32))  # else Keras refuses to export it
        model.export(str(own / _ONNX), format="onnx", verbose=False)
    return {}


def ours(folder: str, times: int) -> dict[str, Any]:
    """Ask the predictor's graph."""
    import cxr_core.zoo  # noqa: F401  registers the networks
    from cxr_core.diagnosis import single_pass
    from cxr_core.zoo import registry

    def engine(network: Network, own: Path) -> Engine:
        model, cam_layer = _keras_model(own), registry.get(network.architecture).cam_layer
        looks = single_pass.look_layers(model, cam_layer)
        graph = single_pass.SinglePass(model, (cam_layer,), looks)
        return lambda films: graph.answers(films).logits

    return _measured(engine, folder, times)


def keras_predict(folder: str, times: int) -> dict[str, Any]:
    """Ask `keras.Model.predict`."""

    def engine(network: Network, own: Path) -> Engine:
        model = _keras_model(own)
        return lambda films: model.predict(_floats(films), verbose=0)

    return _measured(engine, folder, times)


def onnx_runtime(folder: str, times: int) -> dict[str, Any]:
    """Ask ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS

    def engine(network: Network, own: Path) -> Engine:
        session = onnxruntime.InferenceSession(
            str(own / _ONNX), options, providers=["CPUExecutionProvider"]
        )
        name = session.get_inputs()[0].name
        return lambda films: session.run(None, {name: _floats(films)})[0]

    return _measured(engine, folder, times)


def openvino(folder: str, times: int) -> dict[str, Any]:
    """Ask OpenVINO, without the package by which it reports each use to its maker."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # not to be imported
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": THREADS,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }

    def engine(network: Network, own: Path) -> Engine:
        compiled = openvino.Core().compile_model(str(own / _ONNX), "CPU", settings)
        return lambda films: compiled(_floats(films))[0]

    return _measured(engine, folder, times)


def _keras_model(folder: Path) -> Any:
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    return keras.saving.load_model(folder / _KERAS, compile=False)


def _floats(squares: np.ndarray) -> np.ndarray:
    return squares[..., None].astype(np.float32)


def _measured(engine: Callable[[Network, Path], Engine], folder: str, times: int) -> dict[str, Any]:
    """Return by network the median time of a call by batch, ms, and all films' probabilities."""
    found = {}
    for network in NETWORKS:
        own = Path(folder) / network.words
        films, ask = np.load(own / _FILMS), engine(network, own)
        taken = {}
        for batch in BATCHES:
            given = films[:batch]
            calls = max(2, times // math.isqrt(batch))  # those with more films take longer
            seconds = harness.seconds(functools.partial(ask, given), calls, warm_up=2)
            taken[str(batch)] = 1000 * statistics.median(seconds)
        logits = np.asarray(ask(films), np.float64)[:, 0]
        probabilities = (1 / (1 + np.exp(-logits))).tolist()
        found[network.words] = {"ms": taken, "probabilities": probabilities}
    return found


# -- the case --------------------------------------------------------------------------------------

SIDES: dict[str, tuple[Callable[[str, int], dict[str, Any]], bool]] = {  # whether it is a peer
    "ours": (ours, False),
    "model.predict": (keras_predict, False),
    "ONNX Runtime": (onnx_runtime, True),
    "OpenVINO": (openvino, True),
}


def measure(setting: Setting) -> list[Figure]:
    """Return each network's figures in all engines."""
    peer = peers.python()
    rounds, times = setting.pick(1, 1, 5), setting.pick(4, 30, 100)
    with tempfile.TemporaryDirectory() as folder:
        harness.call(prepare, folder)
        harness.call(convert, folder, python=peer)
        sides = {
            name: functools.partial(
                harness.call, engine, folder, times, **({"python": peer} if is_peer else {})
            )
            for name, (engine, is_peer) in SIDES.items()
        }
        found = harness.by_turns(sides, rounds)
    return [
        figure
        for network in NETWORKS
        for figure in _figures(
            network, {name: [row[network.words] for row in rows] for name, rows in found.items()}
        )
    ]


def _figures(network: Network, found: dict[str, list[dict[str, Any]]]) -> list[Figure]:
    """Return the figures of one network from what each engine found of it, by round."""
    figures = []
    for batch in map(str, BATCHES):
        words = f"{network.words}, {batch} at a time"
        taken = {name: [row["ms"][batch] for row in rows] for name, rows in found.items()}
        figures += [harness.median(f"{words}: {name}", ms, "ms") for name, ms in taken.items()]
        figures += [
            harness.ratio(
                f"{words}: {name}, as fast as ours",
                taken["ours"],
                taken[name],
                most=_MOST_AHEAD if is_peer else None,
            )
            for name, (_, is_peer) in SIDES.items()
            if name != "ours"
        ]
    figures += [
        Figure(
            f"{network.words}: {name}, furthest from our probabilities",
            _apart(found["ours"][0], found[name][0]),
            "",
            most=_MOST_APART,
        )
        for name in SIDES
        if name != "ours"
    ]
    return figures


def _apart(mine: dict[str, Any], theirs: dict[str, Any]) -> float:
    """Return the largest difference of two probabilities of the same film."""
    return float(np.abs(np.subtract(mine["probabilities"], theirs["probabilities"])).max())


CASES = (
    Case(
        "engines",
        "probabilities of one film and of 32 against `model.predict`, ONNX Runtime and OpenVINO",
        measure,
    ),
)

"""The engine that computes answers without heat maps: TensorFlow, or OpenVINO where asked for.

``CXR_ENGINE=openvino`` asks for it (requirements-openvino.txt). On a CPU it answers for a single
film faster; making its graph takes a second or two when a model is loaded. Heat maps need
derivatives, which stay with TensorFlow.
"""

import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from cxr_core.errors import BundleError

_log = logging.getLogger(__name__)

VARIABLE = "CXR_ENGINE"
TENSORFLOW, OPENVINO = "tensorflow", "openvino"
REQUIREMENTS = "requirements-openvino.txt"
MOST_APART = 1e-4  # of two logits of the same film, in units of their size where that is above 1

Compute = Callable[..., Sequence[Any]]  # arrays to arrays or tensors

# Float32, as OpenVINO would else choose bfloat16 on a processor that has it.
_SETTINGS = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}


def chosen() -> str:
    """Return the engine that the environment asks for.

    Raises:
        BundleError: it asks for one that there is not, or that is not installed.
    """
    name = os.environ.get(VARIABLE, "").strip().lower() or TENSORFLOW
    if name not in (TENSORFLOW, OPENVINO):
        raise BundleError(f"{VARIABLE} is '{name}'; it may be {TENSORFLOW} or {OPENVINO}.")
    if name == OPENVINO and importlib.util.find_spec(OPENVINO) is None:
        raise BundleError(
            f"{VARIABLE} asks for OpenVINO, which is not installed: pip install -r {REQUIREMENTS}, "
            f"or unset {VARIABLE}."
        )
    return name


def faster(traced: Any, own: Compute, sample: Sequence[np.ndarray]) -> Compute:
    """Return OpenVINO's way to compute a graph, or ``own`` where that is not its equal.

    Args:
        traced: the concrete function of the graph.
        own: computes the same with TensorFlow.
        sample: arguments that both are compared on; the first outputs, the logits, must agree.
    """
    if tf.config.list_physical_devices("GPU"):
        _log.info("A GPU answers: OpenVINO is left out.")
        return own
    try:
        compute = _compiled(traced)
        theirs, mine = np.asarray(compute(*sample)[0]), np.asarray(own(*sample)[0])
    except Exception as error:  # converters raise whatever they stumble over
        _log.warning("OpenVINO cannot compute this network, TensorFlow does: %s", error)
        return own
    if not np.allclose(theirs, mine, rtol=MOST_APART, atol=MOST_APART):
        _log.warning("OpenVINO's answers differ from TensorFlow's, which are kept.")
        return own
    return compute


def _compiled(traced: Any) -> Compute:
    # Else the import alone reports to OpenVINO's makers that it is used.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    model = openvino.Core().compile_model(openvino.convert_model(traced), "CPU", _SETTINGS)
    request = model.create_infer_request()
    names = [each.name for each in traced.outputs]  # the converted graph may have more

    def compute(*arrays: np.ndarray) -> Sequence[np.ndarray]:
        answers = request.infer(arrays, share_inputs=True)
        return [np.array(answers[name]) for name in names]

    return compute

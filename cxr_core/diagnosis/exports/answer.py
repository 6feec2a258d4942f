"""Answers for chest X-rays with the exported network beside this file.

    python answer.py FILM [FILM ...]

FILM is a PNG or JPEG; a line of JSON is printed for each. Needs numpy, opencv and what runs the
network: onnxruntime, tensorflow, or ai-edge-litert. For research and teaching; not a medical
device. Films that the model was not made for get an answer as well: nothing here refuses them.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cxr_core.images.square import to_square

ABOUT_FILE = "export.json"

# Films float32 (n, size, size, 1), gray levels 0-255, to logits (n, outputs).
Network = Callable[[np.ndarray], np.ndarray]


def open_network(folder: Path, about: dict[str, Any]) -> Network:
    """Return what asks the exported network."""
    return {"onnx": _onnx, "saved_model": _saved_model, "litert": _litert}[about["format"]](
        folder / about["file"]
    )


def probabilities(network: Network, squares: np.ndarray, about: dict[str, Any]) -> np.ndarray:
    """Return calibrated probabilities (n, classes) of squares, uint8 (n, size, size)."""
    logits = np.asarray(network(squares[..., None].astype(np.float32)), np.float64)
    if logits.shape[1] == 1:  # two classes: the logit of the second, against 0
        logits = np.hstack([np.zeros_like(logits), logits])
    scaled = logits / about["temperature"]
    raised = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def decide(row: np.ndarray, about: dict[str, Any]) -> str:
    """Return the label: that of the likeliest finding where any finding reaches the threshold."""
    found = row[1:].sum() >= about["threshold"]
    return str(about["classes"][1 + int(row[1:].argmax()) if found else 0])


def main() -> None:
    """Print an answer for each film that is named."""
    folder = Path(__file__).resolve().parent
    about = json.loads((folder / ABOUT_FILE).read_text(encoding="utf-8"))
    image, network = about["image"], open_network(folder, about)
    for name in sys.argv[1:]:
        pixels = cv2.imread(name, cv2.IMREAD_GRAYSCALE)
        if pixels is None:
            sys.exit(f"{name} cannot be read as a picture.")
        square = to_square(pixels, image["size"], image["fit"], image["clahe"])
        row = probabilities(network, square[None], about)[0]
        answers = dict(zip(about["classes"], map(float, row), strict=True))
        print(json.dumps({"file": name, "label": decide(row, about), "probabilities": answers}))


def _onnx(path: Path) -> Network:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda films: session.run(None, {name: films})[0]


def _saved_model(path: Path) -> Network:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    return lambda films: loaded.serve(films).numpy()


def _litert(path: Path) -> Network:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:  # TensorFlow still has its predecessor
        import tensorflow as tf

        Interpreter = tf.lite.Interpreter

    interpreter = Interpreter(model_path=str(path))
    given, answered = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def ask(films: np.ndarray) -> np.ndarray:
        interpreter.resize_tensor_input(given["index"], films.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], films)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(answered["index"]))

    return ask


if __name__ == "__main__":
    main()

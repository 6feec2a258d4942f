"""How long one film takes: probability and heat map in one traced pass, and in the usual two steps.

Ours is `Predictor.diagnose` on EfficientNet-Lite0 from a decoded film, the gate's layers that need
no training included. The usual way is `model.predict` and then a new Gradcam of tf-keras-vis, on
the same films in the same process. From bytes: `images.read`, the diagnosis, the overlay and the
figure of probabilities: all that a page needs before it draws. Each film is a different one; the
first of each kind is not counted, as it traces.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from benchmarks import harness
from benchmarks.harness import Case, Figure, Setting
from cxr_core import figures, images, zoo  # noqa: F401  registers the networks
from cxr_core.config import ImageConfig
from cxr_core.data import phantom
from cxr_core.diagnosis import bundle, explain, familiar
from cxr_core.diagnosis.bundle import BundleInfo, DataInfo, GateInfo, ThresholdInfo
from cxr_core.zoo import registry

if TYPE_CHECKING:
    import keras

ARCHITECTURE = "efficientnet_lite0"
CLASSES = ("NORMAL", "PNEUMONIA")
TRAIN, VAL = 80, 40  # phantoms that a gate is fitted to


def drawn(films: int) -> list[np.ndarray]:
    """Return phantoms of all classes in turn."""
    return [
        phantom.draw(CLASSES[i % len(CLASSES)], np.random.default_rng(i)).pixels
        for i in range(films)
    ]


def write_bundle(folder: Path, size: int, weights: str, *, gate: bool = False) -> None:
    """Write the network as a bundle; what it learned does not matter to its speed.

    Args:
        folder: where to.
        size: side of the network's square.
        weights: what the network starts and ends with: "imagenet" or "none".
        gate: whether it gets a gate, which then accepts phantoms.
    """
    import pandas as pd

    model = registry.build(ARCHITECTURE, size=size, outputs=1, weights=weights, seed=0)
    known = _known(model, size) if gate else None
    counts = {split: dict.fromkeys(CLASSES, 1) for split in ("train", "val", "test")}
    info = BundleInfo(
        name="benchmark",
        classes=CLASSES,
        image=ImageConfig(size=size),
        architecture=ARCHITECTURE,
        cam_layer=registry.get(ARCHITECTURE).cam_layer,
        threshold=ThresholdInfo(value=0.5, method="fixed"),
        gate=GateInfo(train_films=TRAIN, val_films=VAL, val_refused=0) if gate else None,
        # As if of real films: the app opens with the newest model of such.
        data=DataInfo(name="none", synthetic=False, counts=counts),
    )
    columns = ["path", "label", "split", "patient_id", "md5"]
    empty = pd.DataFrame(columns=columns)
    bundle.write(folder, info, lambda path: model.save(path), empty, known.save if known else None)


def _known(model: "keras.Model", size: int) -> familiar.Familiar:
    """Return what phantoms look like to a network."""
    from cxr_core.diagnosis.single_pass import SinglePass, look_layers

    cam_layer = registry.get(ARCHITECTURE).cam_layer
    layers = look_layers(model, cam_layer)
    squares = np.stack([images.to_square(film, size, "squash") for film in drawn(TRAIN + VAL)])
    look = SinglePass(model, (cam_layer,), layers).answers(squares).look
    train, val = (
        familiar.Shown.of(squares[part], look[part], bars=False)
        for part in (slice(TRAIN), slice(TRAIN, None))
    )
    return familiar.fit(train, val, layers)


def measure(setting: Setting) -> list[Figure]:
    """Return the times of one film, ours and the library's, and their ratio."""
    from tf_keras_vis.gradcam import Gradcam

    from cxr_core.diagnosis.predictor import Predictor, load

    films, library_films = setting.pick(2, 20, 40), setting.pick(1, 4, 10)
    size, rounds = setting.pick(64, 224, 224), setting.pick(1, 2, 5)
    files = [cv2.imencode(".png", pixels)[1].tobytes() for pixels in drawn(films)]
    read = [images.read(data, f"{i}.png") for i, data in enumerate(files)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "bundle"
        write_bundle(folder, size, "none" if setting.size == "smallest" else "imagenet")
        predictor = Predictor(folder)
        model = load(folder, predictor.info)
    began = time.perf_counter()
    predictor.warm()
    warmed = time.perf_counter() - began

    def ours(number: int) -> None:
        predictor.diagnose(read[number], force=True)

    def library(number: int) -> None:
        square = images.to_square(read[number].pixels, size, "squash")
        pixels = square[None, :, :, None].astype(np.float32)
        model.predict(pixels, verbose=0)
        Gradcam(model, clone=False)(
            lambda logits: logits[:, 0],
            pixels,
            penultimate_layer=predictor.info.cam_layer,
            seek_penultimate_conv_layer=False,
            normalize_cam=False,
        )

    def from_bytes(number: int) -> None:
        film = images.read(files[number], f"{number}.png")
        answer = predictor.diagnose(film, force=True)
        assert answer.heatmap is not None
        explain.overlay(film.pixels, answer.heatmap)
        figures.probability_bars(answer.probabilities, answer.threshold)

    def median_ms(work: Callable[[int], None], times: int) -> Callable[[], float]:
        def measured() -> float:
            number: Iterator[int] = iter(range(times + 1))
            # Each film another one; the first is not counted, as it traces.
            taken = harness.seconds(lambda: work(next(number) % films), times)
            return 1000 * statistics.median(taken)

        return measured

    found = harness.by_turns(
        {
            "ours": median_ms(ours, films),
            "library": median_ms(library, library_films),
            "from bytes": median_ms(from_bytes, films),
        },
        rounds,
    )
    return [
        harness.median("probability and Grad-CAM, one film", found["ours"], "ms"),
        harness.median("model.predict and a new Gradcam", found["library"], "ms"),
        harness.ratio("as fast as that", found["library"], found["ours"], least=20),
        harness.median("from bytes to overlay and figure", found["from bytes"], "ms", most=60),
        Figure("warming up, once", warmed, "s"),
    ]


CASES = (
    Case(
        "diagnose",
        "one film's probability and heat map against `model.predict` and tf-keras-vis",
        measure,
    ),
)

"""How long one film takes: probability and heat map in one traced pass, and in the usual two steps.

    python benchmarks/diagnose.py [--films 40] [--size 224] [--weights imagenet] [--json]

Ours is `Predictor.diagnose` on EfficientNet-Lite0 from a decoded film, the gate's layers that need
no training included. The usual way is `model.predict` and then a new Gradcam of tf-keras-vis, on
the same films in the same process. From bytes: `images.read`, the diagnosis, the overlay and the
figure of probabilities: all that a page needs before it draws. Each film is a different one; the
first of each kind is not counted, as it traces.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from cxr_core import figures, images, zoo  # noqa: E402, F401  found by the line above
from cxr_core.config import ImageConfig  # noqa: E402
from cxr_core.data import phantom  # noqa: E402
from cxr_core.diagnosis import bundle, explain  # noqa: E402
from cxr_core.diagnosis.bundle import BundleInfo, DataInfo, ThresholdInfo  # noqa: E402
from cxr_core.zoo import registry  # noqa: E402

ARCHITECTURE = "efficientnet_lite0"
CLASSES = ("NORMAL", "PNEUMONIA")


def write_bundle(folder: Path, size: int, weights: str) -> None:
    """Write the network as a bundle; what it learned does not matter to its speed."""
    import pandas as pd

    counts = {split: dict.fromkeys(CLASSES, 1) for split in ("train", "val", "test")}
    info = BundleInfo(
        name="benchmark",
        classes=CLASSES,
        image=ImageConfig(size=size),
        architecture=ARCHITECTURE,
        cam_layer=registry.get(ARCHITECTURE).cam_layer,
        threshold=ThresholdInfo(value=0.5, method="fixed"),
        data=DataInfo(name="none", synthetic=True, counts=counts),
    )
    model = registry.build(ARCHITECTURE, size=size, outputs=1, weights=weights, seed=0)
    columns = ["path", "label", "split", "patient_id", "md5"]
    bundle.write(folder, info, lambda path: model.save(path), pd.DataFrame(columns=columns))


def seconds(work: Callable[[int], object], times: int) -> np.ndarray:
    """Return the seconds of ``work`` with 1, 2, ...; the call with 0 is not counted."""
    work(0)
    taken = []
    for number in range(1, times + 1):
        began = time.perf_counter()
        work(number)
        taken.append(time.perf_counter() - began)
    return np.array(taken)


def measure(films: int, library_films: int, size: int, weights: str) -> dict[str, float]:
    """Return medians in milliseconds and the ratio."""
    from tf_keras_vis.gradcam import Gradcam

    from cxr_core.diagnosis.predictor import Predictor, load

    drawn = [
        phantom.draw(CLASSES[i % 2], np.random.default_rng(i)).pixels for i in range(films + 1)
    ]
    files = [cv2.imencode(".png", pixels)[1].tobytes() for pixels in drawn]
    read = [images.read(data, f"{i}.png") for i, data in enumerate(files)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "bundle"
        write_bundle(folder, size, weights)
        predictor = Predictor(folder)
        model = load(folder, predictor.info)
    began = time.perf_counter()
    predictor.warm()
    warmed = time.perf_counter() - began
    layer = predictor.info.cam_layer

    def library(number: int) -> None:
        square = images.to_square(read[number].pixels, size, "squash")
        pixels = square[None, :, :, None].astype(np.float32)
        model.predict(pixels, verbose=0)
        Gradcam(model, clone=False)(
            lambda logits: logits[:, 0],
            pixels,
            penultimate_layer=layer,
            seek_penultimate_conv_layer=False,
            normalize_cam=False,
        )

    def from_bytes(number: int) -> None:
        film = images.read(files[number], f"{number}.png")
        answer = predictor.diagnose(film, force=True)
        assert answer.heatmap is not None
        explain.overlay(film.pixels, answer.heatmap)
        figures.probability_bars(answer.probabilities, answer.threshold)

    ours = seconds(lambda number: predictor.diagnose(read[number], force=True), films)
    theirs = seconds(library, library_films)
    again = seconds(lambda number: predictor.diagnose(read[number], force=True), films)
    whole = seconds(from_bytes, films)
    both = np.concatenate([ours, again])  # before and after, since machines are not equally free
    return {
        "films": films,
        "size": size,
        "ours_ms": 1000 * float(np.median(both)),
        "ours_p90_ms": 1000 * float(np.quantile(both, 0.9)),
        "library_ms": 1000 * float(np.median(theirs)),
        "times_as_fast": float(np.median(theirs) / np.median(both)),
        "from_bytes_ms": 1000 * float(np.median(whole)),
        "from_bytes_p90_ms": 1000 * float(np.quantile(whole, 0.9)),
        "warm_up_s": warmed,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--films", type=int, default=40)
    parser.add_argument("--library-films", type=int, default=10)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--weights", choices=["none", "imagenet"], default="imagenet")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.films, options.library_films, options.size, options.weights)
    if options.json:
        print(json.dumps(found, indent=2))
        return
    print(
        f"EfficientNet-Lite0 at {options.size} px, {options.films} films, warm: probability and "
        f"Grad-CAM in {found['ours_ms']:.0f} ms a film (90 % within {found['ours_p90_ms']:.0f}).\n"
        f"model.predict and a new Gradcam of tf-keras-vis: {found['library_ms']:.0f} ms, "
        f"{found['times_as_fast']:.1f} times as long.\n"
        f"From a file's bytes to overlay and figure: {found['from_bytes_ms']:.0f} ms (90 % within "
        f"{found['from_bytes_p90_ms']:.0f}). Warming up took {found['warm_up_s']:.1f} s."
    )


if __name__ == "__main__":
    main()

"""A bundle small enough to make in a test: an untrained plain CNN of 32 px."""

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from cxr_core.config import ImageConfig
from cxr_core.diagnosis import bundle
from cxr_core.diagnosis.bundle import BundleInfo, DataInfo, ThresholdInfo
from cxr_core.evaluation import scores

if TYPE_CHECKING:
    from cxr_core.diagnosis.predictor import Diagnosis

BINARY = ("NORMAL", "PNEUMONIA")
THREE = ("NORMAL", "PNEUMONIA", "TUBERCULOSIS")
SIZE = 32  # px
SPLITS = pd.DataFrame(
    {
        "path": ["a.png", "b.png", "c.png"],
        "label": ["NORMAL", "PNEUMONIA", "NORMAL"],
        "split": ["train", "val", "test"],
        "patient_id": ["1", "2", "3"],
        "md5": ["0" * 32, "1" * 32, "2" * 32],
    }
)


def info(classes: tuple[str, ...] = BINARY, **changes: object) -> BundleInfo:
    """Describe a tiny bundle; ``changes`` replace fields."""
    counts = {split: dict.fromkeys(classes, 4) for split in ("train", "val", "test")}
    fields: dict[str, object] = {
        "name": "tiny",
        "classes": classes,
        "image": ImageConfig(size=SIZE, fit="letterbox"),
        "architecture": "plain_cnn",
        "cam_layer": "block3_relu",
        "threshold": ThresholdInfo(value=0.5, method="fixed for a test"),
        "data": DataInfo(name="phantoms", synthetic=True, counts=counts),
    }
    return BundleInfo.model_validate({**fields, **changes})


def diagnosis(*probabilities: float, threshold: float = 0.5) -> "Diagnosis":
    """Return an accepted film's answer, of two or three classes by how many probabilities."""
    from cxr_core.diagnosis.predictor import Diagnosis  # TensorFlow: not with this module

    classes = BINARY if len(probabilities) == 2 else THREE
    label = classes[int(scores.decide([probabilities], threshold)[0])]
    by_class = dict(zip(classes, probabilities, strict=True))
    return Diagnosis(
        name="film.png",
        accepted=True,
        reasons=(),
        classes=classes,
        probabilities=by_class,
        label=label,
        probability=by_class[label],
        abnormal=sum(probabilities[1:]),
        threshold=threshold,
        heatmap=None,
        bundle="tiny",
        synthetic=True,
    )


def write_bundle(
    folder: Path,
    classes: tuple[str, ...] = BINARY,
    *,
    splits: pd.DataFrame = SPLITS,
    **changes: object,
) -> Path:
    """Write an untrained network as a bundle; return its folder."""
    from cxr_core import zoo  # noqa: F401  registers the networks
    from cxr_core.zoo import registry

    described = info(classes, **changes)
    model = registry.build("plain_cnn", size=SIZE, outputs=described.outputs, seed=1)
    bundle.write(folder, described, lambda path: model.save(path), splits)
    return folder

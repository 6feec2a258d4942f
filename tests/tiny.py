"""A bundle small enough to make in a test: an untrained plain CNN of 32 px."""

from pathlib import Path

import pandas as pd

from cxr_core.config import ImageConfig
from cxr_core.diagnosis import bundle
from cxr_core.diagnosis.bundle import BundleInfo, DataInfo, ThresholdInfo

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

"""Exports: a bundle's network as other systems load it, with all that its answers need beside it.

An export is a folder with the network, ``export.json`` (what goes in, what comes out, and what the
check found), ``answer.py`` with ``square.py`` (which answer for a film without this package), and
the model card. The check asks the exported network, through that ``answer.py``, about synthetic
films, and compares its probabilities with the bundle's.
"""

import hashlib
import importlib.util
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cxr_core import NOT_FOR_CLINICAL_USE, images
from cxr_core.data import phantom
from cxr_core.diagnosis import bundle
from cxr_core.diagnosis.bundle import BundleInfo
from cxr_core.diagnosis.exports import answer
from cxr_core.errors import ExportError
from cxr_core.images import square

if TYPE_CHECKING:
    import keras

CHECKED = 200  # films that an export is compared with its bundle on
MOST_APART = 1e-4  # of two probabilities of the same film
REQUIREMENTS = "requirements-export.txt"

_AT_ONCE = 20  # films asked about at once; bounds the memory
_TIMED = 20  # films asked about one by one, for the latency


@dataclass(frozen=True)
class Format:
    """A format that other systems load."""

    key: str  # what the command line takes
    title: str
    file: str  # a file, or a folder for a SavedModel
    keras_name: str  # what `keras.Model.export` calls it
    needs: tuple[str, ...]  # modules that write it and ask it, beside the app's own


FORMATS = {
    each.key: each
    for each in (
        Format("onnx", "ONNX", "model.onnx", "onnx", ("tf2onnx", "onnx", "onnxruntime")),
        Format("saved_model", "TensorFlow SavedModel", "saved_model", "tf_saved_model", ()),
        Format("litert", "LiteRT (TensorFlow Lite)", "model.tflite", "litert", ()),
    )
}


@dataclass(frozen=True)
class Check:
    """How an exported network compares with its bundle."""

    films: int  # synthetic
    furthest: float  # largest difference of two probabilities of the same film
    milliseconds: float  # median time of a film, asked alone, on this machine's CPU
    milliseconds_before: float  # likewise for the bundle


@dataclass(frozen=True)
class Exported:
    """An export that was written and found equal to its bundle."""

    folder: Path
    format: Format
    size: int  # bytes of the network
    check: Check


def export(
    source: Path,
    format: str,
    out: Path,
    *,
    films: int = CHECKED,
) -> Exported:
    """Write a bundle's network in another format, and check it.

    Args:
        source: the bundle's folder.
        format: one of ``FORMATS``.
        out: a folder that is not there yet, or an empty one; it appears whole or not at all.
        films: how many the check asks about.

    Raises:
        ExportError: ``out`` holds something, a library is missing, Keras cannot write the network
            so, or its answers differ from the bundle's.
        BundleError: the bundle is missing or damaged.
    """
    chosen = _format(format)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ExportError(f"{out} is there already. Name a new or an empty folder for the export.")
    info = bundle.read(source)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as name:
        draft = Path(name) / "export"
        draft.mkdir()
        _write_network(source, info, chosen, draft / chosen.file)
        about = describe(info, chosen)
        check = _compare(source, draft, about, films)
        if check.furthest > MOST_APART:
            raise ExportError(
                f"As {chosen.title} the model's probabilities differ by up to "
                f"{check.furthest:.1e}, more than {MOST_APART:.0e}. Nothing was kept: use another "
                "format."
            )
        about |= {"sha256": _sha256(draft / chosen.file), "check": asdict(check)}
        _write_papers(source, info, about, draft)
        size = _size(draft / chosen.file)
        draft.chmod(0o755)
        if out.is_dir():
            out.rmdir()
        draft.rename(out)
    return Exported(out, chosen, size, check)


def missing(format: Format) -> list[str]:
    """Return the modules that an export would need and that are not installed."""
    return [name for name in format.needs if importlib.util.find_spec(name) is None]


def describe(info: BundleInfo, format: Format) -> dict[str, Any]:
    """Return what another system must know to get the bundle's answers from the network."""
    side = info.image.size
    return {
        "name": info.name,
        "format": format.key,
        "file": format.file,
        "input": {
            "shape": ["films", side, side, 1],
            "type": "float32",
            "unit": "gray levels, 0 to 255, bones bright; not scaled",
        },
        "image": info.image.model_dump(),
        "output": {
            "shape": ["films", info.outputs],
            "type": "float32",
            "unit": f"logit of {info.classes[1]}; that of {info.classes[0]} is 0"
            if info.outputs == 1
            else "a logit a class",
        },
        "classes": list(info.classes),
        "temperature": info.temperature,
        "threshold": info.threshold.value,
        "reading": "probabilities = softmax(logits / temperature). A finding is called where 1 - "
        f"p({info.classes[0]}) is at least the threshold: the likeliest class but "
        f"{info.classes[0]}.",
        "not_exported": "the gate that refuses films unlike those the model knows, heat maps, "
        "similar films",
        "data": {
            "name": info.data.name,
            "licence": info.data.licence,
            "citation": info.data.citation,
            "synthetic": info.data.synthetic,
        },
        "bundle_sha256": info.model_sha256,
        "use": NOT_FOR_CLINICAL_USE,
    }


def _format(name: str) -> Format:
    chosen = FORMATS.get(name)
    if chosen is None:
        raise ExportError(f"There is no format '{name}'; there are {', '.join(FORMATS)}.")
    absent = missing(chosen)
    if absent:
        raise ExportError(
            f"{chosen.title} needs {', '.join(absent)}, not installed here: pip install -r "
            f"{REQUIREMENTS}"
        )
    return chosen


def _write_network(source: Path, info: BundleInfo, format: Format, path: Path) -> None:
    from cxr_core.diagnosis.predictor import load  # imports TensorFlow

    model: keras.Model = load(source, info)
    model(np.zeros((1, *model.input_shape[1:]), np.float32))  # one not yet called is refused
    try:
        model.export(path, format=format.keras_name, verbose=False)
    except Exception as error:  # converters raise whatever they stumble over
        raise ExportError(
            f"The model cannot be written as {format.title}: {str(error).splitlines()[0]}"
        ) from error


def _compare(source: Path, draft: Path, about: dict[str, Any], films: int) -> Check:
    from cxr_core.diagnosis.predictor import Predictor  # imports TensorFlow

    predictor, network = Predictor(source), answer.open_network(draft, about)
    squares = _drawn(films, predictor.info)

    def exported(some: np.ndarray) -> np.ndarray:
        return answer.probabilities(network, some, about)

    theirs = np.concatenate(
        [exported(squares[start : start + _AT_ONCE]) for start in range(0, films, _AT_ONCE)]
    )
    return Check(
        films=films,
        furthest=float(np.abs(theirs - predictor.probabilities(squares)).max()),
        milliseconds=_milliseconds(exported, squares),
        milliseconds_before=_milliseconds(predictor.probabilities, squares),
    )


def _drawn(films: int, info: BundleInfo) -> np.ndarray:
    """Return synthetic films as the network sees them, uint8 (films, size, size)."""
    image, kinds = info.image, phantom.CLASSES
    return np.stack(
        [
            images.to_square(
                phantom.draw(kinds[number % len(kinds)], np.random.default_rng(number)).pixels,
                image.size,
                image.fit,
                image.clahe,
            )
            for number in range(films)
        ]
    )


def _milliseconds(ask: Callable[[np.ndarray], np.ndarray], squares: np.ndarray) -> float:
    ask(squares[:1])  # the first is slower: it traces
    taken = []
    for number in range(_TIMED):
        began = time.perf_counter()
        ask(squares[number % len(squares)][None])
        taken.append(time.perf_counter() - began)
    return 1000 * statistics.median(taken)


def _write_papers(source: Path, info: BundleInfo, about: dict[str, Any], draft: Path) -> None:
    text = json.dumps(about, indent=2, allow_nan=False, ensure_ascii=False)
    (draft / answer.ABOUT_FILE).write_text(text + "\n", encoding="utf-8")
    card = source / bundle.CARD_FILE
    if card.is_file():
        shutil.copyfile(card, draft / bundle.CARD_FILE)
    # The very code that fits films for this network, which there stands beside the other.
    code = Path(answer.__file__).read_text(encoding="utf-8")
    alone = code.replace(f"from {square.__name__} import", "from square import")
    (draft / "answer.py").write_text(alone, encoding="utf-8")
    shutil.copyfile(square.__file__, draft / "square.py")


def _files(path: Path) -> list[Path]:
    return sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in _files(path))


def _sha256(path: Path) -> str:
    """Return the hash of a file, or of the files of a folder in the order of their paths."""
    found = hashlib.sha256()
    for file in _files(path):
        found.update(file.read_bytes())
    return found.hexdigest()

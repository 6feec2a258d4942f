"""Where data sets come from: phantoms, a folder, an upload, the network; licence and citation."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from filelock import FileLock

from cxr_core import workspace
from cxr_core.data import kaggle, library, medmnist, patients, phantom
from cxr_core.data.catalog import Catalog, scan
from cxr_core.data.library import NOT_REPORTED, Cancelled, LocalSet, Progress, Source

BUILT_IN = "phantom"
BUILT_IN_NAME = "Built-in phantoms"
BUILT_IN_IMAGES, BUILT_IN_SEED = 600, 0

# All that can be had, to be shown before it is fetched; any other set on Kaggle: kaggle.describe.
SOURCES: tuple[Source, ...] = (
    Source(
        key=BUILT_IN,
        title=BUILT_IN_NAME,
        summary=(
            f"{BUILT_IN_IMAGES} synthetic films (normal, pneumonia, tuberculosis), drawn on this "
            "machine with masks of their lesions. To learn the app with; they show no person."
        ),
        licence=phantom.LICENCE,
        citation=phantom.CITATION,
    ),
    *medmnist.SIZES,
    *kaggle.KNOWN,
)

# Licences that let anybody pass pictures on, with the citation that a bundle holds: CC0 and CC BY,
# as their holders and Kaggle write them. Not those with a condition more (NC, ND, SA).
_OPEN_LICENCE = re.compile(r"CC0|CC[ -]BY[ -]\d|Attribution \d\.\d International", re.IGNORECASE)

_GUANGZHOU = {
    "name": "Guangzhou paediatric chest X-rays (presumed: the files are named as in that set)",
    "licence": "CC BY 4.0",
    "citation": "Kermany D, Zhang K, Goldbaum M. Labeled Optical Coherence Tomography (OCT) and "
    "Chest X-Ray Images for Classification. Mendeley Data v2, 2018. doi:10.17632/rscbjbr9sj.2",
}


def open_catalog(
    root: str,
    *,
    patient_pattern: str = "",
    progress: Callable[[str, int, int], None] | None = None,
) -> Catalog:
    """Open a data set by ``data.root``: 'phantom' for the built-in set, else a folder.

    The built-in set is drawn on first use; a second process waits for the first to finish. A set
    that was fetched or uploaded (:func:`local_sets`) is opened by its folder and keeps its title.

    Args:
        root: 'phantom' or a folder's path; '~' is understood.
        patient_pattern: as in :func:`cxr_core.data.catalog.scan`.
        progress: called in the caller's thread with (what is going on, films done, films in all).

    Raises:
        DatasetError: the folder is no usable data set.
    """
    tell = progress or (lambda step, done, total: None)
    reading = partial(tell, "Reading the films")
    if root != BUILT_IN:
        catalog = scan(Path(root), patient_pattern=patient_pattern, progress=reading)
        fetched = library.origin(catalog.root)
        return replace(catalog, name=fetched.title) if fetched else catalog
    drawn = _built_in(partial(tell, "Drawing the built-in set"))
    catalog = scan(drawn, patient_pattern=patient_pattern, progress=reading)
    return replace(catalog, name=BUILT_IN_NAME)


def folder(root: str) -> Path:
    """Return the folder that ``data.root`` means on this machine; it may not be there."""
    return workspace.data_folder() / root if root == BUILT_IN else Path(root).expanduser()


def fetch(
    source: Source,
    *,
    progress: Progress = library.no_progress,
    cancelled: Cancelled = library.never,
) -> Path:
    """Return the folder of a set, fetched into the workspace where it is not there yet.

    Args:
        source: one of ``SOURCES``, or what :func:`cxr_core.data.kaggle.describe` returned.
        progress: called in the caller's thread with (bytes done, bytes in all; 0 where unknown),
            for the built-in set with films.
        cancelled: asked now and then, in the caller's thread; true ends the work.

    Raises:
        FetchError: what is in the way (network, token, server, disk), and what to do.
        FetchCancelledError: ``cancelled()`` was true; nothing half-made is left.
    """
    match source:
        case medmnist.PneumoniaMNIST():
            return medmnist.fetch(source, progress=progress, cancelled=cancelled)
        case kaggle.KaggleSet():
            return kaggle.fetch(source, progress=progress, cancelled=cancelled)

    def drawn(done: int, total: int) -> None:
        library.stop_if(cancelled, source.title)
        progress(done, total)

    return _built_in(drawn)


def local_sets() -> list[LocalSet]:
    """Return the fetched and uploaded sets that lie in the workspace, the newest first."""
    return library.local_sets()


def provenance(catalog: Catalog) -> dict[str, str | bool]:
    """Return name, licence, citation, synthetic and pictures, as they go into a bundle.

    Fetched sets have it on record and known sets are recognised; of any other the licence and the
    citation are "not reported". ``pictures`` is whether the licence lets small pictures of films go
    with a model: never where films are known by their names alone, which prove nothing about the
    copy at hand.
    """
    fetched = library.origin(catalog.root)
    if catalog.synthetic and set(phantom.COLUMNS) <= set(catalog.frame.columns):
        known = {"licence": phantom.LICENCE, "citation": phantom.CITATION}
    elif fetched and fetched.licence != NOT_REPORTED:
        known = {"licence": fetched.licence, "citation": fetched.citation}
    elif catalog.recognised is patients.GUANGZHOU:
        known = _GUANGZHOU
    elif fetched:
        known = {"citation": fetched.citation}
    else:
        known = {}
    unknown = {"name": catalog.name, "licence": NOT_REPORTED, "citation": NOT_REPORTED}
    told = {**unknown, **known}
    pictures = known is not _GUANGZHOU and bool(_OPEN_LICENCE.match(told["licence"]))
    return {**told, "synthetic": catalog.synthetic, "pictures": pictures}


def _built_in(progress: Callable[[int, int], None]) -> Path:
    """Return the folder of the built-in set, drawn now if it is not there yet."""
    place = folder(BUILT_IN)
    if place.is_dir():  # appears whole or not at all
        return place
    with FileLock(place.with_suffix(".lock")):
        if not place.is_dir():
            unfinished = place.with_suffix(".partial")
            shutil.rmtree(unfinished, ignore_errors=True)  # left by a process that was ended
            try:
                phantom.write(unfinished, BUILT_IN_IMAGES, BUILT_IN_SEED, progress=progress)
                unfinished.rename(place)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    return place

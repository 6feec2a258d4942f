"""Where a data set comes from: the built-in phantoms or a folder; its licence and its citation."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from filelock import FileLock

from cxr_core import workspace
from cxr_core.data import patients, phantom
from cxr_core.data.catalog import Catalog, scan

BUILT_IN = "phantom"
BUILT_IN_NAME = "Built-in phantoms"
BUILT_IN_IMAGES, BUILT_IN_SEED = 600, 0
NOT_REPORTED = "not reported"

_GUANGZHOU = {
    "name": "Guangzhou paediatric chest X-rays (recognised by their file names)",
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

    The built-in set is drawn on first use; a second process waits for the first to finish.

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
        return scan(Path(root), patient_pattern=patient_pattern, progress=reading)
    folder = _built_in(partial(tell, "Drawing the built-in set"))
    catalog = scan(folder, patient_pattern=patient_pattern, progress=reading)
    return replace(catalog, name=BUILT_IN_NAME)


def provenance(catalog: Catalog) -> dict[str, str | bool]:
    """Return name, licence, citation and synthetic, as they go into a bundle and its card.

    Known sets are recognised; of any other the licence and the citation are "not reported".
    """
    if catalog.synthetic and set(phantom.COLUMNS) <= set(catalog.frame.columns):
        known = {"licence": phantom.LICENCE, "citation": phantom.CITATION}
    elif patients.recognise(list(catalog.frame["path"])) is patients.GUANGZHOU:
        known = _GUANGZHOU
    else:
        known = {}
    unknown = {"name": catalog.name, "licence": NOT_REPORTED, "citation": NOT_REPORTED}
    return {**unknown, **known, "synthetic": catalog.synthetic}


def _built_in(progress: Callable[[int, int], None]) -> Path:
    """Return the folder of the built-in set, drawn now if it is not there yet."""
    folder = workspace.data_folder() / BUILT_IN
    if folder.is_dir():  # appears whole or not at all
        return folder
    with FileLock(folder.with_suffix(".lock")):
        if not folder.is_dir():
            unfinished = folder.with_suffix(".partial")
            shutil.rmtree(unfinished, ignore_errors=True)  # left by a process that was ended
            phantom.write(unfinished, BUILT_IN_IMAGES, BUILT_IN_SEED, progress=progress)
            unfinished.rename(folder)
    return folder

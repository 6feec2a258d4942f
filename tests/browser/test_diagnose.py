"""Films dropped on the Diagnose page in a real browser, from the first answer to the report."""

import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
import tiny
from playwright.sync_api import Page, expect
from studio import NEEDS_CHROMIUM, App, accept_the_notice

from cxr_core import zoo  # noqa: F401  registers the networks
from cxr_core.config import RunConfig
from cxr_core.data import phantom
from cxr_core.diagnosis import bundle
from cxr_core.diagnosis.bundle import DataInfo
from cxr_core.training.tracking import RunStore, Status
from cxr_core.zoo import registry

pytestmark = NEEDS_CHROMIUM


@pytest.fixture
def app(store: RunStore, workspace_folder: Path, tmp_path: Path) -> Iterator[App]:
    """The app with one model that has learned nothing, but is sure of what it says."""
    # As if of real films, it comes before the models that ship.
    films = DataInfo(name="films", synthetic=False, counts={})
    folder, info = tmp_path / "bundle", tiny.info(tiny.THREE, data=films)
    model = registry.build("plain_cnn", size=tiny.SIZE, outputs=info.outputs, seed=1)
    last = model.layers[-1]
    last.set_weights([30 * weights for weights in last.get_weights()])  # else no map shows a thing
    bundle.write(folder, info, model.save, tiny.SPLITS)
    run_id = store.create(RunConfig(name="tiny"), name="tiny")
    store.write_file(run_id, folder)
    store.set_status(run_id, Status.FINISHED)
    server = App(workspace_folder)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def films(tmp_path: Path) -> list[Path]:
    """A PNG, a DICOM film with text burned in, and a text that is named like a picture."""
    folder = tmp_path / "films"
    folder.mkdir()
    drawn = [phantom.draw(label, np.random.default_rng(3)).pixels for label in phantom.CLASSES]
    cv2.imwrite(str(folder / "film.png"), drawn[1])
    header = pydicom.Dataset()
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    header.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    header.PatientName = "Doe^Jane"
    header.Rows, header.Columns = drawn[2].shape
    header.BitsAllocated = header.BitsStored = 8
    header.HighBit, header.PixelRepresentation, header.SamplesPerPixel = 7, 0, 1
    header.PhotometricInterpretation, header.BurnedInAnnotation = "MONOCHROME2", "YES"
    header.PixelData = drawn[2].tobytes()
    header.save_as(folder / "film.dcm", enforce_file_format=True)
    (folder / "letter.png").write_text("Dear colleague, this is no film.")
    return [folder / name for name in ("film.png", "film.dcm", "letter.png")]


def settled(page: Page) -> None:
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")


def open_row(page: Page, number: int) -> None:
    """Click on a row of the table as a hand does: scrolled to, pointed at, then clicked."""
    table, place = page.get_by_test_id("stDataFrame").first, {"x": 260, "y": 36 + 62 * number + 31}
    table.scroll_into_view_if_needed()
    table.hover(position=place)
    table.click(position=place)
    cell = page.get_by_test_id(f"glide-cell-1-{number}")
    expect(cell).to_have_attribute("aria-selected", "true")


def test_three_files_have_three_outcomes_and_a_film_its_report(
    app: App, page: Page, films: list[Path], tmp_path: Path
) -> None:
    page.goto(f"{app.url}/diagnose")
    accept_the_notice(page)
    page.locator("input[type=file]").set_input_files(films)
    expect(page.get_by_text("3 files, 1 not read")).to_be_visible()
    answer = page.get_by_role("heading", name=re.compile(r"(likely|possible|called): .*\d\s%"))
    expect(answer).to_be_visible()
    heat_map = page.get_by_role("img", name="Heat map over film.png")
    expect(heat_map).to_be_visible()

    settled(page)  # a list that opens while its field is drawn anew closes again
    page.get_by_role("combobox", name=re.compile("Method")).click()
    page.get_by_role("option", name="HiResCAM", exact=True).click()
    expect(page.get_by_text(re.compile("What spoke for .*: HiResCAM")).first).to_be_visible()
    drawn = heat_map.get_attribute("src")
    page.get_by_role("slider", name="Opacity of the heat map").press("ArrowLeft")
    expect(heat_map).not_to_have_attribute("src", drawn or "")

    open_row(page, 2)
    expect(page.get_by_text("letter.png was not read")).to_be_visible()
    expect(answer).to_have_count(0)
    open_row(page, 1)
    expect(page.get_by_role("img", name="Heat map over film.dcm")).to_be_visible()
    burned_in = page.get_by_test_id("stAlert").filter(has_text="text is burned into the pixels")
    expect(burned_in).to_be_visible()
    expect(page.get_by_text("Jane")).to_have_count(0)

    with page.expect_download() as download:
        page.get_by_role("button", name="Report of this film (HTML)").click()
    report = tmp_path / download.value.suggested_filename
    download.value.save_as(report)
    assert report.name == "film-report.html"
    page.goto(report.as_uri())
    expect(page.get_by_text("film.dcm").first).to_be_visible()
    expect(page.get_by_text(re.compile("not for clinical use")).first).to_be_visible()
    expect(page.get_by_role("img").first).to_be_visible()
    assert "Jane" not in page.content()

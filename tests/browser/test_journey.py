"""The whole way through the app in a real browser: look, train, watch, come back, diagnose."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect
from studio import NEEDS_CHROMIUM, App, accept_the_notice, go_to

from cxr_core.training import jobs

TRAINING = 240_000  # ms the short training may take there

pytestmark = NEEDS_CHROMIUM


@pytest.fixture
def app(tmp_path: Path, phantoms: Path) -> Iterator[App]:
    workspace = tmp_path / "workspace"
    # Sixty films stand in for the built-in six hundred, whose drawing is tested elsewhere.
    shutil.copytree(phantoms, workspace / "data" / "phantom")
    server = App(workspace)
    server.start()
    yield server
    server.stop()
    for run in jobs.runs():  # a test that failed must not leave its training at work
        if run.status.active:
            jobs.cancel(run.run_id)


def take_films_from(page: Page, folder: Path) -> None:
    page.get_by_text("A folder on this machine").first.click()
    page.get_by_label("Folder", exact=True).fill(str(folder))
    page.get_by_label("Folder", exact=True).press("Enter")


def set_number(page: Page, label: str, value: int) -> None:
    field = page.get_by_label(label, exact=True)
    field.fill(str(value))
    field.press("Enter")
    expect(field).to_have_value(str(value))


def settled(page: Page) -> None:
    """Wait until the script has run through and what it no longer draws is gone."""
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")
    expect(page.get_by_label("Batch size (films)", exact=True)).to_have_count(1)


def unfold(page: Page, title: str) -> None:
    """Open a section that is folded, once more where the page was just drawn anew."""
    summary = page.locator("summary").filter(has_text=title).last
    for _ in range(5):
        summary.click()
        settled(page)
        if summary.locator("xpath=..").get_attribute("open") is not None:
            return


def choose(page: Page, label: str, option: str) -> None:
    page.get_by_role("combobox", name=re.compile(label)).click()
    page.get_by_role("option", name=option, exact=True).click()


def start_training(page: Page, *, epochs: int, size: int) -> None:
    go_to(page, "Train")
    expect(
        page.get_by_role("radiogroup", name="Films from").get_by_role("radio", checked=True)
    ).to_have_count(1)
    choose(page, "Recipe", "Plain CNN")
    expect(page.get_by_text("A small CNN from random weights")).to_be_visible()
    settled(page)
    set_number(page, "Image size (px)", size)
    set_number(page, "Epochs, at most", epochs)
    set_number(page, "Batch size (films)", 8)
    settled(page)  # a click on what is being drawn anew is lost
    unfold(page, "More settings")
    unfold(page, "Stopping and falling rate")
    expect(page.get_by_label("Patience (epochs)", exact=True)).to_be_visible()
    set_number(page, "Patience (epochs)", epochs)
    expect(page.get_by_text("4 settings changed.")).to_be_visible()  # the app knows them all
    settled(page)
    page.get_by_role("button", name=re.compile("^.*Train plain cnn on ")).click()
    expect(page.get_by_role("heading", name="plain_cnn", exact=True)).to_be_visible()


def batch_points(page: Page) -> Locator:
    """The batch points of the first chart, the loss."""
    return page.get_by_test_id("stPlotlyChart").first.locator(".scatterlayer .points path")


def wait_for_more_points(page: Page, than: int) -> int:
    page.wait_for_function(
        "than => { const chart = document.querySelector('[data-testid=stPlotlyChart]');"
        " return chart && chart.querySelectorAll('.scatterlayer .points path').length > than }",
        arg=than,
        timeout=TRAINING,
    )
    return batch_points(page).count()


def test_from_the_notice_to_a_diagnosis(app: App, page: Page, phantoms: Path) -> None:
    page.goto(app.url)
    expect(page.get_by_text("For research and teaching only")).to_be_visible()
    accept_the_notice(page)

    go_to(page, "Dataset")
    take_films_from(page, phantoms)
    expect(page.get_by_role("heading", name=re.compile("60 films of .* patients"))).to_be_visible()
    balance = page.get_by_role("figure", name=re.compile("Number of films by part and class"))
    expect(balance.get_by_text("TUBERCULOSIS")).to_be_visible()

    start_training(page, epochs=60, size=32)  # long enough to be seen at work on a fast machine
    page.evaluate("window.neverReloaded = true")
    seen = wait_for_more_points(page, than=0)
    wait_for_more_points(page, than=seen)
    assert page.evaluate("window.neverReloaded")

    page.reload()
    expect(page.get_by_text("For research and teaching only")).to_have_count(0)
    expect(page.get_by_role("heading", name="plain_cnn", exact=True)).to_be_visible()
    wait_for_more_points(page, than=0)

    diagnose = page.get_by_role("button", name="Diagnose with this model")
    expect(diagnose).to_be_visible(timeout=TRAINING)
    expect(page.get_by_text("On films it never saw:")).to_be_visible()
    diagnose.click()
    expect(page).to_have_url(re.compile("/diagnose"))
    film = next((phantoms / "images").glob("*.png"))
    page.locator("input[type=file]").set_input_files(film)
    expect(
        page.get_by_role("heading", name=re.compile(r"(likely|possible|called): .*\d %"))
    ).to_be_visible(timeout=TRAINING)
    expect(page.get_by_role("img", name=f"Heat map over {film.name}")).to_be_visible()
    expect(page.get_by_text("not for clinical use").first).to_be_visible()


def test_a_run_outlives_the_server_and_is_found_again(app: App, page: Page) -> None:
    page.goto(f"{app.url}/train")
    accept_the_notice(page)
    start_training(page, epochs=1000, size=80)
    wait_for_more_points(page, than=0)

    app.stop()
    app.start()
    page.goto(f"{app.url}/train")  # a page's own address, the first after the start
    expect(page.get_by_role("link", name="Dataset", exact=True)).to_be_visible()
    expect(page.get_by_role("heading", name="plain_cnn", exact=True)).to_be_visible()
    seen = wait_for_more_points(page, than=0)
    wait_for_more_points(page, than=seen)

    page.get_by_role("button", name="Stop early").click()
    expect(page.get_by_text("stopped early").first).to_be_visible(timeout=TRAINING)
    expect(page.get_by_role("button", name="Diagnose with this model")).to_be_visible()


def test_the_first_address_after_the_start_leads_past_the_notice_too(app: App, page: Page) -> None:
    page.goto(f"{app.url}/diagnose")
    expect(page.get_by_text("For research and teaching only")).to_be_visible()
    accept_the_notice(page)
    expect(page).to_have_url(re.compile("/diagnose"))
    expect(page.get_by_role("combobox", name=re.compile("Model"))).to_be_visible()

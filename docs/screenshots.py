"""Takes the pictures of the README: the app as it is, on the built-in synthetic films.

Starts the app in a workspace of its own, trains a model there if none is given, and writes PNG
files to docs/images/. Needs Playwright and Chromium (requirements-dev.txt, apt install chromium):

    python docs/screenshots.py                      # trains first: some minutes on two cores
    python docs/screenshots.py --workspace DIR      # a workspace that has a finished run
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

REPOSITORY = Path(__file__).resolve().parents[1]
IMAGES = REPOSITORY / "docs" / "images"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
]
WIDTH, HEIGHT = 1440, 900  # px, at twice the density
PATIENCE = 120_000  # ms


@contextmanager
def serve(workspace: Path) -> Iterator[str]:
    """Run the app on a free port; yield its address."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", "streamlit_app.py", f"--server.port={port}"],
        cwd=REPOSITORY,
        env={**os.environ, "CXR_HOME": str(workspace)},
    )
    try:
        while server.poll() is None:
            try:
                urllib.request.urlopen(f"http://localhost:{port}/_stcore/health").close()
                break
            except (urllib.error.URLError, ConnectionError):
                continue
        yield f"http://localhost:{port}"
    finally:
        server.kill()
        server.wait()


def train(workspace: Path, recipe: str) -> None:
    """Train a model on the built-in films, as the README says to."""
    subprocess.run(
        [sys.executable, "-m", "cxr_core", "train", recipe, "--json"],
        cwd=REPOSITORY,
        env={**os.environ, "CXR_HOME": str(workspace)},
        check=True,
    )


def shoot(page: Page, name: str) -> None:
    """Write one picture, as high as the page's content."""
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0)
    height = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
    page.set_viewport_size({"width": WIDTH, "height": max(HEIGHT, min(height, 1500))})
    page.mouse.move(0, 0)
    page.wait_for_load_state("networkidle")
    page.screenshot(path=IMAGES / f"{name}.png", animations="disabled")
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT})


def take(page: Page, address: str) -> None:
    """Walk through the app and take the pictures."""
    page.goto(address)
    page.get_by_role("button", name="I understand, open the studio").click()
    expect(page.get_by_text("Films in use")).to_be_visible()
    shoot(page, "home")

    page.get_by_role("link", name="Dataset", exact=True).click()
    expect(page.get_by_test_id("stPlotlyChart").first).to_be_visible()
    shoot(page, "dataset")
    page.get_by_role("tab", name="Films").click()
    expect(page.get_by_role("button", name="Show images/").first).to_be_attached()
    shoot(page, "films")

    page.get_by_role("link", name="Train", exact=True).click()
    expect(page.get_by_test_id("stPlotlyChart")).to_have_count(6)
    shoot(page, "train")
    page.get_by_role("tab", name="What it looks at").click()
    expect(page.get_by_test_id("stImage").first).to_be_visible()
    shoot(page, "attention")

    page.get_by_role("link", name="Runs", exact=True).click()
    page.get_by_role("tab", name="Test results").click()
    expect(page.get_by_text("At your own prevalence")).to_be_visible()
    shoot(page, "runs")
    page.get_by_role("tab", name="Mistakes").click()
    page.get_by_text("Least certain (").click()
    page.get_by_text("Heat maps", exact=True).click()
    expect(page.get_by_test_id("stImage")).to_have_count(12)
    shoot(page, "mistakes")
    page.get_by_role("tab", name="Trust").click()
    expect(page.get_by_text("By subgroup")).to_be_visible()
    shoot(page, "trust")

    page.get_by_role("link", name="Diagnose", exact=True).click()
    page.get_by_role("button", name="Try tuberculosis").click()
    expect(page.get_by_role("slider", name="Opacity of the heat map")).to_be_visible()
    shoot(page, "diagnose")


def main() -> None:
    """Parse the command line and do it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workspace", type=Path, help="one with a finished run in it")
    parser.add_argument("--recipe", default="plain_cnn", help="what to train where there is none")
    parser.add_argument("--scheme", choices=("dark", "light"), default="dark")
    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        parser.error("no Chromium on this machine: apt install chromium")
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        workspace = options.workspace or Path(folder)
        if options.workspace is None:
            train(workspace, options.recipe)
        with (
            serve(workspace) as address,
            sync_playwright() as playwright,
            playwright.chromium.launch(executable_path=chromium, args=FLAGS) as browser,
        ):
            page = browser.new_page(
                viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=options.scheme
            )
            page.set_default_timeout(PATIENCE)
            expect.set_options(timeout=PATIENCE)
            take(page, address)


if __name__ == "__main__":
    main()

"""A browser without a window: it visits the app, and draws charts into files."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from benchmarks import harness

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from playwright.sync_api import Browser

_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
_DRAW = "figure => Plotly.toImage(figure, {format: 'svg', ...figure.layout})"


@contextmanager
def chromium() -> Iterator["Browser"]:
    """Start a browser without a window.

    Raises:
        MissingError: there is none, or nothing to drive it with.
    """
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        raise harness.MissingError("there is no Chromium: apt install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise harness.MissingError("there is no Playwright: see requirements-dev.txt") from error
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=program, args=_FLAGS) as browser,
    ):
        yield browser


def svg(figure: "go.Figure") -> str:
    """Draw a chart, of the width and height that its layout names, px, as SVG.

    Raises:
        MissingError: there is no browser, or nothing to drive it with.
    """
    import plotly

    script = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    with chromium() as browser:
        page = browser.new_page()
        page.add_script_tag(path=script)
        drawn: str = page.evaluate(_DRAW, figure.to_plotly_json())
    return unquote(drawn.partition(",")[2]) + "\n"

"""The evidence beside an answer: chosen, looked at, tested, and forgotten with the film."""

from collections.abc import Callable

import numpy as np
import pytest
from conftest import Finished, texts
from streamlit.testing.v1 import AppTest

from cxr_core import images
from cxr_core.diagnosis.explain import METHODS
from cxr_core.ui import background, evidence_view, loaders, uploads, viewer

Open = Callable[..., AppTest]


def _select(app: AppTest, label: str, value: str) -> AppTest:
    return next(box for box in app.selectbox if box.label == label).set_value(value).run()


@pytest.mark.slow
def test_method_class_and_cells_are_chosen_on_the_page(open_page: Open, finished: Finished) -> None:
    film = uploads.Upload("a", "film.png", uploads.sample("TUBERCULOSIS"), synthetic=True)
    app = open_page("diagnose", uploads={"a": film})
    for method in ("hires_cam", "grad_cam_pp", "layer_cam"):
        app = _select(app, "Method", method)
        assert not app.exception
        kept = app.session_state["evidence"].maps
        assert method in {wanted[0] for wanted in kept}
    for target in ("NORMAL", "PNEUMONIA"):
        app = _select(app, "Evidence for", target)
    app = _select(app, "Cells", "block2_relu")
    assert not app.exception
    assert ("layer_cam", "PNEUMONIA", "block2_relu") in app.session_state["evidence"].maps
    if not app.session_state["evidence"].maps["layer_cam", "PNEUMONIA", "block2_relu"].flat:
        assert METHODS["layer_cam"].words in texts(app)
        assert "The scale is its own" in texts(app)
    beside = len(app.get("image"))  # with the samples
    for arranged in ("Overlay", "Swipe"):
        app.session_state["evidence_arranged"] = arranged
        app = app.run()
        assert not app.exception
        assert len(app.get("image")) == beside - 1
    assert "heat maps keep a likeness" in texts(app) or "never tested for sanity" in texts(app)


@pytest.mark.slow
def test_a_map_made_in_the_background_is_shown_and_forgotten_with_the_films(
    open_page: Open, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = uploads.Upload("a", "film.png", uploads.sample("PNEUMONIA"), synthetic=True)
    # The page waits for the background here: there is no browser that would ask again.
    monkeypatch.setattr(background, "EVERY", 120.0)
    app = open_page("diagnose", uploads={"a": film})
    app = _select(app, "Method", "smooth_grad")
    assert not app.exception
    assert METHODS["smooth_grad"].words in texts(app)
    assert "Test this map" in [button.label for button in app.button]
    app = next(b for b in app.button if b.label == "Remove all").click().run()
    assert "evidence" not in app.session_state


def test_left_of_the_line_is_the_film_and_right_of_it_the_map() -> None:
    film, over = np.zeros((10, 100), np.uint8), np.full((10, 100, 3), 200, np.uint8)
    wiped = evidence_view._wiped(film, over, 0.4)
    assert (wiped[:, :39] == 0).all()
    assert (wiped[:, 41:] == 200).all()
    assert (evidence_view._wiped(film, over, 0.0) == 200).all()
    assert (evidence_view._wiped(film, over, 1.0) == 0).all()


def test_films_of_every_size_are_shown_at_one_without_losing_their_proportions() -> None:
    for shape in ((100, 50), (2000, 3000), (900, 900)):
        shown = evidence_view._at_view(np.zeros(shape, np.uint8))
        assert max(shown.shape) == 900
        assert shown.shape[0] / shown.shape[1] == pytest.approx(shape[0] / shape[1], rel=0.01)


def test_an_inverted_film_is_black_for_white_within_its_window() -> None:
    film = np.array([[0, 100, 128, 200, 255]], np.uint8)
    plain = viewer.windowed(film, 128, 100)
    assert (viewer.windowed(film, 128, 100, invert=True) == 255 - plain).all()


def test_looking_closer_shows_all_pixels_of_a_film_and_its_histogram() -> None:
    def script() -> None:
        import numpy as np

        from cxr_core import images
        from cxr_core.ui import viewer

        pixels = np.random.default_rng(0).integers(0, 256, (2000, 1500)).astype(np.uint8)
        viewer.open_radiograph(images.Radiograph(pixels, "f.png", "PNG", "gray 8 bit"), "f")

    app = AppTest.from_function(script, default_timeout=60).run()
    assert not app.exception
    assert len(app.get("plotly_chart")) == 2
    assert {slider.label for slider in app.slider} == {"Level", "Window"}
    assert [toggle.label for toggle in app.toggle] == ["Invert"]
    whole = loaders.jpeg(np.zeros((2000, 1500), np.uint8), viewer._SIDE)
    assert images.read(whole, "f.jpg").pixels.shape == (2000, 1500)

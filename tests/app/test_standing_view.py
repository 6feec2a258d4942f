"""Beside an answer stands what it is worth; nothing of that beside a refusal."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from conftest import Finished, texts
from streamlit.testing.v1 import AppTest

from cxr_core.ui import uploads

Open = Callable[..., AppTest]

pytestmark = pytest.mark.slow


def test_an_answer_is_told_with_how_others_fared_how_steady_it_is_and_what_it_is_elsewhere(
    open_page: Open, finished: Finished
) -> None:
    film = uploads.Upload("a", "film.png", uploads.sample("TUBERCULOSIS"), synthetic=True)
    app = open_page("diagnose", uploads={"a": film})
    assert not app.exception
    said = texts(app)
    assert "test film" in said.partition("How far to trust it")[2]
    assert "over 8 slight changes of the film" in said
    assert "training films most like it are labelled" in said
    before = {each.label: each.value for each in app.metric}
    share = next(each for each in app.slider if each.label == "Share of people with any finding")
    assert "It begins at 66.7" in said
    app = share.set_value(1.0).run()
    assert not app.exception
    after = {each.label: each.value for each in app.metric}
    for name in ("Any finding", "Threshold"):
        assert _share(after[name]) < _share(before[name])
    app = app.switch_page("pages/runs.py").run().switch_page("pages/diagnose.py").run()
    assert {each.label: each.value for each in app.metric} == after


def test_a_refused_picture_has_no_standing_even_where_it_is_answered_for(
    open_page: Open, finished: Finished
) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (120, 120, 3), np.uint8)
    data = cv2.imencode(".png", colours)[1].tobytes()
    film = uploads.Upload("a", "cat.png", data, insisted=True)
    app = open_page("diagnose", uploads={"a": film})
    assert not app.exception
    assert app.header[0].value == "Refused, answered on request"
    assert "How far to trust it" not in texts(app)
    assert "most like it" not in texts(app)


def _share(written: str) -> float:
    return float(written.removesuffix(" %").split()[-1])

"""The models that come with the app, and runs that begin from them, on every page."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Finished, texts
from streamlit.testing.v1 import AppTest

from cxr_core.config import RunConfig
from cxr_core.diagnosis import bundle
from cxr_core.training import bundle_index, jobs
from cxr_core.training.tracking import TAG_NOTES, RunStore, Status
from cxr_core.ui import uploads

Open = Callable[..., AppTest]

PAGES = ("home", "dataset", "train", "runs", "diagnose")
TABS = ("Training", "Test results", "Mistakes", "Trust", "Card", "Settings", "Files")
SHIPPED = ("phantom_v1", "pneumonia_v1")


@pytest.fixture(scope="module", params=SHIPPED)
def _continued(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, phantoms: Path
) -> Iterator[Finished]:
    """A run of an epoch that began from a shipped model."""
    home = tmp_path_factory.mktemp(request.param)
    model = bundle.read(bundle_index.resolve(request.param))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXR_HOME", str(home))
        config = RunConfig().with_values(
            {
                **{f"model.{key}": value for key, value in model.config["model"].items()},
                "model.weights": f"bundle:{request.param}",
                "data.root": str(phantoms),
                "image.size": 64,
                "optimise.epochs": 1,
                "optimise.batch_size": 16,
            }
        )
        store = RunStore()
        ended = jobs.wait(jobs.start(config, store=store), store)
    assert ended.status is Status.FINISHED, ended.reason
    yield Finished(home, ended.run_id)


@pytest.fixture
def continued(_continued: Finished, monkeypatch: pytest.MonkeyPatch) -> Finished:
    """The workspace of that run, as the workspace of this test."""
    monkeypatch.setenv("CXR_HOME", str(_continued.workspace))
    return _continued


def test_diagnose_opens_with_the_model_of_real_films(open_page: Open):
    app = open_page("diagnose")
    assert not app.exception
    assert next(box for box in app.selectbox if box.label == "Model").value == "pneumonia_v1"
    assert "learned from films of" in texts(app)


def test_a_shipped_models_card_is_read_on_diagnose(open_page: Open):
    app = open_page("diagnose")
    app = next(b for b in app.button if b.label == "Model card").click().run()
    assert not app.exception
    assert "CC BY 4.0" in texts(app)
    assert "Lungs masked" in texts(app)


@pytest.mark.slow
def test_a_synthetic_sample_brings_the_model_that_knows_such_films(open_page: Open):
    app = open_page("diagnose")
    assert "Synthetic ones are judged by phantom" in texts(app)
    app = next(b for b in app.button if b.label == "Try tuberculosis").click().run()
    assert not app.exception
    assert next(box for box in app.selectbox if box.label == "Model").value == "phantom_v1"
    assert "uberculosis" in app.header[0].value
    assert "judged by" not in texts(app)
    # A film of another origin goes to the model that was in use before.
    next(b for b in app.button if b.label == "Remove all").click()
    app = app.run()
    app = next(b for b in app.button if b.label == "Try a DICOM film").click().run()
    assert next(box for box in app.selectbox if box.label == "Model").value == "pneumonia_v1"


@pytest.mark.slow
def test_a_model_of_one_finding_names_it(open_page: Open):
    held = {
        name: uploads.Upload(name, name, uploads.sample(name), insisted=True)
        for name in ("NORMAL", "PNEUMONIA")
    }
    app = open_page("diagnose", uploads=held, model_spec="pneumonia_v1")
    assert not app.exception
    columns = json.loads(app.dataframe[0].proto.columns)
    assert columns["Probability"]["label"] == "Pneumonia"
    assert "any finding" not in texts(app).lower()
    assert "a finding" not in texts(app)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_a_run_that_began_from_a_shipped_model_is_on_every_page(
    page: str, open_page: Open, continued: Finished
):
    app = open_page(page, model_spec=continued.run_id)
    assert not app.exception
    assert app.title[0].value


@pytest.mark.slow
def test_every_tab_of_a_run_that_began_from_a_shipped_model_opens(
    open_page: Open, continued: Finished
):
    app = open_page("runs")
    app.query_params["run"] = continued.run_id
    for tab in TABS:
        app.session_state[f"tabs:{continued.run_id}"] = tab
        app = app.run()
        assert not app.exception, tab
        assert not app.error, tab
    assert "come from the bundle" in RunStore().get(continued.run_id).tags[TAG_NOTES]

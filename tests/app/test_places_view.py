"""Where to train: asked only where there is a choice; what the nodes say stands beside it."""

from collections.abc import Callable
from typing import Any

import fake_runs
import pytest
from conftest import texts
from streamlit.testing.v1 import AppTest

from cxr_core import cluster
from cxr_core.cluster import survey
from cxr_core.cluster.launcher import RayLauncher, SweepLauncher
from cxr_core.cluster.survey import Node
from cxr_core.errors import TrainingError
from cxr_core.training import jobs, sweeps
from cxr_core.training.machine import code_version
from cxr_core.training.tracking import TAG_NODE, TAG_PLACE, RunStore, Status

Open = Callable[..., AppTest]
TITLE = "Where to train"


def node(**changes: object) -> Node:
    alike = {name: survey._version(name) for name in survey._DECISIVE}
    fields: dict[str, Any] = {"host": "one", "node_id": "1", "cores": 4, "gpus": 0}
    return Node(**{**fields, "packages": alike, "code": code_version(), **changes})


def choices(app: AppTest) -> list[str]:
    return [each.label for each in app.get("button_group")]


@pytest.fixture(autouse=True)
def asked(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The clusters that were asked; each has two nodes that lack nothing."""
    addresses: list[str] = []

    def look(address: str, *_: object) -> list[Node]:
        addresses.append(address)
        return [node(), node(host="two", node_id="2")]

    monkeypatch.setattr(survey, "look", look)
    monkeypatch.setattr(cluster, "installed", lambda: True)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return addresses


def test_where_there_is_no_ray_nothing_is_asked(
    open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "installed", lambda: False)
    app = open_page("train")
    assert TITLE not in choices(app)


def test_this_machine_is_where_runs_train_and_no_cluster_is_asked(
    open_page: Open, asked: list[str]
) -> None:
    app = open_page("train")
    assert TITLE in choices(app)
    assert asked == []


def test_a_run_goes_to_the_cluster_that_was_chosen(
    open_page: Open, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    handed: list[object] = []

    def start(*_: object, launcher: object, **__: object) -> str:
        handed.append(launcher)
        return fake_runs.make(Status.FINISHED)

    monkeypatch.setattr(jobs, "start", start)
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    app = open_page("train", train_where="ray")
    assert asked == ["head:6379"]
    said = texts(app)
    assert "2 nodes with 8 cores and no GPU in all. The run takes 4 cores of one of them." in said
    start_button = next(each for each in app.button if each.key == "start_run")
    assert start_button.label.endswith("on the cluster")
    start_button.click().run()
    assert isinstance(handed[0], RayLauncher)
    assert asked == ["head:6379"]  # remembered


def test_a_sweep_sends_its_trials_to_the_cluster_that_is_chosen(
    open_page: Open, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    handed: list[Any] = []

    def start(_config: object, search: object, *, launcher: object, **__: object) -> str:
        handed.append((search, launcher))
        return fake_runs.make(Status.FINISHED)

    monkeypatch.setattr(sweeps, "start", start)
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    app = open_page("train", train_where="ray")
    app.number_input(key="sweep:at_once").set_value(3).run()
    app.button(key="start_sweep").click().run()
    ((search, launcher),) = handed
    assert search.at_once == 3
    assert isinstance(launcher, SweepLauncher)
    assert launcher._command("abc")[-3:] == ["cxr_core.cluster.sweep_worker", "abc", "head:6379"]


def test_without_an_address_the_cluster_of_this_machine_is_asked_or_one_that_is_typed(
    open_page: Open, asked: list[str]
) -> None:
    app = open_page("train", train_where="ray")
    app.text_input(key="train_cluster").set_value("head:6379").run()
    assert asked == ["auto", "head:6379"]


def test_a_cluster_that_is_away_or_lacks_the_films_keeps_the_button_shut(
    open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey, "look", lambda *_: [node(missing=("/films",))])
    app = open_page("train", train_where="ray")
    assert "one has no such folder" in texts(app)

    def away(*_: object) -> list[Node]:
        raise TrainingError("The Ray cluster does not answer.")

    monkeypatch.setattr(survey, "look", away)
    app = next(each for each in app.button if each.key == "ask_cluster").click().run()
    assert "The Ray cluster does not answer." in texts(app)
    assert next(each for each in app.button if each.key == "start_run").disabled


def test_a_run_on_a_cluster_says_which_node_has_it(open_page: Open) -> None:
    run_id = fake_runs.make(Status.RUNNING)
    RunStore().set_tags(run_id, {TAG_PLACE: "ray head:6379", TAG_NODE: "gpu-box (node 1a2b3c4d)"})
    app = open_page("train")
    assert "on gpu-box (node 1a2b3c4d), " in texts(app)

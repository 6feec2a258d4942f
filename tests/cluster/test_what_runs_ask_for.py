"""What a run asks of a cluster, and what the nodes' answers mean for it; no Ray needed."""

import pytest

from cxr_core.cluster import demand, launcher, survey
from cxr_core.cluster.demand import Capacity, Demand
from cxr_core.cluster.survey import Node
from cxr_core.config import RunConfig
from cxr_core.errors import ConfigError, TrainingError
from cxr_core.training import jobs
from cxr_core.training.machine import code_version

SMALL, LARGE, CARDS = Capacity(4, 0), Capacity(16, 0), Capacity(32, 4)
HEAD = Capacity(0, 0)  # offers nothing: it only keeps the cluster together


@pytest.mark.parametrize(
    ("device", "cores", "nodes", "expected"),
    [
        ("auto", 0, [SMALL, LARGE], Demand(4, 0)),  # every node can have it
        ("auto", 0, [HEAD, SMALL], Demand(4, 0)),
        ("auto", 0, [SMALL, CARDS], Demand(8, 1)),  # a GPU comes with its share of the cores
        ("auto", 2, [SMALL, CARDS], Demand(2, 1)),
        ("cpu", 0, [LARGE, CARDS], Demand(16, 0)),  # the cores beside GPUs are theirs
        ("cpu", 0, [CARDS], Demand(32, 0)),
        ("gpu", 0, [Capacity(2, 8)], Demand(1, 1)),
        ("gpu", 0, [SMALL], Demand(1, 1)),  # no node has it: it waits
        ("all_gpus", 0, [Capacity(8, 2), CARDS], Demand(32, 4)),
        ("all_gpus", 0, [], Demand(1, 1)),
    ],
)
def test_a_run_asks_for_what_its_settings_and_the_nodes_say(device, cores, nodes, expected):
    hardware = RunConfig().with_values({"hardware.device": device, "hardware.cores": cores})
    assert demand.of(hardware.hardware, nodes) == expected


def node(**changes: object) -> Node:
    alike = {name: survey._version(name) for name in survey._DECISIVE}
    fields = {"host": "one", "node_id": "1", "cores": 4, "gpus": 0, "packages": alike}
    return Node(**{**fields, "code": code_version(), **changes})  # type: ignore[arg-type]


def found(*nodes: Node, **changes: object) -> dict[str, str]:
    config = RunConfig().with_values({"data.root": "/films", **changes})
    return {problem.title: problem.text for problem in survey.problems(config, nodes)}


def test_nodes_that_have_all_a_run_needs_say_nothing_against_it():
    assert found(node(), node(host="two")) == {}


def test_nodes_without_the_films_are_named_unless_they_train_nothing():
    lacking = [node(host=host, missing=("/films",)) for host in ("one", "two")]
    (text,) = found(*lacking, node(host="three")).values()
    assert "/films, and one and two have no such folder" in text
    assert found(node(cores=0, missing=("/films",)), node()) == {}


def test_a_run_larger_than_every_node_is_refused_with_what_there_is():
    text = found(node(), **{"hardware.cores": 64})["No node is large enough"]
    assert "asks for 64 cores. There are one with 4 cores, no GPU." in text


@pytest.mark.parametrize(
    ("changes", "title", "words"),
    [
        ({"store": "It is not here."}, "A node does not reach the run store", "one: It is not"),
        ({"error": "No module named 'cxr_core'"}, "A node cannot train", "PYTHONPATH"),
        ({"code": "0.0.1"}, "A node has other versions", "cxr_core 0.0.1"),
    ],
)
def test_what_is_wrong_with_a_node_is_told_with_its_name(changes, title, words):
    assert words in found(node(**changes))[title]


def test_a_place_is_here_the_environments_cluster_or_an_address(store, monkeypatch):
    assert launcher.named("here", store) is None
    assert launcher.address("ray") == "auto"
    assert launcher.address("ray://head:10001") == "ray://head:10001"
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert launcher.address("ray") == "head:6379"
    with pytest.raises(ConfigError, match="'there' is no place to train"):
        launcher.named("there", store)


def test_a_run_goes_on_where_it_was(store):
    on_cluster = store.create(RunConfig(), name="run", tags={"cxr.place": "ray head:6379"})
    here = store.create(RunConfig(), name="run")
    assert isinstance(launcher.of(store.get(on_cluster), store), launcher.RayLauncher)
    assert launcher.of(store.get(here), store) is None


def test_what_the_cluster_says_takes_the_place_of_what_this_machine_says(store, monkeypatch):
    """A GPU and a folder that are not here are no reason to refuse a run there."""
    there = launcher.RayLauncher(store, "head:6379")
    nodes = [node(gpus=2)]
    monkeypatch.setattr(survey, "look", lambda *_: nodes)
    handed: list[str] = []
    monkeypatch.setattr(there, "start", handed.append)
    config = RunConfig().with_values({"data.root": "/films", "hardware.device": "gpu"})
    run_id = jobs.start(config, store=store, launcher=there)
    assert handed == [run_id]
    nodes[:] = [node()]
    with pytest.raises(TrainingError, match="No node is large enough"):
        jobs.start(config, store=store, launcher=launcher.RayLauncher(store, "head:6379"))


def test_a_cluster_without_ray_installed_here_is_a_sentence(store, monkeypatch):
    monkeypatch.setattr("cxr_core.cluster.installed", lambda: False)
    with pytest.raises(TrainingError, match=r"pip install -r requirements-ray\.txt"):
        jobs.start(RunConfig(), store=store, launcher=launcher.RayLauncher(store, "head:6379"))
    assert store.list() == []

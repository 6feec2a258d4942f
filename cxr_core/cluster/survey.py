"""What there is on a cluster, node by node, and what stands in the way of a run there."""

import importlib.metadata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cxr_core import workspace
from cxr_core.cluster import demand, envoy
from cxr_core.cluster.demand import Capacity
from cxr_core.config import RunConfig
from cxr_core.data import sources
from cxr_core.training.checks import Problem
from cxr_core.training.machine import code_version
from cxr_core.training.tracking import RunStore

# What decides what a run gives; other packages may differ.
_DECISIVE = ("tensorflow", "keras", "numpy", "opencv-python-headless", "mlflow-skinny", "ray")


@dataclass(frozen=True)
class Node:
    """One machine of a cluster, as it answered."""

    host: str
    node_id: str
    cores: int  # offered to runs
    gpus: int
    error: str = ""  # why it cannot have a run at all, "" where it can
    store: str = ""  # why it does not reach the run store, a sentence; "" where it does
    python: str = ""
    code: str = ""  # version of this package
    packages: Mapping[str, str] = field(default_factory=dict)  # name -> version
    missing: tuple[str, ...] = ()  # of the folders that it was asked for, those it lacks

    @property
    def capacity(self) -> Capacity:
        """What it offers to runs."""
        return Capacity(self.cores, self.gpus)

    @property
    def words(self) -> str:
        """What it offers, for people."""
        gpus = f"{self.gpus} GPU{'s' * (self.gpus != 1)}" if self.gpus else "no GPU"
        return f"{self.cores} core{'s' * (self.cores != 1)}, {gpus}"

    @property
    def differences(self) -> str:
        """What is of another version than here, in words; "" where all is alike."""
        if self.error:
            return ""
        here = {name: _version(name) for name in _DECISIVE}
        pairs = [(name, self.packages.get(name, "missing"), here[name]) for name in _DECISIVE]
        pairs.append(("cxr_core", self.code, code_version()))
        return ", ".join(
            f"{name} {there} (here {own})" for name, there, own in pairs if there != own
        )


def look(address: str, store: RunStore, roots: Sequence[str] = ()) -> list[Node]:
    """Ask every node of a cluster what there is; takes some seconds, two minutes at most.

    Args:
        address: the cluster, as Ray takes it.
        store: the run store that its nodes must reach.
        roots: folders or files that must be there.

    Raises:
        TrainingError: Ray is not installed here, or the cluster does not answer.
    """
    return answers(
        envoy.ask(
            "survey",
            address,
            store=store.uri,
            files_at=store.files_at,
            run_id=next((run.run_id for run in store.list()), ""),
            roots=list(roots),
            packages=list(_DECISIVE),
        )
    )


def answers(told: Iterable[Mapping[str, Any]]) -> list[Node]:
    """Return the nodes from what `envoy.survey` found."""
    return [Node(**{**each, "missing": tuple(each.get("missing", ()))}) for each in told]


def roots(config: RunConfig) -> tuple[str, ...]:
    """Return what a run must find on its node: its films, unless the node draws them itself."""
    root = config.data.root
    return () if root == sources.BUILT_IN else (str(Path(root).expanduser().resolve()),)


def problems(config: RunConfig, nodes: Sequence[Node]) -> Iterator[Problem]:
    """Yield what stands against a run on a cluster.

    Args:
        config: what is to be trained.
        nodes: as they answered, asked for the :func:`roots` of this configuration.
    """
    for node in nodes:
        yield from _of_node(node)
    without = list(dict.fromkeys(node.host for node in nodes if node.missing and node.cores))
    if without:
        lack = "have no" if len(without) > 1 else "has no"
        yield Problem(
            "error",
            "The films are not on the cluster",
            f"data.root is {config.data.root}, and {_and(without)} {lack} such folder.",
            "Put the films where every node finds them at this path, as on a shared disk.",
        )
    wanted = demand.of(config.hardware, [node.capacity for node in nodes])
    if not any(wanted.fits(node.capacity) for node in nodes):
        yield Problem(
            "error",
            "No node is large enough",
            f"The run asks for {wanted.words}. There are "
            f"{'; '.join(f'{node.host} with {node.words}' for node in nodes)}.",
            "Lower hardware.cores, choose another hardware.device, or add a node.",
        )


def _of_node(node: Node) -> Iterator[Problem]:
    if node.error:
        yield Problem(
            "error",
            "A node cannot train",
            f"{node.host}: {node.error.rstrip('.')}.",
            mend(node.error),
        )
    elif node.store:
        yield Problem("error", "A node does not reach the run store", f"{node.host}: {node.store}")
    elif node.differences:
        yield Problem(
            "warning",
            "A node has other versions",
            f"{node.host}: {node.differences}. Its runs may give other results, or fail.",
            "Install the same there.",
        )


def mend(error: str) -> str:
    """Return what to do where a node cannot have a run.

    Args:
        error: what it said, as `Node.error`.
    """
    if "cxr_core" in error:
        return (
            f"Start Ray there with PYTHONPATH set to a checkout of this version "
            f"({code_version()}), or put one at {workspace.REPOSITORY}."
        )
    return "Look into the logs of Ray on that machine, or start Ray there anew."


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))

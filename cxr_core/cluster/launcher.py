"""Hands runs to a Ray cluster, from any process that reaches it and the run store."""

import math
import sys
import tempfile
import time
from pathlib import Path

from cxr_core import cluster
from cxr_core.cluster import envoy, node, survey
from cxr_core.config import RunConfig
from cxr_core.data import exclusions, sources
from cxr_core.errors import ConfigError, TrainingError
from cxr_core.training import folds
from cxr_core.training.checks import Problem
from cxr_core.training.jobs import Launcher, LocalLauncher
from cxr_core.training.tracking import (
    TAG_PHASE,
    TAG_PLACE,
    TAG_SEEN_AT,
    Kind,
    RunRecord,
    RunStore,
)

_ANSWERED = 60.0  # seconds for which a cluster that answered is not asked again


class RayLauncher:
    """Hands runs to a cluster, whose scheduler begins each on a node that has what it asks for.

    Args:
        store: the run store, which the nodes must reach too.
        address: the cluster, as Ray takes it: "auto" for the one that this machine is a node of,
            "HOST:PORT", or "ray://HOST:PORT" from outside.
    """

    def __init__(self, store: RunStore, address: str) -> None:
        self._store, self._address = store, address
        self._place, self._reached_at = "", -math.inf
        self._nodes: dict[tuple[str, ...], tuple[float, list[survey.Node]]] = {}

    def check(self, config: RunConfig) -> list[Problem]:
        """Return what stands against a run there; asks every node, which takes some seconds."""
        roots = survey.roots(config)
        at, nodes = self._nodes.get(roots, (-math.inf, []))
        if time.monotonic() - at >= _ANSWERED:
            try:
                nodes = survey.look(self._address, self._store, roots)
            except TrainingError as error:
                return [Problem("error", "The cluster is not there", str(error))]
            self._nodes[roots] = (time.monotonic(), nodes)
        return list(survey.problems(config, nodes))

    def start(self, run_id: str) -> None:
        """Hand over a queued run.

        Raises:
            TrainingError: the cluster does not answer.
            DatasetError: the list of the set's excluded films is damaged.
        """
        root = sources.folder(self._store.config(run_id).data.root).resolve()
        left_out = exclusions.taken_along(root)
        if left_out is not None:
            folder, _, name = node.LEFT_OUT.rpartition("/")
            with tempfile.TemporaryDirectory() as scratch:
                file = Path(scratch) / name
                file.write_bytes(left_out)
                self._store.write_file(run_id, file, folder)
        if time.monotonic() - self._reached_at >= _ANSWERED:
            self._place = envoy.ask("reach", self._address, store=self._store.uri)
            self._reached_at = time.monotonic()
        # From here on it is the cluster's.
        now = f"{time.time():.0f}"
        self._store.set_tags(
            run_id,
            {TAG_PHASE: "waiting for a node", TAG_SEEN_AT: now, TAG_PLACE: self._place},
        )


class SweepLauncher(LocalLauncher):
    """Starts the worker of a sweep on this machine; its trials are handed to a cluster.

    Args:
        store: the run store, which the nodes must reach too.
        address: the cluster, as `RayLauncher` takes it.
    """

    def __init__(self, store: RunStore, address: str) -> None:
        super().__init__(store)
        self._address = address
        self._there = RayLauncher(store, address)

    def check(self, config: RunConfig) -> list[Problem]:
        """Return what stands against a trial there; asks every node, which takes some seconds."""
        return self._there.check(config)

    def _command(self, run_id: str) -> list[str]:
        module = "cxr_core.cluster.sweep_worker"
        return [sys.executable, "-P", "-m", module, run_id, self._address]


def for_sweep(on: str, store: RunStore) -> Launcher | None:
    """Return who starts the worker of a sweep whose trials train at a place that somebody named.

    Args and errors as of :func:`named`.
    """
    return None if on == cluster.HERE else SweepLauncher(store, address(on))


def named(on: str, store: RunStore) -> Launcher | None:
    """Return who starts workers at a place that somebody named.

    Args:
        on: "here"; "ray" for the cluster of ``RAY_ADDRESS``, else the one that this machine is a
            node of; or a cluster's address.
        store: where runs are kept.

    Returns:
        None for this machine.

    Raises:
        ConfigError: it is none of these.
    """
    if on == cluster.HERE:
        return None
    return RayLauncher(store, address(on))


def address(on: str) -> str:
    """Return the address of a cluster that somebody named.

    Raises:
        ConfigError: it is neither "ray" nor an address.
    """
    if on == "ray":
        return cluster.address() or cluster.AUTO
    if on == cluster.AUTO or ":" in on:
        return on
    raise ConfigError(
        f"'{on}' is no place to train. Say 'here', 'ray' (the cluster of RAY_ADDRESS, or of this "
        "machine), or a cluster's address: HOST:PORT, ray://HOST:PORT."
    )


def of(record: RunRecord, store: RunStore) -> Launcher | None:
    """Return who starts a run's worker again: a cluster's where it had the run, None for here.

    A cross-validation is where its folds are, a sweep where its trials are.
    """
    whole = record.kind in (Kind.FOLDS, Kind.SWEEP)
    runs = folds.children(record.run_id, store) if whole else [record]
    place = next((run.place for run in runs if run.place), "")
    if not place:
        return None
    there = SweepLauncher if record.kind is Kind.SWEEP else RayLauncher
    return there(store, cluster.address() or place.partition(" ")[2])

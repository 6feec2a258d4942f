"""Scoring an archive on a cluster: any number of films through a pool of predictors.

Ray Data streams the films' paths to the pool and the answers back, a block at a time, with no more
under way than the pool can take; so the memory is the same for a hundred films and for millions.
The model goes along: only the films must be where every node finds them.
"""

import logging
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from cxr_core.cluster import envoy, survey
from cxr_core.cluster.demand import Capacity
from cxr_core.cluster.survey import Node
from cxr_core.diagnosis import scoring
from cxr_core.diagnosis.answer_parts import schema, text
from cxr_core.errors import TrainingError
from cxr_core.training.machine import THREADS

if TYPE_CHECKING:
    import ray

Score = Callable[[Iterable[Path]], Iterator[dict[str, Any]]]

_BLOCK = 128  # films that a predictor is given at a time, at most
_TURNS = 4  # blocks a predictor, of fewer films: the others should not wait for the last one
# Films whose paths are held at a time; after so many the pool is made anew, which takes seconds.
_PORTION = 100_000
_CORES = 4  # of a predictor, where there are so many and no GPU: more help it little


@dataclass(frozen=True)
class Pool:
    """The predictors at work, and what each takes of its node."""

    predictors: int
    cores: int
    gpus: int


def pool(nodes: Sequence[Capacity], number: int | None) -> Pool:
    """Return how many predictors there are to be, and how large.

    Args:
        nodes: those of the cluster.
        number: how many predictors somebody asked for; by default one a GPU, or without any GPU
            one for every four cores of a node, and one on every node.
    """
    nodes = [node for node in nodes if node.cores] or [Capacity(1, 0)]
    gpus = sum(node.gpus for node in nodes)
    if gpus and (number is None or number <= gpus):
        share = min(node.cores // node.gpus for node in nodes if node.gpus)
        return Pool(number or gpus, max(1, share), 1)
    if number is None:
        cores = min(_CORES, *(node.cores for node in nodes))
        return Pool(max(1, sum(node.cores // cores for node in nodes)), cores, 0)
    cores = max(node.cores for node in nodes)
    while cores > 1 and sum(node.cores // cores for node in nodes) < number:
        cores -= 1
    return Pool(number, cores, 0)


@contextmanager
def predictors(
    folder: Path, places: Sequence[Path], address: str, number: int | None = None
) -> Iterator[Score]:
    """Give what answers for films on a cluster: a row each, in the order in which they are done.

    A row is as `scoring.Scored.as_row` gives it. This process is a driver of the cluster while the
    context lasts, and would end with its node.

    Args:
        folder: the model's bundle.
        places: what was named to find films; what is here must be on every node.
        address: the cluster, as Ray takes it.
        number: how many predictors are to work; as :func:`pool` decides by default.

    Raises:
        TrainingError: Ray is not installed here, the cluster does not answer, a node lacks the
            films or this package; of what was given also where the model cannot be loaded there.
    """
    envoy.require_ray()
    if address.startswith("ray://"):
        raise TrainingError(
            f"Answers stream to a machine of the cluster, and {address} is spoken to from outside. "
            "Run predict on one of its machines, with --on ray."
        )
    content = {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    with envoy.connection(address):
        # What is not even here gets its row, as on one machine.
        roots = [str(place.absolute()) for place in places if place.exists()]
        nodes = survey.answers(envoy.survey(roots=roots))
        _require_films(nodes)
        workers = pool([node.capacity for node in nodes], number)

        def score(films: Iterable[Path]) -> Iterator[dict[str, Any]]:
            wanted = iter(films)
            for first in wanted:
                portion = chain([first], islice(wanted, _PORTION - 1))
                yield from _score(content, portion, workers)

        yield score


def _score(
    content: dict[str, bytes], films: Iterator[Path], workers: Pool
) -> Iterator[dict[str, Any]]:
    import ray
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what fails is told below, once
    blocks = _blocks(list(films), workers.predictors)
    asked = ray.data.from_arrow(blocks).map_batches(
        _Scorer,
        fn_constructor_args=(ray.put(content), workers.cores),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=workers.cores,
        num_gpus=workers.gpus,
        compute=ray.data.ActorPoolStrategy(size=min(workers.predictors, len(blocks))),
    )
    try:
        answers: Iterable[Any] = asked.iter_batches(batch_size=None, batch_format="pyarrow")
        for table in answers:
            yield from table.to_pylist()
    except ray.exceptions.RayError as error:
        raise TrainingError(
            f"The cluster could not go on with the films. {envoy.cause(error)} What is in the "
            "table already stays; go on with --resume."
        ) from error


def _blocks(films: Sequence[Path], predictors: int) -> list[pa.Table]:
    """Return tables of films: their paths as they were named, and as every node finds them."""
    size = max(scoring.BATCH, min(_BLOCK, math.ceil(len(films) / predictors / _TURNS)))
    # Names of files may hold bytes that are no text.
    named = [os.fsencode(film) for film in films]
    found = [os.fsencode(film.absolute()) for film in films]
    return [
        pa.table({"named": named[start : start + size], "path": found[start : start + size]})
        for start in range(0, len(films), size)
    ]


def _require_films(nodes: Sequence[Node]) -> None:
    for node in nodes:
        if node.error:
            raise TrainingError(
                f"{node.host} cannot score: {node.error}. {survey.mend(node.error)}"
            )
        if node.cores and node.missing:
            raise TrainingError(
                f"{node.host} has no {node.missing[0]}. Put the films where every node finds them "
                "at this path, as on a shared disk."
            )


class _Scorer:
    """A predictor on a node.

    Args:
        content: a reference to the files of the bundle.
        cores: how many it may use.
    """

    def __init__(self, content: "ray.ObjectRef[dict[str, bytes]]", cores: int) -> None:
        import ray

        os.environ[THREADS] = str(cores)  # before TensorFlow is imported
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        from cxr_core.diagnosis.predictor import Predictor

        with tempfile.TemporaryDirectory() as name:
            for path, data in ray.get(content).items():
                file = Path(name) / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data)
            self._predictor = Predictor(Path(name))
        self._classes = self._predictor.info.classes
        self._schema = schema(scoring.columns(self._classes))

    def __call__(self, films: pa.Table) -> pa.Table:
        """Return the rows of a block of films."""
        paths = [Path(os.fsdecode(path)) for path in films.column("path").to_pylist()]
        outcomes = scoring.score(self._predictor, ((path, Path(path.name)) for path in paths))
        rows = [outcome.as_row(self._classes) for outcome in outcomes]
        for row, named in zip(rows, films.column("named").to_pylist(), strict=True):
            row["path"] = text(os.fsdecode(named))
        return pa.Table.from_pylist(rows, self._schema)

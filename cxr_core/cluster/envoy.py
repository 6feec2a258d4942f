"""Speaks with a cluster for a process that must not: whoever connects to Ray ends with its node.

``python -m cxr_core.cluster.envoy VERB ARGUMENTS`` answers with JSON on stdout; `ask` calls it.
"""

import contextlib
import json
import logging
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from cxr_core import cluster, workspace
from cxr_core.errors import CxrError, TrainingError

_PATIENCE = 120.0  # seconds for a cluster to answer
_LISTENS = 5.0  # seconds for a connection to its address
_CONNECTS = 30.0  # seconds to become a driver of it
_NODE_PATIENCE = 60.0  # seconds for a node to answer: what it imports may lie on a slow disk
NAMESPACE = "cxr-studio"


def ask(verb: str, address: str, **arguments: Any) -> Any:
    """Ask a cluster something; return the plain values that it answers with.

    Args:
        verb: "reach" or "survey".
        address: as Ray takes it: "auto", "HOST:PORT" or "ray://HOST:PORT".
        arguments: of the verb.

    Raises:
        TrainingError: Ray is not installed here, or the cluster does not answer.
    """
    require_ray()
    command = [sys.executable, "-P", "-m", "cxr_core.cluster.envoy", verb, address]
    paths = [str(workspace.REPOSITORY), os.environ.get("PYTHONPATH", "")]
    try:
        done = subprocess.run(
            [*command, json.dumps(arguments)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _unreachable(address, f"nothing came back within {_PATIENCE:.0f} s") from None
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        last = done.stderr.strip().rpartition("\n")[2]
        raise _unreachable(address, last or f"status {done.returncode}") from None
    if "error" in answer:
        raise TrainingError(answer["error"])
    return answer["found"]


def require_ray() -> None:
    """Refuse to go on without Ray.

    Raises:
        TrainingError: it is not installed here.
    """
    if not cluster.installed():
        raise TrainingError(
            "Ray is not installed here, and a cluster needs it: pip install -r "
            f"{cluster.REQUIREMENTS}."
        )


def _unreachable(address: str, why: str) -> TrainingError:
    which = "on this machine" if address == cluster.AUTO else f"at {address}"
    return TrainingError(
        f"The Ray cluster {which} does not answer: {why.rstrip('.')}. Start one with 'ray start "
        "--head', or name another (RAY_ADDRESS); 'python -m cxr_core doctor' looks at it."
    )


@contextmanager
def connection(address: str) -> Iterator[None]:
    """Be a driver of a cluster while the context lasts; for a process that may end with it.

    Raises:
        TrainingError: the cluster does not answer.
    """
    # Before it is imported: no call home, and no lines from below Python beside its exceptions.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray

    _require_listener(address)

    try:
        # Ray has workers look for modules where its driver stands: in a checkout at this path.
        with contextlib.chdir(workspace.REPOSITORY):
            ray.init(
                address,
                namespace=NAMESPACE,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except Exception as error:  # by the kind of address one of many
        raise _unreachable(address, str(error).strip().partition("\n")[0]) from error
    try:
        yield
    finally:
        ray.shutdown()


def _require_listener(address: str) -> None:
    """Refuse an address where nobody listens; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=_LISTENS).close()
    except OSError as error:
        raise _unreachable(address, f"nobody listens there ({error})") from None


# -- in the process of its own --------------------------------------------------------------------


def _reach(store: str) -> str:
    """Make sure that somebody tends runs there; return the place of such runs."""
    import ray

    from cxr_core.cluster import dispatcher

    def asked() -> str:
        place: str = ray.get(dispatcher.of(store).place.remote(), timeout=_NODE_PATIENCE)
        return place

    try:
        try:
            return asked()
        except ray.exceptions.RayActorError:  # it may just have ended, with nothing to do
            return asked()
    except ray.exceptions.RayActorError as error:
        raise TrainingError(f"Runs cannot be handed to the Ray cluster. {cause(error)}") from error
    except ray.exceptions.GetTimeoutError:
        raise TrainingError(
            f"The head node of the Ray cluster began nothing within {_NODE_PATIENCE:.0f} s. It may "
            "be out of memory."
        ) from None


def survey(
    store: str = "",
    files_at: str = "",
    run_id: str = "",
    roots: Sequence[str] = (),
    packages: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Ask every living node what there is; return the fields of `survey.Node`.

    Args:
        store: the run store that it must reach; "" for none.
        files_at: where the store keeps its files.
        run_id: a run that must be in it; "" where there is none.
        roots: folders or files that must be there.
        packages: whose versions are of interest.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def look() -> dict[str, Any]:  # travels as code: a node may lack the package
        import importlib.metadata
        import socket

        there = {each.name.lower(): each.version for each in importlib.metadata.distributions()}
        versions = {name: there.get(name, "missing") for name in packages}
        found: dict[str, Any] = {"host": socket.gethostname(), "packages": versions}
        try:
            from cxr_core.cluster import node
        except ImportError as error:
            return {**found, "error": f"{type(error).__name__}: {error}"}
        return {**found, **node.describe(store, files_at, run_id, roots)}

    nodes = [node for node in ray.nodes() if node["Alive"]]
    asked = [
        ray.remote(num_cpus=0, max_retries=0)(look)
        .options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
        .remote()
        for node in nodes
    ]
    ray.wait(asked, num_returns=len(asked), timeout=_NODE_PATIENCE)
    found = []
    for node, question in zip(nodes, asked, strict=True):
        capacity = {
            "node_id": node["NodeID"],
            "host": node["NodeManagerHostname"],
            "cores": int(node["Resources"].get("CPU", 0)),
            "gpus": int(node["Resources"].get("GPU", 0)),
        }
        try:
            answer = ray.get(question, timeout=0)
        except ray.exceptions.GetTimeoutError:
            answer = {"error": f"nothing came back within {_NODE_PATIENCE:.0f} s"}
        except ray.exceptions.RayError as error:
            answer = {"error": cause(error)}
        found.append({**capacity, **answer})
    return found


def cause(error: BaseException) -> str:
    """Return what a fault on a node was about: its own sentence, of the many that Ray adds."""
    first = getattr(error, "cause", None) or error
    if isinstance(first, CxrError):
        return str(first)
    lines = [line.strip() for line in str(first).splitlines() if line.strip()]
    last = lines[-1] if lines else type(first).__name__
    return re.sub(r"^cxr_core\.errors\.\w+: ", "", last)


_VERBS: dict[str, Callable[..., Any]] = {"reach": _reach, "survey": survey}


def _main(verb: str, address: str, arguments: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer

    def tell(answer: dict[str, Any]) -> None:
        with answers:
            json.dump(answer, answers)

    def give_up() -> None:
        tell({"error": str(_unreachable(address, f"no connection within {_CONNECTS:.0f} s"))})
        os._exit(1)

    late = threading.Timer(_CONNECTS, give_up)
    late.daemon = True
    late.start()
    try:
        with connection(address):
            late.cancel()
            tell({"found": _VERBS[verb](**json.loads(arguments))})
    except CxrError as error:
        late.cancel()
        tell({"error": str(error)})


if __name__ == "__main__":
    _main(*sys.argv[1:])

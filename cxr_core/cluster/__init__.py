"""Training and scoring on a Ray cluster, where somebody asks for it.

Ray is imported by this package alone, inside functions, and never in the app's own process: a
driver of Ray ends with its node. `envoy` speaks with a cluster from a process of its own.
"""

import importlib.util
import os

AUTO = "auto"  # the address of a cluster that this machine is a node of
HERE = "here"  # where runs train unless somebody asks for a cluster
REQUIREMENTS = "requirements-ray.txt"


def address() -> str:
    """Return the cluster that the environment names (``RAY_ADDRESS``), "" where it names none."""
    return os.environ.get("RAY_ADDRESS", "")


def installed() -> bool:
    """Tell if Ray is installed here, without importing it."""
    return importlib.util.find_spec("ray") is not None

"""The process, on the machine that asked for it, of a sweep whose trials train on a cluster.

``python -m cxr_core.cluster.sweep_worker RUN_ID ADDRESS``
"""

import sys

from cxr_core.cluster.launcher import RayLauncher
from cxr_core.training import worker
from cxr_core.training.tracking import RunStore


def main(run_id: str, address: str) -> int:
    """Drive one sweep to its end; return the exit status, 0 unless it failed."""
    return worker.main(run_id, RayLauncher(RunStore(), address))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

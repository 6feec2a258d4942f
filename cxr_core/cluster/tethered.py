"""A worker that ends with whoever started it: ``python -m cxr_core.cluster.tethered RUN_ID``.

When a node is lost, or the cluster takes a run from it, nothing of the run goes on there.
"""

import os
import sys
import threading

from cxr_core.training import worker


def _end_with_supervisor() -> None:
    sys.stdin.buffer.read()  # returns when the other end is gone, however it went
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_supervisor, name="tether", daemon=True).start()
    sys.exit(worker.main(sys.argv[1]))

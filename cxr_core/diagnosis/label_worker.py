"""The child process that predicts films to check their labels: it alone loads TensorFlow.

``python -m cxr_core.diagnosis.label_worker FOLDER`` finds the set in the folder, leaves the
predictions there, and writes how far it is, or the sentence that says what is wrong, as JSON lines.
"""

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from cxr_core.diagnosis import label_review
from cxr_core.errors import CxrError


def main(folder: Path) -> None:
    """Predict the set in a folder."""
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def tell(step: str, done: int, total: int) -> None:
        _say({"step": step, "done": done, "total": total})

    try:
        predictions = label_review.predict(label_review.received(folder), progress=tell)
        partial = folder / "unfinished.parquet"
        predictions.to_parquet(partial, index=False)
        partial.replace(folder / label_review.PREDICTIONS_FILE)
    except CxrError as error:
        _say({"error": str(error)})
    except ModuleNotFoundError as error:
        _say(
            {
                "error": f"To look for wrong labels {error.name} is needed, and it is not "
                "installed: pip install -r requirements.txt."
            }
        )
    except MemoryError:
        _say({"error": "Memory ran out while looking at the films. Close other programs."})
    except Exception as error:
        fault = str(error).strip().partition("\n")[0] or "no details"
        _say({"error": f"A fault ended the look at the labels: {type(error).__name__}: {fault}"})


def _say(word: dict[str, Any]) -> None:
    print("\n" + json.dumps(word), flush=True)  # a library's own line may lack its end


def _end_with_parent() -> None:
    sys.stdin.read()  # returns when the parent is gone, however it went
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

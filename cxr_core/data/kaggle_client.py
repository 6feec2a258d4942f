"""The child process that talks to Kaggle: one that can be ended at any moment, unlike a thread.

``python -m cxr_core.data.kaggle_client describe|download HANDLE`` writes its answer, one JSON
object, as the last line of its output. Only here is kagglehub imported.
"""

import json
import os
import sys
import threading

import kagglehub
import requests
from kagglehub.clients import build_kaggle_client
from kagglehub.config import get_kaggle_credentials
from kagglehub.exceptions import DataCorruptionError
from kagglehub.handle import parse_dataset_handle
from kagglesdk.datasets.types.dataset_api_service import ApiGetDatasetRequest


def describe(handle: str) -> dict[str, object]:
    """Ask what a set is called, how large it is and under which licence it is offered."""
    request = ApiGetDatasetRequest()
    named = parse_dataset_handle(handle)
    request.owner_slug, request.dataset_slug = named.owner, named.dataset
    with build_kaggle_client() as client:
        told = client.datasets.dataset_api_client.get_dataset(request)
    return {"title": told.title, "licence": told.license_name, "bytes": told.total_bytes}


def download(handle: str) -> dict[str, object]:
    """Fetch and unpack a set into the folder KAGGLEHUB_CACHE names; go on from a part of it."""
    return {"folder": kagglehub.dataset_download(handle)}


def main(task: str, handle: str) -> None:
    """Do one task and say how it went; errors become an ``error`` that the parent has words for."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        answer = {"describe": describe, "download": download}[task](handle)
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        answer = {"error": "http", "status": status, "token": get_kaggle_credentials() is not None}
    except requests.exceptions.SSLError:
        answer = {"error": "certificate"}
    except requests.RequestException:
        answer = {"error": "network"}
    except DataCorruptionError:
        answer = {"error": "damaged"}
    except OSError as error:
        answer = {"error": "disk", "detail": error.strerror or str(error)}
    except Exception as error:
        answer = {"error": "other", "detail": str(error).strip() or type(error).__name__}
    print("\n" + json.dumps(answer), flush=True)  # kagglehub's own lines may lack their end


def _end_with_parent() -> None:
    sys.stdin.read()  # returns when the parent is gone, however it went
    os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])

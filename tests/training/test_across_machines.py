"""One training is of one machine: Keras does not fit across several, and this would show it did."""

import json
import os
import socket
import subprocess
import sys

FIT = """
import keras, numpy, tensorflow

with tensorflow.distribute.MultiWorkerMirroredStrategy().scope():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
try:
    model.fit(numpy.zeros((4, 2)), numpy.zeros(4), batch_size=2, verbose=0)
except ValueError as error:
    print("PerReplica" in str(error))
else:
    print("it fits")
import os
os._exit(0)  # not waiting for the other one
"""


def free_ports(number: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def test_keras_still_refuses_to_fit_across_machines():
    """https://github.com/keras-team/keras/issues/20585, open as of Keras 3.15."""
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FIT],
            env={
                **os.environ,
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "TF_CONFIG": json.dumps(
                    {"cluster": {"worker": workers}, "task": {"type": "worker", "index": number}}
                ),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    try:
        told = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for answer, errors in told:
        assert answer.strip() == "True", (
            f"Keras fits across machines now: {answer} {errors[-2000:]}\n"
            "Several machines could share a training: see ARCHITECTURE.md, 'A cluster'."
        )

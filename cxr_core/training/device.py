"""Where a run computes, in which number format, and with which versions."""

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import cxr_core
from cxr_core.config import HardwareConfig
from cxr_core.errors import TrainingError
from cxr_core.training import machine

# The trial of number formats: short beside a training, long enough to tell a tenth.
_WARM_STEPS, _TRIAL_STEPS, _TRIAL_SECONDS = 2, 16, 4.0
_TRIAL_FILMS = 8  # at most a step: a whole batch in float32 may need twice the memory of the run
_WORTH_IT = 1.1  # how much faster than float32 another format has to be


@dataclass(frozen=True)
class Device:
    """What a run computes on."""

    words: str  # "NVIDIA H100", "2 x NVIDIA H100", "CPU (AMD EPYC, 2 threads)"
    is_gpu: bool
    strategy: tf.distribute.Strategy  # TensorFlow's default one, or one that divides each batch


def choose(hardware: HardwareConfig) -> Device:
    """Make TensorFlow use the device asked for; return it.

    Raises:
        TrainingError: a GPU is asked for and there is none.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if hardware.device in ("gpu", "all_gpus") and not gpus:
        raise TrainingError(
            "hardware.device asks for a GPU, but TensorFlow finds none here. Choose 'auto' or "
            "'cpu', or install requirements-gpu.txt on a machine with an NVIDIA GPU."
        )
    if not gpus or hardware.device == "cpu":
        if gpus:
            tf.config.set_visible_devices([], "GPU")
        words = f"CPU ({_processor()}, {machine.threads()} threads)"
        return Device(words, is_gpu=False, strategy=tf.distribute.get_strategy())
    used = gpus if hardware.device == "all_gpus" else gpus[:1]
    tf.config.set_visible_devices(used, "GPU")
    for gpu in used:
        tf.config.experimental.set_memory_growth(gpu, True)
    name = str(tf.config.experimental.get_device_details(used[0]).get("device_name", "GPU"))
    if len(used) == 1:
        return Device(name, is_gpu=True, strategy=tf.distribute.get_strategy())
    return Device(f"{len(used)} x {name}", is_gpu=True, strategy=tf.distribute.MirroredStrategy())


@contextmanager
def precision(policy: str) -> Iterator[None]:
    """Build layers under a dtype policy, and leave none behind."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def versions() -> dict[str, str]:
    """Return what made the model, for its bundle."""
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "cxr_core": cxr_core.__version__,
    }


def number_formats(device: Device) -> tuple[str, ...]:
    """Return the dtype policies worth a trial on a device, "float32" always the first.

    A processor without instructions for bfloat16 only imitates it, many times slower.
    """
    if not device.is_gpu:
        return ("float32", "mixed_bfloat16") if machine.has_bfloat16() else ("float32",)
    details = tf.config.experimental.get_device_details(tf.config.get_visible_devices("GPU")[0])
    generation = details.get("compute_capability", (0, 0))
    if generation >= (8, 0):
        return ("float32", "mixed_bfloat16")
    return ("float32", "mixed_float16") if generation >= (7, 0) else ("float32",)


def fastest_format(
    formats: Sequence[str], build: Callable[[], keras.Model], batch: tuple[np.ndarray, ...]
) -> tuple[str, dict[str, float]]:
    """Train a few steps in each number format; return the faster, and films a second in each.

    Which is faster depends on the network as much as on the machine: bfloat16 helps a plain
    convolution and harms a depthwise one on the same processor. Another format than float32 has to
    be faster by a tenth, since it also costs precision.

    Args:
        formats: dtype policies, "float32" first.
        build: returns a compiled network under the policy in force.
        batch: films, targets and weights of one step.
    """
    batch = tuple(part[:_TRIAL_FILMS] for part in batch)
    rates: dict[str, float] = {}
    for name in formats:
        with precision(name):
            model = build()
        for _ in range(_WARM_STEPS):
            model.train_on_batch(*batch)
        began, steps = time.perf_counter(), 0
        while steps < _TRIAL_STEPS and time.perf_counter() - began < _TRIAL_SECONDS:
            model.train_on_batch(*batch)
            steps += 1
        rates[name] = steps * len(batch[0]) / (time.perf_counter() - began)
        del model
    best = max(rates, key=lambda name: rates[name])
    chosen = best if rates[best] > _WORTH_IT * rates[formats[0]] else formats[0]
    return chosen, rates


def _processor() -> str:
    """The processor's name: Linux keeps it in a file, elsewhere Python knows something like it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()

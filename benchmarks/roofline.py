"""How much of this machine's arithmetic a network uses, in training and in answering.

The peak is what a large square matrix product reaches here, in float32 and in bfloat16. What a
network needs is counted from its convolutions and dense layers, in multiply-adds; a training step
counts three times a forward pass (the pass, the slopes by activations and those by weights). What
is left between the two is memory traffic, small operations, and the way the work is cut up.
"""

import statistics
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from benchmarks import harness
from benchmarks.harness import Case, Figure, Setting

if TYPE_CHECKING:
    import keras

NETWORKS = (
    ("plain_cnn", "float32"),
    ("plain_cnn", "mixed_bfloat16"),
    ("efficientnet_lite0", "float32"),
)


def multiply_adds(model: "keras.Model") -> int:
    """Return the multiply-adds of one film through a network's convolutions and dense layers."""
    import keras

    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.DepthwiseConv2D | keras.layers.Conv2D):
            rows, columns = layer.output.shape[1:3]
            kernel = layer.kernel.shape
            # A depthwise kernel (h, w, channels, multiplier) meets one input channel each.
            total += rows * columns * kernel[0] * kernel[1] * kernel[2] * kernel[3]
        elif isinstance(layer, keras.layers.Dense):
            total += layer.kernel.shape[0] * layer.kernel.shape[1]
    return int(total)


def measured(side: int, size: int, batch: int, times: int) -> dict[str, Any]:
    """Return the rates of this process's machine, multiply-adds a second, and of each network."""
    return {
        "peaks": {dtype: _product(side, times, dtype) for dtype in ("float32", "bfloat16")},
        "networks": [_network(*network, size, batch, times) for network in NETWORKS],
    }


def _product(side: int, times: int, dtype: str) -> float:
    """Return the multiply-adds a second of the fastest of some square matrix products."""
    import tensorflow as tf

    left, right = (tf.cast(tf.random.normal((side, side)), dtype) for _ in range(2))
    product = tf.function(lambda a, b: tf.reduce_sum(tf.cast(a @ b, tf.float32)))
    return side**3 / min(harness.seconds(lambda: product(left, right).numpy(), times))


def _network(name: str, policy: str, size: int, batch: int, times: int) -> dict[str, Any]:
    """Return what a film needs of a network, multiply-adds, and films answered and trained."""
    import keras
    import numpy as np
    import tensorflow as tf

    from cxr_core import zoo  # noqa: F401  registers the networks
    from cxr_core.training.device import precision
    from cxr_core.training.normalisation import fuse
    from cxr_core.zoo import registry

    with precision(policy):
        model = registry.build(name, size=size, outputs=1, seed=0)
    need = multiply_adds(model)
    films = np.random.default_rng(0).integers(0, 256, (batch, size, size, 1), dtype=np.uint8)
    answer = tf.function(lambda x: model(tf.cast(x, tf.float32), training=False))

    def rate(work: Callable[[], object]) -> float:
        return batch / statistics.median(harness.seconds(work, times))

    asked = rate(lambda: answer(films).numpy())
    fuse(model)
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True), jit_compile=False)
    targets = np.arange(batch)[:, None] % 2
    trained = rate(lambda: model.train_on_batch(films.astype(np.float32), targets))
    return {"need": need, "asked": asked, "trained": trained}


def measure(setting: Setting) -> list[Figure]:
    """Return the peak, and each network's share of it."""
    side, times = setting.pick(256, 2048, 4096), setting.pick(2, 3, 10)
    size, batch = setting.pick(64, 224, 224), setting.pick(2, 32, 32)
    found = harness.call(measured, side, size, batch, times)
    peaks = found["peaks"]
    figures = [
        Figure(f"peak, {dtype}", peak / 1e9, "billion multiply-adds/s")
        for dtype, peak in peaks.items()
    ]
    for (name, policy), of_network in zip(NETWORKS, found["networks"], strict=True):
        peak = peaks["bfloat16" if "bfloat16" in policy else "float32"]
        need, asked, trained = (of_network[key] for key in ("need", "asked", "trained"))
        label = f"{name}, {policy}"
        figures += [
            Figure(f"{label}: needs", need / 1e6, "million multiply-adds a film"),
            Figure(f"{label}: answers", asked, "films/s"),
            Figure(f"{label}: answers, of the peak", 100 * asked * need / peak, "%"),
            Figure(f"{label}: trains", trained, "films/s"),
            Figure(f"{label}: trains, of the peak", 100 * trained * 3 * need / peak, "%"),
        ]
    return figures


CASES = (Case("roofline", "networks against the peak of a large matrix product", measure),)

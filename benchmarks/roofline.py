"""How much of this machine's arithmetic a network uses, in training and in answering.

The peak is what a large square matrix product reaches here, in float32 and in bfloat16. What a
network needs is counted from its convolutions and dense layers, in multiply-adds; a training step
counts three times a forward pass (the pass, the slopes by activations and those by weights). What
is left between the two is memory traffic, small operations, and the way the work is cut up.
"""

from typing import TYPE_CHECKING

from benchmarks import harness
from benchmarks.harness import Case, Figure, Setting

if TYPE_CHECKING:
    import keras

_PRODUCT = """
import sys, time
import tensorflow as tf
side, times, dtype = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
left, right = (tf.cast(tf.random.normal((side, side)), dtype) for _ in range(2))
product = tf.function(lambda a, b: tf.reduce_sum(tf.cast(a @ b, tf.float32)))
product(left, right).numpy()
rates = []
for _ in range(times):
    began = time.perf_counter()
    product(left, right).numpy()
    rates.append(side**3 / (time.perf_counter() - began))
_found = {"multiply_adds_per_second": max(rates)}
"""

_NETWORK = """
import json, sys, time
import keras, numpy as np, tensorflow as tf
from benchmarks.roofline import multiply_adds
from cxr_core import zoo
from cxr_core.training.device import precision
from cxr_core.training.normalisation import fuse
from cxr_core.zoo import registry
name, size, batch, times, policy = sys.argv[1], *map(int, sys.argv[2:5]), sys.argv[5]
with precision(policy):
    model = registry.build(name, size=size, outputs=1, seed=0)
need = multiply_adds(model)
films = np.random.default_rng(0).integers(0, 256, (batch, size, size, 1), dtype=np.uint8)
answer = tf.function(lambda x: model(tf.cast(x, tf.float32), training=False))
answer(films).numpy()
def rate(work):
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return batch / sorted(taken)[len(taken) // 2]
asked = rate(lambda: answer(films).numpy())
fuse(model)
model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True), jit_compile=False)
targets = np.arange(batch)[:, None] % 2
step = lambda: model.train_on_batch(films.astype(np.float32), targets)
step()
_found = {"need": need, "asked": asked, "trained": rate(step)}
"""

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


def measure(setting: Setting) -> list[Figure]:
    """Return the peak, and each network's share of it."""
    side, times = setting.pick(256, 2048, 4096), setting.pick(2, 5, 10)
    size, batch = setting.pick(64, 224, 224), setting.pick(2, 32, 32)
    peaks = {}
    figures = []
    for dtype in ("float32", "bfloat16"):
        found = harness.process(_PRODUCT, str(side), str(times), dtype)
        peaks[dtype] = found["multiply_adds_per_second"]
        figures.append(Figure(f"peak, {dtype}", peaks[dtype] / 1e9, "billion multiply-adds/s"))
    for name, policy in NETWORKS:
        found = harness.process(_NETWORK, name, str(size), str(batch), str(times), policy)
        peak = peaks["bfloat16" if "bfloat16" in policy else "float32"]
        label = f"{name}, {policy}"
        figures += [
            Figure(f"{label}: needs", found["need"] / 1e6, "million multiply-adds a film"),
            Figure(f"{label}: answers", found["asked"], "films/s"),
            Figure(
                f"{label}: answers, of the peak", 100 * found["asked"] * found["need"] / peak, "%"
            ),
            Figure(f"{label}: trains", found["trained"], "films/s"),
            Figure(
                f"{label}: trains, of the peak",
                100 * found["trained"] * 3 * found["need"] / peak,
                "%",
            ),
        ]
    return figures


CASES = (Case("roofline", "networks against the peak of a large matrix product", measure),)

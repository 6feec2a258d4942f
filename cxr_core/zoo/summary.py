"""A network's layers as a table: ``python -m cxr_core.zoo.summary NAME --size 224`` prints JSON.

Building a network needs TensorFlow, which keeps memory for the life of its process. So a page that
shows the table asks a process of its own for it.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, get_args

from cxr_core import zoo  # noqa: F401  registers the networks
from cxr_core.errors import CxrError
from cxr_core.zoo import registry
from cxr_core.zoo.registry import HeadName, Options

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class LayerRow:
    """One layer of a network."""

    layer: str  # its name
    kind: str  # Keras's word for what it is: Conv2D, Dropout, ...
    shape: tuple[int, ...]  # of its output for one film: (rows, columns, channels) or (n,)
    parameters: int  # trainable or not
    part: str  # "body" up to the layer that heat maps are drawn from, "head" after it


def layer_table(model: "keras.Model", name: str) -> list[LayerRow]:
    """Return the layers of the network of that name, in the order of its graph."""
    body = {layer.name for layer in registry.body(model, name)}
    return [
        LayerRow(
            layer=layer.name,
            kind=type(layer).__name__,
            shape=tuple(layer.output.shape[1:]),
            parameters=_count(layer.weights),
            part="body" if layer.name in body else "head",
        )
        for layer in model.layers
    ]


def describe(name: str, *, size: int, outputs: int, options: Options) -> dict[str, Any]:
    """Build a network and return what a page shows of it before it is trained.

    Args:
        name: one of `registry.names()`.
        size: side of the square input, px.
        outputs: logits.
        options: head, dropout and coordinate channels.

    Returns:
        ``name``, ``title``, ``size`` (px), ``outputs``, ``cam_layer``, ``cam_grid`` (cells a side),
        ``parameters`` in all, ``trainable_parameters``, ``head_parameters``, and ``layers``, a
        mapping a :class:`LayerRow`.

    Raises:
        ConfigError: an unknown name or head, or a size below its smallest.
    """
    model = registry.build(name, size=size, outputs=outputs, options=options)
    rows = layer_table(model, name)
    entry = registry.get(name)
    return {
        "name": name,
        "title": entry.title,
        "size": size,
        "outputs": outputs,
        "cam_layer": entry.cam_layer,
        "cam_grid": model.get_layer(entry.cam_layer).output.shape[1],
        "parameters": sum(row.parameters for row in rows),
        "trainable_parameters": _count(model.trainable_weights),
        "head_parameters": sum(row.parameters for row in rows if row.part == "head"),
        "layers": [asdict(row) for row in rows],
    }


def _count(weights: Iterable["keras.Variable"]) -> int:
    return sum(math.prod(weight.shape) for weight in weights)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a network's description as JSON; return the exit status: 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m cxr_core.zoo.summary", description=__doc__)
    parser.add_argument("name", help=f"one of {', '.join(registry.names())}")
    parser.add_argument("--size", type=int, help="side of the film, px; default: the network's own")
    parser.add_argument("--outputs", type=int, default=1, help="logits; default 1")
    parser.add_argument("--head", choices=get_args(HeadName), default="own")
    parser.add_argument("--dropout", type=float, default=1.0, help="times the usual rates")
    parser.add_argument("--coordinates", action="store_true", help="with coordinate channels")
    asked = parser.parse_args(arguments)
    try:
        size = asked.size or registry.get(asked.name).default_size
        options = Options(asked.head, asked.dropout, asked.coordinates)
        described = describe(asked.name, size=size, outputs=asked.outputs, options=options)
    except CxrError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(described))
    return 0


if __name__ == "__main__":
    sys.exit(main())

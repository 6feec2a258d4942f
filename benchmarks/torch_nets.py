"""Networks of `cxr_core.zoo` in PyTorch: the same layers and as many weights, PyTorch's start.

Films come as uint8 (n, 1, size, size), logits go as (n, 1). Imported only where PyTorch is: see
`peers`.
"""

from collections.abc import Callable, Mapping

import torch
from torch import nn

from cxr_core.zoo.efficientnet_lite import STAGES

_EPSILON = 1e-3  # Keras's; PyTorch's momentum is 1 minus the 0.9 of the zoo, by default


class Scale(nn.Module):
    """Turns gray levels into what the first convolution expects."""

    def __init__(self, factor: float, offset: float = 0.0) -> None:
        super().__init__()
        self.factor, self.offset = factor, offset

    def forward(self, films: torch.Tensor) -> torch.Tensor:
        """Scale films of any number format."""
        return films.float() * self.factor + self.offset


class Residual(nn.Sequential):
    """A chain of layers whose input is added to its output."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Apply the chain and add."""
        return super().forward(maps) + maps


def plain_cnn() -> nn.Module:
    """Return `cxr_core.zoo.plain_cnn` for one output."""
    layers: list[nn.Module] = [Scale(1 / 255)]
    for entering, filters in ((1, 32), (32, 64), (64, 128)):
        layers += [
            nn.Conv2d(entering, filters, 3, padding="same", bias=False),
            nn.BatchNorm2d(filters, eps=_EPSILON),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Dropout(0.25),
        ]
    return nn.Sequential(
        *layers,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(128, 256, bias=False),
        nn.BatchNorm1d(256, eps=_EPSILON),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Linear(256, 1),
    )


def efficientnet_lite0() -> nn.Module:
    """Return `cxr_core.zoo.efficientnet_lite` for one output.

    Where a stride is 2, PyTorch pads all four sides and TensorFlow two: as much work.
    """
    layers: list[nn.Module] = [Scale(1 / 128, -127 / 128), _unit(1, 32, 3, stride=2)]
    entering = 32
    for repeats, kernel, first_stride, expansion, channels in STAGES:
        for repeat in range(repeats):
            stride, wide = first_stride if repeat == 0 else 1, expansion * entering
            chain = Residual if stride == 1 and entering == channels else nn.Sequential
            expand = [_unit(entering, wide, 1)] if expansion > 1 else []
            depthwise = _unit(wide, wide, kernel, stride=stride, groups=wide)
            layers.append(chain(*expand, depthwise, _unit(wide, channels, 1, relu=False)))
            entering = channels
    return nn.Sequential(
        *layers,
        _unit(entering, 1280, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(1280, 1),
    )


def _unit(
    entering: int, filters: int, kernel: int, *, stride: int = 1, groups: int = 1, relu: bool = True
) -> nn.Module:
    """Return a convolution, its normalisation and, if asked, ReLU6."""
    convolution = nn.Conv2d(
        entering, filters, kernel, stride, padding=kernel // 2, groups=groups, bias=False
    )
    return nn.Sequential(
        convolution,
        nn.BatchNorm2d(filters, eps=_EPSILON),
        *([nn.ReLU6(inplace=True)] if relu else []),
    )


NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    "plain_cnn": plain_cnn,
    "efficientnet_lite0": efficientnet_lite0,
}


def parameters(network: nn.Module) -> int:
    """Return how many weights a network has, running means and variances included."""
    state = network.state_dict()
    return sum(
        tensor.numel() for name, tensor in state.items() if not name.endswith("num_batches_tracked")
    )

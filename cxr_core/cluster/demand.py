"""What a run asks of a cluster: cores and GPUs, from its settings and what the nodes have."""

from collections.abc import Iterable
from dataclasses import dataclass

from cxr_core.config import HardwareConfig


@dataclass(frozen=True)
class Capacity:
    """What a node offers to runs, whether or not it is free."""

    cores: int
    gpus: int


@dataclass(frozen=True)
class Demand:
    """What a run takes of one node as long as it trains."""

    cores: int
    gpus: int

    def fits(self, node: Capacity) -> bool:
        """Tell if a node could ever have the run."""
        return node.cores >= self.cores and node.gpus >= self.gpus

    @property
    def words(self) -> str:
        """What it is, for people: "4 cores and 1 GPU"."""
        cores = f"{self.cores} core{'s' * (self.cores != 1)}"
        return f"{cores} and {self.gpus} GPU{'s' * (self.gpus != 1)}" if self.gpus else cores


def of(hardware: HardwareConfig, nodes: Iterable[Capacity]) -> Demand:
    """Return what a run asks for.

    ``device`` 'auto' takes one GPU where the cluster has any, 'all_gpus' those of its largest node.
    Without a number of ``cores`` a run takes so many that every node that could have it can: all
    of the smallest one, or the share of its GPUs. Where no node could, it asks all the same, and
    waits for one that joins.

    Args:
        hardware: the run's settings.
        nodes: those of the cluster; the ones without cores offer nothing.
    """
    nodes = [node for node in nodes if node.cores]
    most = max((node.gpus for node in nodes), default=0)
    gpus = {"cpu": 0, "gpu": 1, "all_gpus": max(1, most), "auto": min(1, most)}[hardware.device]
    if hardware.cores:
        return Demand(hardware.cores, gpus)
    if gpus:
        shares = [node.cores * gpus // node.gpus for node in nodes if node.gpus >= gpus]
    else:  # a run without GPU should not keep one from its cores where there are other nodes
        shares = [node.cores for node in nodes if not node.gpus] or [node.cores for node in nodes]
    return Demand(max(1, min(shares, default=1)), gpus)

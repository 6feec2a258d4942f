"""The stages of a training: which epochs see films of which size and train how much of the body."""

from dataclasses import dataclass
from itertools import pairwise

from cxr_core.config import RunConfig

ALL = -1  # of the body's layers


@dataclass(frozen=True)
class Stage:
    """Epochs in a row in which the same weights are trained on films of one size."""

    first: int  # epoch, from 0
    end: int  # the epoch after the last
    size: int  # px, side of the films
    layers: int  # of the body that are trained, counted from its end; 0 none, ALL all
    rate: float  # what the learning rate is multiplied with

    @property
    def words(self) -> str:
        """What the stage does, for whoever watches."""
        if self.layers == 0:
            return f"training the head at {self.size} px"
        if self.layers == ALL:
            return f"training at {self.size} px"
        return f"training the last {self.layers} layers and the head at {self.size} px"


def plan(config: RunConfig) -> list[Stage]:
    """Return the stages of a run, in order; they cover all its epochs.

    The head alone comes first (``head_epochs``), small films come first (``small_epochs``); the two
    may overlap. The last epoch always has films of ``image.size``: it makes the finished model.
    """
    settings = config.optimise
    small = min(settings.small_epochs, settings.epochs - 1) if settings.small_size else 0
    head = settings.head_epochs if settings.train_layers else 0  # else there is no change to make
    cuts = {head, small} & set(range(1, settings.epochs))
    return [
        Stage(
            first=first,
            end=end,
            size=settings.small_size if first < small else config.image.size,
            layers=0 if first < head else settings.train_layers,
            rate=1.0 if first < head or not settings.train_layers else settings.body_rate,
        )
        for first, end in pairwise(sorted({0, settings.epochs} | cuts))
    ]


def sizes(config: RunConfig) -> list[int]:
    """Return the sides of the films that a run needs, px, that of the finished model the last."""
    earlier = {stage.size for stage in plan(config)} - {config.image.size}
    return [*sorted(earlier), config.image.size]

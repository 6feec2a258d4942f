"""RunConfig: all that decides a training run.

Every field carries a default, bounds, a unit and a line of help. The form on the Train page, the
YAML reader, the command line's ``--set`` and the documentation are all made from these fields, so
a setting is described in one place.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.fields import FieldInfo

from cxr_core.errors import ConfigError

Scalar = str | int | float | bool
Level = Literal["main", "more"]


def _setting(
    default: Any, help: str, *, unit: str = "", level: Level = "more", **bounds: Any
) -> Any:
    """Declare one field; ``level`` says if the form shows it at once or under "More"."""
    return Field(
        default=default,
        description=help,
        json_schema_extra={"unit": unit, "level": level},
        **bounds,
    )


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class DataConfig(_Section):
    """Which films, and how they are divided."""

    root: str = _setting(
        "phantom",
        "Folder with the films, or 'phantom' for the built-in synthetic set.",
        level="main",
        min_length=1,
    )
    split: Literal["auto", "published", "recut"] = _setting(
        "auto",
        "Which train/val/test division: 'auto' keeps the published parts that are large enough and "
        "cuts the others by patient; 'published' takes the set's own; 'recut' cuts all anew.",
    )
    patient_pattern: str = _setting(
        "",
        "Regular expression searched in each film's path; its first group is the patient. Empty "
        "takes the set's own column or the names of well-known sets.",
        max_length=200,
    )
    accept_leaks: bool = _setting(
        False,
        "Train even where patients or pictures stand on several sides of a published division; "
        "the figures are then too good and prove nothing.",
    )
    val_fraction: float = _setting(
        0.15,
        "Share of the patients for validation, where it is cut.",
        unit="of patients",
        ge=0.05,
        le=0.4,
    )
    test_fraction: float = _setting(
        0.15,
        "Share of the patients for the test, where it is cut.",
        unit="of patients",
        ge=0.05,
        le=0.4,
    )
    fold: int = _setting(
        0,
        "Which fold is held out as the test, of those that all films are cut into by patient; the "
        "rest is for training and validation. 0 is off. A cross-validation sets it.",
        ge=0,
        le=10,
    )
    folds: int = _setting(
        5, "Into how many folds the films are cut, where one is held out.", ge=2, le=10
    )


class ImageConfig(_Section):
    """How a film becomes the network's square input."""

    size: int = _setting(
        224, "Side of the square the network sees.", unit="px", level="main", ge=32, le=1024
    )
    fit: Literal["squash", "letterbox", "crop"] = _setting(
        "squash",
        "How a film becomes a square: 'squash' stretches it, as most published sets were stored, "
        "'letterbox' keeps its proportions and pads with black, 'crop' cuts the centre square.",
    )
    clahe: float = _setting(
        0.0,
        "Clip limit of contrast-limited adaptive histogram equalisation on an 8x8 grid (Zuiderveld "
        "1994); 0 leaves the film as it is.",
        unit="times the mean of a histogram bin",
        ge=0,
        le=40,
    )


class AugmentConfig(_Section):
    """Random changes to the training films; validation and test films are never changed."""

    rotation: float = _setting(0.0, "Largest rotation, either way.", unit="degrees", ge=0, le=45)
    translation: float = _setting(
        0.0, "Largest shift, either way.", unit="of the side", ge=0, le=0.5
    )
    zoom: float = _setting(0.0, "Largest zoom, in or out.", unit="of the scale", ge=0, le=0.5)
    shear: float = _setting(0.0, "Largest shear, either way.", unit="degrees", ge=0, le=20)
    brightness: float = _setting(
        0.0, "Largest brightness change, either way.", unit="of full scale", ge=0, le=0.5
    )
    contrast: float = _setting(
        0.0, "Largest contrast change, either way.", unit="of the contrast", ge=0, le=0.9
    )
    gamma: float = _setting(
        0.0, "Largest gamma change, either way: exponents from 1/(1+x) to 1+x.", ge=0, le=1
    )
    blur: float = _setting(
        0.0,
        "Gaussian blur, its sigma drawn up to this: no film's sharpness then gives its class away.",
        unit="px of the square",
        ge=0,
        le=10,
    )
    noise: float = _setting(
        0.0, "Standard deviation of added noise, at most.", unit="gray levels of 255", ge=0, le=50
    )
    flip: bool = _setting(
        False, "Mirror half of the films. Off by default: it puts the heart on the wrong side."
    )
    crop_area: float = _setting(
        1.0,
        "Random resized crop: the least area kept of a film, of which a part this large or larger "
        "is stretched to the square. 1 keeps all.",
        unit="of the area",
        ge=0.1,
        le=1,
    )
    mixup: float = _setting(
        0.0,
        "Mixup: two films and their labels blended, the share drawn from Beta(x, x) (Zhang and "
        "others 2018). 0 is off.",
        ge=0,
        le=2,
    )
    cutmix: float = _setting(
        0.0,
        "CutMix: a rectangle of another film pasted in, labels blended by area, drawn from "
        "Beta(x, x) (Yun and others 2019). 0 is off; with mixup on too, each batch draws one.",
        ge=0,
        le=2,
    )


class ModelConfig(_Section):
    """Which network, and what it starts from."""

    architecture: str = _setting(
        "plain_cnn", "The network's name in the registry.", level="main", min_length=1
    )
    weights: str = _setting(
        "none",
        "What the network starts from: 'none' (random), 'imagenet', or 'bundle:NAME' to go on "
        "from a trained bundle.",
        pattern=r"^(none|imagenet|bundle:.+)$",
    )
    head: Literal["own", "gap", "flatten_mlp"] = _setting(
        "own",
        "What turns feature maps into logits: 'own' as the network's authors have it, 'gap' mean "
        "over the film and one dense layer, 'flatten_mlp' all cells into dense layers of 256 and "
        "128.",
    )
    dropout: float = _setting(
        1.0,
        "What every dropout rate of the network is multiplied with; 0 turns dropout off.",
        unit="of the network's own rates",
        ge=0,
        le=1.8,
    )
    coordinates: bool = _setting(
        False,
        "Give the network each pixel's place as two more channels (CoordConv, Liu and others "
        "2018).",
    )


class OptimiseConfig(_Section):
    """How the weights are fitted."""

    epochs: int = _setting(
        20, "Most passes over the training films.", unit="epochs", level="main", ge=1, le=1000
    )
    batch_size: int = _setting(32, "Films a step.", unit="films", level="main", ge=1, le=1024)
    learning_rate: float = _setting(
        1e-3, "The optimiser's step size at its highest.", level="main", gt=0, le=10
    )
    optimizer: Literal["adam", "adamw", "sgd"] = _setting(
        "adam", "The update rule; sgd runs with Nesterov momentum 0.9."
    )
    weight_decay: float = _setting(
        0.0, "Decoupled weight decay, adamw only.", unit="per step and learning rate", ge=0, le=1
    )
    schedule: Literal["plateau", "cosine", "cosine_restarts", "constant"] = _setting(
        "plateau",
        "How the learning rate falls: 'plateau' multiplies it when validation stalls, 'cosine' "
        "lowers it along a half cosine over all epochs, 'cosine_restarts' does so again and again "
        "(Loshchilov and Hutter 2017), 'constant' leaves it.",
    )
    warmup_epochs: float = _setting(
        0.0, "Length of the linear rise at the start, 'cosine' only.", unit="epochs", ge=0, le=50
    )
    restart_steps: int = _setting(
        5000,
        "Length of the first cosine, 'cosine_restarts' only.",
        unit="steps",
        ge=1,
        le=1_000_000,
    )
    restart_growth: float = _setting(
        2.0, "How many times as long each further cosine is, 'cosine_restarts' only.", ge=1, le=10
    )
    restart_decay: float = _setting(
        0.8,
        "What the highest rate is multiplied with at each restart, 'cosine_restarts' only.",
        gt=0,
        le=1,
    )
    head_epochs: int = _setting(
        0,
        "Epochs at the start in which only the head is trained and the body stays as it is.",
        unit="epochs",
        ge=0,
        le=1000,
    )
    train_layers: int = _setting(
        -1,
        "How much of the body is trained after that: this many of its layers, counted from the "
        "end; 0 none, -1 all.",
        unit="layers",
        ge=-1,
        le=1000,
    )
    body_rate: float = _setting(
        1.0,
        "What the learning rate is multiplied with once the body is trained too.",
        gt=0,
        le=1,
    )
    small_size: int = _setting(
        0,
        "Progressive resolution: side of the square in the first epochs, before the films grow to "
        "image.size; 0 is off.",
        unit="px",
        ge=0,
        le=1024,
    )
    small_epochs: int = _setting(
        0, "How many epochs have small films.", unit="epochs", ge=0, le=1000
    )
    label_smoothing: float = _setting(
        0.0, "Share of the label spread over the other classes.", ge=0, le=0.4
    )
    loss: Literal["cross_entropy", "focal"] = _setting(
        "cross_entropy",
        "What is minimised: cross-entropy, or focal loss, which looks away from films that are "
        "right already (Lin and others 2017).",
    )
    focal_gamma: float = _setting(
        2.0, "How far focal loss looks away; 0 is cross-entropy.", ge=0, le=10
    )
    balance: Literal["none", "weights", "oversample"] = _setting(
        "none",
        "What is done about rare classes: 'weights' weighs each film by the inverse frequency of "
        "its class, 'oversample' shows films of rare classes several times an epoch.",
    )
    clip_norm: float = _setting(
        0.0, "Gradients longer than this are shortened to it; 0 is off.", ge=0, le=1000
    )
    ema: float = _setting(
        0.0,
        "Weight averaging: validation, test and bundle use a running mean of the weights, of which "
        "this share stays each step (Polyak and Juditsky 1992); 0 is off.",
        ge=0,
        lt=1,
    )


class DistilConfig(_Section):
    """Teachers: networks trained beforehand, each blind to some of the training films."""

    teachers: int = _setting(
        0,
        "How many teachers are trained first, each on the training films without one part, cut by "
        "patient; the network then learns from the labels and from what each teacher says of the "
        "part it never saw. Takes about as many times as long. 0 is off.",
        ge=0,
        le=10,
    )
    share: float = _setting(
        0.5,
        "How much the teachers' opinion weighs against the label.",
        unit="of the target",
        gt=0,
        le=1,
    )

    @field_validator("teachers")
    @classmethod
    def _more_than_one(cls, value: int) -> int:
        if value == 1:
            raise ValueError("one teacher would have no films left to learn from; take 2 or more")
        return value


class StopConfig(_Section):
    """When training ends before the last epoch, and which weights are kept."""

    monitor: Literal["val_loss", "val_auroc"] = _setting(
        "val_loss", "The validation figure that decides the best epoch."
    )
    patience: int = _setting(
        4, "Epochs without a better figure before training ends.", unit="epochs", ge=1, le=1000
    )
    plateau_patience: int = _setting(
        2,
        "Epochs without a better figure before the rate falls, 'plateau' only.",
        unit="epochs",
        ge=1,
        le=1000,
    )
    plateau_factor: float = _setting(
        0.5, "What the rate is multiplied with then, 'plateau' only.", gt=0, lt=1
    )
    min_learning_rate: float = _setting(1e-5, "The rate never falls below this.", ge=0, le=1)


class DecideConfig(_Section):
    """Which probability calls a film a finding; chosen on the validation films."""

    rule: Literal["youden", "sensitivity", "specificity", "cost"] = _setting(
        "youden",
        "What the threshold is chosen for: 'youden' the largest sum of sensitivity and specificity "
        "(Youden 1950), 'sensitivity' or 'specificity' a target for the one at the best of the "
        "other, 'cost' the least cost of misses and false alarms.",
    )
    target: float = _setting(
        0.95,
        "The least sensitivity or specificity on the validation films, those two rules only.",
        unit="share",
        ge=0.5,
        le=1,
    )
    miss_cost: float = _setting(
        1.0,
        "How many false alarms a missed finding weighs as much as, 'cost' only.",
        unit="false alarms",
        ge=0.01,
        le=1000,
    )
    views: int = _setting(
        0,
        "How often each validation film is altered at random, as training films are, for the "
        "choice of the threshold, beside as many of each as they are: one chosen on films as they "
        "are alone lies where those few films happen to leave a gap, and other machines' films do "
        "not keep to it. 0 takes them only as they are.",
        unit="times",
        ge=0,
        le=50,
    )


class HardwareConfig(_Section):
    """Where the run computes."""

    device: Literal["auto", "cpu", "gpu", "all_gpus"] = _setting(
        "auto",
        "'auto' takes the first GPU where there is one, else the CPU; 'all_gpus' divides each "
        "batch among the GPUs of this machine.",
    )
    cores: int = _setting(
        0,
        "Processor cores to compute with. 0 takes all of the machine; on a cluster those of a "
        "node, or their share for each GPU.",
        ge=0,
        le=1024,
    )
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = _setting(
        "float32",
        "Number format of the network's inner arithmetic; weights stay float32. 'auto' times a few "
        "steps and takes the faster.",
    )


class RunConfig(_Section):
    """All that decides a run; the same configuration, data and machine give the same model."""

    name: str = _setting(
        "", "The run's name; empty takes the recipe's or the network's.", max_length=80
    )
    seed: int = _setting(0, "Seed of every random choice.", ge=0, le=2**31 - 1)
    data: DataConfig = DataConfig()
    image: ImageConfig = ImageConfig()
    augment: AugmentConfig = AugmentConfig()
    model: ModelConfig = ModelConfig()
    optimise: OptimiseConfig = OptimiseConfig()
    distil: DistilConfig = DistilConfig()
    stop: StopConfig = StopConfig()
    decide: DecideConfig = DecideConfig()
    hardware: HardwareConfig = HardwareConfig()

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RunConfig":
        """Build a configuration from nested dictionaries.

        Raises:
            ConfigError: an unknown key or a bad value; names the path and the allowed range.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(_explain(error)) from error

    @classmethod
    def from_yaml(cls, text: str, source: str = "the configuration") -> "RunConfig":
        """Read a configuration from YAML text; ``source`` names it in errors.

        Raises:
            ConfigError: no YAML, no mapping at the top, an unknown key or a bad value.
        """
        try:
            values = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"{source} is not valid YAML: {error}") from error
        if values is None:
            values = {}
        if not isinstance(values, dict):
            raise ConfigError(
                f"{source} must be a mapping of sections such as 'image:' and 'optimise:', "
                f"not a {type(values).__name__}."
            )
        return cls.from_dict(values)

    @classmethod
    def from_file(cls, path: Path) -> "RunConfig":
        """Read a configuration from a YAML file.

        Raises:
            ConfigError: the file cannot be read, or as in :meth:`from_yaml`.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"The configuration file {path} cannot be read: {error}") from error
        return cls.from_yaml(text, source=str(path))

    def to_yaml(self) -> str:
        """Return every field as YAML; :meth:`from_yaml` gives the same configuration back."""
        return yaml.safe_dump(self.model_dump(), sort_keys=False, allow_unicode=True)

    def with_values(self, values: dict[str, Any]) -> "RunConfig":
        """Return a copy with dotted paths replaced: ``{"optimise.epochs": 3}``.

        Raises:
            ConfigError: an unknown path or a bad value.
        """
        nested = self.model_dump()
        for path, value in values.items():
            *sections, last = path.split(".")
            place: Any = nested
            for section in sections:
                place = place.get(section) if isinstance(place, dict) else None
            if not isinstance(place, dict) or last not in place or isinstance(place[last], dict):
                raise ConfigError(
                    f"There is no setting '{path}'. Known settings: "
                    + ", ".join(s.path for s in settings())
                    + "."
                )
            place[last] = value
        return RunConfig.from_dict(nested)

    def with_overrides(self, overrides: Iterable[str]) -> "RunConfig":
        """Return a copy changed by ``path=value`` texts, as the command line's ``--set`` takes.

        Raises:
            ConfigError: a text without '=', an unknown path or a bad value.
        """
        values: dict[str, Any] = {}
        for override in overrides:
            path, equals, text = override.partition("=")
            if not equals:
                raise ConfigError(
                    f"'{override}' is not of the form path=value, such as optimise.epochs=3."
                )
            values[path.strip()] = text.strip()  # pydantic turns text into the field's type
        return self.with_values(values)

    def flat(self) -> dict[str, Scalar]:
        """Return every setting by its dotted path: ``{"seed": 0, "data.root": "phantom", ...}``."""
        return dict(_flatten(self.model_dump()))


@dataclass(frozen=True)
class Setting:
    """One field of RunConfig as a form, a reader or a document sees it."""

    path: str  # "optimise.epochs"
    help: str  # one line
    unit: str  # "" where there is none
    level: Level  # "main" is shown at once, "more" behind an expander
    default: Scalar
    type: type  # str, int, float or bool
    choices: tuple[str, ...]  # the allowed words, () where it is not a choice
    minimum: float | None = None
    maximum: float | None = None
    open_minimum: bool = False  # True where the value must be above, not at, the minimum
    open_maximum: bool = False

    @property
    def section(self) -> str:
        """The part before the dot, "" for a field at the top."""
        return self.path.rpartition(".")[0]

    @property
    def label(self) -> str:
        """The field's name in words with its unit: "Learning rate", "Size (px)"."""
        words = self.path.rpartition(".")[2].replace("_", " ").capitalize()
        return f"{words} ({self.unit})" if self.unit else words

    @property
    def allowed(self) -> str:
        """What the field takes, in words: "1 to 1000", "one of adam, adamw, sgd"."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.type is bool:
            return "true or false"
        if self.minimum is None and self.maximum is None:
            return "text" if self.type is str else "any number"
        low = "" if self.minimum is None else _plain(self.minimum)
        high = "" if self.maximum is None else _plain(self.maximum)
        low = f"above {low}" if low and self.open_minimum else low
        high = f"below {high}" if high and self.open_maximum else high
        return f"{low} to {high}" if low and high else low or high


def settings() -> tuple[Setting, ...]:
    """Return every field of RunConfig, in the order of the file."""
    return tuple(_walk(RunConfig, ""))


def _walk(model: type[BaseModel], prefix: str) -> Iterator[Setting]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _walk(kind, f"{prefix}{name}.")
        else:
            yield _describe(f"{prefix}{name}", field)


def _describe(path: str, field: FieldInfo) -> Setting:
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    bounds: dict[str, Any] = {}
    for bound in field.metadata:
        if isinstance(bound, Ge | Gt):
            bounds["minimum"] = bound.ge if isinstance(bound, Ge) else bound.gt
            bounds["open_minimum"] = isinstance(bound, Gt)
        elif isinstance(bound, Le | Lt):
            bounds["maximum"] = bound.le if isinstance(bound, Le) else bound.lt
            bounds["open_maximum"] = isinstance(bound, Lt)
    kind = str if choices else field.annotation
    assert isinstance(kind, type)
    return Setting(
        path=path,
        help=field.description or "",
        unit=str(extra.get("unit", "")),
        level="main" if extra.get("level") == "main" else "more",
        default=field.default,
        type=kind,
        choices=tuple(choices),
        **bounds,
    )


def _plain(number: float) -> str:
    """Write a bound as people do: 1000, 0.05."""
    return str(int(number)) if number == int(number) else f"{number:g}"


def _flatten(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Scalar]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _explain(error: ValidationError) -> str:
    """Turn pydantic's list of faults into sentences that name path, value and allowed range."""
    known = {setting.path: setting for setting in settings()}
    sentences = []
    for fault in error.errors():
        path = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            section = path.rpartition(".")[0]
            names = (
                [p for p in known if p.rpartition(".")[0] == section] if section else list(known)
            )
            sentences.append(f"There is no setting '{path}'. Known here: {', '.join(names)}.")
        elif fault["type"] == "value_error":
            sentences.append(f"{path} cannot be {fault['input']!r}: {fault['ctx']['error']}.")
        elif path in known:
            sentences.append(
                f"{path} cannot be {fault['input']!r}. Allowed: {known[path].allowed}."
                f" {known[path].help}"
            )
        else:
            sentences.append(f"{path} must be a mapping of settings, not {fault['input']!r}.")
    return " ".join(sentences)

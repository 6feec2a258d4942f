"""What the service takes and gives, as its OpenAPI description tells it."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cxr_core import NOT_FOR_CLINICAL_USE
from cxr_core.diagnosis import scoring
from cxr_core.diagnosis.bundle import BundleInfo

Share = Annotated[float, Field(ge=0, le=1)]

# What a client judges a model by; the card has all the rest.
HEADLINES = (
    "auc",
    "accuracy",
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "ece",
    "brier",
)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Answer(_Part):
    """What a model says about one film, or why it says nothing."""

    path: str = Field(description="The file's name as it was sent.")
    accepted: bool = Field(
        description="Whether the gate took it for a film like those the model knows. Where not, "
        "there is no label and no probability, unless `force` asked for them: then they are there, "
        "`accepted` stays false, and the note says that they are not to be relied on."
    )
    reasons: list[str] = Field(description="Why the gate refused it, in sentences.")
    unchecked: list[str] = Field(description="What the gate could not look at, in sentences.")
    burned_in: bool = Field(
        description="Whether the DICOM header says that the pixels hold text, perhaps a name."
    )
    label: str | None = Field(description="The decision at the threshold: a class of the model.")
    probability: Share | None = Field(description="Of the label, calibrated.")
    probabilities: dict[str, Share] = Field(description="Of every class, calibrated.")
    abnormal: Share | None = Field(
        description="Of any finding: 1 minus that of the reference class. The threshold is on it."
    )
    threshold: Share = Field(description="At or above it a finding is called.")
    distance: float | None = Field(
        description="From the films that the model learned from; from 1 on a film is refused. Null "
        "where the model has no statistics of its films."
    )
    bundle: str = Field(description="The model's name.")
    model: str = Field(description="Which model of that name: its file's SHA-256 begins with this.")
    note: str = Field(description="What the answer is not for. Show it with the answer.")


class Unread(_Part):
    """A file that could not be read; the others of its request are answered."""

    path: str = Field(description="The file's name as it was sent.")
    error: str = Field(description="Why it could not be read and what to do, in sentences.")
    accepted: Literal[False]
    reasons: list[str] = Field(max_length=0)
    unchecked: list[str] = Field(max_length=0)
    burned_in: None
    probabilities: dict[str, Share] = Field(max_length=0)
    label: None
    probability: None
    abnormal: None
    threshold: None
    distance: None
    model: str = Field(description="Which model was to be asked.")


class Estimate(_Part):
    """A figure with its 95 % interval."""

    value: float | None = Field(description="Null where it is not defined.")
    ci95: tuple[float | None, float | None] | None = Field(
        description="Lower and upper bound, by patient; null where there is none."
    )


class Tested(_Part):
    """How a model fared on films that it never saw."""

    films: int
    patients: int | None = Field(description="Null where patients are not known.")
    figures: dict[str, Estimate] = Field(
        description=f"By name: {', '.join(HEADLINES)}. Those that need one, at the threshold."
    )


class Threshold(_Part):
    """The operating point."""

    value: Share
    method: str = Field(description="How it was chosen.")
    chosen_on: str = Field(description="The films it was chosen on.")


class TrainingData(_Part):
    """What a model learned from."""

    name: str
    synthetic: bool = Field(
        description="Whether the films are drawn: then what it says of a real film means nothing."
    )
    licence: str
    citation: str
    patients: int | None
    films: dict[str, dict[str, int]] = Field(description="Films by part and class.")


class ModelInfo(_Part):
    """A model that can be asked."""

    name: str = Field(description="What `model` takes.")
    default: bool = Field(description="Whether it is asked where a request names none.")
    version: str = Field(description="The beginning of its file's SHA-256.")
    created: str = Field(description="When it was made, ISO 8601.")
    architecture: str
    classes: list[str] = Field(description="The reference class first.")
    gate: bool = Field(
        description="Whether it can refuse films that are turned, inverted or unlike its own."
    )
    threshold: Threshold
    training_data: TrainingData
    test: Tested | None = Field(description="Null where it was never tested.")
    card: str = Field(description="Where its card is: everything else, as Markdown.")
    note: str = Field(description="What it is not for.")


class Health(_Part):
    """Whether films are answered."""

    status: Literal["ready", "loading", "failed"]


class Problem(_Part):
    """Why there is no answer (RFC 9457)."""

    type: str = Field(description="Always about:blank: the status says the kind.")
    title: str = Field(description="The status in words.")
    status: int
    detail: str = Field(description="What is wrong and what to do, in sentences.")
    reasons: list[str] = Field(
        default_factory=list, description="Why the gate refused the film, where that is the reason."
    )


def described(name: str, info: BundleInfo, *, default: bool) -> ModelInfo:
    """Return what clients are told of a model.

    Args:
        name: what they ask for it by.
        info: what its bundle says.
        default: whether it is asked where they name none.
    """
    notes = [NOT_FOR_CLINICAL_USE, *([scoring.SYNTHETIC] if info.data.synthetic else [])]
    return ModelInfo(
        name=name,
        default=default,
        version=scoring.version(info),
        created=info.created,
        architecture=info.architecture,
        classes=list(info.classes),
        gate=info.gate is not None,
        threshold=Threshold(**info.threshold.model_dump()),
        training_data=TrainingData(
            name=info.data.name,
            synthetic=info.data.synthetic,
            licence=info.data.licence,
            citation=info.data.citation,
            patients=info.data.patients,
            films=info.data.counts,
        ),
        test=_tested(info.metrics.get("test")),
        card=f"/v1/models/{name}/card",
        note=" ".join(notes),
    )


def _tested(summary: Mapping[str, Any] | None) -> Tested | None:
    if not summary:
        return None
    intervals = summary.get("ci95", {})
    return Tested(
        films=summary["n"],
        patients=summary.get("patients"),
        figures={
            name: Estimate(value=summary[name], ci95=intervals.get(name))
            for name in HEADLINES
            if name in summary
        },
    )

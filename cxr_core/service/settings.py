"""The service's limits, each set by an environment variable of its name."""

from collections.abc import Mapping
from typing import Self

from limits import parse_many
from pydantic import BaseModel, ByteSize, ConfigDict, Field, ValidationError, field_validator
from pydantic import model_validator as validates

from cxr_core.diagnosis import scoring
from cxr_core.errors import ConfigError
from cxr_core.images.radiograph import MAX_BYTES

PREFIX = "CXR_SERVE_"


class Settings(BaseModel):
    """What a client may send, and how films are gathered. Sizes are in bytes: 50000000, 50MB."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    file_bytes: ByteSize = Field(ByteSize(50_000_000), gt=0, le=MAX_BYTES)  # of one file
    request_bytes: ByteSize = Field(ByteSize(200_000_000), gt=0)  # of all that a request holds
    held_bytes: ByteSize = Field(ByteSize(500_000_000), gt=0)  # of all requests' files at a time
    files: int = Field(32, ge=1)  # of one request
    queue: int = Field(256, ge=1)  # films that are taken in and not answered yet
    rate: str = "600/minute"  # requests of one client; several limits stand with a semicolon
    upload_seconds: float = Field(60.0, gt=0)  # in which a request must have arrived
    batch: int = Field(scoring.BATCH, ge=1, le=64)  # films a network is asked about at once
    gather_ms: float = Field(5.0, ge=0, le=1000)  # that a film waits for others on their way

    @field_validator("rate")
    @classmethod
    def _readable(cls, value: str) -> str:
        parse_many(value)
        return value

    @validates(mode="after")
    def _in_order(self) -> Self:
        for small, large in (
            ("file_bytes", "request_bytes"),
            ("request_bytes", "held_bytes"),
            ("files", "queue"),
        ):
            if getattr(self, small) > getattr(self, large):
                raise ValueError(
                    f"{_variable(small)} ({getattr(self, small)}) must not be above "
                    f"{_variable(large)} ({getattr(self, large)})"
                )
        return self


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Read the settings.

    Args:
        environment: variables by name; those that do not begin with `PREFIX` are passed over.

    Raises:
        ConfigError: a variable is unknown or its value will not do.
    """
    given = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(PREFIX)
    }
    unknown = sorted(given.keys() - Settings.model_fields.keys())
    if unknown:
        known = ", ".join(_variable(name) for name in Settings.model_fields)
        raise ConfigError(
            f"{_variable(unknown[0])} is no setting of the service. There are: {known}."
        )
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        fault = error.errors()[0]
        why = fault["msg"].removeprefix("Value error, ")
        if not fault["loc"]:
            raise ConfigError(f"{why}.") from error
        name = str(fault["loc"][0])
        default = Settings.model_fields[name].default
        raise ConfigError(
            f"{_variable(name)} is '{given[name]}': {why}. Without it {default} is taken."
        ) from error


def _variable(name: str) -> str:
    return f"{PREFIX}{name.upper()}"

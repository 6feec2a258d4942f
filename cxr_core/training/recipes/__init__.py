"""Ready configurations, a YAML file each; the first comment line says what it is for.

``NAME.selection.json`` beside one tells what it was chosen from.
"""

from functools import cache
from pathlib import Path
from typing import Any

from cxr_core.config import RunConfig
from cxr_core.diagnosis.bundle import RecipeSelection
from cxr_core.errors import ConfigError

_FOLDER = Path(__file__).parent


def names() -> tuple[str, ...]:
    """Return the names of all recipes, alphabetically."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def load(name_or_path: str) -> RunConfig:
    """Return the configuration of a recipe, or of a YAML file on disk.

    Raises:
        ConfigError: there is no such recipe or file, or it holds an unknown or bad setting.
    """
    if name_or_path in names():
        return _ready(name_or_path)
    path = Path(name_or_path).expanduser()
    if not path.is_file():
        raise ConfigError(
            f"There is no recipe and no file '{name_or_path}'. Recipes: {', '.join(names())}."
        )
    return RunConfig.from_file(path)


@cache
def _ready(name: str) -> RunConfig:
    return RunConfig.from_file(_FOLDER / f"{name}.yaml")


def describe(name: str) -> str:
    """Return what a recipe is for, in a line.

    Raises:
        ConfigError: there is no such recipe.
    """
    if name not in names():
        raise ConfigError(f"There is no recipe '{name}'. Recipes: {', '.join(names())}.")
    with (_FOLDER / f"{name}.yaml").open(encoding="utf-8") as file:
        return file.readline().removeprefix("#").strip()


def selection(name: str, config: RunConfig) -> RecipeSelection | None:
    """Return how a run's settings were chosen.

    Args:
        name: the recipe that it began with.
        config: its settings.

    Returns:
        None where the recipe was not compared with others, or where a setting that bears on the
        result is not the recipe's.
    """
    path = _FOLDER / f"{name}.selection.json"
    if name not in names() or not path.is_file() or _settled(config) != _settled(load(name)):
        return None
    return RecipeSelection.model_validate_json(path.read_text(encoding="utf-8"))


def _settled(config: RunConfig) -> dict[str, Any]:
    """Return what a comparison of recipes holds for: all but name, place and machine.

    With the seed, which decides what films a model is tested on: those had no part in it.
    """
    values = config.model_dump(exclude={"name", "notes", "hardware"})
    values["data"] = {
        key: values["data"][key] for key in ("split", "val_fraction", "test_fraction")
    }
    return values

"""RunConfig: what it takes, what it refuses, and how it says so."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_core.config import RunConfig, Setting, settings
from cxr_core.errors import ConfigError

BY_PATH = {setting.path: setting for setting in settings()}


def values(setting: Setting) -> st.SearchStrategy[object]:
    """Any value that a setting allows."""
    if setting.choices:
        return st.sampled_from(setting.choices)
    if setting.type is bool:
        return st.booleans()
    if setting.path == "distil.teachers":
        return st.sampled_from([0, *range(2, 11)])  # one is none
    if setting.type is int:
        return st.integers(int(setting.minimum or 0), int(setting.maximum or 0))
    if setting.type is float:
        return st.floats(
            setting.minimum,
            setting.maximum,
            exclude_min=setting.open_minimum,
            exclude_max=setting.open_maximum,
        )
    return st.just(setting.default)


@given(st.fixed_dictionaries({path: values(setting) for path, setting in BY_PATH.items()}))
def test_every_allowed_configuration_survives_a_round_trip_through_yaml(flat):
    config = RunConfig().with_values(flat)
    assert config.flat() == flat
    assert RunConfig.from_yaml(config.to_yaml()) == config


def test_every_setting_has_help_and_every_number_has_bounds():
    for setting in settings():
        assert setting.help.endswith("."), setting.path
        assert "\n" not in setting.help, setting.path
        if setting.type in (int, float):
            assert setting.minimum is not None and setting.maximum is not None, setting.path


@pytest.mark.parametrize("path", [s.path for s in settings() if s.type in (int, float)])
def test_a_number_outside_its_bounds_is_refused_with_path_and_range(path):
    setting = BY_PATH[path]
    for value in (setting.minimum - 1, setting.maximum + 1):
        with pytest.raises(ConfigError) as refusal:
            RunConfig().with_values({path: value})
        assert path in str(refusal.value)
        assert setting.allowed in str(refusal.value)


def test_overrides_take_text_as_the_command_line_gives_it():
    config = RunConfig().with_overrides(
        ["optimise.learning_rate=1e-4", "optimise.epochs = 3", "augment.flip=true", "name=a=b"]
    )
    assert config.optimise.learning_rate == 1e-4
    assert config.optimise.epochs == 3
    assert config.augment.flip is True
    assert config.name == "a=b"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optimise.epochs", "path=value"),
        ("optimise.epoch=3", "no setting 'optimise.epoch'"),
        ("optimise=3", "no setting 'optimise'"),
        ("optimise.epochs=many", "optimise.epochs"),
        ("optimise.epochs=[", "optimise.epochs"),
        ("optimise.learning_rate=nan", "optimise.learning_rate"),
        ("hardware.device=tpu", "one of auto, cpu, gpu"),
        ("model.weights=internet", "bundle:NAME"),
    ],
)
def test_a_bad_override_is_refused_in_words(override, words):
    with pytest.raises(ConfigError, match=None) as refusal:
        RunConfig().with_overrides([override])
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image: {sise: 3}", "no setting 'image.sise'. Known here: image.size, image.fit"),
        ("optimize: {}", "no setting 'optimize'"),
        ("- a\n- b", "mapping"),
        ("image: [", "not valid YAML"),
        ("image: 3", "image"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_bad_yaml_is_refused_in_words(text, words):
    with pytest.raises(ConfigError) as refusal:
        RunConfig.from_yaml(text)
    assert words in str(refusal.value)


def test_an_empty_file_is_the_default_configuration(tmp_path):
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert RunConfig.from_file(tmp_path / "empty.yaml") == RunConfig()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        RunConfig.from_file(tmp_path / "nowhere.yaml")

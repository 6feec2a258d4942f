"""What a sweep searches: the space as YAML, its faults in sentences, what is suggested."""

import math

import pytest

from cxr_core.config import RunConfig, settings
from cxr_core.errors import ConfigError
from cxr_core.training.search import Search
from cxr_core.training.search_space import SearchSpace, searchable, suggest
from cxr_core.zoo import registry

TEXT = """
optimise.learning_rate: {low: 1e-4, high: 1.0e-2, log: true}
optimise.optimizer: [adam, adamw]
optimise.batch_size: [16, "32"]
augment.rotation: {low: 0, high: 12, step: 5}
image.size: {low: 64, high: 128, step: 32}
augment.flip: [true, false]
"""


def space(**values: object) -> SearchSpace:
    return SearchSpace.from_mapping({path.replace("__", "."): v for path, v in values.items()})


def test_a_space_is_read_with_the_types_of_its_settings_and_written_back():
    read = SearchSpace.from_yaml(TEXT)
    by_path = {dimension.path: dimension for dimension in read.dimensions}
    assert by_path["optimise.learning_rate"].low == 1e-4  # which YAML takes for a text
    assert by_path["optimise.batch_size"].choices == (16, 32)
    assert list(by_path["augment.rotation"].values) == [0, 5, 10]
    assert list(by_path["image.size"].values) == [64, 96, 128]
    assert read.size is None
    assert SearchSpace.from_yaml(read.to_yaml()) == read


def test_what_can_be_counted_is_counted():
    found = space(augment__rotation={"low": 0, "high": 12, "step": 5}, augment__flip=[True, False])
    assert found.size == 6
    assert len(list(found.combinations())) == 6


def test_a_value_is_in_the_space_or_it_is_not():
    read = SearchSpace.from_yaml(TEXT)
    start = RunConfig().with_values({"optimise.learning_rate": 1e-3, "image.size": 96})
    assert read.holds(read.of(start))
    for path, value in (("image.size", 100), ("optimise.optimizer", "sgd"), ("augment.zoom", 0.1)):
        other = start.with_values({path: value})
        assert read.holds(read.of(other)) is (path not in read.paths)


def test_what_is_drawn_is_written_as_people_would_and_stays_in_its_range():
    (rate,) = space(optimise__learning_rate={"low": 1.23456e-4, "high": 1e-2}).dimensions
    assert rate.readable(0.0084591265280493) == 0.008459
    assert rate.readable(1.2341e-4) == 1.23456e-4
    (size,) = space(image__size={"low": 64, "high": 128, "step": 32}).dimensions
    assert size.readable(96) == 96


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("optimise.rate: [1, 2]", "There is no setting 'optimise.rate'. Known settings: name"),
        ("optimise: [1, 2]", "There is no setting 'optimise'"),
        ("image.size: [16, 64]", "image.size cannot be 16. Allowed: 32 to 1024."),
        (
            "optimise.learning_rate: {low: 0, high: 1}",
            "optimise.learning_rate cannot be 0. Allowed: above 0 to 10.",
        ),
        (
            "optimise.optimizer: [adam, lion]",
            "optimise.optimizer cannot be 'lion'. Allowed: one of adam, adamw, sgd.",
        ),
        ("model.architecture: [plain_cnn, resnet99]", "resnet99"),
        ("optimise.epochs: 5", "A single value is no search"),
        ("optimise.epochs: [5]", "needs two different values or more. Allowed: 1 to 1000."),
        ("optimise.epochs: [5, null]", "optimise.epochs cannot be None. Allowed: 1 to 1000."),
        ("optimise.epochs: {low: 9, high: 2}", "from 9 to 2: low must be below high"),
        ("optimise.epochs: {low: 1}", "The range of optimise.epochs has no 'high'"),
        ("optimise.epochs: {low: 1, high: 5, min: 2}", "has no key 'min' to set"),
        ("optimise.epochs: {low: 1, high: 5, step: 1.5}", "step = 1.5; it must be a whole number"),
        ("optimise.epochs: {low: 1, high: 5, step: 9}", "above 0 and at most 4"),
        ("augment.noise: {low: 0, high: 5, step: x}", "step = 'x'; it must be a number"),
        ("augment.noise: {low: 0, high: 5, log: true}", "must begin above 0"),
        ("augment.noise: {low: 1, high: 5, log: 1}", "log = 1; it must be true or false"),
        ("augment.noise: {low: 1, high: 5, log: true, step: 1}", "both log and step"),
        ("augment.flip: {low: 0, high: 1}", "augment.flip is no number: give a list of values"),
        ("distil.teachers: {low: 0, high: 4}", "distil.teachers cannot be 1: one teacher would"),
        ("seed: [0, 1]", "A sweep cannot vary seed. It bears on which films validate"),
        ("data.val_fraction: {low: 0.1, high: 0.2}", "A sweep cannot vary data.val_fraction"),
        ("decide.views: [0, 5]", "The threshold is chosen after the training"),
        ("[1, 2]", "must be a mapping of settings to what is tried of them, such as"),
        ("", "must be a mapping of settings"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_a_fault_in_a_space_is_a_sentence_with_path_and_range(text, words):
    with pytest.raises(ConfigError) as refused:
        SearchSpace.from_yaml(text)
    assert words in str(refused.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"The search space .*absent.yaml cannot be read"):
        SearchSpace.from_file(tmp_path / "absent.yaml")
    (tmp_path / "list.yaml").write_text("[1]")
    with pytest.raises(ConfigError, match=r"list.yaml must be a mapping"):
        SearchSpace.from_file(tmp_path / "list.yaml")


def test_what_is_suggested_of_every_setting_is_allowed_and_holds_its_value():
    start = RunConfig().flat()
    known = {setting.path for setting in searchable()}
    assert {"optimise.learning_rate", "model.architecture", "augment.flip"} <= known
    assert not {"seed", "name", "data.root", "decide.rule"} & known
    for setting in searchable():
        options = tuple(registry.names()) if setting.path == "model.architecture" else ()
        found = suggest(setting, start[setting.path], options)
        if found is None:
            assert setting.path == "model.weights"
            continue
        again = SearchSpace.from_mapping({setting.path: found.as_yaml()})
        assert again.dimensions == (found,), setting.path
        if setting.default or setting.type is bool:
            assert found.holds(start[setting.path]), setting.path


def test_a_learning_rate_is_searched_by_orders_of_magnitude_about_its_value():
    rate = next(s for s in settings() if s.path == "optimise.learning_rate")
    found = suggest(rate, 2e-4)
    assert found.log
    assert (found.low, found.high) == pytest.approx((2e-5, 2e-3))
    assert not math.isinf(suggest(rate, 9.0).high)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"objective": "test_auc"}, "objective cannot be 'test_auc'. Allowed: val_auroc, val_acc"),
        ({"objective": "test_auc"}, "Nothing may be chosen by test films."),
        ({"pruner": "halving"}, "pruner cannot be 'halving'. Allowed: median, hyperband, none."),
        ({"trials": 0}, "trials cannot be 0. Allowed: 1 to 1000."),
        ({"at_once": 99}, "at_once cannot be 99. Allowed: 1 to 64."),
        ({"second": "seconds"}, "With a second objective (seconds) no trial can be pruned"),
        ({"second": "gpus"}, "Allowed: nothing, seconds, epoch_seconds, parameters."),
    ],
)
def test_a_search_that_does_not_hold_together_is_refused(how, words):
    with pytest.raises(ConfigError) as refused:
        Search(space(augment__flip=[True, False]), **how).checked()
    assert words in str(refused.value)


def test_losses_of_different_meaning_are_not_compared():
    varied = space(optimise__label_smoothing={"low": 0, "high": 0.2})
    with pytest.raises(ConfigError, match=r"varies optimise.label_smoothing, and with it what"):
        Search(varied, objective="val_loss").checked()
    assert Search(varied).checked().objective == "val_auroc"


def test_a_search_is_written_and_read_back():
    search = Search(SearchSpace.from_yaml(TEXT), trials=7, second="parameters", pruner="none")
    assert Search.from_yaml(search.to_yaml(), "it") == search
    with pytest.raises(ConfigError, match="it must have these keys: at_once, objective"):
        Search.from_yaml("trials: 3", "it")


def test_the_most_epochs_are_those_of_the_space_where_it_varies_them():
    config = RunConfig().with_values({"optimise.epochs": 8})
    assert Search(space(augment__flip=[True, False])).epochs(config) == 8
    assert Search(space(optimise__epochs=[5, 30])).epochs(config) == 30
    assert Search(space(optimise__epochs={"low": 2, "high": 12})).epochs(config) == 12

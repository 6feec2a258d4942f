"""The ready configurations: all load, and what they name exists."""

import numpy as np
import pytest

from cxr_core.config import RunConfig
from cxr_core.errors import ConfigError
from cxr_core.training import recipes
from cxr_core.training.jobs import check
from cxr_core.training.writer import RunWriter
from cxr_core.zoo import registry
from cxr_core.zoo.applications import APPLICATIONS


def test_the_two_first_recipes_are_there():
    assert {"plain_cnn", "quick"} <= set(recipes.names())


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_names_a_known_network_and_can_start(name):
    config = recipes.load(name)
    assert config.model.architecture in registry.names()
    errors = [problem.title for problem in check(config) if problem.severity == "error"]
    # Weights that Keras fetches over a network are not everywhere to be had, and the check says so.
    fetched = config.model.weights == "imagenet" and config.model.architecture in APPLICATIONS
    assert set(errors) <= ({"The weights are not to be had"} if fetched else set())


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_says_in_a_line_what_it_is_for(name):
    line = recipes.describe(name)
    assert line.endswith(".")
    assert 20 < len(line) < 100
    assert not line.startswith("#")


def test_plain_cnn_is_the_recipe_of_the_notebooks():
    config = recipes.load("plain_cnn")
    assert config.optimise.optimizer == "adam"
    assert config.optimise.learning_rate == 1e-3
    assert (config.optimise.batch_size, config.optimise.epochs) == (32, 20)
    assert (config.stop.monitor, config.stop.patience) == ("val_loss", 4)
    assert (config.stop.plateau_factor, config.stop.plateau_patience) == (0.5, 2)
    assert config.stop.min_learning_rate == 1e-5


def test_a_file_on_disk_is_a_recipe_too(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(RunConfig(seed=7).to_yaml())
    assert recipes.load(str(path)).seed == 7


def test_an_unknown_recipe_is_answered_with_the_known_ones():
    for ask in (recipes.load, recipes.describe):
        with pytest.raises(ConfigError, match=r"no recipe.*'resnet9000'.*plain_cnn, .*quick"):
            ask("resnet9000")


def test_an_unknown_setting_in_a_file_is_refused_by_name(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("optimise:\n  learning_speed: 1\n")
    with pytest.raises(ConfigError, match=r"optimise\.learning_speed"):
        recipes.load(str(path))


@pytest.mark.slow
@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_trains_to_a_bundle(name, phantoms, store, monkeypatch):
    from cxr_core.training import trainer

    # Deterministic ops would stay on for the tests that follow.
    monkeypatch.setattr(trainer.tf.config.experimental, "enable_op_determinism", lambda: None)
    recipe = recipes.load(name)
    config = recipe.with_values(
        {
            "data.root": str(phantoms),
            "image.size": 64,
            "model.weights": "none",  # those of Keras need a network
            # The dense layers of the deep CNN alone would fill gigabytes.
            "model.head": "gap" if recipe.model.architecture == "deep_cnn" else recipe.model.head,
            "optimise.epochs": 1,
            "hardware.precision": "float32",
            "distil.teachers": min(recipe.distil.teachers, 2),  # of those, no fewer can be
        }
    )
    run_id = store.create(config, name=name)
    with RunWriter(store, run_id) as run:
        trained = trainer.train(config, run)
    assert trained.info.architecture == recipe.model.architecture
    assert store.path(run_id, "bundle/model.keras").is_file()
    losses = store.curves(run_id, ["train_loss", "val_loss"])["value"]
    assert len(losses) == 2
    assert np.isfinite(losses).all()


@pytest.mark.parametrize(
    ("changed", "held"),
    [
        ({}, True),
        ({"name": "mine", "data.root": "/elsewhere", "hardware.precision": "float32"}, True),
        ({"seed": 1}, False),  # other test films, which the comparison may have seen
        ({"optimise.epochs": 3}, False),
        ({"data.test_fraction": 0.2}, False),
    ],
)
def test_a_comparison_of_recipes_holds_for_the_recipes_own_settings(changed, held):
    config = recipes.load("pneumonia_v1").with_values(changed)
    assert (recipes.selection("pneumonia_v1", config) is not None) == held
    assert recipes.selection("quick", config) is None

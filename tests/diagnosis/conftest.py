"""Bundles of two and three classes, made once."""

from pathlib import Path

import pytest
import tiny


@pytest.fixture(scope="session")
def binary_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-class bundle: one logit."""
    return tiny.write_bundle(tmp_path_factory.mktemp("bundles") / "binary")


@pytest.fixture(scope="session")
def three_class_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A three-class bundle: three logits."""
    return tiny.write_bundle(tmp_path_factory.mktemp("bundles") / "three", tiny.THREE)

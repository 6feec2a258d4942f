"""What is looked at before a run starts."""

import dataclasses
import shutil

import pandas as pd
import pytest

from cxr_core.config import RunConfig
from cxr_core.data import exclusions
from cxr_core.data.catalog import Catalog, scan
from cxr_core.diagnosis import bundle
from cxr_core.errors import TrainingError
from cxr_core.training import checks, jobs, machine, recipes
from cxr_core.training.checks import Problem
from cxr_core.training.tracking import Status
from cxr_core.zoo import registry

SMALL = {"image.size": 64, "optimise.small_size": 32, "optimise.small_epochs": 5}


def problems(changes: dict) -> dict[str, str]:
    """Title and severity of what stands against the default configuration with changes."""
    return {p.title: p.severity for p in checks.check(RunConfig().with_values(changes))}


@pytest.fixture(autouse=True)
def machine_without_gpu(monkeypatch, store):
    monkeypatch.setattr(checks, "has_nvidia_driver", lambda: False)
    monkeypatch.setattr(machine, "free_memory", lambda: 64 << 30)
    monkeypatch.setattr(machine, "has_bfloat16", lambda: True)


def test_the_default_configuration_may_start():
    assert problems({}) == {}


@pytest.mark.parametrize(
    ("changes", "title", "severity"),
    [
        ({"model.architecture": "alexnet"}, "This network cannot be built", "error"),
        ({"model.weights": "imagenet"}, "This network cannot be built", "error"),
        ({"model.weights": "bundle:none-such"}, "The bundle to start from is missing", "error"),
        ({"data.root": "/no/such/folder"}, "The data set is not there", "error"),
        (
            {"model.architecture": "efficientnet_lite0", "image.size": 32},
            "This network cannot be built",
            "error",
        ),
        (
            {"optimise.schedule": "cosine", "optimise.warmup_epochs": 20},
            "The warm-up never ends",
            "error",
        ),
        ({"stop.min_learning_rate": 0.1}, "The lowest rate is above the rate", "error"),
        ({"hardware.device": "gpu"}, "No GPU here", "error"),
        ({"hardware.precision": "mixed_float16"}, "Half precision is slow on a CPU", "warning"),
        ({"hardware.device": "all_gpus"}, "No GPU here", "error"),
        ({"optimise.weight_decay": 0.1}, "Weight decay has no effect", "warning"),
        ({"optimise.warmup_epochs": 1}, "The warm-up has no effect", "warning"),
        ({"optimise.restart_growth": 3}, "The restarts have no effect", "warning"),
        (
            {"optimise.schedule": "constant", "stop.plateau_patience": 5},
            "The falling rate has no effect",
            "warning",
        ),
        ({"optimise.focal_gamma": 1}, "Focal loss is off", "warning"),
        (
            {"data.split": "published", "data.val_fraction": 0.2},
            "The shares have no effect",
            "warning",
        ),
        ({"augment.flip": True}, "Films are mirrored", "warning"),
        ({"optimise.train_layers": 0}, "A random body stays as it is", "warning"),
        ({"optimise.head_epochs": 2}, "The head learns from a random body first", "warning"),
        ({"optimise.small_size": 32}, "Progressive resolution has no effect", "warning"),
        ({"optimise.small_epochs": 2}, "Progressive resolution has no effect", "warning"),
        ({**SMALL, "image.size": 32}, "The small films are not small", "error"),
        ({**SMALL, "optimise.small_epochs": 20}, "Hardly an epoch at full size", "warning"),
        ({**SMALL, "model.head": "flatten_mlp"}, "This head is made for one size", "error"),
        ({**SMALL, "optimise.small_size": 16}, "This network cannot be built", "error"),
        ({"image.size": 1024, "optimise.batch_size": 1024}, "Memory may run out", "warning"),
    ],
)
def test_a_fault_is_found_alone(changes, title, severity):
    assert problems(changes) == {title: severity}


@pytest.mark.parametrize(
    "changes",
    [
        SMALL,
        {"optimise.optimizer": "adamw", "optimise.weight_decay": 0.1},
        {"optimise.schedule": "cosine", "optimise.warmup_epochs": 1},
        {"optimise.schedule": "cosine_restarts", "optimise.restart_steps": 100},
        {"optimise.loss": "focal", "optimise.focal_gamma": 1},
        {"hardware.precision": "mixed_bfloat16"},
        {"hardware.precision": "auto"},
    ],
)
def test_settings_that_go_together_are_left_alone(changes):
    assert problems(changes) == {}


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_has_nothing_against_itself(name, monkeypatch):
    """But for weights that are not on this machine."""
    monkeypatch.setattr(registry, "check", lambda *_, **__: None)
    assert checks.check(recipes.load(name)) == []


def test_a_warning_that_the_body_is_never_trained_spares_an_intended_one():
    pretrained = {"model.architecture": "efficientnet_lite0", "model.weights": "imagenet"}
    assert problems({**pretrained, "optimise.head_epochs": 20}) == {
        "The body is never trained": "warning"
    }
    assert problems({**pretrained, "optimise.train_layers": 0}) == {}
    assert problems({**pretrained, "optimise.head_epochs": 2}) == {}


def test_weights_that_cannot_be_had_are_told_with_their_mend(monkeypatch):
    def find():
        raise TrainingError("The file is not here. Fetch it.")

    entry = registry.get("efficientnet_lite0")
    without = dataclasses.replace(entry.imagenet, find=find)
    monkeypatch.setattr(registry, "get", lambda _: dataclasses.replace(entry, imagenet=without))
    config = RunConfig().with_values(
        {"model.architecture": "efficientnet_lite0", "model.weights": "imagenet"}
    )
    assert checks.check(config) == [
        Problem("error", "The weights are not to be had", "The file is not here. Fetch it.")
    ]


def test_what_a_mend_proposes_mends_it():
    faulty = RunConfig().with_values(
        {
            **SMALL,
            "model.head": "flatten_mlp",
            "hardware.device": "gpu",
            "optimise.weight_decay": 0.1,
            "augment.flip": True,
        }
    )
    found = checks.check(faulty)
    assert len(found) == 4
    for problem in found:
        faulty = faulty.with_values(dict(problem.changes))
    assert checks.check(faulty) == []


def test_bfloat16_is_only_slow_where_the_processor_lacks_it(monkeypatch):
    for has, expected in ((False, {"This processor lacks bfloat16": "warning"}), (None, {})):
        monkeypatch.setattr(machine, "has_bfloat16", lambda has=has: has)
        assert problems({"hardware.precision": "mixed_bfloat16"}) == expected


def test_on_a_gpu_its_own_memory_counts(monkeypatch):
    monkeypatch.setattr(checks, "has_nvidia_driver", lambda: True)
    monkeypatch.setattr(machine, "free_memory", lambda: 0)
    for memory, expected in (
        (80 << 30, {}),
        (None, {}),
        (1 << 30, {"Memory may run out": "warning"}),
    ):
        monkeypatch.setattr(machine, "gpu_memory", lambda memory=memory: memory)
        assert problems({"hardware.precision": "mixed_float16"}) == expected
    assert problems({"hardware.device": "cpu"}) == {"Memory may run out": "warning"}


def test_the_estimate_of_memory_says_what_it_is_made_of(monkeypatch):
    monkeypatch.setattr(machine, "free_memory", lambda: 2 << 30)
    config = RunConfig().with_values({"model.architecture": "deep_cnn"})
    (problem,) = checks.check(config)
    # 32 x 224 x 224 x 430 numbers, and 115 million parameters at 32 bytes each
    assert "about 7.1 GB: 2.8 GB for a batch of 32 films at 224 px" in problem.message
    assert "3.7 GB for 115.1 million parameters" in problem.message
    assert "Free are 2.1 GB" in problem.message


def test_errors_come_before_warnings():
    found = checks.check(
        RunConfig().with_values({"augment.flip": True, "data.root": "/no/such/folder"})
    )
    assert [problem.severity for problem in found] == ["error", "warning"]


def test_an_almost_full_disk_is_told(monkeypatch):
    monkeypatch.setattr(checks, "_DISK_NEEDED", 1 << 80)
    assert problems({}) == {"The disk is almost full": "warning"}


def test_the_films_to_be_decoded_count_for_the_disk(films, monkeypatch):
    def free(films: Catalog | None, size: int, room: int) -> bool:
        monkeypatch.setattr(checks.shutil, "disk_usage", lambda _: Usage(room))
        found = checks.check(RunConfig().with_values({"image.size": size}), catalog=films)
        return "The disk is almost full" not in {problem.title for problem in found}

    room = checks._DISK_NEEDED + 30_000_000
    assert free(None, 1024, room)
    assert free(films, 96, room)
    assert not free(films, 1024, room)  # 60 films of a megabyte each


@dataclasses.dataclass
class Usage:
    free: int


# -- the films ------------------------------------------------------------------------------------

FEW = "Few films to validate with"  # true of every set that a test can afford


@pytest.fixture(scope="module")
def films(phantoms, tmp_path_factory) -> Catalog:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXR_HOME", str(tmp_path_factory.mktemp("scanned")))
        return scan(phantoms)


def divided(films: Catalog, published: dict[str, str] | None = None) -> Catalog:
    """The set with another published division: the part of each film by its path."""
    parts = [(published or {}).get(path, "train") for path in films.frame["path"]]
    return dataclasses.replace(films, frame=films.frame.assign(split=parts))


def of_films(films: Catalog, **changes: object) -> dict[str, Problem]:
    values = {path.replace("__", "."): value for path, value in changes.items()}
    config = RunConfig().with_values({"optimise.batch_size": 8, **values})
    found = checks.check(config, catalog=films)
    return {problem.title: problem for problem in found}


def test_few_films_to_validate_with_are_counted(films):
    found = of_films(films, data__split="recut", data__val_fraction=0.4)
    assert set(found) == {FEW}
    assert "of NORMAL" in found[FEW].message


@pytest.mark.parametrize(("synthetic", "severity"), [(True, "note"), (False, "warning")])
def test_few_films_to_validate_with_alarm_nobody_who_learns_the_app(films, synthetic, severity):
    films = dataclasses.replace(films, synthetic=synthetic)
    assert of_films(films, data__split="recut")[FEW].severity == severity


def test_enough_films_to_validate_with_are_no_matter(films, monkeypatch):
    monkeypatch.setattr(checks, "_ENOUGH_TO_VALIDATE", 2)
    assert of_films(films) == {}


def parts_of(films: Catalog, *, leaking: bool) -> dict[str, str]:
    """A division by patient, or the same with the films of one validation patient apart."""
    from cxr_core.data import splits

    table = splits.cut(films, RunConfig().with_values({"data.split": "recut"}).data, 0).table
    parts = dict(zip(table["path"], table["split"], strict=True))
    if leaking:
        several = table[table["split"] == "val"].groupby("patient_id")["path"].apply(list)
        parts[next(paths for paths in several if len(paths) > 1)[0]] = "test"
    return parts


def test_a_published_division_through_a_patient_is_refused(films):
    sound = divided(films, parts_of(films, leaking=False))
    assert set(of_films(sound, data__split="published")) == {FEW}
    leaking = divided(films, parts_of(films, leaking=True))
    leak = of_films(leaking, data__split="published")["The division leaks"]
    assert leak.severity == "error"
    assert "1 patient of the published parts" in leak.message
    assert set(of_films(leaking, **{"data__split": leak.changes["data.split"]})) <= {FEW}


def test_a_published_division_through_a_twin_is_refused(films, phantoms, tmp_path):
    folder = tmp_path / "films"
    shutil.copytree(phantoms, folder)
    table = pd.read_csv(folder / "metadata.csv", dtype=str)
    parts = parts_of(films, leaking=False)
    table["split"] = table["path"].map(parts)
    twin = table[table["split"] == "train"].iloc[0].copy()
    shutil.copy(folder / twin["path"], folder / "images" / "twin.png")
    twin[["path", "split", "patient_id"]] = ["images/twin.png", "test", "nobody else"]
    pd.concat([table, twin.to_frame().T]).to_csv(folder / "metadata.csv", index=False)
    leaking = scan(folder)
    leak = of_films(leaking, data__split="published")["The division leaks"]
    assert leak.severity == "error"
    assert "1 film of the published parts" in leak.message
    exclusions.exclude(leaking, ["images/twin.png"])
    assert set(of_films(leaking, data__split="published")) == {FEW}


@pytest.mark.parametrize(("part", "severity"), [("val", "error"), ("test", "warning")])
def test_a_class_without_films_in_a_part_is_told(films, part, severity):
    parts = parts_of(films, leaking=False)
    gone = films.frame["path"][films.frame["label"] == "TUBERCULOSIS"]
    parts |= {path: "train" for path in gone if parts[path] == part}
    found = of_films(divided(films, parts), data__split="published")
    word = {"val": "validation", "test": "test"}[part]
    empty = found[f"An empty class in {word}"]
    assert empty.severity == severity
    assert f"The {word} part has no films of TUBERCULOSIS" in empty.message


def test_films_that_cannot_be_divided_are_told_once_and_remembered(films, monkeypatch):
    alone = divided(films)  # all in the training part
    first = of_films(alone, data__split="published")
    assert first["The films cannot be divided"].severity == "error"
    monkeypatch.setattr(checks.splits, "cut", lambda *_: pytest.fail("divided again"))
    assert of_films(alone, data__split="published") == first


def test_a_batch_larger_than_the_training_set_is_told(films):
    found = of_films(films, optimise__batch_size=64)
    assert found["The batch is larger than the training set"].severity == "warning"
    assert set(of_films(films, optimise__batch_size=32)) == {FEW}


def test_a_mean_of_the_weights_that_would_lag_behind_is_told(films):
    title = "The mean of the weights lags behind"
    assert title in of_films(films, optimise__ema=0.999)
    assert title not in of_films(films, optimise__ema=0.9)


# -- other runs -----------------------------------------------------------------------------------


class NoLauncher:
    def start(self, run_id: str) -> None:
        """Start nothing."""


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (Status.FINISHED, "has finished"),
        (Status.QUEUED, "is queued"),
        (Status.FAILED, ""),
        (Status.CANCELLED, ""),
        (Status.STOPPED, ""),
    ],
)
def test_an_identical_run_is_named(store, status, told):
    run_id = jobs.start(RunConfig(), recipe="plain", store=store, launcher=NoLauncher())
    store.set_status(run_id, status)
    found = checks.check(RunConfig().with_values({"name": "again"}), store)
    assert [problem.severity for problem in found] == ["warning"] * bool(told)
    if told:
        assert f"Run 'plain' ({run_id[:8]}" in found[0].message
        assert told in found[0].message
    assert checks.check(RunConfig().with_values({"seed": 1}), store) == []


@pytest.mark.parametrize("same", [True, False])
def test_a_run_on_other_films_is_not_identical(store, films, same):
    config = RunConfig().with_values({"data.root": str(films.root)})
    run_id = jobs.start(config, store=store, launcher=NoLauncher(), catalog=films)
    store.log_params(run_id, {"data_fingerprint": films.fingerprint if same else "0" * 16})
    store.set_status(run_id, Status.FINISHED)
    found = {problem.title for problem in checks.check(config, store, films)}
    assert ("An identical run exists already" in found) is same


def test_a_bundle_of_another_network_is_refused_by_name(tmp_path):
    folder = tmp_path / "other"
    info = bundle.BundleInfo(
        name="other",
        classes=("NORMAL", "PNEUMONIA"),
        image=RunConfig().image,
        architecture="efficientnet_lite0",
        cam_layer="",
        threshold=bundle.ThresholdInfo(value=0.5, method="fixed"),
        data=bundle.DataInfo(name="phantoms", synthetic=True, counts={}),
    )
    bundle.write(folder, info, lambda path: path.write_bytes(b"net"), pd.DataFrame())
    (problem,) = checks.check(RunConfig().with_values({"model.weights": f"bundle:{folder}"}))
    assert problem.severity == "error"
    assert "'other' is a efficientnet_lite0" in problem.message

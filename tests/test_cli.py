"""The command line: JSON alone on stdout, sentences on stderr, exit status 2 for bad input."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny
from fake_trials import Trainer, drive
from typer.testing import CliRunner

from cxr_core import NOT_FOR_CLINICAL_USE, workspace
from cxr_core.cli import app
from cxr_core.config import RunConfig
from cxr_core.diagnosis import bundle
from cxr_core.training import jobs
from cxr_core.training.tracking import TAG_WORKER, RunRecord, RunStore, Status

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_bundle(tmp_path_factory.mktemp("models") / "tiny", tiny.THREE)


@pytest.fixture
def film(phantoms: Path) -> Path:
    return min((phantoms / "images").iterdir())


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(*arguments: object) -> str:
    """Run a command that must fail with exit status 2; return its sentence."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return " ".join(result.stderr.split())


def test_help_needs_no_tensorflow() -> None:
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from cxr_core.cli import app\n"
        "print(CliRunner().invoke(app, ['--help']).exit_code)\n"
        "print(sorted({'tensorflow', 'mlflow', 'pandas'} & set(sys.modules)))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=True
    )
    assert result.stdout.split("\n")[:2] == ["0", "[]"]


def test_every_verb_of_the_design_is_there() -> None:
    verbs = (
        "train",
        "cross-validate",
        "sweep",
        "ensemble",
        "evaluate",
        "predict",
        "serve",
        "runs",
        "doctor",
    )
    for verb in verbs:
        result = run(verb, "--help")
        assert result.exit_code == 0, verb
    assert run("data", "phantom", "--help").exit_code == 0
    for verb in ("follow", "stop", "cancel", "move", "resume", "repeat", "delete"):
        assert run("runs", verb, "--help").exit_code == 0, verb


def test_phantoms_are_drawn_to_a_new_folder_only(tmp_path: Path) -> None:
    result = run("data", "phantom", tmp_path / "set", "--images", 12, "--seed", 3)
    assert result.exit_code == 0
    assert len(list((tmp_path / "set" / "images").iterdir())) == 12
    assert "synthetic" in result.stderr
    assert "is not empty" in refused("data", "phantom", tmp_path / "set")


def test_predict_prints_nothing_but_json(model: Path, film: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_text("no picture")
    result = run("predict", model, film, broken, "--json")
    assert result.exit_code == 0
    good, bad = json.loads(result.stdout)
    assert set(good) >= {
        "path",
        "accepted",
        "reasons",
        "label",
        "probability",
        "probabilities",
        "threshold",
    }
    assert good["path"] == str(film)
    assert sum(good["probabilities"].values()) == pytest.approx(1)
    assert "broken.png" in bad["error"]
    assert NOT_FOR_CLINICAL_USE in " ".join(result.stderr.split())


def test_predict_goes_on_after_a_path_that_does_not_exist(model: Path, film: Path) -> None:
    result = run("predict", model, "/no/such.png", film, "--json")
    assert result.exit_code == 0, result.stderr
    absent, good = json.loads(result.stdout)
    assert absent["path"] == "/no/such.png"
    assert "There is no file /no/such.png" in absent["error"]
    assert good["accepted"] is True
    said = refused("predict", model, "/no/such.png", "/no/other.png", "--json")
    assert "/no/such.png, /no/other.png do not exist." in said
    assert "Usage" not in said


def test_predict_without_json_answers_on_stderr(model: Path, film: Path) -> None:
    result = run("predict", model, film)
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "(any finding " in result.stderr
    assert "threshold 50.0 %" in result.stderr


def test_predict_writes_a_table_and_heat_maps(model: Path, phantoms: Path, tmp_path: Path) -> None:
    films = sorted((phantoms / "images").iterdir())[:3]
    table, maps = tmp_path / "answers.csv", tmp_path / "maps"
    result = run("predict", model, *films, "--csv", table, "--heatmaps", maps)
    assert result.exit_code == 0, result.stderr
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [str(path) for path in films]
    assert all(float(row["p_TUBERCULOSIS"]) >= 0 for row in rows)
    assert sorted(path.name for path in maps.iterdir()) == [path.name for path in films]

    table.write_bytes(table.read_bytes()[:-10])  # interrupted within its last row
    result = run("predict", model, *films, "--csv", table, "--resume")
    assert result.exit_code == 0, result.stderr
    assert "2 films have a row already" in result.stderr
    with table.open(newline="") as file:
        again = list(csv.DictReader(file))
    assert again[:2] == rows[:2]
    assert again[2]["path"] == str(films[2])
    assert len(again) == 3


def test_predict_writes_the_same_table_as_parquet(
    model: Path, phantoms: Path, tmp_path: Path
) -> None:
    films = sorted((phantoms / "images").iterdir())[:3]
    table, parts = tmp_path / "answers.csv", tmp_path / "parts"
    assert run("predict", model, films[0], "--csv", table).exit_code == 0
    result = run("predict", model, *films, "--csv", table, "--parquet", parts, "--resume")
    assert result.exit_code == 0, result.stderr
    in_csv, in_parts = pd.read_csv(table), pd.read_parquet(parts)
    assert list(in_csv["path"]) == list(in_parts["path"]) == [str(path) for path in films]
    assert list(in_csv.columns) == list(in_parts.columns)
    for name in ("label", "accepted", "model"):
        assert list(in_csv[name]) == list(in_parts[name])
    for name in ("probability", "p_NORMAL"):  # other films beside it move a film's last digits
        assert list(in_csv[name]) == pytest.approx(list(in_parts[name]), abs=1e-6)


def test_a_place_that_is_none_is_a_sentence(phantoms: Path) -> None:
    said = refused("train", "plain_cnn", "--data", phantoms, "--on", "there")
    assert "'there' is no place to train" in said


def test_several_gpus_are_told_to_share_batch_and_learning_rate(phantoms: Path) -> None:
    device = ("--set", "hardware.device=all_gpus", "--set", "optimise.batch_size=48")
    said = refused("train", "plain_cnn", "--data", phantoms, *device)  # none is here
    assert "share each batch: 48 films a step in all, at the learning rate of 0.001" in said


def test_heat_maps_never_take_the_place_of_films(model: Path, film: Path, tmp_path: Path) -> None:
    mine = tmp_path / "film.png"
    mine.write_bytes(film.read_bytes())
    for films, maps in ((tmp_path, tmp_path), (tmp_path, tmp_path / "maps"), (mine, tmp_path)):
        said = refused("predict", model, films, "--heatmaps", maps)
        assert "would replace the film of its name" in said
    assert mine.read_bytes() == film.read_bytes()


def test_bad_input_of_predict_is_a_sentence(model: Path, film: Path, tmp_path: Path) -> None:
    assert "There is no model 'nothing'" in refused("predict", "nothing", film)
    assert "does not exist" in refused("predict", model, tmp_path / "absent.png")
    assert "There are no films in" in refused("predict", model, tmp_path)
    for table in ("--csv", "--parquet"):
        said = refused("predict", model, film, "--json", table, tmp_path / "a")
        assert "one of --json and a table" in said
    assert "A cluster answers into a table" in refused("predict", model, film, "--on", "ray")
    assert "No such file" in refused("predict", model, film, "--csv", tmp_path / "no" / "a.csv")
    assert "name it with --csv" in refused("predict", model, film, "--resume")


def test_a_damaged_bundle_is_a_sentence(film: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text("{")
    assert "cannot be read" in refused("predict", tmp_path, film)


def test_evaluate_has_the_keys_that_other_tools_rely_on(model: Path, phantoms: Path) -> None:
    result = run("evaluate", model, phantoms, "--json")
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    assert set(summary) >= {
        "n",
        "accuracy",
        "auc",
        "sensitivity",
        "specificity",
        "threshold",
        "ece",
        "brier",
        "confusion",
        "per_class",
        "ci95",
    }
    everything = json.loads(run("evaluate", model, phantoms, "--split", "all", "--json").stdout)
    assert everything["n"] == 60 > summary["n"]


def test_evaluate_without_json_prints_a_table_on_stderr(model: Path, phantoms: Path) -> None:
    result = run("evaluate", model, phantoms)
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "synthetic films" in result.stderr
    assert "sensitivity" in result.stderr


def test_evaluate_writes_a_report_of_these_films(
    model: Path, phantoms: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "report"
    result = run("evaluate", model, phantoms, "--split", "all", "--report", out, "--json")
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    assert json.loads((out / "evaluation.json").read_text()) == summary
    card = (out / "MODEL_CARD.md").read_text()
    page = (out / "model_card.html").read_text()
    low, high = summary["ci95"]["auc"]
    assert f"| AUROC | {summary['auc']:.3f} | {low:.3f} to {high:.3f} |" in card
    assert "Films: every labelled film." in card
    assert "ROC on the 60 synthetic films evaluated" in page
    assert page.count("Plotly.newPlot(") > 3


def test_bad_input_of_evaluate_is_a_sentence(model: Path, phantoms: Path, tmp_path: Path) -> None:
    assert "There is no folder" in refused("evaluate", model, tmp_path / "absent")
    assert "name a folder with labelled films" in refused("evaluate", model)
    assert "Invalid value for DIR" in refused("evaluate", model, "--split", "all")
    (tmp_path / "file").touch()
    assert "Invalid value for '--report'" in refused(
        "evaluate", model, phantoms, "--report", tmp_path / "file"
    )
    assert "Invalid value for '--split'" in refused("evaluate", model, phantoms, "--split", "dev")
    binary = tiny.write_bundle(tmp_path / "binary")
    assert "TUBERCULOSIS, which the model" in refused("evaluate", binary, phantoms)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no_recipe"], "There is no recipe and no file 'no_recipe'"),
        (["plain_cnn", "--set", "optimise.epochs=0"], "optimise.epochs"),
        (["plain_cnn", "--set", "optimise.epoch=3"], "There is no setting 'optimise.epoch'"),
        (["plain_cnn", "--set", "epochs"], "is not of the form path=value"),
        (["plain_cnn", "--data", "/no/such/films"], "there is no such folder"),
        (["plain_cnn", "--set", "model.architecture=vgg99"], "there is no network 'vgg99'"),
    ],
)
def test_bad_input_of_train_is_a_sentence(
    arguments: list[str], words: str, store: RunStore
) -> None:
    assert words in refused("train", *arguments)


def test_an_empty_list_of_runs_is_json_too(store: RunStore) -> None:
    result = run("runs", "--json")
    assert json.loads(result.stdout) == []
    assert "no runs yet" in run("runs").stderr


def test_a_figure_that_is_no_number_is_null(store: RunStore) -> None:
    run_id = store.create(RunConfig(), name="one class in validation")
    store.log_metrics(run_id, {"val_auroc": float("nan"), "val_loss": 0.5}, 1)
    store.log_metrics(run_id, {"batch_loss": 0.5, "system/cpu_utilization_percentage": 99.0}, 1)
    (listed,) = json.loads(run("runs", "--json").stdout)
    assert listed["metrics"] == {"val_auroc": None, "val_loss": 0.5}


@pytest.mark.slow
def test_from_training_to_prediction(phantoms: Path, film: Path, tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "cxr_core", "train", "plain_cnn", "--data", str(phantoms)),
        *("--set", "image.size=32", "--set", "optimise.epochs=1", "--json"),
    ]
    trained = subprocess.run(
        command, capture_output=True, text=True, cwd=REPOSITORY, env=os.environ.copy(), check=False
    )
    assert trained.returncode == 0, trained.stderr
    answer = json.loads(trained.stdout)
    assert answer["status"] == "finished"
    assert answer["epochs"] == 1
    assert 0 <= answer["metrics"]["test_accuracy"] <= 1
    assert (Path(answer["bundle"]) / "MODEL_CARD.md").is_file()
    assert "Epoch 1:" in trained.stderr

    (listed,) = json.loads(run("runs", "--json").stdout)
    assert listed["run_id"] == answer["run_id"]
    assert listed["synthetic"] is True
    assert answer["run_id"][:8] in run("runs").stderr

    evaluated = json.loads(run("evaluate", answer["run_id"], phantoms, "--json").stdout)
    assert evaluated["accuracy"] == pytest.approx(answer["metrics"]["test_accuracy"])
    assert evaluated["auc"] == pytest.approx(answer["metrics"]["test_auc"], abs=1e-6)
    assert "own test films" in evaluated["films"]

    again = json.loads(run("evaluate", answer["run_id"], "--json", "--report", tmp_path).stdout)
    assert again["auc"] == answer["metrics"]["test_auc"]
    page = (tmp_path / "model_card.html").read_text()
    assert "Loss on training and validation films by epoch" in page  # the run is in the store
    assert "What the run noted of its films and weights" in page

    (predicted,) = json.loads(run("predict", answer["run_id"][:8], film, "--json").stdout)
    assert predicted["accepted"] is True


@pytest.fixture
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Queue runs without starting a process for them."""
    monkeypatch.setattr(jobs.LocalLauncher, "start", lambda self, run_id: None)


def test_a_run_that_fails_ends_with_status_1_and_its_reason(
    phantoms: Path, store: RunStore, no_worker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(run_id: str, store: RunStore, on_change: object) -> RunRecord:
        store.set_status(run_id, Status.FAILED, "The disk [sda] is full.")
        return store.get(run_id)

    monkeypatch.setattr(jobs, "wait", fail)
    result = run("train", "plain_cnn", "--data", phantoms, "--json")
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert (answer["status"], answer["bundle"], answer["epochs"]) == ("failed", None, 0)
    assert answer["reason"] == "The disk [sda] is full."
    assert "The disk [sda] is full." in result.stderr
    assert "The disk [sda] is full." in run("runs").stderr


def test_a_training_publishes_its_model_where_that_was_asked_for(
    phantoms: Path,
    store: RunStore,
    no_worker: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, models = tiny.write_bundle(tmp_path / "made"), tmp_path / "models"
    monkeypatch.setattr(workspace, "published_models", lambda: models)

    def finish(run_id: str, store: RunStore, on_change: object) -> RunRecord:
        store.write_file(run_id, made, "bundle")
        store.set_status(run_id, Status.FINISHED)
        return store.get(run_id)

    monkeypatch.setattr(jobs, "wait", finish)
    asked = ("train", "plain_cnn", "--data", phantoms, "--publish", "lungs_v1")
    result = run(*asked)
    assert result.exit_code == 0, result.stderr
    assert "lungs_v1 is published" in result.stderr
    assert bundle.read(models / "lungs_v1").name == "lungs_v1"
    queued = len(store.list())
    assert "is there already" in refused(*asked)
    assert len(store.list()) == queued  # told before anything is trained


def test_an_interrupt_cancels_the_run(
    phantoms: Path, store: RunStore, no_worker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait(run_id: str, store: RunStore, on_change: object = None) -> RunRecord:
        if store.get(run_id).request != "cancel":
            raise KeyboardInterrupt
        store.set_status(run_id, Status.CANCELLED)
        return store.get(run_id)

    monkeypatch.setattr(jobs, "wait", wait)
    result = run("train", "plain_cnn", "--data", phantoms, "--json")
    assert result.exit_code == 130
    assert json.loads(result.stdout)["status"] == "cancelled"


# -- the verbs on one run -------------------------------------------------------------------------


@pytest.fixture
def queued(no_worker: None, store: RunStore) -> list[str]:
    """Two runs that wait, each with a worker's name: this process's."""
    ids = [jobs.start(RunConfig(), store=store) for _ in range(2)]
    for run_id in ids:
        store.set_tags(run_id, {TAG_WORKER: jobs.worker_name(os.getpid())})
    return ids


def failed(run_id: str, store: RunStore) -> None:
    store.log_metrics(run_id, {"val_loss": 0.5}, 1)
    store.set_status(run_id, Status.FAILED, "It was killed.")
    folder = workspace.checkpoint_folder(run_id)
    folder.mkdir()
    (folder / "checkpoint.npz").touch()


def test_a_run_is_asked_to_stop_or_to_cancel(queued: list[str], store: RunStore) -> None:
    for verb in ("stop", "cancel"):
        assert run("runs", verb, queued[0][:8]).exit_code == 0
        assert store.get(queued[0]).request == verb
    failed(queued[1], store)
    assert "is failed: it has ended already" in refused("runs", "stop", queued[1])
    assert "There is no run 'nothing'" in refused("runs", "cancel", "nothing")


def test_a_waiting_run_is_moved(queued: list[str], store: RunStore) -> None:
    assert "number 1 of 2 in the queue" in run("runs", "move", queued[1], "first").stderr
    listed = run("runs").stderr
    assert "queued, 1." in listed
    assert "Invalid value" in refused("runs", "move", queued[1], "sideways")
    failed(queued[1], store)
    assert "only a waiting run can be moved" in refused("runs", "move", queued[1], "up")


def test_a_failed_run_is_resumed_and_a_repeat_is_another_run(
    queued: list[str], store: RunStore
) -> None:
    failed(queued[0], store)
    result = run("runs", "resume", queued[0][:8], "--json")
    assert json.loads(result.stdout) == {"run_id": queued[0], "status": "queued"}
    assert "is queued: there is nothing to resume" in refused("runs", "resume", queued[0])
    result = run("runs", "repeat", queued[0], "--set", "optimise.epochs=3", "--json")
    repeated = json.loads(result.stdout)["run_id"]
    assert repeated not in queued
    assert store.config(repeated).optimise.epochs == 3
    assert "no setting 'epochs'" in refused("runs", "repeat", queued[0], "--set", "epochs=3")


def test_a_run_is_deleted_when_its_user_is_sure(queued: list[str], store: RunStore) -> None:
    assert "Cancel it before you delete it" in refused("runs", "delete", queued[0], "--yes")
    failed(queued[0], store)
    assert CliRunner().invoke(app, ["runs", "delete", queued[0]], input="n\n").exit_code == 1
    assert run("runs", "delete", queued[0], "--yes").exit_code == 0
    assert [record["run_id"] for record in json.loads(run("runs", "--json").stdout)] == [queued[1]]


def test_following_a_run_ends_with_it_and_says_how_to_go_on(
    queued: list[str], store: RunStore
) -> None:
    failed(queued[0], store)
    result = run("runs", "follow", queued[0], "--json")
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert (answer["status"], answer["epochs"]) == ("failed", 1)
    assert f"runs resume {queued[0][:8]}" in " ".join(result.stderr.split())


def test_an_interrupt_of_following_leaves_the_run(
    queued: list[str], store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "wait", interrupt)
    result = run("runs", "follow", queued[0])
    assert result.exit_code == 130
    assert store.get(queued[0]).request is None


def test_training_tells_warnings_first(
    phantoms: Path, store: RunStore, no_worker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(run_id: str, store: RunStore, on_change: object = None) -> RunRecord:
        store.set_status(run_id, Status.CANCELLED)
        return store.get(run_id)

    monkeypatch.setattr(jobs, "wait", ended)
    result = run("train", "plain_cnn", "--data", phantoms, "--set", "augment.flip=true")
    said = " ".join(result.stderr.split())
    assert "Films are mirrored. augment.flip puts the heart on the wrong side" in said
    assert "Few films to validate with" in said
    assert said.index("Films are mirrored") < said.index("It goes on if this terminal is closed")


# -- cross-validation -----------------------------------------------------------------------------


def test_a_cross_validation_is_followed_and_says_which_fold_is_missing(
    phantoms: Path, store: RunStore, no_worker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(seconds: float) -> None:
        for record in store.list():
            if record.parent:
                store.set_status(record.run_id, Status.FAILED, "The disk [sda] is full.")

    monkeypatch.setattr(jobs.time, "sleep", fail)
    result = run("cross-validate", "plain_cnn", "--data", phantoms, "--folds", 2, "--json")
    assert result.exit_code == 1, result.output
    answer = json.loads(result.stdout)
    assert (answer["status"], answer["folds"], answer["done"]) == ("failed", 2, [])
    assert [entry["reason"] for entry in answer["missing"]] == ["The disk [sda] is full."] * 2
    assert list(answer["runs"]) == ["1", "2"]
    said = " ".join(result.stderr.split())
    assert "2 runs in the queue" in said
    assert "Fold 1 failed: The disk [sda] is full." in said
    assert "Folds 1 and 2 of 2 are missing" in said

    parent = answer["run_id"]
    resumed = run("runs", "resume", parent, "--json")
    assert json.loads(resumed.stdout) == {"run_id": parent, "status": "queued"}
    listed = json.loads(run("runs", "--json").stdout)
    assert [(record["kind"], record["parent"]) for record in listed][-1] == ("folds", "")
    assert run("runs", "cancel", parent[:8]).exit_code == 0
    assert {record.request for record in store.list() if record.parent} == {"cancel"}


def test_a_number_of_folds_that_is_not_allowed_is_a_sentence(
    phantoms: Path, store: RunStore
) -> None:
    said = refused("cross-validate", "plain_cnn", "--data", phantoms, "--folds", 1)
    assert "data.folds cannot be 1. Allowed: 2 to 10." in said


def test_an_ensemble_of_what_cannot_be_joined_is_a_sentence(
    queued: list[str], store: RunStore
) -> None:
    assert "There is no run 'nothing'" in refused("ensemble", "nothing", queued[0])
    assert "has no model to join: it is queued" in refused("ensemble", queued[0][:8], queued[1])


# -- sweeps ---------------------------------------------------------------------------------------


@pytest.fixture
def space(tmp_path: Path) -> Path:
    file = tmp_path / "space.yaml"
    file.write_text("optimise.learning_rate: {low: 1e-4, high: 1e-2, log: true}\n")
    return file


def test_a_sweep_is_started_followed_and_gone_on_with(
    space: Path, phantoms: Path, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker is this process: it drives the sweep as soon as somebody waits for it."""
    trainer = Trainer(store, lambda number, _: [0.5, 0.6, 0.7 + number / 100])
    monkeypatch.setattr(jobs.LocalLauncher, "start", lambda *_: None)
    wait = jobs.wait

    def driven(run_id: str, store: RunStore, show: Any) -> RunRecord:
        drive(run_id, store, trainer, monkeypatch)
        return wait(run_id, store, show)

    monkeypatch.setattr(jobs, "wait", driven)
    asked = ("--trials", 2, "--data", phantoms, "--set", "optimise.epochs=3", "--pruner", "none")
    result = run("sweep", "plain_cnn", "--space", space, *asked, "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert (answer["status"], answer["best"], answer["default"]) == ("finished", 2, 1)
    assert answer["beats_default"] is True
    assert answer["test"]["auc"] == 0.875
    assert [trial["outcome"] for trial in answer["trials"]] == ["complete", "complete"]
    said = " ".join(result.stderr.split())
    assert "Trial 1 (the settings as they are) complete after 3 epochs" in said
    assert "The sweep finished. Trial 2 beats the default settings" in said

    sweep = answer["run_id"]
    assert "has all its trials" in refused("sweep", "--resume", sweep)
    result = run("sweep", "--resume", sweep[:8], "--trials", 3, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["best"] == 3
    assert "runs resume" not in result.stderr


def test_a_sweep_of_what_is_not_allowed_is_a_sentence(
    space: Path, phantoms: Path, store: RunStore, tmp_path: Path
) -> None:
    start = ("sweep", "plain_cnn", "--data", phantoms)
    assert "search space with --space" in refused(*start)
    said = refused(*start, "--space", space, "--objective", "test_auc")
    assert "Nothing may be chosen by test films." in said
    said = refused(*start, "--space", space, "--pruner", "median", "--second", "parameters")
    assert "no trial can be pruned" in said
    wide = tmp_path / "wide.yaml"
    wide.write_text("image.size: {low: 8, high: 64}\nimage.zoom: [1, 2]\n")
    assert "image.size cannot be 8. Allowed: 32 to 1024." in refused(*start, "--space", wide)
    assert "A sweep goes on as it began" in refused("sweep", "quick", "--resume", "abcd")
    assert "There is no run 'abcd'" in refused("sweep", "--resume", "abcd")
    assert store.list() == []

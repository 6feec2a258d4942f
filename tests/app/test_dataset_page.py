"""The Dataset page: the audit's findings, getting films, patients and splits, a film close by."""

import io
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import streamlit as st
from conftest import texts
from streamlit.testing.v1 import AppTest

from cxr_core.config import AugmentConfig, DataConfig
from cxr_core.data import exclusions, sources, splits
from cxr_core.data.audit import Finding
from cxr_core.data.catalog import Catalog, scan
from cxr_core.diagnosis import label_review
from cxr_core.errors import DatasetError, FetchError
from cxr_core.ui import (
    audit_view,
    augmentation_view,
    background,
    films,
    label_view,
    means_view,
    splits_view,
    viewer,
)

Open = Callable[..., AppTest]


@pytest.fixture
def flawed(phantoms: Path, tmp_path: Path) -> Path:
    """The phantoms with a film of the training part that is also in the test part."""
    folder = tmp_path / "flawed"
    shutil.copytree(phantoms, folder)
    table = pd.read_csv(folder / "metadata.csv")
    alike = table[table["label"] == "NORMAL"]
    shown = alike.loc[alike["split"] == "train", "path"].iloc[0]
    tested = alike.loc[alike["split"] == "test", "path"].iloc[0]
    shutil.copy(folder / shown, folder / tested)
    return folder


def button(app: AppTest, label: str):
    return next(found for found in app.button if found.label == label)


def audited(open_page: Open, folder: Path, **state: object) -> AppTest:
    app = open_page("dataset", data_folder=str(folder), **state)
    while "to know" not in app.title[0].value and "amiss" not in app.title[0].value:
        app.run()
    return app


def test_the_headline_counts_what_the_audit_found(open_page: Open, flawed: Path) -> None:
    app = audited(open_page, flawed)
    assert not app.exception
    assert "to know" in app.title[0].value
    assert "The same film on both sides of the division" in texts(app)


def test_a_card_shows_its_films_in_the_gallery(open_page: Open, flawed: Path) -> None:
    app = audited(open_page, flawed)
    app = button(app, "Show 2 films").click().run()
    assert not app.exception
    grid = [b for b in app.button if b.key and b.key.startswith("pick:grid:")]
    assert len(grid) == 2


def test_excluding_from_a_card_mends_the_finding_and_can_be_taken_back(
    open_page: Open, flawed: Path
) -> None:
    app = audited(open_page, flawed)
    before = app.title[0].value
    app = button(app, "Exclude 1").click().run()
    assert app.title[0].value != before
    assert len(exclusions.listed(scan(flawed).root)) == 1
    app.session_state[audit_view.TABS] = audit_view.AUDIT
    app = app.run()
    app = button(app, "Use them again").click().run()
    assert exclusions.listed(scan(flawed).root) == ()
    assert app.title[0].value == before


@pytest.mark.parametrize("tab", ["Overview", "Films", "Audit", "Patients and splits"])
def test_every_tab_opens(open_page: Open, flawed: Path, tab: str) -> None:
    assert not audited(open_page, flawed, dataset_tab=tab).exception


def test_the_augmentation_tab_shows_a_film_and_nine_variants(open_page: Open) -> None:
    app = open_page("dataset", dataset_tab="Augmentation")
    assert not app.exception
    assert "Variant 9" in texts(app)
    assert "Blended with" not in texts(app)
    next(number for number in app.number_input if number.label.startswith("Mixup")).set_value(1)
    app.run()
    assert not app.exception
    assert "Variant 9: " in texts(app)
    assert "Blended with" in texts(app)


def test_a_large_set_is_audited_on_request(
    open_page: Open, flawed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_view, "_UNASKED", 10)
    app = open_page("dataset", data_folder=str(flawed))
    assert "to know" not in app.title[0].value
    app = button(app, "Audit this set").click().run()
    while "to know" not in app.title[0].value:
        app.run()


def rule_field(app: AppTest):
    return next(field for field in app.text_input if field.label.startswith("Another rule"))


def test_a_patient_rule_holds_on_the_whole_page_and_on_others(
    open_page: Open, phantoms: Path
) -> None:
    app = open_page("dataset", dataset_tab="Patients and splits")
    app = rule_field(app).set_value(r"/(P\d)").run()
    assert not app.exception
    assert "your pattern" in texts(app)
    assert app.title[0].value.startswith("60 films of 1 patient")
    app.switch_page("pages/home.py").run()
    app.switch_page("pages/dataset.py").run()
    assert app.title[0].value.startswith("60 films of 1 patient")
    assert app.session_state["patient_patterns"] == {str(phantoms): r"/(P\d)"}
    app.session_state[audit_view.TABS] = audit_view.SPLITS
    app = rule_field(app.run()).set_value("").run()
    assert r"the patient\_id column" in texts(app)


def test_a_bad_patient_rule_gets_a_sentence_and_the_one_before_stays(open_page: Open) -> None:
    app = open_page("dataset", dataset_tab="Patients and splits")
    app = rule_field(app).set_value(r"/(P\d)").run()
    for bad, reason in (("(", "is not a regular expression"), ("(Q)", "matches none of the 60")):
        app = rule_field(app).set_value(bad).run()
        assert reason in app.error[0].value
        assert app.title[0].value.startswith("60 films of 1 patient")


def test_the_division_is_that_of_the_train_page(open_page: Open, flawed: Path) -> None:
    app = audited(open_page, flawed)
    app = button(app, "Cut anew by patient").click().run()
    assert app.session_state[audit_view.TABS] == audit_view.SPLITS
    assert "Validation and test were cut from" in texts(app)
    app.switch_page("pages/train.py").run()
    assert next(box for box in app.selectbox if box.label == "Division").value == "recut"


def test_a_film_is_excluded_from_its_own_view_and_taken_back(open_page: Open, flawed: Path) -> None:
    app = audited(open_page, flawed, dataset_tab="Films")
    choice = next(box for box in app.selectbox if box.label == "Finding of the audit")
    app = choice.set_value("The same film on both sides of the division").run()
    app = button(app, "Exclude from training").click().run()
    (entry,) = exclusions.listed(scan(flawed).root)
    assert entry.reason == "The same film on both sides of the division"
    button(app, "Use it again").click().run()
    assert exclusions.listed(scan(flawed).root) == ()


def test_the_cards_say_how_many_findings_there_are(open_page: Open, flawed: Path) -> None:
    (flawed / "images" / "P0001_1.png").write_bytes(b"no film")
    table = pd.read_csv(flawed / "metadata.csv").drop(columns="patient_id")
    table.to_csv(flawed / "metadata.csv", index=False)
    app = audited(open_page, flawed)
    (said,) = [c.value for c in app.caption if c.value.startswith("The gravest 3 of")]
    number = said.rsplit(" ", 1)[1]
    app = button(app, f"See all {number}").click().run()
    assert len(app.dataframe[0].value) >= int(number)


def test_a_card_without_films_opens_its_figures(open_page: Open, flawed: Path) -> None:
    table = pd.read_csv(flawed / "metadata.csv")
    for number, path in enumerate(table.loc[table["label"] == "NORMAL", "path"]):
        film = cv2.imread(str(flawed / path), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(flawed / path), cv2.resize(film, (700 + number, 512)))
    app = audited(open_page, flawed)
    app = button(app, "Show the figures").click().run()
    assert app.session_state[audit_view.TABS] == audit_view.AUDIT
    assert any("AUROC" in str(table.value.columns) for table in app.table)


# ---- wrong labels ----


def predictions(films: Catalog) -> pd.DataFrame:
    """Say of every film but three that it is what its label says."""
    told = pd.get_dummies(films.frame["label"]) * 0.9 + 0.1 / 3
    told.iloc[:3] = np.roll(told.iloc[:3], 1, axis=1)
    return told.assign(path=films.frame["path"])


def test_wrong_labels_are_looked_for_on_request_and_found_again(
    open_page: Open, phantoms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def predict(films: Catalog, **_: object) -> pd.DataFrame:
        label_review.keep(films, predictions(films))
        return predictions(films)

    monkeypatch.setattr(label_review, "predict_beside", predict)
    app = audited(open_page, phantoms, dataset_tab="Audit")
    assert "Takes under a minute for 60 films" in texts(app)
    app = button(app, "Look for wrong labels").click().run()
    while "to know" not in app.title[0].value:
        app.run()
    assert not app.exception
    assert "3 labels may be wrong" in texts(app)
    ranked = next(table.value for table in app.dataframe if "Looks like" in table.value)
    assert set(ranked["File"]) == set(scan(phantoms).frame["path"].head(3))
    assert not [b for b in app.button if b.label.startswith("Exclude")]  # a reader decides
    st.cache_resource.clear()  # as after a new start of the server
    again = audited(open_page, phantoms, dataset_tab="Audit")
    assert "3 labels may be wrong" in texts(again)


def test_labels_that_all_fit_are_said_to(open_page: Open, phantoms: Path) -> None:
    films = scan(phantoms)
    told = pd.get_dummies(films.frame["label"]) * 0.9 + 0.1 / 3
    label_review.keep(films, told.assign(path=films.frame["path"]))
    assert "none stands out" in texts(audited(open_page, phantoms, dataset_tab="Audit"))


def test_a_look_at_the_labels_that_fails_says_why_and_can_be_tried_again(
    open_page: Open, phantoms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(films: Catalog, **_: object) -> pd.DataFrame:
        raise DatasetError("The memory ran out. Close other programs.")

    monkeypatch.setattr(label_review, "predict_beside", fails)
    app = audited(open_page, phantoms, dataset_tab="Audit")
    app = button(app, "Look for wrong labels").click().run()
    while not app.error:
        app.run()
    assert "The memory ran out" in app.error[0].value
    assert button(app, "Look for wrong labels")


def test_a_look_at_the_labels_can_be_stopped(
    open_page: Open, phantoms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def waits(
        films: Catalog,
        *,
        progress: Callable[[str, int, int], None],
        cancelled: Callable[[], bool],
    ) -> pd.DataFrame:
        progress("Looking at films", 32, 60)
        gate = threading.Event()
        while not cancelled():
            gate.wait(0.01)
        raise label_review.ReviewCancelledError("You stopped.")

    monkeypatch.setattr(label_review, "predict_beside", waits)
    app = audited(open_page, phantoms, dataset_tab="Audit")
    app = button(app, "Look for wrong labels").click().run()
    app = button(app, "Stop").click().run()
    while not [b for b in app.button if b.label == "Look for wrong labels"]:
        app.run()
    assert not app.error


def test_damaged_predictions_do_not_pass_for_labels_that_fit(
    open_page: Open, phantoms: Path, workspace_folder: Path
) -> None:
    films = scan(phantoms)
    label_review.keep(films, predictions(films))
    (file,) = (workspace_folder / "cache" / "labels").iterdir()
    file.write_bytes(file.read_bytes()[:100])
    app = audited(open_page, phantoms, dataset_tab="Audit")
    assert "none stands out" not in texts(app)
    assert button(app, "Look for wrong labels")


def test_a_look_at_the_labels_stops_nobody_elses(
    phantoms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    films = scan(phantoms)
    sets = [replace(films, root=phantoms / str(number)) for number in range(6)]
    told: list[str] = []
    gate = threading.Event()
    at_once = {sets[0].root}

    def predict(catalog: Catalog, **_: object) -> None:
        assert catalog.root in at_once or gate.wait(60)

    monkeypatch.setattr(label_review, "predict_beside", predict)
    monkeypatch.setattr(st, "toast", told.append)
    reviews = label_view._shelf().reviews
    try:
        label_view._begin(sets[0])
        assert next(iter(reviews.values())).ended(30)
        for other in sets[1:5]:  # the one that has ended makes room
            label_view._begin(other)
        assert told == []
        label_view._begin(sets[5])
        assert "Try again once one of them is done" in told[0]
        assert len(reviews) == 4
        assert not any(review.ended() or review.stopped() for review in reviews.values())
    finally:
        gate.set()


def test_a_list_that_cannot_be_written_is_a_sentence(
    phantoms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> int:
        raise DatasetError("The list of excluded films cannot be written.")

    told: list[str] = []
    monkeypatch.setattr(st, "toast", told.append)
    monkeypatch.setattr(exclusions, "include", fails)
    audit_view._include(scan(phantoms), ["a.png"])
    assert told == ["The list of excluded films cannot be written."]


def test_what_the_audit_says_of_single_films_is_in_words() -> None:
    suspects = [{"path": "a", "label": "X", "expected": "NO_FINDING", "quality": 0.1}]
    found = finding("label_suspects", [["a"]], suspects=suspects)
    assert audit_view.remarks(found) == {"a": "looks no finding"}
    turned = finding("rotated", [["b"]], view={"b": "rotated by 90°"}, frame={"c": 0.25})
    assert audit_view.remarks(turned) == {"b": "rotated by 90°", "c": "25.0 % frame"}


def test_equally_grave_cards_come_in_the_order_of_their_films() -> None:
    few = finding("inverted", [["a"]], "medium")
    many = finding("exact_twins", [["a", "b", "c"]], "medium")
    assert [f.kind for f in audit_view.gravest([few, many])] == ["exact_twins", "inverted"]


def offer() -> None:
    """Draw what the dialog holds; AppTest does not see into dialogs."""
    from cxr_core.ui import sources_view

    sources_view.choose.__wrapped__()


def test_licence_and_citation_are_said_before_the_download() -> None:
    app = AppTest.from_function(offer, default_timeout=60).run()
    told = str(app.table[0].value.to_numpy())
    assert "CC BY 4.0" in told
    assert "doi:" in told
    assert any(b.label.startswith("Fetch it, ") for b in app.button)


def test_a_fetch_without_a_network_gets_its_sentence(
    open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> Path:
        raise FetchError("zenodo.org cannot be reached. Check the network.")

    monkeypatch.setattr(sources, "fetch", fails)
    app = AppTest.from_function(offer, default_timeout=60).run()
    next(b for b in app.button if b.label.startswith("Fetch it")).click().run()
    task = app.session_state["fetch"]
    assert task.ended(30)
    page = open_page("dataset", fetch=task)
    assert "zenodo.org cannot be reached" in page.error[0].value
    page = button(page, "Dismiss").click().run()
    assert not page.error


def test_a_fetched_set_is_opened_when_it_is_there(
    open_page: Open, monkeypatch: pytest.MonkeyPatch, flawed: Path
) -> None:
    """A zip that was unpacked stands among the fetched sets and becomes the one in use."""
    from cxr_core.data import archive

    packed = shutil.make_archive(str(flawed.parent / "mine"), "zip", flawed)
    content = io.BytesIO(Path(packed).read_bytes())
    done = background.Task(lambda task: archive.unpack(content, "mine.zip"))
    assert done.ended(60)
    app = open_page("dataset", fetch=done)
    assert not app.exception
    assert app.session_state["data_root"] == str(done.result())
    assert "mine." in texts(app)


def test_a_task_can_be_stopped_and_passes_errors_on() -> None:
    def waits(task: background.Task[int]) -> int:
        gate = threading.Event()
        while not task.stopped():
            gate.wait(0.01)
        raise DatasetError("stopped")

    task = background.Task(waits)
    assert not task.ended()
    task.stop()
    assert task.ended(30)
    with pytest.raises(DatasetError, match="stopped"):
        task.result()


def finding(kind: str, groups: list[list[str]], severity: str = "high", **details) -> Finding:
    paths = tuple(path for group in groups for path in group)
    return Finding(kind, kind, severity, len(groups), paths, "", "", {"groups": groups, **details})


def test_of_twins_the_largest_stays_and_of_contradicting_labels_none() -> None:
    frame = pd.DataFrame({"path": ["a", "b", "c"], "width": [1, 9, 2], "height": [1, 9, 2]})
    assert audit_view.to_exclude(finding("near_twins", [["a", "b", "c"]]), frame) == ["a", "c"]
    across = finding("twins_across_labels", [["a", "b"]])
    assert audit_view.to_exclude(across, frame) == ["a", "b"]
    assert audit_view.to_exclude(finding("patients_across_splits", [["a"]]), frame) == []


def test_a_finding_is_mended_once_a_film_of_each_group_is_left() -> None:
    twins = finding("exact_twins", [["a", "b"], ["c", "d"]])
    assert not audit_view.mended(twins, {"a"})
    assert audit_view.mended(twins, {"a", "d"})


def test_nothing_amiss_says_what_was_measured() -> None:
    told = audit_view.no_shortcut({"width": 0.52, "border": 0.57})
    assert "the outermost 6 % of the film" in told
    assert "AUROC 0.57" in told
    assert "was not asked" in audit_view.no_shortcut({})


def test_the_cards_show_each_kind_once_and_the_strongest_shortcut() -> None:
    weak, strong = (
        replace(finding("shortcut", []), title=title, details={"auroc": auroc})
        for title, auroc in (("weak", 0.8), ("strong", 0.95))
    )
    shown = audit_view.gravest([weak, strong, finding("exact_twins", [["a", "b"]], "medium")])
    assert [f.title for f in shown] == ["strong", "exact_twins"]


def test_films_of_a_finding_keep_its_order_and_sorting_is_by_measure() -> None:
    frame = pd.DataFrame(
        {"path": ["a", "b", "c"], "mean": [5.0, 1.0, 3.0], "width": [2, 9, 4], "height": [2, 1, 4]}
    )
    assert list(films.among(frame, ["c", "a", "gone"])["path"]) == ["c", "a"]
    assert list(films.ordered(frame, "Darkest first")["path"]) == ["b", "c", "a"]
    assert list(films.ordered(frame, "Largest first")["path"]) == ["c", "b", "a"]
    assert list(films.ordered(frame, "As listed")["path"]) == ["a", "b", "c"]


def test_the_saved_cut_is_read_back_as_the_sets_own_division(
    phantoms: Path, tmp_path: Path
) -> None:
    catalog = scan(phantoms)
    cut = splits.cut(catalog, DataConfig(split="recut"), seed=3)
    folder = tmp_path / "again"
    shutil.copytree(phantoms, folder)
    (folder / "metadata.csv").write_text(splits_view.table_of(cut, catalog), encoding="utf-8")
    again = scan(folder)
    assert list(again.frame["split"]) == list(cut.table["split"])
    assert again.synthetic


def test_window_and_level_stretch_the_grays_asked_for() -> None:
    film = np.array([[0, 100, 150, 200, 255]], np.uint8)
    assert viewer.windowed(film, level=127.5, window=255).tolist() == film.tolist()
    assert viewer.windowed(film, level=150, window=100).tolist() == [[0, 0, 128, 255, 255]]


def test_a_mean_differs_in_orange_where_brighter_and_blue_where_darker() -> None:
    base = np.full((2, 2), 100.0)
    other = base + np.array([[50, 0], [-50, 0]])
    shown = means_view.difference(other, base, means_view.widest({"a": base, "b": other}))
    assert shown[0, 1].tolist() == [0, 0, 0]
    assert shown[0, 0, 0] > shown[0, 0, 2]
    assert shown[1, 0, 2] > shown[1, 0, 0]


def test_the_sample_for_means_is_bounded_and_the_same_each_time() -> None:
    frame = pd.DataFrame({"label": ["A"] * 500 + ["B"] * 3, "path": range(503)})
    first = means_view.sample(frame)
    assert first["label"].value_counts().to_dict() == {"A": means_view.MOST, "B": 3}
    assert first.equals(means_view.sample(frame))


def test_variants_follow_the_settings_and_the_seed() -> None:
    square = cv2.GaussianBlur(
        np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8), (9, 9), 3
    )
    other = square[::-1]
    still, shares = augmentation_view.variants(square, other, AugmentConfig(), 0)
    assert still.shape == (9, 64, 64)
    assert (still == square).all()
    assert (shares == 1).all()
    for chosen in (AugmentConfig(rotation=20), AugmentConfig(mixup=1), AugmentConfig(cutmix=1)):
        first, shares = augmentation_view.variants(square, other, chosen, 0)
        again, _ = augmentation_view.variants(square, other, chosen, 0)
        assert (first == again).all()
        assert (first != augmentation_view.variants(square, other, chosen, 1)[0]).any()
        assert ((shares < 1).all()) == (chosen.rotation == 0)


def test_a_film_is_blended_with_one_of_another_class_where_there_is_one() -> None:
    frame = pd.DataFrame(
        {"path": list("abc"), "label": ["A", "A", "B"], "readable": [True, True, True]}
    )
    seeds = range(20)
    assert {augmentation_view.partner(frame, frame.iloc[0], s)["path"] for s in seeds} == {"c"}
    alike = frame.iloc[:2]
    assert {augmentation_view.partner(alike, frame.iloc[0], s)["path"] for s in seeds} == {"b"}
    alone = frame.iloc[:1]
    assert augmentation_view.partner(alone, frame.iloc[0], 0)["path"] == "a"

"""The command line: the app's verbs in a terminal.

JSON goes to stdout with ``--json``, everything else to stderr. Exit status 0: done; 1: a run or a
check failed; 2: bad input, with a sentence on stderr that says what to do. What a verb needs is
imported by the verb, so that ``--help`` does not wait for TensorFlow.
"""

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column, Table

from cxr_core import NOT_FOR_CLINICAL_USE
from cxr_core.errors import CxrError, DatasetError, ServiceError, TrainingError

if TYPE_CHECKING:
    from pandas import DataFrame

    from cxr_core.config import RunConfig
    from cxr_core.data.catalog import Catalog
    from cxr_core.diagnosis.bundle import BundleInfo
    from cxr_core.diagnosis.evaluate import Evaluated
    from cxr_core.diagnosis.predictor import Predictor
    from cxr_core.diagnosis.scoring import Scored
    from cxr_core.training.jobs import Launcher
    from cxr_core.training.search import Search
    from cxr_core.training.tracking import RunRecord, RunStore
    from cxr_core.training.trials import Trial

T = TypeVar("T")
Films = Iterable[tuple[Path, Path]]  # as `scoring.find` yields them
_Rows = Callable[[Films, Callable[[Path], bool]], Iterator[dict[str, Any]]]  # films, which to skip

FAILED = 1
BAD_INPUT = 2
INTERRUPTED = 130  # what a shell expects after Ctrl-C
LOG_WIDTH = 200  # characters; a table in a file need not fit a terminal

# What `evaluate` prints for people; the JSON has it all.
HEADLINES = ("auc", "accuracy", "sensitivity", "specificity", "ece", "brier")


class _Verbs(typer.core.TyperGroup):
    """Turns errors that the user can mend into their sentence and exit status 2."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CxrError as error:
            _say(f"[red]{escape(str(error))}[/red]")
        except OSError as error:
            if error.filename is None:  # no file the user named: a fault of the program
                raise
            _say(f"[red]{escape(f'{error.filename}: {error.strerror}.')}[/red]")
        raise typer.Exit(BAD_INPUT)


app = typer.Typer(
    cls=_Verbs,
    help=f"Chest X-ray classification in a terminal. {NOT_FOR_CLINICAL_USE}",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Make and look at data sets.", no_args_is_help=True)
app.add_typer(data_app, name="data")
runs_app = typer.Typer(
    help="List all runs, the newest first; or stop, cancel, move, resume, repeat, delete, follow "
    "one.",
    invoke_without_command=True,
)
app.add_typer(runs_app, name="runs")

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Model = Annotated[
    str, typer.Argument(help="A bundle folder, a name in models/, or a run's id or its beginning.")
]
RunId = Annotated[str, typer.Argument(help="A run's id or its beginning.", metavar="RUN")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", help="A setting, such as optimise.epochs=3.", metavar="PATH=VALUE"),
]


class Direction(StrEnum):
    """Where to move a waiting run."""

    UP = "up"
    DOWN = "down"
    FIRST = "first"


ConfigName = Annotated[str, typer.Argument(help="A recipe's name or a YAML file.")]
DataFolder = Annotated[
    str, typer.Option(help="Folder with the films, in place of the recipe's.", metavar="DIR")
]
PatientPattern = Annotated[
    str,
    typer.Option(
        "--patient-pattern",
        help="Regular expression searched in each path below DIR; its first group is the patient.",
        metavar="REGEX",
    ),
]


Place = Annotated[
    str,
    typer.Option(
        "--on",
        help="Where: 'here', 'ray' (the cluster of RAY_ADDRESS, else of this machine), or a "
        "cluster's address.",
        metavar="PLACE",
    ),
]


class Part(StrEnum):
    """Which films of a folder to evaluate on."""

    TEST = "test"
    ALL = "all"


@app.callback()
def _main() -> None:
    # What these libraries report of themselves, such as every processor feature, helps nobody here.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")


@data_app.command("phantom")
def phantom(
    out: Annotated[Path, typer.Argument(help="A new or empty folder.", file_okay=False)],
    images: Annotated[int, typer.Option(help="Number of films.", min=1)] = 600,
    seed: Annotated[int, typer.Option(help="The same seed gives the same films.", min=0)] = 0,
) -> None:
    """Draw a set of synthetic chest radiographs with lesion masks."""
    from cxr_core.data import phantom as phantoms

    if out.is_dir() and any(out.iterdir()):
        raise DatasetError(f"The folder {out} is not empty. Name a new or empty one.")
    with _bar() as progress:
        phantoms.write(out, images, seed, progress=partial(_reporter(progress), "Drawing films"))
    _say(f"{images} synthetic films are in {escape(str(out))}. They show nobody.")


@data_app.command("audit")
def audit(
    folder: Annotated[Path, typer.Argument(help="Folder with films.", metavar="DIR")],
    labels: Annotated[
        bool,
        typer.Option(
            "--labels",
            help="Look for wrong labels too. Takes minutes once; what was predicted is kept.",
        ),
    ] = False,
    patient_pattern: PatientPattern = "",
    as_json: AsJson = False,
) -> None:
    """Look for twins, leaks, odd films, shortcuts and wrong labels in a data set."""
    from cxr_core.data import audit as audits
    from cxr_core.data import sources

    with _bar("") as progress:
        report = _reporter(progress)
        films = sources.open_catalog(str(folder), patient_pattern=patient_pattern, progress=report)
        predictions = None
        if labels:
            predictions = _for_labels(films, report)
        checking = progress.add_task("Checking the set")

        def show(step: str, done: int, total: int) -> None:
            progress.update(checking, description=step, completed=done, total=total)

        found = audits.audit(films, predictions=predictions, progress=show)
    for finding in found.findings:
        colour = {"high": "red", "medium": "yellow"}.get(finding.severity, "default")
        _say(f"[{colour}]{finding.severity:<7}[/] {escape(finding.sentence)}")
        _say(f"{'':<7} {escape(finding.advice)}")
    if not found.findings:
        _say("Nothing was found.")
    if as_json:
        _print_json({**found.summary, "findings": [each.as_json() for each in found.findings]})


@app.command()
def train(
    config: ConfigName,
    data: DataFolder = "",
    set_: Changes = None,
    on: Place = "here",
    publish_as: Annotated[
        str,
        typer.Option(
            "--publish",
            help="Copy the model into models/ under this name at the end, as 'publish' does.",
            metavar="NAME",
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Train a model and follow its run; Ctrl-C cancels it."""
    from cxr_core.training import bundle_index, jobs

    if publish_as:
        bundle_index.place_for(publish_as)  # hours before it is needed
    order = _order(config, data, set_, on)
    run_id = jobs.start(
        order.settings,
        recipe=order.recipe,
        store=order.store,
        launcher=order.launcher,
        catalog=order.catalog,
    )
    _say(f"Run {run_id}. It goes on if this terminal is closed; Ctrl-C cancels it.")
    _see_through(run_id, order.store, as_json=as_json)
    if publish_as:
        publish(run_id, publish_as)


@app.command("cross-validate")
def cross_validate(
    config: ConfigName,
    data: DataFolder = "",
    folds: Annotated[
        int | None,
        typer.Option(help="How many folds; the configuration's data.folds by default."),
    ] = None,
    set_: Changes = None,
    on: Place = "here",
    as_json: AsJson = False,
) -> None:
    """Train a model a fold, each tested on films of patients it never saw; Ctrl-C cancels."""
    from cxr_core.training import cross_validation

    order = _order(config, data, set_, on, of_all=partial(cross_validation.of_all, number=folds))
    run_id = cross_validation.start(
        order.settings,
        recipe=order.recipe,
        store=order.store,
        launcher=order.launcher,
        catalog=order.catalog,
    )
    _say(
        f"Cross-validation {run_id}: {order.settings.data.folds} runs in the queue. It goes on if "
        "this terminal is closed; Ctrl-C cancels it."
    )
    _see_through(run_id, order.store, as_json=as_json)


@app.command()
def sweep(
    config: Annotated[str, typer.Argument(help="A recipe's name or a YAML file.")] = "",
    space: Annotated[
        Path | None,
        typer.Option(
            help="YAML file: a setting a line, and what is tried of it, a list of values or "
            "{low, high, log, step}.",
            metavar="SPACE",
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(help="How many in all, the settings as they are the first; 20 by default."),
    ] = None,
    data: DataFolder = "",
    set_: Changes = None,
    objective: Annotated[
        str | None,
        typer.Option(
            help="val_auroc (by default), val_accuracy or val_loss, at the epoch whose weights "
            "are kept."
        ),
    ] = None,
    second: Annotated[
        str | None,
        typer.Option(
            help="What is kept low besides: seconds (of training), epoch_seconds, parameters. "
            "Without pruning."
        ),
    ] = None,
    sampler: Annotated[
        str | None, typer.Option(help="What chooses settings: tpe (by default) or random.")
    ] = None,
    pruner: Annotated[
        str | None,
        typer.Option(help="What ends trials that do worse early: median, hyperband, none."),
    ] = None,
    at_once: Annotated[
        int | None,
        typer.Option(
            help="Trials in the queue together, 1 by default; on a cluster they train side by "
            "side, on one machine they still take turns."
        ),
    ] = None,
    resume_: Annotated[
        str,
        typer.Option(
            "--resume",
            help="Go on with a sweep that has ended or was killed; with --trials make more.",
            metavar="RUN",
        ),
    ] = "",
    on: Place = "here",
    as_json: AsJson = False,
) -> None:
    """Search settings for the best validation figure, each tried in a run; Ctrl-C cancels.

    Trials are judged by validation films alone; the best of them is tested at the end.
    """
    from cxr_core.cluster import launcher
    from cxr_core.training import sweeps
    from cxr_core.training.tracking import RunStore

    how = {
        "objective": objective,
        "second": second,
        "sampler": sampler,
        "pruner": pruner,
        "at_once": at_once,
    }
    asked = {name: value for name, value in how.items() if value is not None}
    if resume_:
        if config or space or data or set_ or asked or on != "here":
            raise typer.BadParameter(
                "A sweep goes on as it began: beside --resume there is only --trials."
            )
        store = RunStore()
        record = store.find(resume_)
        run_id = record.run_id
        sweeps.resume(run_id, trials, store=store, launcher=launcher.of(record, store))
    else:
        if not config or space is None:
            raise typer.BadParameter("Name a configuration, and a search space with --space.")
        search = _search(space, trials, asked)
        order = _order(config, data, set_, on)
        store = order.store
        run_id = sweeps.start(
            order.settings,
            search,
            recipe=order.recipe,
            store=store,
            launcher=launcher.for_sweep(on, store),
            catalog=order.catalog,
        )
    _say(
        f"Sweep {run_id}. It goes on if this terminal is closed; Ctrl-C cancels it, and "
        f"'sweep --resume {run_id[:8]}' goes on with it."
    )
    _see_through(run_id, store, as_json=as_json)


def _search(space: Path, trials: int | None, asked: Mapping[str, Any]) -> "Search":
    """Return what a sweep is to do."""
    from cxr_core.training.search import Search
    from cxr_core.training.search_space import SearchSpace

    how = {"pruner": "none"} if asked.get("second") else {}
    search = Search(SearchSpace.from_file(space), **{**how, **asked})
    return search.of(trials).checked()


@app.command()
def ensemble(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Ids of finished runs or their beginnings; a cross-validation stands for its "
            "folds.",
            metavar="RUN...",
        ),
    ],
    name: Annotated[str, typer.Option(help="What to call it.")] = "",
    as_json: AsJson = False,
) -> None:
    """Join the models of several runs to one that averages their calibrated logits."""
    from cxr_core.training import ensembles
    from cxr_core.training.tracking import RunStore

    store = RunStore()
    members = [store.find(run).run_id for run in runs]
    run_id = ensembles.start(members, name=name, store=store)
    _say(f"Ensemble {run_id}.")
    _see_through(run_id, store, as_json=as_json)


@app.command()
def evaluate(
    model: Model,
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="Folder with labelled films; without one the test of the model's run is shown.",
            metavar="DIR",
        ),
    ] = None,
    split: Annotated[
        Part,
        typer.Option(
            help="'test': the folder's test part where it is not the model's own, the model's own "
            "test films where it was trained on this folder, else all of a folder without parts; "
            "'all': every labelled film, the excluded ones too."
        ),
    ] = Part.TEST,
    patient_pattern: PatientPattern = "",
    report: Annotated[
        Path | None,
        typer.Option(
            help="Write the model card with these results into this folder: MODEL_CARD.md, "
            "model_card.html (for print, with figures) and evaluation.json.",
            metavar="OUT",
            file_okay=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Test a model on labelled films."""
    from cxr_core.training import bundle_index

    place = bundle_index.resolve(model)
    if folder:
        found = _test(place, folder, split, patient_pattern)
    elif split is Part.ALL or patient_pattern:
        raise typer.BadParameter("Name the folder with the films.", param_hint="DIR")
    else:
        found = _tested_before(place)
    if report:
        report.mkdir(parents=True, exist_ok=True)
    summary = found.summary
    _say(_evaluation_table(summary))
    if summary["seen_in_training"]:
        _say(
            f"[yellow]The model learned from {summary['seen_in_training']} of these films: the "
            "figures are better than they would be on new films.[/yellow]"
        )
    if summary["excluded"]:
        _say(
            f"{summary['excluded']} of these films are on the folder's list of excluded films. "
            "Training leaves them out; a test counts every film it was given."
        )
    if report:
        _write_report(report, place, found)
    _say(NOT_FOR_CLINICAL_USE)
    if as_json:
        _print_json(summary)


def _test(place: Path, folder: Path, split: Part, patient_pattern: str) -> "Evaluated":
    """Test a bundle on a folder of films."""
    from cxr_core.data import sources
    from cxr_core.diagnosis import evaluate as evaluation

    with _bar() as progress:
        report = _reporter(progress)
        films = sources.open_catalog(str(folder), patient_pattern=patient_pattern, progress=report)
        predictor = _load(place)
        decoding = partial(report, "Decoding films")
        return evaluation.evaluate(predictor, place, films, split.value, progress=decoding)


def _tested_before(place: Path) -> "Evaluated":
    """Return the test of the run that made a bundle."""
    from cxr_core.diagnosis import bundle
    from cxr_core.training import reports
    from cxr_core.training.tracking import RunStore

    return reports.own_test(bundle.read(place), RunStore())


def _write_report(folder: Path, place: Path, found: "Evaluated") -> None:
    from cxr_core.diagnosis import bundle
    from cxr_core.training import reports
    from cxr_core.training.tracking import RunStore

    written = reports.write(folder, bundle.read(place), found, RunStore())
    _say(f"The report: {', '.join(escape(str(path)) for path in written)}.")


@app.command()
def predict(
    model: Model,
    films: Annotated[list[Path], typer.Argument(help="Files and folders.", metavar="IMAGE|DIR...")],
    as_json: AsJson = False,
    table: Annotated[
        Path | None, typer.Option("--csv", help="Write a table to this file.", metavar="FILE")
    ] = None,
    parquet: Annotated[
        Path | None,
        typer.Option(
            "--parquet",
            help="Write the table to this folder, in parts as Parquet.",
            metavar="OUT",
            file_okay=False,
        ),
    ] = None,
    heatmaps: Annotated[
        Path | None,
        typer.Option(help="Draw heat maps as PNG into this folder.", metavar="OUT"),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the table of --csv or --parquet after an interruption: films that "
            "have a row are passed over. The model must be the same.",
        ),
    ] = False,
    on: Place = "here",
    predictors: Annotated[
        int | None,
        typer.Option(
            help="On a cluster, how many work side by side; by default one a GPU, or one for every "
            "four cores.",
            min=1,
        ),
    ] = None,
) -> None:
    """Answer for films; a file that is absent or unreadable gets a reason, and the rest go on."""
    from cxr_core.diagnosis import scoring
    from cxr_core.training import bundle_index

    to_table = bool(table or parquet)
    if as_json and to_table:
        raise typer.BadParameter("Choose one of --json and a table (--csv, --parquet).")
    if resume and not to_table:
        raise typer.BadParameter("--resume goes on with a table: name it with --csv or --parquet.")
    if on != "here" and (heatmaps or not to_table):
        raise typer.BadParameter(
            "A cluster answers into a table, without heat maps: name it with --csv or --parquet."
        )
    if heatmaps and any(_holds(place, heatmaps) for place in films):
        raise DatasetError(
            f"The folder {heatmaps} is one of those with the films: a heat map would replace the "
            "film of its name, or be taken for one. Name another folder."
        )
    place = bundle_index.resolve(model)
    if not any(path.exists() for path in films):
        named = ", ".join(str(path) for path in films)
        verb = "does" if len(films) == 1 else "do"
        raise DatasetError(f"{named} {verb} not exist. Name files or folders with films.")
    found = scoring.find(films)
    first = next(found, None)
    if first is None:
        raise DatasetError(f"There are no films in {', '.join(str(path) for path in films)}.")
    all_films = chain([first], found)
    if to_table:
        open_ = (
            partial(_rows_here, heatmaps)
            if on == "here"
            else partial(_rows_of_cluster, on, films, predictors)
        )
        _to_tables(place, all_films, open_, table, parquet, resume=resume)
        return
    predictor = _load(place)
    if as_json:
        outcomes = scoring.score(predictor, all_films, heatmaps)
        _stream_json(outcome.as_json() for outcome in outcomes)
    else:
        for outcome in scoring.score(predictor, all_films, heatmaps):
            _say(_answer(outcome))
    _caution(predictor.info)


def _to_tables(
    place: Path,
    films: Films,
    open_: Callable[[Path, ExitStack], _Rows],
    csv: Path | None,
    parquet: Path | None,
    *,
    resume: bool,
) -> None:
    """Answer for films into one table or two, each as soon as it is known.

    Args:
        place: the model's bundle.
        films: as `scoring.find` yields them.
        open_: gets the model ready, before a table is touched.
        csv: a file.
        parquet: a folder.
        resume: go on with the tables.
    """
    from cxr_core.diagnosis import answer_parts, answer_table, bundle, scoring

    info = bundle.read(place)
    columns = scoring.columns(info.classes)
    same = {"model": scoring.version(info), "threshold": info.threshold.value}
    with ExitStack() as opened:
        rows = open_(place, opened)
        tables: list[answer_table.AnswerTable | answer_parts.AnswerParts] = []
        if csv:
            to_csv = answer_table.AnswerTable(csv, columns, same, resume=resume)
            tables.append(opened.enter_context(to_csv))
        if parquet:
            in_parts = answer_parts.AnswerParts(parquet, columns, same, resume=resume)
            tables.append(opened.enter_context(in_parts))
        there = min(len(table) for table in tables)
        if there:
            _say(f"{there:,} films have a row already.")
        with _bar() as progress:
            scored = progress.add_task("Scoring", total=None)
            for row in rows(films, lambda film: all(t.has(str(film)) for t in tables)):
                for table in tables:
                    if not table.has(row["path"]):
                        table.add(row)
                progress.advance(scored)
    for path in filter(None, (csv, parquet)):
        _say(f"The table is in {escape(str(path))}.")
    _caution(info)


def _rows_here(heatmaps: Path | None, place: Path, opened: ExitStack) -> _Rows:
    from cxr_core.diagnosis import scoring

    del opened
    predictor = _load(place)

    def rows(films: Films, skip: Callable[[Path], bool]) -> Iterator[dict[str, Any]]:
        for outcome in scoring.score(predictor, films, heatmaps, skip=skip):
            yield outcome.as_row(predictor.info.classes)

    return rows


def _rows_of_cluster(
    on: str, places: list[Path], number: int | None, place: Path, opened: ExitStack
) -> _Rows:
    from cxr_core.cluster import launcher
    from cxr_core.cluster import scoring as on_cluster

    address = launcher.address(on)
    pool = on_cluster.predictors(place, places, address, number)
    score = _quietly(lambda: opened.enter_context(pool))

    def rows(films: Films, skip: Callable[[Path], bool]) -> Iterator[dict[str, Any]]:
        return score(path for path, _ in films if not skip(path))

    return rows


def _caution(info: "BundleInfo") -> None:
    from cxr_core.diagnosis import scoring

    _say(f"{NOT_FOR_CLINICAL_USE} {scoring.SYNTHETIC if info.data.synthetic else ''}")


@runs_app.callback()
def runs(context: typer.Context, as_json: AsJson = False) -> None:
    """List all runs, the newest first; or act on one."""
    if context.invoked_subcommand is not None:
        return
    from cxr_core.training import jobs

    records = jobs.runs()
    if as_json:
        _print_json([_run_values(record) for record in records])
        return
    if not records:
        _say("There are no runs yet. Start one: python -m cxr_core train plain_cnn")
        return
    table = Table(
        Column("Run", no_wrap=True),
        "Name",
        "Status",
        "Data",
        "Network",
        "Test AUROC",
        "Started",
        "Minutes",
    )
    waiting = [record.run_id for record in jobs.queue()]
    for record in records:
        values = _run_values(record)
        place = f", {waiting.index(record.run_id) + 1}." if record.run_id in waiting else ""
        table.add_row(
            record.run_id[:8],
            escape(record.name),
            f"{record.status}{place}",
            escape(values["data"]),
            values["architecture"],
            _number(record.metrics.get("test_auc")),
            f"{record.created.astimezone():%Y-%m-%d %H:%M}",
            f"{record.duration / 60:.1f}",
        )
    _say(table)
    for record in records:
        if record.reason:
            _say(f"{record.run_id[:8]}: {escape(record.reason)}")


@runs_app.command()
def follow(run: RunId, as_json: AsJson = False) -> None:
    """Follow a run to its end; Ctrl-C leaves it to itself."""
    from cxr_core.training.tracking import RunStore

    store = RunStore()
    run_id = store.find(run).run_id
    try:
        record = _follow(run_id, store)
    except KeyboardInterrupt:
        _say(f"Run {run_id} goes on.")
        raise typer.Exit(INTERRUPTED) from None
    _tell_end(record, store, as_json=as_json)
    if not record.status.has_model:  # for a cross-validation: not all of its folds have theirs
        raise typer.Exit(FAILED)


@runs_app.command()
def stop(run: RunId) -> None:
    """End a run's training early: it keeps its best weights and finishes with a model."""
    from cxr_core.training import jobs

    store, run_id = _active(run)
    jobs.stop_early(run_id, store)
    _say(f"Asked run {run_id} to stop early.")


@runs_app.command()
def cancel(run: RunId) -> None:
    """End a run and keep nothing of it."""
    from cxr_core.training import jobs

    store, run_id = _active(run)
    jobs.cancel(run_id, store)
    _say(f"Asked run {run_id} to cancel.")


@runs_app.command()
def move(
    run: RunId, where: Annotated[Direction, typer.Argument(help="A place, or to the front.")]
) -> None:
    """Move a waiting run in the queue."""
    from cxr_core.training import jobs
    from cxr_core.training.tracking import RunStore

    store = RunStore()
    run_id = store.find(run).run_id
    jobs.move(run_id, where.value, store)
    waiting = [record.run_id for record in jobs.queue(store)]
    _say(f"Run {run_id} is number {waiting.index(run_id) + 1} of {len(waiting)} in the queue.")


@runs_app.command()
def resume(run: RunId, on: Place = "", as_json: AsJson = False) -> None:
    """Let a failed run go on from its last checkpoint; a cross-validation or a sweep with what it
    lacks.

    It goes on where it was, unless --on names another place.
    """
    from cxr_core.cluster import launcher
    from cxr_core.training import cross_validation, jobs, sweeps
    from cxr_core.training.tracking import Kind, RunStore

    store = RunStore()
    record = store.find(run)
    run_id = record.run_id
    if record.kind is Kind.SWEEP:
        there = launcher.for_sweep(on, store) if on else launcher.of(record, store)
        sweeps.resume(run_id, store=store, launcher=there)
    else:
        there = launcher.named(on, store) if on else launcher.of(record, store)
        verbs = cross_validation if record.kind is Kind.FOLDS else jobs
        verbs.resume(run_id, store=store, launcher=there)
    _tell_queued(run_id, store, as_json=as_json)


@runs_app.command()
def repeat(run: RunId, set_: Changes = None, on: Place = "here", as_json: AsJson = False) -> None:
    """Start a new run with a run's settings, changed by --set."""
    from cxr_core.cluster import launcher
    from cxr_core.training import cross_validation, jobs
    from cxr_core.training.tracking import Kind, RunStore

    store = RunStore()
    record = store.find(run)
    before = store.config(record.run_id)
    after = before.with_overrides(set_ or []).flat()
    changes = {path: value for path, value in after.items() if value != before.flat()[path]}
    verbs = cross_validation if record.kind is Kind.FOLDS else jobs
    there = launcher.named(on, store)
    run_id = verbs.repeat(record.run_id, changes, store=store, launcher=there)
    _tell_queued(run_id, store, as_json=as_json)


@runs_app.command()
def delete(
    run: RunId,
    sure: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete an ended run with its model and files; what was published of it stays."""
    from cxr_core.training import jobs
    from cxr_core.training.tracking import RunStore

    store = RunStore()
    record = store.find(run)
    if not sure:
        question = f"Delete run {record.run_id} ('{record.name}') with its model and files?"
        typer.confirm(question, abort=True, err=True)
    jobs.delete(record.run_id, store)
    _say(f"Run {record.run_id} is deleted.")


@app.command()
def publish(
    model: Model,
    name: Annotated[str, typer.Argument(help="What it will be called in models/.")],
) -> None:
    """Copy a model into models/, where the app offers it and it outlives its run."""
    from cxr_core.diagnosis import bundle
    from cxr_core.training import bundle_index

    folder = bundle_index.publish(model, name)
    info = bundle.read(folder)
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    _say(
        f"{escape(name)} is published: {escape(str(folder))}, {size:.1f} MB. It learned from "
        f"{escape(info.data.name)}; licence of the data: {escape(info.data.licence)}."
    )


@app.command()
def export(
    model: Model,
    out: Annotated[Path, typer.Option(help="A new or empty folder.", file_okay=False)],
    format_: Annotated[
        str, typer.Option("--format", help="onnx, saved_model or litert.", metavar="FORMAT")
    ] = "onnx",
    as_json: AsJson = False,
) -> None:
    """Write a model as other systems load it, and compare its answers with the model's."""
    from cxr_core.diagnosis import exports
    from cxr_core.training import bundle_index

    source = bundle_index.resolve(model)
    _say(f"Writing the network, then asking it about {exports.CHECKED} synthetic films.")
    made = _quietly(lambda: exports.export(source, format_, out))
    check = made.check
    if as_json:
        _print_json(
            {
                "folder": str(made.folder),
                "format": made.format.key,
                "bytes": made.size,
                **asdict(check),
            }
        )
    _say(
        f"{escape(str(made.folder))}: {made.format.title}, {made.size / 1e6:.1f} MB. On "
        f"{check.films} synthetic films its probabilities differ from the model's by at most "
        f"{check.furthest:.0e}. A film takes {check.milliseconds:.1f} ms, in the app "
        f"{check.milliseconds_before:.1f} ms. {NOT_FOR_CLINICAL_USE}"
    )


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="The port to listen at; 0 takes a free one.", min=0, max=65535)
    ] = 8000,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="A model to serve, named as for 'predict'; several may be. By default all in "
            "models/, and the one that Diagnose opens with is asked first.",
            metavar="NAME",
        ),
    ] = None,
    without_key: Annotated[
        bool,
        typer.Option(
            "--without-key",
            help="Listen for other machines without a key. CXR_API_KEY sets one.",
        ),
    ] = False,
) -> None:
    """Answer for films over HTTP; Ctrl-C ends it. Limits are set by CXR_SERVE_* variables."""
    try:
        from cxr_core.service import server
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("cxr_core"):
            raise
        raise ServiceError(
            f"The service needs {error.name}, which is not installed: "
            "pip install -r requirements-serve.txt."
        ) from error
    from cxr_core.training import bundle_index

    folders = [bundle_index.resolve(name) for name in model] if model else bundle_index.offered()

    def say(address: str) -> None:
        _say(f"CXR Studio answers at {escape(address)}, described at {escape(address)}/docs.")
        _say(NOT_FOR_CLINICAL_USE)

    try:
        server.serve(folders, host, port, without_key=without_key, say=say)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


@app.command()
def doctor() -> None:
    """Look at what is installed, which device there is, what is missing, and how to mend it."""
    from cxr_core import doctor as checks

    colours = {"ok": "green", "missing": "red", "optional": "yellow"}
    missing = 0
    findings = checks.examine()
    while finding := _quietly(lambda: next(findings, None)):
        missing += finding.state == "missing"
        colour = colours[finding.state]
        _say(f"[{colour}]{finding.state:<8}[/] {finding.name:<34} {escape(finding.found)}")
        if finding.mend:
            _say(f"{'':<43} {escape(finding.mend)}")
    _say("Nothing is missing." if not missing else f"Missing: {missing}. The mends stand above.")
    if missing:
        raise typer.Exit(FAILED)


# -- data -----------------------------------------------------------------------------------------


def _for_labels(films: "Catalog", report: Callable[[str, int, int], None]) -> "DataFrame":
    """Return predictions to check a set's labels with, made now where there are none."""
    from cxr_core.diagnosis import label_review
    from cxr_core.training import label_source
    from cxr_core.training.tracking import RunStore

    store = RunStore()
    source = label_source.best(films, store)
    if source is None:
        label_review.keep(films, label_review.predict(films, progress=report))
        source = label_source.best(films, store)
        assert source is not None
    _say(f"Labels are checked with {escape(source.name)}.")
    return source.predictions


# -- training -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Order:
    """What is to be trained, on which films, and where it will be kept."""

    settings: "RunConfig"
    recipe: str
    store: "RunStore"
    launcher: "Launcher | None"
    catalog: "Catalog | None"


def _order(
    config: str,
    data: str,
    changes: list[str] | None,
    on: str,
    of_all: "Callable[[RunConfig], RunConfig]" = lambda settings: settings,
) -> _Order:
    """Read a configuration, open its films, and tell what speaks against training on them.

    Args:
        config: a recipe's name or a YAML file.
        data: the folder with the films; "" for the configuration's own.
        changes: settings as path=value.
        on: where to train, as `launcher.named` takes it.
        of_all: what is done to the settings at last.
    """
    from cxr_core.cluster import launcher
    from cxr_core.training import jobs, machine, recipes
    from cxr_core.training.tracking import RunStore

    settings = recipes.load(config)
    if data:
        settings = settings.with_values({"data.root": data})
    settings = of_all(settings.with_overrides(changes or []))
    store = RunStore()
    with _bar() as progress:
        catalog = jobs.open_films(settings, _reporter(progress))
    there = launcher.named(on, store)
    said = there.check(settings) if isinstance(there, jobs.RemoteLauncher) else None
    for problem in jobs.check(settings, store, catalog, said):
        if problem.severity != "error":
            rest = f"{problem.message} {problem.mend}".rstrip()
            colour = "yellow" if problem.severity == "warning" else "default"
            _say(f"[{colour}]{escape(problem.title)}.[/] {escape(rest)}")
    recipe = config if config in recipes.names() else Path(config).stem
    if settings.hardware.device == "all_gpus":
        _say(machine.shared_batch(settings.optimise))
    return _Order(settings, recipe, store, there, catalog)


def _see_through(run_id: str, store: "RunStore", *, as_json: bool) -> None:
    """Follow a run that was just started to its end, or cancel it on Ctrl-C; tell how it ended."""
    from cxr_core.training import jobs

    interrupted = False
    try:
        record = _follow(run_id, store)
    except KeyboardInterrupt:
        interrupted = True
        jobs.cancel(run_id, store)
        _say("Cancelling the run.")
        record = jobs.wait(run_id, store)
    _tell_end(record, store, as_json=as_json)
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if not record.status.has_model:
        raise typer.Exit(FAILED)


# -- following a run ------------------------------------------------------------------------------


def _active(spec: str) -> tuple["RunStore", str]:
    """Return the store and the id of a run of which something can be asked.

    Raises:
        TrainingError: there is no such run, or it has ended.
    """
    from cxr_core.training import jobs
    from cxr_core.training.tracking import RunStore

    store = RunStore()
    record = jobs.bury_if_dead(store.find(spec), store)
    if not record.status.active:
        raise TrainingError(f"Run {record.run_id} is {record.status}: it has ended already.")
    return store, record.run_id


def _tell_queued(run_id: str, store: "RunStore", *, as_json: bool) -> None:
    record = store.get(run_id)
    _say(f"Run {run_id} is {record.status}. Follow it: python -m cxr_core runs follow {run_id[:8]}")
    if as_json:
        _print_json({"run_id": run_id, "status": str(record.status)})


def _tell_end(record: "RunRecord", store: "RunStore", *, as_json: bool) -> None:
    from cxr_core.training import jobs
    from cxr_core.training.tracking import TAG_NOTES, Kind, Status

    if record.kind in (Kind.FOLDS, Kind.SWEEP):
        tell = _tell_folds if record.kind is Kind.FOLDS else _tell_sweep
        tell(record, store, as_json=as_json)
        return
    bundle = str(store.path(record.run_id, "bundle")) if record.has_model else None
    _say(_ending(record, bundle))
    if record.kind is Kind.ENSEMBLE:
        for note in record.tags.get(TAG_NOTES, "").splitlines():
            _say(f"[yellow]{escape(note)}[/yellow]")
    if not jobs.why_not_resumed(record) and jobs.may_go_on(record):
        _say(f"It can go on: python -m cxr_core runs resume {record.run_id[:8]}")
    if as_json:
        _print_json(
            {
                "run_id": record.run_id,
                "status": str(record.status),
                "bundle": bundle,
                "epochs": _epochs(record.run_id, store),
                "metrics": _metrics(record),
                **({"reason": record.reason} if record.status is Status.FAILED else {}),
            }
        )


def _follow(run_id: str, store: "RunStore") -> "RunRecord":
    """Show a run's progress until it has ended."""
    from cxr_core.training import jobs
    from cxr_core.training.tracking import TAG_DEVICE, TAG_PROGRESS, Kind

    kind = store.get(run_id).kind
    if kind is Kind.FOLDS:
        return _follow_folds(run_id, store)
    if kind is Kind.SWEEP:
        return _follow_sweep(run_id, store)
    if kind is Kind.ENSEMBLE:
        return _follow_steps(run_id, store)
    told: set[str] = set()

    with _bar("epochs") as progress:
        task = progress.add_task("waiting for the device", total=None)

        def show(record: "RunRecord") -> None:
            device = record.tags.get(TAG_DEVICE, "")
            if device and device not in told:
                told.add(device)
                progress.console.print(f"Device: {device}", highlight=False)
            epochs = store.curves(run_id, _EPOCH_METRICS)
            for epoch, values in epochs.groupby("step"):
                line = _epoch_line(
                    int(str(epoch)), dict(zip(values.metric, values.value, strict=True))
                )
                if line not in told:
                    told.add(line)
                    progress.console.print(line, highlight=False)
            progress.update(
                task,
                description=f"{record.phase} {record.tags.get(TAG_PROGRESS, '')}".strip(),
                total=int(record.params["optimise.epochs"]),
                completed=int(epochs["step"].max()) if len(epochs) else 0,
            )

        return jobs.wait(run_id, store, show)


def _follow_steps(run_id: str, store: "RunStore") -> "RunRecord":
    """Say what the worker of an ensemble does, step by step, until it has ended."""
    from cxr_core.training import jobs

    with _bar("") as progress:
        task = progress.add_task("starting", total=None)
        return jobs.wait(
            run_id, store, lambda record: progress.update(task, description=record.phase)
        )


def _follow_folds(run_id: str, store: "RunStore") -> "RunRecord":
    """Show how the folds of a cross-validation get on until all have ended."""
    from cxr_core.training import folds, jobs

    told: set[str] = set()
    with _bar("folds") as progress:
        task = progress.add_task("", total=None)

        def show(record: "RunRecord") -> None:
            runs = folds.by_number(folds.children(run_id, store))
            for number, run in runs.items():
                if run.run_id not in told and not run.status.active:
                    told.add(run.run_id)
                    area = _number(run.metrics.get("test_auc"))
                    ended = f"test AUROC {area}" if run.has_model else run.reason
                    line = f"Fold {number} {run.status}: {ended}".rstrip(": ")
                    progress.console.print(line, highlight=False, markup=False)
            progress.update(
                task,
                description=record.phase,
                total=int(record.params["data.folds"]),
                completed=sum(run.has_model for run in runs.values()),
            )

        return jobs.wait(run_id, store, show)


def _tell_folds(record: "RunRecord", store: "RunStore", *, as_json: bool) -> None:
    """Tell what the folds of a cross-validation say together, of which fewer than all may be."""
    from cxr_core.training import folds

    found = folds.summary(record, store)
    if found is not None and found["pooled"] is not None:
        films = found["pooled"]["n"]
        unseen = "its patient" if found["pooled"]["patients"] else "it"
        table = Table(
            "Figure",
            "Mean of the folds",
            "Deviation",
            "All films pooled",
            "95 % interval",
            title=f"{escape(record.name)}: {len(found['done'])} of {found['folds']} folds, "
            f"{films} films, each predicted by a model that never saw {unseen}",
        )
        for name in HEADLINES:
            figure, pooled = found["metrics"][name], found["pooled"]
            low, high = pooled["ci95"].get(name) or (None, None)
            table.add_row(
                name,
                _number(figure["mean"]),
                _number(figure["sd"]),
                _number(pooled[name]),
                f"{_number(low)} to {_number(high)}",
            )
        _say(table)
    why = f": {record.reason}" if record.reason else "."
    _say(f"The cross-validation {record.status}{escape(why)}")
    if as_json:
        _print_json(
            {
                "run_id": record.run_id,
                "status": str(record.status),
                "runs": {
                    str(number): run.run_id
                    for number, run in folds.by_number(folds.children(record.run_id, store)).items()
                },
                **(found or {}),
                **({"reason": record.reason} if record.reason else {}),
            }
        )


def _follow_sweep(run_id: str, store: "RunStore") -> "RunRecord":
    """Show how the trials of a sweep get on until it has ended."""
    from cxr_core.training import jobs, trials

    search = trials.search(run_id, store)
    told: set[int] = set()
    with _bar("trials") as progress:
        task = progress.add_task("", total=search.trials)

        def show(record: "RunRecord") -> None:
            ended = [
                trial
                for trial in trials.summary(run_id, store).trials
                if trial.outcome is not trials.Outcome.OPEN
            ]
            for trial in ended:
                if trial.number not in told:
                    told.add(trial.number)
                    line = _trial_line(trial, search.objective)
                    progress.console.print(line, highlight=False, markup=False)
            counted = [trial for trial in ended if trial.outcome is not trials.Outcome.CANCELLED]
            progress.update(task, description=record.phase, completed=len(counted))

        return jobs.wait(run_id, store, show)


def _trial_line(trial: "Trial", objective: str) -> str:
    settings = ", ".join(f"{path} {_value(value)}" for path, value in trial.values.items())
    figure = trial.figures.get(objective)
    found = f", {objective} {figure:.4f} at epoch {trial.epoch}" if figure is not None else ""
    why = f": {trial.reason}" if trial.reason else ""
    which = f"Trial {trial.number}{' (the settings as they are)' if trial.default else ''}"
    return f"{which} {trial.outcome} after {trial.epochs} epochs{found} ({settings}){why}"


def _value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _tell_sweep(record: "RunRecord", store: "RunStore", *, as_json: bool) -> None:
    """Tell what the trials of a sweep say together."""
    from cxr_core.training import trials

    search = trials.search(record.run_id, store)
    found = trials.summary(record.run_id, store)
    winner, default = found.winner(search), found.default
    table = Table("Trial", *search.space.paths, search.objective, "Epochs", "Minutes", "Outcome")
    for trial in found.trials:
        marks = " default" * trial.default + " best" * (trial is winner)
        table.add_row(
            f"{trial.number}{marks}",
            *(_value(value) for value in trial.values.values()),
            _number(trial.figures.get(search.objective)),
            str(trial.epochs),
            f"{trial.seconds / 60:.1f}",
            str(trial.outcome),
        )
    _say(table)
    films = trials.validation_films(found, search, store)
    said = trials.conclusion(found, search, films)
    why = f": {record.reason}" if record.reason else "."
    _say(f"The sweep {record.status}{escape(why)} {escape(said)}".rstrip())
    if as_json:
        _print_json(
            {
                "run_id": record.run_id,
                "status": str(record.status),
                "objective": search.objective,
                "second": search.second,
                "sampler": search.sampler,
                "pruner": search.pruner,
                "trials_wanted": search.trials,
                "space": search.space.as_mapping(),
                "trials": [asdict(trial) for trial in found.trials],
                "importance": dict(found.importance),
                "default": default.number if default else None,
                "best": winner.number if winner else None,
                "beats_default": found.beats_default(search),
                "validation_films": films,
                "test": found.test,
                "conclusion": said,
                **({"reason": record.reason} if record.reason else {}),
            }
        )


_EPOCH_METRICS = ("train_loss", "val_loss", "val_accuracy", "val_auroc")


def _epoch_line(epoch: int, values: Mapping[str, float]) -> str:
    figures = [f"{k.replace('_', ' ')} {values[k]:.3f}" for k in _EPOCH_METRICS if k in values]
    return f"Epoch {epoch}: {', '.join(figures)}"


def _epochs(run_id: str, store: "RunStore") -> int:
    """Return how many epochs a run has trained."""
    steps = store.curves(run_id, ["val_loss"])["step"]
    return int(steps.max()) if len(steps) else 0


def _ending(record: "RunRecord", bundle: str | None) -> str:
    if record.untested and record.status.has_model:
        figure = _number(record.metrics.get("val_auroc"))
        return (
            f"The trial {record.status} after {record.duration / 60:.1f} min: validation AUROC "
            f"{figure} at its last epoch. It is judged by validation films alone, and has no model."
        )
    if bundle is None:
        why = f": {record.reason}" if record.reason else "."
        return f"[red]The run {record.status}{escape(why)}[/red]"
    accuracy, area = (record.metrics.get(f"test_{name}") for name in ("accuracy", "auc"))
    tested = (
        f": test accuracy {_number(accuracy)}, AUROC {_number(area)}"
        if accuracy is not None
        else ""
    )
    return (
        f"The run {record.status} after {record.duration / 60:.1f} min{tested}. The model: "
        f"{escape(bundle)}"
    )


# -- results --------------------------------------------------------------------------------------


def _run_values(record: "RunRecord") -> dict[str, Any]:
    from cxr_core.training.tracking import TAG_DATA, TAG_RECIPE, TAG_SYNTHETIC

    return {
        "run_id": record.run_id,
        "name": record.name,
        "kind": str(record.kind),
        "parent": record.parent,
        "status": str(record.status),
        "phase": record.phase,
        "reason": record.reason,
        "recipe": record.tags.get(TAG_RECIPE, ""),
        "data": record.tags.get(TAG_DATA, ""),
        "synthetic": record.tags.get(TAG_SYNTHETIC) == "true",
        "architecture": record.params.get("model.architecture", ""),
        "created": record.created.isoformat(timespec="seconds"),
        "seconds": round(record.duration, 1),
        "metrics": _metrics(record),
    }


def _metrics(record: "RunRecord") -> dict[str, float | None]:
    """Return a run's figures; what is no number, as the AUROC of one class, is null in JSON."""
    from cxr_core.training.tracking import SYSTEM_METRICS

    return {
        name: value if math.isfinite(value) else None
        for name, value in record.metrics.items()
        if not name.startswith(("batch_", SYSTEM_METRICS))
    }


def _evaluation_table(summary: Mapping[str, Any]) -> Table:
    films = "synthetic films" if summary["synthetic"] else "films"
    title = f"{summary['model']} on {summary['data']}: {summary['n']} {films}"
    caption = f"Films: {summary['films']}."
    table = Table("Figure", "Value", "95 % interval", title=escape(title), caption=escape(caption))
    rows = [(name, summary[name], summary["ci95"].get(name)) for name in HEADLINES]
    rows += [
        (f"sensitivity, {escape(label)}", values["sensitivity"], values["ci95"].get("sensitivity"))
        for label, values in summary["per_class"].items()
    ]
    for name, value, interval in rows:
        low, high = interval or (None, None)
        table.add_row(name, _number(value), f"{_number(low)} to {_number(high)}")
    return table


def _answer(outcome: "Scored") -> str:
    from cxr_core.diagnosis import sentences

    name, answer = escape(str(outcome.path)), outcome.diagnosis
    if answer is None:
        return f"{name}: [red]not read.[/red] {escape(outcome.error)}"
    if answer.label is None:
        return f"{name}: [yellow]refused.[/yellow] {escape(' '.join(answer.reasons))}"
    return (
        f"{name}: [bold]{escape(answer.label)}[/bold] {sentences.probability(answer.probability)} "
        f"({escape(sentences.asked(answer.classes))} {sentences.probability(answer.abnormal)}, "
        f"threshold {sentences.percent(answer.threshold)})"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


# -- the two streams ------------------------------------------------------------------------------


def _say(text: str | Table) -> None:
    """Tell people something, on stderr."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        console.width = LOG_WIDTH
    console.print(text, soft_wrap=isinstance(text, str))


def _print_json(values: Any) -> None:
    typer.echo(json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False))


def _stream_json(entries: Iterable[Mapping[str, Any]]) -> None:
    """Print a JSON list entry by entry, so that any number of them needs no memory."""
    opening = "["
    for entry in entries:
        text = json.dumps(entry, ensure_ascii=False, allow_nan=False)
        # Names of files may hold bytes that are no text: \udc80 and so on, as JSON writes them.
        typer.echo(opening + "\n" + text.encode("utf-8", "backslashreplace").decode(), nl=False)
        opening = ","
    typer.echo("\n]")


def _holds(place: Path, folder: Path) -> bool:
    """Tell if a folder is where a film lies, or inside a folder of films."""
    if place.is_dir():
        return folder.resolve().is_relative_to(place.resolve())
    return folder.resolve() == place.resolve().parent


def _load(bundle: Path) -> "Predictor":
    def load() -> "Predictor":
        from cxr_core.diagnosis.predictor import Predictor

        return Predictor(bundle)

    return _quietly(load)


def _quietly(step: Callable[[], T]) -> T:
    """Run a step that imports TensorFlow, without the lines it writes whatever it is told.

    They come from below Python, so the file descriptor itself is turned away meanwhile. Errors are
    exceptions, and come through.
    """
    stderr = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        return step()
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


@contextmanager
def _bar(unit: str = "films") -> Iterator[Progress]:
    """Show progress on stderr while the context lasts."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield progress


def _reporter(progress: Progress) -> Callable[[str, int, int], None]:
    """Return a callback (stage, done, total) with a bar for each stage."""
    tasks: dict[str, TaskID] = {}

    def report(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = progress.add_task(stage, total=total)
        progress.update(tasks[stage], completed=done, total=total)

    return report

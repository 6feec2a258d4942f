"""The audit on the Dataset page: its three gravest findings as cards, and all of them in a tab."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Literal

import pandas as pd
import streamlit as st

from cxr_core import figures
from cxr_core.data import exclusions
from cxr_core.data.audit import SEVERITIES, Audit, Finding, audit, shortcuts
from cxr_core.data.catalog import Catalog
from cxr_core.errors import DatasetError
from cxr_core.ui import (
    background,
    charts,
    films,
    label_view,
    loaders,
    notices,
    splits_view,
    words,
)

TABS = "dataset_tab"  # session key: the open tab of the Dataset page
OVERVIEW, FILMS, AUDIT, SPLITS, AUGMENTATION = (
    "Overview",
    "Films",
    "Audit",
    "Patients and splits",
    "Augmentation",
)
_UNASKED = 10_000  # films of which the audit starts by itself
_AT_ONCE = 2.0  # seconds the page waits for an audit before it shows a progress bar
_KEPT = 4
_CARDS = 3
_ASKED, _OPEN = "audit_asked", "audit_open"
# Words for severities, made so that a table sorts them rightly.
_GRAVITY = {"high": "●●● grave", "medium": "●●○ medium", "low": "●○○ slight", "info": "○○○ note"}
_COLOUR: dict[str, Literal["orange", "yellow"]] = {"high": "orange", "medium": "yellow"}
_FEATURES = {"mean": "mean gray level", "std": "contrast", "border": "border of the film"}
# What excluding films does not mend: it has another remedy or none.
_NOT_BY_EXCLUSION = {"unreadable", "patients_across_splits", "patients_unknown", "shortcut"}
_ONE_BY_ONE = {"label_suspects"}  # only a reader can say which of these films to exclude
_BY_CUTTING = {"patients_across_splits", "twins_across_splits"}
_ONE_STAYS = {"exact_twins", "near_twins", "twins_across_splits"}

Job = background.Task[Audit]


class _Shelf:
    """The audits of this server, the last used at the end."""

    def __init__(self) -> None:
        self.jobs: OrderedDict[str, Job] = OrderedDict()


@st.cache_resource(show_spinner=False)
def _shelf() -> _Shelf:
    return _Shelf()


def job(catalog: Catalog) -> Job | None:
    """Return the audit of a set, begun now if it is small or was asked for; None otherwise."""
    jobs, asked_by = _shelf().jobs, loaders.key(catalog)
    source = label_view.source(catalog)
    key = f"{asked_by}:{source.key if source else ''}"
    if key not in jobs:
        if len(catalog.frame) > _UNASKED and st.session_state.get(_ASKED) != asked_by:
            return None
        predictions = source.predictions if source else None
        jobs[key] = background.Task(
            lambda task: audit(catalog, predictions=predictions, progress=task.tell)
        )
        jobs[key].ended(_AT_ONCE)
        while len(jobs) > _KEPT:
            jobs.popitem(last=False)
    jobs.move_to_end(key)
    return jobs[key]


def finished(work: Job | None) -> Audit | None:
    """Return what an audit found, None where it is not done or could not be."""
    if work is None or not work.ended():
        return None
    try:
        return work.result()
    except DatasetError:
        return None


def things_to_know(findings: Sequence[Finding]) -> str:
    """Return the end of the page's headline: how many findings are open."""
    if not findings:
        return "nothing amiss found"
    return words.count(len(findings), "thing") + " to know"


def open_findings(found: Audit, excluded: set[str]) -> list[Finding]:
    """Return the findings that still say something once films are excluded, the gravest first."""
    return [f for f in found.findings if f.severity != "info" and not mended(f, excluded)]


def gravest(findings: Sequence[Finding]) -> list[Finding]:
    """Return what goes on the cards: the gravest, each kind once, the strongest shortcut for all.

    Of equally grave ones those come first that concern the most films.
    """
    kinds: dict[str, Finding] = {}
    for finding in findings:
        kinds.setdefault(finding.kind, finding)
    drawn_by = [finding for finding in findings if finding.kind == "shortcut"]
    if drawn_by:
        kinds["shortcut"] = max(drawn_by, key=lambda finding: finding.details["auroc"])
    ordered = sorted(
        kinds.values(), key=lambda f: (SEVERITIES.index(f.severity), -(len(f.paths) or f.count))
    )
    return ordered[:_CARDS]


def mended(finding: Finding, excluded: set[str]) -> bool:
    """Return whether the excluded films were all there was to a finding."""
    if finding.kind in _NOT_BY_EXCLUSION:
        return False
    groups = finding.details.get("groups")
    if groups:
        return all(sum(path not in excluded for path in group) < 2 for group in groups)
    return set(finding.paths) <= excluded


def to_exclude(finding: Finding, frame: pd.DataFrame) -> list[str]:
    """Return the films to exclude together to mend a finding; empty where that is no remedy.

    Of films that are one picture under one label the largest stays.

    Args:
        finding: of the audit.
        frame: the catalog's.
    """
    if finding.kind in _NOT_BY_EXCLUSION | _ONE_BY_ONE:
        return []
    if finding.kind not in _ONE_STAYS:
        return list(finding.paths)
    rows = frame[frame["path"].isin(finding.paths)]
    area = dict(zip(rows["path"], rows["width"] * rows["height"], strict=True))
    copies: list[str] = []
    for group in finding.details["groups"]:
        best = max(group, key=lambda path: area.get(path, 0))  # the first of equals
        copies += [path for path in group if path != best]
    return copies


def excluded(catalog: Catalog) -> set[str]:
    """Return the paths of the films that are excluded; a damaged list is said on the page."""
    try:
        if not exclusions.listed(catalog.root):
            return set()
        return set(catalog.frame.loc[exclusions.is_excluded(catalog), "path"])
    except DatasetError as error:
        notices.wrong(error)
        return set()


def cards(catalog: Catalog, work: Job | None, out: set[str]) -> None:
    """Draw the three gravest findings, or how the audit is getting on."""
    if work is None:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.button(
                "Audit this set",
                icon=":material/fact_check:",
                on_click=_ask,
                args=(loaders.key(catalog),),
            )
            st.caption(
                f"Looks for twins, leaks, odd films and shortcuts among "
                f"{words.count(len(catalog.frame), 'film')}; takes some minutes.",
                width="content",
            )
        return
    if not work.ended():
        background.watch(work, lambda done, total: f"check {done + 1} of {total}", "audit")
        return
    try:
        found = work.result()
    except DatasetError as error:
        notices.wrong(error)
        return
    left = open_findings(found, out)
    shown = gravest(left)
    if not shown:
        return
    if len(left) > len(shown):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.caption(f"The gravest {len(shown)} of {len(left)}", width="content")
            st.button(
                f"See all {len(left)}",
                key="all_findings",
                type="tertiary",
                icon=":material/fact_check:",
                on_click=_turn_to,
                args=(AUDIT,),
            )
    for place, finding in zip(st.columns(len(shown), gap="medium"), shown, strict=True):
        with place, st.container(border=True, height="stretch", gap="small"):
            _card(catalog, finding)


def panel(catalog: Catalog, work: Job | None, out: set[str]) -> None:
    """Draw the Audit tab: all findings in a table, one of them open below it."""
    found = finished(work)
    if found is None:
        st.markdown("The audit has not finished yet; its findings will stand here.")
        return
    if not found.findings:
        notices.nothing(
            ":material/task_alt: Nothing amiss",
            "The checks found no twins, no leaks and no odd films. "
            + no_shortcut(found.summary["shortcuts"]),
        )
        _shortcuts(found)
        label_view.panel(catalog, found.findings)
    else:
        with st.container(key="bench-audit"):  # the style sheet puts them one below the other
            table, side = st.columns([1.5, 1], gap="large")
        with table:
            st.subheader("All findings", anchor=False)
            finding = _table(found.findings, out)
            _opened(catalog, finding, out)
        with side:
            label_view.panel(catalog, found.findings)
            _shortcuts(found)
    _excluded_list(catalog, out)


def by_title(found: Audit | None, out: set[str]) -> dict[str, Sequence[str]]:
    """Return the films of each finding by its title, for the gallery's filter."""
    if found is None:
        return {}
    named: dict[str, Sequence[str]] = {f.title: f.paths for f in found.findings if f.paths}
    return {**named, **({"Excluded films": sorted(out)} if out else {})}


def remarks_by_title(found: Audit | None) -> dict[str, dict[str, str]]:
    """Return what each finding says of single films, by its title and their paths."""
    return {finding.title: remarks(finding) for finding in found.findings} if found else {}


def twins(found: Audit | None) -> dict[str, list[str]]:
    """Return, for each film that has any, the other films that are one picture with it."""
    kinds = ("exact_twins", "near_twins")
    others: dict[str, list[str]] = {}
    for finding in found.findings if found else ():
        for group in finding.details["groups"] if finding.kind in kinds else ():
            for path in group:
                known = others.setdefault(path, [])
                known += [other for other in group if other != path and other not in known]
    return others


def _card(catalog: Catalog, finding: Finding) -> None:
    with st.container(gap="xsmall"):
        _badge(finding)
        st.subheader(finding.title, anchor=False)
    st.markdown(finding.sentence)
    if finding.paths:
        _strip(catalog, finding.paths[:4], f"card:{finding.kind}")
    st.caption(finding.advice)
    _buttons(catalog, finding, "card")


def _badge(finding: Finding) -> None:
    word = _GRAVITY[finding.severity].split(" ", 1)[1]
    st.badge(word.capitalize(), color=_COLOUR.get(finding.severity, "gray"))


def _buttons(catalog: Catalog, finding: Finding, place: str) -> None:
    """Offer what can be done about a finding; ``place`` names where the buttons stand."""
    key = f"{place}:{finding.kind}:{finding.title}"
    with st.container(horizontal=True, gap="small"):
        if finding.paths:
            st.button(
                f"Show {words.count(len(finding.paths), 'film')}",
                key=f"show:{key}",
                icon=":material/photo_library:",
                on_click=_show,
                args=(catalog, finding),
            )
        if finding.kind in _BY_CUTTING or finding.kind == "patients_unknown":
            st.button(
                "Cut anew by patient" if finding.kind in _BY_CUTTING else "Name the patients",
                key=f"cut:{key}",
                icon=":material/call_split:",
                on_click=_to_splits,
                args=(finding.kind in _BY_CUTTING,),
            )
        copies = to_exclude(finding, catalog.frame)
        if copies:
            st.button(
                f"Exclude {len(copies):,}",
                key=f"exclude:{key}",
                icon=":material/block:",
                help="Training leaves excluded films out and records it. No file is deleted, and "
                "the Audit tab takes them back."
                + (" Of each group the largest film stays." if finding.kind in _ONE_STAYS else ""),
                on_click=_exclude,
                args=(catalog, copies, finding.title),
            )
        if place == "card" and not finding.paths:
            st.button(
                "Show the figures",
                key=f"figures:{key}",
                icon=":material/bar_chart:",
                on_click=_open,
                args=(finding,),
            )


def _table(findings: Sequence[Finding], out: set[str]) -> Finding:
    """Draw the sortable table; return the finding that is open.

    That is the selected one, else the one that a card opened, else the gravest.
    """
    rows = pd.DataFrame(
        {
            "Severity": [_GRAVITY[f.severity] for f in findings],
            "Finding": [f.title for f in findings],
            "Films": [len(f.paths) or f.count for f in findings],
            "State": ["mended" if mended(f, out) else "open" for f in findings],
        }
    )
    opened, times = st.session_state.get(_OPEN, ("", 0))
    state = st.dataframe(
        rows,
        key=f"findings:{times}",  # what a card opens is not to be outdone by an old selection
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        column_config={
            "Finding": st.column_config.TextColumn(width="large"),
            "Films": st.column_config.NumberColumn(format="localized"),
        },
    )
    chosen = [row for row in state["selection"]["rows"] if row < len(findings)]
    if chosen:
        return findings[chosen[0]]
    return next((finding for finding in findings if finding.title == opened), findings[0])


def _opened(catalog: Catalog, finding: Finding, out: set[str]) -> None:
    with st.container(border=True, gap="small"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.subheader(finding.title, anchor=False, width="content")
            _badge(finding)
        st.markdown(f"{finding.sentence} {finding.advice}")
        _buttons(catalog, finding, "panel")
        _evidence(finding)
        _strip(catalog, finding.paths[:12], "panel", remarks=remarks(finding))
        left = len(set(finding.paths) & out)
        if left:
            st.caption(f"{words.count(left, 'film')} of it excluded.")


def remarks(finding: Finding) -> dict[str, str]:
    """Return what the audit says of single films of a finding, by their paths."""
    details = finding.details
    said = {path: str(view) for path, view in details.get("view", {}).items()}
    said |= {
        path: f"{words.percent(share)} frame" for path, share in details.get("frame", {}).items()
    }
    for row in details.get("suspects", ()):
        said[row["path"]] = f"looks {words.finding(row['expected'])}"
    return said


def _evidence(finding: Finding) -> None:
    """Show the figures of a finding where they say more than its films."""
    details = finding.details
    if "suspects" in details:
        label_view.ranking(details["suspects"])
    if "matrix" in details:
        st.table(pd.DataFrame(details["matrix"]), border="horizontal")
        st.caption("Patients with films in both parts; on the diagonal, in one.")
    if "by_class" in details:
        scores = pd.Series(details["by_class"], name="AUROC, one against the rest")
        st.table(scores.map(words.figure).to_frame(), border="horizontal")
    if "errors" in details:
        errors = list(details["errors"].items())
        st.dataframe(pd.DataFrame(errors, columns=["File", "Why"]), hide_index=True)


def no_shortcut(aurocs: Mapping[str, float]) -> str:
    """Return what was asked in vain about shortcuts, and what that leaves open.

    Args:
        aurocs: with which each feature alone predicts the class, as an audit's summary has them.
    """
    if not aurocs:
        return (
            "Whether size, file, exposure or border give the class away was not asked: that takes "
            "two classes of two patients each."
        )
    strongest = max(aurocs, key=lambda name: aurocs[name])
    return (
        "Size, proportions, file, exposure and border were each asked for the class without the "
        f"lungs: the best of them, {shortcuts.WORDS[strongest]}, tells the classes apart with "
        f"AUROC {words.figure(aurocs[strongest], 2)}, where 0.5 is chance. Other shortcuts were "
        "not looked for."
    )


def _shortcuts(found: Audit) -> None:
    scores = {
        _FEATURES.get(name, name): auroc for name, auroc in found.summary["shortcuts"].items()
    }
    if not scores:
        return
    st.subheader("What gives the class away", anchor=False)
    charts.show(
        figures.shortcuts(scores),
        key="shortcuts",
        alt="AUROC with which size, exposure and border alone predict the class",
    )
    st.caption(
        "How well each feature alone, without any lung, predicts the class on films it did not "
        "learn from (5-fold, grouped by patient). 0.5 is chance. What is far above it, a network "
        "can use in place of the disease."
    )


def _excluded_list(catalog: Catalog, out: set[str]) -> None:
    if not out:
        return
    entries = [entry for entry in exclusions.listed(catalog.root) if entry.path in out]
    with st.expander(f"{words.count(len(out), 'excluded film')}", icon=":material/block:"):
        st.caption("Training leaves them out and records it. No file was deleted.")
        table = exclusions.as_table(entries)[["path", "reason", "since"]]
        table.columns = ["File", "Why", "Since"]
        st.dataframe(table, hide_index=True)
        st.button(
            "Use them again", icon=":material/undo:", on_click=_include, args=(catalog, sorted(out))
        )


def _strip(
    catalog: Catalog, paths: Sequence[str], place: str, remarks: Mapping[str, str] | None = None
) -> None:
    """Show films side by side; with ``remarks`` class, patient and what there is to say below."""
    rows = catalog.frame[catalog.frame["path"].isin(paths)].set_index("path", drop=False)
    shown = rows.loc[[path for path in paths if path in rows.index]].to_dict("records")
    if not shown:
        return
    grid = (
        st.grid(4, min_column_width=36, gap="xsmall")
        if remarks is None
        else st.grid(min_column_width=120, gap="small")
    )
    with grid:
        for film in shown:
            said = None if remarks is None else remarks.get(film["path"], "")
            films.still(catalog, film, place, remark=said)


def _ask(key: str) -> None:
    st.session_state[_ASKED] = key


def _open(finding: Finding) -> None:
    _, times = st.session_state.get(_OPEN, ("", 0))
    st.session_state[_OPEN] = (finding.title, times + 1)
    _turn_to(AUDIT)


def _turn_to(tab: str) -> None:
    st.session_state[TABS] = tab


def _to_splits(anew: bool) -> None:
    if anew:
        splits_view.cut_anew()
    _turn_to(SPLITS)


def _show(catalog: Catalog, finding: Finding) -> None:
    films.filter_by(catalog, finding.title)
    _turn_to(FILMS)


def _exclude(catalog: Catalog, paths: Sequence[str], reason: str) -> None:
    try:
        added = exclusions.exclude(catalog, paths, reason)
    except DatasetError as error:
        st.toast(str(error))
        return
    st.toast(f"{words.count(added, 'film')} excluded from training. No file was deleted.")


def _include(catalog: Catalog, paths: Sequence[str]) -> None:
    try:
        back = exclusions.include(catalog, paths)
    except DatasetError as error:
        st.toast(str(error))
        return
    st.toast(f"{words.count(back, 'film')} in use again.")

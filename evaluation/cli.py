"""The commands `screening evaluate`, `screening audit` and `screening export-dbtex`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from screening.cli import one_sentence
from screening.errors import ConfigError

if TYPE_CHECKING:
    from evaluation.cohort import Cohort
    from evaluation.figure import Figure
    from evaluation.protocol import Protocol
    from evaluation.scores import Scores
    from evaluation.study import Evaluation

Track = Annotated[bool, typer.Option("--track/--no-track", help="Log to MLflow.")]
TrackingUri = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri",
        envvar="MLFLOW_TRACKING_URI",
        help="MLflow server or store. Default: SQLite and files in mlruns/.",
    ),
]
ScoresPath = Annotated[
    str,
    typer.Option(
        "--scores",
        metavar="[NAME=]PATH",
        help="Scores to judge: a folder that `screening score` wrote, or the exams.csv (or a folder with exams.csv, "
        "images.csv, regions.csv) of any other system; exam_id and score are enough. NAME is what reports call it.",
    ),
]
FollowUpFolder = Annotated[
    Path,
    typer.Option(
        "--followup",
        help="Folder with what became of the women: exams, diagnoses and followup, where there are any lesions, "
        "biopsies and weights, each as CSV or Parquet.",
    ),
]
ProtocolName = Annotated[
    str,
    typer.Option(
        "--protocol",
        help="What counts as a cancer, which exams are negative, where thresholds lie: the name of a bundled protocol "
        "(salim-2020, mckinney-2020-uk, …; a wrong name lists them) or a YAML file.",
    ),
]
Out = Annotated[
    Path, typer.Option("--out", help="Folder for the results; it is made, and earlier results in it replaced.")
]

_ERRORS = Console(stderr=True)


def join(app: typer.Typer) -> None:
    """Add this package's commands to the application."""
    app.command("evaluate")(evaluate_command)
    app.command("audit")(audit_command)
    app.command("export-dbtex")(export_dbtex_command)


def evaluate_command(
    scores: ScoresPath,
    followup: FollowUpFolder,
    protocol: ProtocolName,
    out: Out,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            "--compare",
            metavar="[NAME=]PATH",
            help="Scores of another system on the same women, for paired differences; may be given several times.",
        ),
    ] = None,
    track: Track = True,
    tracking_uri: TrackingUri = None,
) -> None:
    """Compare scores with what became of the women: figures with intervals, curves and a report.

    Under --out: report.html (to read), figures.csv (every figure), exams.csv (every exam with its outcome, or why it
    is not analysed), flow.csv (the counts) and notes.txt (rows of the tables to know about). The same goes to MLflow
    as a run, where runs can be compared.

    Every exam of both sources is accounted for, and a figure that cannot be computed says why.

    Exit code 0: evaluated. 2: wrong use, or tables that cannot be trusted; the message names their rows.
    """
    with one_sentence():
        from evaluation.protocol import load_protocol

        rules = load_protocol(protocol)
        if rules.outcome is None:
            _evaluate_boxes(scores, followup, rules, out, compare or [], track, tracking_uri)
        else:
            _evaluate_exams(scores, followup, rules, out, compare or [], track, tracking_uri)


def _evaluate_exams(
    scores: str, followup: Path, protocol: Protocol, out: Path, compare: Sequence[str], track: bool, uri: str | None
) -> None:
    from evaluation.export import write_tables
    from evaluation.figures import evaluate
    from evaluation.manifest import manifest
    from evaluation.report.page import draw_pictures, write_report

    cohort, *others = _cohorts([scores, *compare], followup, protocol)
    with _step("Resampling women"):
        evaluation = evaluate(cohort, others)
    with _step("Writing the report"):
        data = manifest(cohort, [other.scores for other in others], followup)
        tables = write_tables(evaluation, out)
        pictures = draw_pictures(evaluation)
        report = write_report(evaluation, pictures, data, out)
    print_figures(evaluation)
    typer.echo(f"Report: {report}")
    if track:
        with _step("Logging to MLflow"):
            from evaluation.tracking import log_results

            log_results(
                f"{cohort.scores.name} {protocol.name}",
                protocol,
                data,
                (*evaluation.figures, *evaluation.comparisons),
                (*tables, report),
                {one.name: one.drawing for one in pictures if one.drawing is not None},
                uri,
            )


def _evaluate_boxes(
    scores: str, followup: Path, protocol: Protocol, out: Path, compare: Sequence[str], track: bool, uri: str | None
) -> None:
    """Boxes in volumes: of a folder of tables as for exams, or of the challenge's own files (see `_challenge`)."""
    from evaluation.export import write_figures
    from evaluation.report.page import write_box_report

    if compare:
        raise ConfigError(f"the protocol {protocol.name} judges boxes of one system; leave --compare out")
    of = _own_boxes if named_path(scores)[1].is_dir() else _challenge
    figures, data = of(scores, followup, protocol)
    with _step("Writing the report"):
        table = write_figures(figures, out)
        report = write_box_report(figures, protocol, data, out)
    _print(figure_table(figures, f"{data['systems'][0]['name']} under {protocol.name}"))
    typer.echo(f"Report: {report}")
    if track:
        with _step("Logging to MLflow"):
            from evaluation.tracking import log_results

            run = f"{data['systems'][0]['name']} {protocol.name}"
            log_results(run, protocol, data, figures, (table, report), uri=uri)


def _own_boxes(scores: str, followup: Path, protocol: Protocol) -> tuple[tuple[Figure, ...], dict[str, Any]]:
    """Figures of our own tables (regions, and the follow-up's lesions), key frames included, and their manifest."""
    from evaluation.dbtex import dbtex_figures
    from evaluation.dbtex_tables import dbtex_set
    from evaluation.frames_to_view import reading_aid_figures
    from evaluation.manifest import table_manifest
    from evaluation.tables import load_followup

    with _step("Reading scores"):
        system = _load_scores(scores)
    with _step("Reading follow-up"):
        tables = load_followup(followup)
    with _step("Resampling women"):
        rules, uncertainty = protocol.localisation, protocol.uncertainty
        found = dbtex_set(system, tables)
        figures = dbtex_figures(found, uncertainty, fp_rates=rules.fp_rates, floor_px=rules.floor_px)
        aid = reading_aid_figures(system, tables, uncertainty)
    return (*figures, *aid), table_manifest([system], tables, followup)


def _challenge(scores: str, followup: Path, protocol: Protocol) -> tuple[tuple[Figure, ...], dict[str, Any]]:
    """The same of a challenge: predictions in one CSV file, boxes.csv and where there is any labels.csv."""
    from evaluation.dbtex import dbtex_figures
    from evaluation.dbtex_tables import load_dbtex
    from evaluation.manifest import box_manifest

    name, predictions = named_path(scores)
    boxes, labels = followup / "boxes.csv", followup / "labels.csv"
    with _step("Reading boxes"):
        found = load_dbtex(predictions, boxes, labels if labels.is_file() else None)
    with _step("Resampling women"):
        rules = protocol.localisation
        figures = dbtex_figures(found, protocol.uncertainty, fp_rates=rules.fp_rates, floor_px=rules.floor_px)
    files = {boxes: len(found.boxes)} | ({labels: len(found.woman)} if labels.is_file() else {})
    return figures, box_manifest(name or predictions.stem, predictions, len(found.predictions), files)


def _cohorts(sources: Sequence[str], followup: Path, protocol: Protocol) -> list[Cohort]:
    """The follow-up joined with each of the systems, the first of which is judged."""
    from evaluation.cohort import join as join_tables
    from evaluation.tables import load_followup

    with _step("Reading scores"):
        systems = [_load_scores(source) for source in sources]
    names = [system.name for system in systems]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two systems are called {name!r}; name them: --scores NAME=PATH, --compare NAME=PATH")
    with _step("Reading follow-up"):
        tables = load_followup(followup)
    with _step("Joining scores and follow-up"):
        return [join_tables(system, tables, protocol) for system in systems]


def _load_scores(source: str) -> Scores:
    from evaluation.scores import load_scores

    name, path = named_path(source)
    return load_scores(path, name)


def named_path(source: str) -> tuple[str | None, Path]:
    """Split [NAME=]PATH; a path that exists as it stands has no name."""
    name, separator, path = source.partition("=")
    if separator and name and path and not Path(source).exists():
        return name, Path(path)
    return None, Path(source)


def audit_command(
    scores: ScoresPath,
    followup: FollowUpFolder,
    out: Out,
    protocol: ProtocolName = "missed-cancers",
    form: Annotated[
        Path | None,
        typer.Option("--form", help="The form.csv of an earlier audit of the same scores, filled in by two readers."),
    ] = None,
    track: Track = True,
    tracking_uri: TrackingUri = None,
) -> None:
    """Find the exams that were read negative before a cancer, and which of them the model would have flagged.

    Under --out: report.html (each candidate beside the exam or diagnosis at which the cancer was found), audit.csv
    (every missed exam at every operating point), candidates.csv (the regions to look at), form.csv (for two readers to
    judge them and agree) and figures.csv. With the form filled in, --form gives the figures again by what they saw.
    Pictures are shown where --scores is a folder that `screening score` wrote.

    Exit code 0: audited. 2: wrong use, or tables that cannot be trusted; the message names their rows.
    """
    with one_sentence():
        from evaluation.audit import audit
        from evaluation.manifest import manifest
        from evaluation.protocol import load_protocol
        from evaluation.report.audit_page import write_audit

        rules = load_protocol(protocol)
        (cohort,) = _cohorts([scores], followup, rules)
        with _step("Looking for missed cancers"):
            found = audit(cohort, form)
        with _step("Writing the report"):
            data = manifest(cohort, (), followup)
            results = named_path(scores)[1]
            files = write_audit(found, data, out, results if results.is_dir() else None)
        whole = [one for one in found.figures if one.subgroup == "all"]
        _print(figure_table(whole, f"Audit of {cohort.scores.name} under {rules.name}"))
        typer.echo(f"Report: {out / 'report.html'}")
        if track:
            with _step("Logging to MLflow"):
                from evaluation.tracking import log_results

                log_results(
                    f"audit {cohort.scores.name} {rules.name}", rules, data, found.figures, files, uri=tracking_uri
                )


def export_dbtex_command(
    results: Annotated[Path, typer.Argument(help="Folder that `screening score` wrote.")],
    out: Annotated[Path, typer.Option("--out", help="CSV file to write, as the DBTex challenge's scorer takes it.")],
    file_paths: Annotated[
        Path | None,
        typer.Option(
            "--file-paths",
            help="BCS-DBT-file-paths-SPLIT.csv, which says what the challenge calls each volume. Default: its "
            "PatientID, exam id, side and view.",
        ),
    ] = None,
) -> None:
    """Write the regions in tomosynthesis volumes in the columns and coordinates of the DBTex challenge.

    Research only: not a medical device, not for clinical use.
    """
    from evaluation.dbtex_export import export_dbtex

    with one_sentence():
        written = export_dbtex(results, out, file_paths)
    left_out = f"; {written.unlisted} volumes are not in the list and were left out" if written.unlisted else ""
    Console().print(
        f"{written.predictions} predictions of {written.volumes} volumes: {out}{left_out}", soft_wrap=True, markup=False
    )


def print_figures(evaluation: Evaluation) -> None:
    """Print the headline figures; all of them are in figures.csv and the report."""
    from evaluation.report.captions import counted
    from evaluation.report.tables import headline

    cohort = evaluation.cohort
    title = f"{cohort.scores.name} under {cohort.protocol.name}: {counted(cohort)}"
    tables = [figure_table(headline(evaluation.figures), title)]
    if evaluation.comparisons:
        tables.append(figure_table(evaluation.comparisons, f"{cohort.scores.name} minus the other system, paired"))
    _print(*tables)


def _print(*tables: Table) -> None:
    from evaluation.report.pages import NOTICE

    console = Console()
    # Into a file or a pipe the table keeps its lines whole.
    console = console if console.is_terminal else Console(width=160)
    for table in tables:
        console.print(table)
    console.print(NOTICE)


def figure_table(figures: Sequence[Figure], title: str) -> Table:
    """Figures as a table for the terminal."""
    from evaluation.report.pages import limits_text, threshold_text, value_text

    table = Table(title=escape(title), title_justify="left")
    for column, justify in (("figure", "left"), ("value", "right"), ("interval", "right"), ("threshold", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]  # rich wants literals
    table.add_column("to know")
    group = figures[0].group if figures else ""
    for one in figures:
        if one.group != group:
            table.add_section()
            group = one.group
        label = one.label if one.subgroup == "all" else f"{one.label} ({one.subgroup})"
        texts = (
            label[:1].upper() + label[1:],
            value_text(one),
            limits_text(one),
            threshold_text(one),
            one.reason or one.warning,
        )
        table.add_row(*(escape(text) for text in texts))
    return table


@contextmanager
def _step(name: str) -> Iterator[None]:
    """Show on a terminal what takes its time."""
    with _ERRORS.status(name):
        yield

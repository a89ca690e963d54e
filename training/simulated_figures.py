"""`python -m training.simulated_figures`: how good a bundle is on simulated women, by 2D and by tomosynthesis.

The women come from `screening simulate --modality both`, with a seed that the bundle was not trained on. The figures
are those of `evaluation`; nothing is measured in another way here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evaluation.audit import audit
from evaluation.audit_figures import DETECTED, SEEN_GROUP
from evaluation.cohort import join
from evaluation.comparison import common, compare
from evaluation.dbtex import FLOOR_PX, dbtex_figures
from evaluation.dbtex_tables import CHALLENGE_PIXEL_MM, dbtex_set, floor_px
from evaluation.draft import settle
from evaluation.export import write_figures
from evaluation.figure import Figure
from evaluation.figures import auc
from evaluation.frames_to_view import reading_aid_figures
from evaluation.inputs import Inputs
from evaluation.protocol import load_protocol
from evaluation.report.pages import limits_text, value_text
from evaluation.scores import Scores, load_scores
from evaluation.tables import FollowUp, load_followup
from screening.cli import one_sentence, progress_bar
from screening.errors import ConfigError
from training.datasets.simulated import read_simulated
from training.export import SIMULATED
from training.pages import put_block
from training.slab_networks.bundle import SLABS

if TYPE_CHECKING:
    from screening.model.bundle import Bundle

BLOCK = "simulated"
EXAMS, MISSED, BOXES = "elhakim-2023", "missed-cancers", "dbtex"
"""Protocols: of exams (cancers detected or surfacing within two years), of missed cancers, and of boxes in volumes."""

AT = "1-fp-per-image"


@dataclass(frozen=True)
class Row:
    """A figure and what is asked of it: `at_least`, a value for its point, or for its interval's lower limit where
    `by_interval`; `at_most` likewise. `aim` in words.
    """

    figure: Figure
    title: str
    at_least: float | None = None
    at_most: float | None = None
    by_interval: bool = False
    aim: str = ""

    @property
    def passed(self) -> bool | None:
        """Whether what is asked is met; None where nothing is asked. A figure without value meets nothing."""
        if self.at_least is None and self.at_most is None:
            return None
        made = self.figure.interval
        if made is None:
            return False
        if self.at_least is not None:
            return (made.low > self.at_least) if self.by_interval else made.point >= self.at_least
        return made.point < (self.at_most or 0.0)

    @property
    def verdict(self) -> str:
        """`passed` in words; a figure without value was not measured, whatever is asked."""
        if self.passed is None:
            return ""
        return "passed" if self.passed else "missed" if self.figure.interval else "not measured"

    @property
    def asked(self) -> str:
        """The demand in words."""
        if self.at_least is not None:
            demand = f"interval above {self.at_least:g}" if self.by_interval else f"≥ {self.at_least:.2f}"
        else:
            demand = "" if self.at_most is None else f"< {self.at_most:.2f}"
        return ", ".join(part for part in (demand, self.aim) if part)


def measure(arms: Mapping[str, Scores], followup: FollowUp) -> list[Row]:
    """Every figure of women scored by 2D and by DBT alone (`arms`, by these names), in the order of print.

    Errors are those of the tables (`evaluation`); a figure without value has its reason.
    """
    flat, volumes = arms["2D"], arms["DBT"]
    return [
        *_boxes(volumes, followup),
        *_exam_aucs(flat, volumes, followup),
        *(row for arm in (flat, volumes) for row in _missed(arm, followup)),
        *_frames(volumes, followup),
    ]


def _boxes(volumes: Scores, followup: FollowUp) -> Iterator[Row]:
    """The challenge's primary figure, without and with cancers that were missed, and by its reach in pixels."""
    reach_px, found = floor_px(volumes), found_then(followup)
    yield Row(
        _primary(volumes, found, reach_px),
        f"DBTex primary figure: mean sensitivity at 1, 2, 3, 4 false positives per volume, within "
        f"{FLOOR_PX * CHALLENGE_PIXEL_MM:g} mm or half the box's diagonal, lesions found at the exam",
        at_least=0.75,
        aim="aim ≥ 0.95",
    )
    yield Row(_primary(volumes, followup, reach_px), "the same, with the cancers that readers missed")
    if reach_px < FLOOR_PX:
        yield Row(
            _primary(volumes, found, FLOOR_PX),
            f"the same, lesions found at the exam, within the challenge's {FLOOR_PX:g} pixels, which here are "
            f"{FLOOR_PX * FLOOR_PX * CHALLENGE_PIXEL_MM / reach_px:.0f} mm",
        )


def _primary(volumes: Scores, followup: FollowUp, reach_px: float) -> Figure:
    protocol = load_protocol(BOXES)
    return dbtex_figures(dbtex_set(volumes, followup), protocol.uncertainty, floor_px=reach_px)[0]


def found_then(followup: FollowUp) -> FollowUp:
    """The follow-up with those lesions only that the readers of their exam found: the challenge's boxes are of lesions
    that were biopsied for what the exam showed. On exams that missed a cancer, the table says how visible it was.
    """
    lesions = followup.lesions
    return followup if lesions is None else replace(followup, lesions=lesions[lesions["visible"].fillna("") == ""])


def _exam_aucs(flat: Scores, volumes: Scores, followup: FollowUp) -> Iterator[Row]:
    """AUC of exams by either, on the exams that both scored, and the paired difference."""
    protocol = load_protocol(EXAMS)
    first, second = (join(one, followup, protocol) for one in (volumes, flat))
    pair = common(first, second)
    yield Row(_auc(pair.first), "AUC of exams by DBT")
    yield Row(_auc(pair.second), "AUC of exams by 2D, same exams")
    (difference,) = (one for one in compare(first, second) if one.key == "auc-difference")
    yield Row(difference, "AUC of exams, DBT minus 2D (paired)", at_least=0.0, by_interval=True)


def _auc(inputs: Inputs) -> Figure:
    (figure,) = settle(auc(inputs), inputs.cases, inputs.protocol.uncertainty)
    return figure


def _missed(arm: Scores, followup: FollowUp) -> Iterator[Row]:
    """Exams that readers passed though the cancer on them was visible: how many the model marks in place."""
    found = audit(join(arm, followup, load_protocol(MISSED)))
    key = f"{DETECTED}@{AT}"
    nothing = Figure(key, "", "audit", None, 0, 0, "no exams", "Readers passed no exam on which a cancer was visible.")
    figure = next((one for one in found.figures if one.key == key and one.subgroup == SEEN_GROUP), nothing)
    of = "volume" if arm.name == "DBT" else "image"
    yield Row(
        figure,
        f"exams that readers passed though their cancer was visible, found in place by {arm.name} at 1 false positive "
        f"per {of}",
        at_least=0.7,
    )


def _frames(volumes: Scores, followup: FollowUp) -> Iterator[Row]:
    uncertainty = load_protocol(BOXES).uncertainty
    title = "share of a volume's frames to view until every lesion that the model hits has been seen"
    for one in reading_aid_figures(volumes, followup, uncertainty):
        yield Row(one, title, at_most=0.1)


def document(rows: Sequence[Row], simulated: Mapping[str, Any], bundle: Bundle, commands: Iterable[str]) -> str:
    """The figures as Markdown; `simulated`: what `simulation.json` says of the programme."""
    learned = "other women of the same simulator" if learned_from_simulated(bundle) else "no simulated women"
    programme = simulated["programme"]
    share = programme.get("cancer_share")
    enriched = f", of whom {share:.0%} were given a cancer, which weights undo in figures of exams" if share else ""
    missed = [row for row in rows if row.passed is False]
    return "\n".join(
        [
            "## Simulated women",
            "",
            f"**None of these women exists.** {programme['women']:,} women were simulated (seed {programme['seed']}, "
            f"{programme['rounds']} round{'s' if programme['rounds'] > 1 else ''}, voxels of "
            f"{programme['pixel_mm']:g} mm{enriched}). The model learned from {learned}. The figures prove that the "
            "pipeline does what it should; they say little of real women. Intervals: 95 %, percentile bootstrap over "
            "women unless said otherwise.",
            "",
            "| figure | measured on | value | 95 % interval | asked for |  |",
            "| --- | --- | --- | --- | --- | --- |",
            *(_line(row) for row in rows),
            "",
            *([f"- {row.verdict.capitalize()}: {row.title}." for row in missed] or ["Everything asked for is met."]),
            "",
            "Volumes and 2D images are of the same compressions; each exam was scored twice, by one kind alone, as the "
            f"bundle reads it. {_readers(bundle)} The "
            "cancers of an exam are those detected at it or surfacing within two years. Boxes are of diagnosed cancers "
            "and biopsied benign lesions; places in volumes of passed exams are judged in the plane. Thresholds for 1 "
            "false positive are those of the same women.",
            "",
            f"Model `{bundle.model_id}`. Again:",
            "",
            "```",
            *commands,
            "```",
        ]
    )


def _readers(bundle: Bundle) -> str:
    """What has to be known of who reads what, before kinds of image are compared."""
    if bundle.slabs is None:
        return "The networks for 2D images read the slabs of volumes, too."
    return (
        "Volumes are read by networks of their own, which learned from simulated women alone; the networks for 2D "
        "images learned mostly from real ones. So the difference between the kinds is one of networks, too."
    )


def _line(row: Row) -> str:
    one = row.figure
    told = "; ".join(part for part in (one.denominator, one.reason, one.warning) if part)
    cells = (row.title, told, value_text(one), limits_text(one), row.asked, row.verdict)
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def read_simulation(folder: Path) -> dict[str, Any]:
    """What `screening simulate` says of a folder. Raises `ConfigError` where it holds no finished simulation."""
    try:
        content = json.loads((folder / "simulation.json").read_bytes())
        programme = content["programme"]
        for name in ("women", "seed", "rounds", "pixel_mm"):
            programme[name]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{folder} holds no simulation: simulation.json is missing or damaged") from error
    if not (folder / "followup").is_dir():
        raise ConfigError(f"the simulation in {folder} is not finished; run the same `screening simulate` again")
    return dict(content)


def learned_from_simulated(bundle: Bundle) -> bool:
    """Whether the bundle's card names simulated women among its training data."""
    names = (SIMULATED, SLABS.format(name=SIMULATED))
    return any(data.name in names for data in bundle.card.training_data)


def check_unseen(followup: FollowUp, bundle: Bundle, trained_on: Sequence[Path]) -> None:
    """Raises `ConfigError` where a woman is also in a simulation that the model learned from, or nobody says which."""
    if learned_from_simulated(bundle) and not trained_on:
        raise ConfigError("the model learned from simulated women; name their folders by --trained-on")
    women = set(followup.exams["woman_id"])
    for folder in trained_on:
        seen = women & {record.woman for record in read_simulated(folder)}
        if seen:
            raise ConfigError(f"{len(seen):,} of the women are in {folder}, which the model learned from as well")


def main(
    simulated: Annotated[Path, typer.Option("--simulated", help="Folder of `screening simulate --modality both`.")],
    scores: Annotated[
        Path, typer.Option("--scores", help="Folder for the results, in 2D/ and DBT/; those that are there are kept.")
    ],
    model: Annotated[str | None, typer.Option("--model", help="Bundle. Default: the one in the package.")] = None,
    trained_on: Annotated[
        list[Path] | None, typer.Option("--trained-on", help="Simulation that the model learned from.")
    ] = None,
    docs: Annotated[Path, typer.Option("--docs", help="Page for the figures.")] = Path("docs/accuracy.md"),
) -> None:
    """Score simulated women by 2D and by tomosynthesis, print the figures and put them into a document."""
    from evaluation.cli import figure_table
    from screening.batch.events import OnProgress
    from screening.model.bundle import load_bundle
    from training.simulated_scores import ARMS, score_arm

    with one_sentence():
        simulation = read_simulation(simulated)
        followup = load_followup(simulated / "followup")
        bundle = load_bundle(model)
        check_unseen(followup, bundle, trained_on or [])
        for arm in ARMS:
            with progress_bar(f"Scoring by {arm}") as bar:
                score_arm(arm, simulated / "dicom", bundle, scores / arm, observers=(OnProgress(bar),))
        results = {arm: load_scores(scores / arm, arm) for arm in ARMS}
        rows = measure(results, followup)
        figures = [replace(row.figure, label=row.title, group="simulated women") for row in rows]
        write_figures(figures, scores)
        put_block(
            docs,
            BLOCK,
            document(rows, simulation, bundle, _commands(simulation["programme"], learned_from_simulated(bundle))),
        )
        _print(figure_table(figures, "On simulated women"))


def _print(table: Any) -> None:
    from rich.console import Console

    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)


def _commands(programme: Mapping[str, Any], learned: bool) -> Iterator[str]:
    share = programme.get("cancer_share")
    yield (
        f"screening simulate --out out/simulated --women {programme['women']} --rounds {programme['rounds']} --seed "
        f"{programme['seed']} --modality both --pixel-mm {programme['pixel_mm']:g}"
        f"{f' --cancer-share {share:g}' if share else ''}"
    )
    folders = ("simulated", "simulated-lesions", "simulated-calibration") if learned else ()
    trained_on = "".join(f" --trained-on out/data/{folder}" for folder in folders)
    yield f"python -m training.simulated_figures --simulated out/simulated --scores out/simulated-scores{trained_on}"


if __name__ == "__main__":
    typer.run(main)

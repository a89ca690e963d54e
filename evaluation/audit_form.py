"""The form on which two radiologists judge missed exams and the model's marks on them, and what they say together.

A line of the form is one region of one exam (or an exam without regions). The form says nothing of scores, ranks,
outcomes or sides, and its exams stand in an order that follows from nothing but their identifiers. Each reader says
how visible the cancer was on the exam (Lång et al., Eur Radiol 2021;31:5940: true negative, minimal signs, false
negative; European guidelines, 4th ed., chapter 1), once an exam or on each of its lines, and for each region whether
it is at the place where the cancer was found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluation.missed import LESIONS, Missed
from evaluation.tables import Problem, TableError

VISIBLE_AS = {"true_negative": "occult", "minimal_signs": "minimal_sign", "false_negative": "false_negative"}
"""The form's classes, from the least to the most visible, and the words that lesion tables use for them."""

REGION_COLUMNS = ("image_id", "laterality", "view", "x", "y", "width", "height", "frame_first", "frame_last")
READERS = ("reader1", "reader2", "consensus")
_KEYS = ("exam_id", "region_id")
_PLACE = {"yes": 1.0, "no": 0.0}
FORM_COLUMNS = (*_KEYS, *REGION_COLUMNS, *(f"{who}{part}" for who in READERS for part in ("", "_right_place")))


class FormError(TableError):
    """A filled-in form cannot be trusted as it is; `problems` names every line, the message the first ones."""


@dataclass(frozen=True, eq=False)
class Readings:
    """A form as it was filled in.

    `lines`: one row a line of the form: exam_id, region_id, and for each of `READERS` a class as text (the exam's, ""
    for not said) and `…_right_place` (1, 0, NaN for not said). `consensus`: the exams that are judged to the end: one
    row a line with exam_id, region_id, `visible` (in the words of lesion tables) and `right_place` (1, 0; NaN without
    region). `n_exams`, `n_judged`: exams on the form, and of these judged to the end.
    """

    lines: pd.DataFrame
    consensus: pd.DataFrame
    n_exams: int
    n_judged: int


def blank_form(missed: Missed, lowest: float) -> pd.DataFrame:
    """The form for the missed exams that no lesion truth describes in full; columns `FORM_COLUMNS`, the last six empty.

    `lowest`: the lowest threshold on regions of the audit; regions below it are not asked for.
    """
    exams, regions = missed.exams, missed.regions
    unplaced = np.isin(np.arange(len(exams)), regions["row"]) & (exams["judged_by"] != LESIONS).to_numpy()
    asked = missed.included & ((exams["visible"] == "").to_numpy() | unplaced)
    shown = regions[asked[regions["row"].to_numpy(dtype=np.int64)] & (regions["score"] >= lowest).to_numpy()]
    lines = shown.reindex(columns=[*_KEYS, *REGION_COLUMNS])
    bare = exams.loc[asked & ~exams["exam_id"].isin(lines["exam_id"]).to_numpy(), "exam_id"]
    form = pd.concat([lines, pd.DataFrame({"exam_id": bare, "region_id": ""})]).reindex(columns=list(FORM_COLUMNS))
    # By place, not by score: the order of lines must not tell readers what the model thinks.
    order = form["exam_id"].map(_scrambled)
    form = form.assign(order=order).sort_values(["order", "image_id", "y", "x"], kind="stable", ignore_index=True)
    blank: pd.DataFrame = form[list(FORM_COLUMNS)].astype(object).fillna("")
    return blank


def form_text(form: pd.DataFrame) -> str:
    """A form as CSV for a spreadsheet: identifiers that it would take for a formula get an apostrophe in front."""
    keys = {key: form[key].astype(str).str.replace(r"^(?=[=+\-@\t'])", "'", regex=True) for key in (*_KEYS, "image_id")}
    return form.assign(**keys).to_csv(index=False)


def read_form(path: Path, missed: Missed, lowest: float) -> Readings:
    """Read a filled-in form of the missed exams; `lowest` as for `blank_form`.

    Separators are commas or semicolons. A class is one of `VISIBLE_AS` and may stand on any line of its exam; a place
    is `yes` or `no`. What both readers say alike is their consensus; where they differ, the consensus column decides.
    Exams without a class, or with a region asked for that nobody placed, are not judged yet. Raises `FormError` that
    names every line with a value that is none of these, or that is there twice, unknown, or contradicts its exam's
    other lines.
    """
    table = _read(path)
    errors: list[Problem] = []
    lines = pd.DataFrame({key: table[key].str.removeprefix("'") for key in _KEYS})
    _check_keys(lines, missed, path.name, errors)
    for who in READERS:
        lines[who] = _parsed(table[who], VISIBLE_AS, path.name, errors)
        place = _parsed(table[f"{who}_right_place"], _PLACE, path.name, errors)
        lines[f"{who}_right_place"] = place.map(_PLACE).astype(np.float64)
        nowhere = (lines["region_id"] == "") & (place == "yes")
        _add(errors, path.name, lines.index[nowhere], f"{who}_right_place is yes on a line without a region")
        said = lines.loc[lines[who] != "", ["exam_id", who]]
        other = said.groupby("exam_id")[who].transform("first") != said[who]
        _add(errors, path.name, said.index[other], f"{who} contradicts an earlier line of the same exam")
    if errors:
        ordered = tuple(sorted(errors, key=lambda problem: problem.line))
        raise FormError(f"The form has {len(errors)} errors in its lines:", ordered)
    for who in READERS:
        of_exam = lines.loc[lines[who] != ""].drop_duplicates("exam_id").set_index("exam_id")[who]
        lines[who] = of_exam.reindex(lines["exam_id"]).fillna("").to_numpy()
    consensus = _consensus(lines, blank_form(missed, lowest))
    return Readings(lines, consensus, lines["exam_id"].nunique(), consensus["exam_id"].nunique())


def rating(classes: Iterable[str]) -> npt.NDArray[np.int64]:
    """Classes as numbers for a kappa: 0 for a true negative, 1 for minimal signs, 2 for a false negative."""
    return np.array([list(VISIBLE_AS).index(one) for one in classes], dtype=np.int64)


def holds_answers(path: Path) -> bool:
    """Whether a form that is there holds anything that readers wrote, or cannot be read and so might."""
    try:
        answers = _read(path)[[column for column in FORM_COLUMNS if column.startswith(READERS)]]
    except FormError:
        return True
    return bool((answers != "").any(axis=None))


def _scrambled(exam_id: str) -> str:
    return hashlib.sha256(exam_id.encode("utf-8", "surrogateescape")).hexdigest()


def _read(path: Path) -> pd.DataFrame:
    """The form as text, "" for empty; the index is the line in the file."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            header = file.readline()
        separator = ";" if header.count(";") > header.count(",") else ","
        table = pd.read_csv(
            path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig", skip_blank_lines=False
        )
    except (OSError, ValueError) as error:
        raise FormError(f"The form {path} cannot be read: {' '.join(str(error).split())}") from error
    lacking = [column for column in FORM_COLUMNS if column not in table and column not in REGION_COLUMNS]
    if lacking:
        raise FormError(f"The form {path.name} lacks the column {', '.join(lacking)}.")
    lines = pd.RangeIndex(2, len(table) + 2)
    text = pd.DataFrame({name: table[name].fillna("").str.strip() for name in table}).set_axis(lines)
    return text[(text != "").any(axis=1).to_numpy(dtype=np.bool_)]


def _check_keys(lines: pd.DataFrame, missed: Missed, file: str, errors: list[Problem]) -> None:
    """Exams and regions must be those of the results, though not only those that this audit asks for."""
    unknown_exam = ~lines["exam_id"].isin(missed.exams["exam_id"])
    _add(errors, file, lines.index[unknown_exam], "the exam is none of the missed exams of this audit")
    known = pd.MultiIndex.from_frame(missed.regions[list(_KEYS)].astype(str))
    foreign = ~pd.MultiIndex.from_frame(lines).isin(known) & (lines["region_id"] != "") & ~unknown_exam
    sentence = "the exam has no such region in these results; was the form made from other results?"
    _add(errors, file, lines.index[foreign], sentence)
    _add(errors, file, lines.index[lines.duplicated()], "the same exam and region stand there twice")


def _parsed(given: pd.Series, allowed: Iterable[str], file: str, errors: list[Problem]) -> pd.Series:
    """Answers in the form's own words; what is none of them is added to `errors`."""
    words = given.str.lower().str.replace(r"[\s-]+", "_", regex=True)
    bad = ~words.isin(["", *allowed])
    errors.extend(
        Problem(file, line, f"{given.name} {given.at[line]!r} is none of {', '.join(allowed)}")
        for line in given.index[bad]
    )
    return words.where(~bad, "")


def _add(errors: list[Problem], file: str, lines: Iterable[int], sentence: str) -> None:
    errors.extend(Problem(file, line, sentence) for line in lines)


def _consensus(lines: pd.DataFrame, blank: pd.DataFrame) -> pd.DataFrame:
    """The lines of the exams that are judged to the end."""
    agreed = lines["reader1"].where(lines["reader1"] == lines["reader2"], "")
    visible = lines["consensus"].where(lines["consensus"] != "", agreed)
    first, second = lines["reader1_right_place"], lines["reader2_right_place"]
    place = lines["consensus_right_place"].fillna(first.where(first == second))
    told = lines[list(_KEYS)].assign(visible=visible.map(VISIBLE_AS).fillna(""), right_place=place)
    open_lines = (told["visible"] == "") | ((told["region_id"] != "") & told["right_place"].isna())
    unjudged = set(told.loc[open_lines, "exam_id"])
    asked = pd.MultiIndex.from_frame(blank.loc[blank["region_id"] != "", list(_KEYS)].astype(str))
    lost = asked.difference(pd.MultiIndex.from_frame(told[list(_KEYS)]))
    unjudged |= set(lost.get_level_values(0))
    return told[~told["exam_id"].isin(unjudged)]

"""Tables under pseudonyms: nothing but known columns and known words, and the same figures."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer import Typer
from typer.testing import CliRunner

from evaluation.cli import join
from evaluation.protocol import load_protocol
from evaluation.tables import load_followup
from screening.errors import ConfigError
from screening.export.pseudonyms import Pseudonyms
from screening.export.run import Job, export
from screening.export.tables import FOLLOWUP_TABLES, RESULT_TABLES, export_table, maker
from screening.store import STORE_NAME, ResultStore
from tests.support.exports import KEY
from tests.support.programme import simulate

OURS = Pseudonyms(KEY)


def table(folder: Path, text: str, name: str = "diagnoses") -> str:
    path = folder / f"{name}.csv"
    path.write_text(text, encoding="utf-8")
    return export_table(path, FOLLOWUP_TABLES[name], OURS).content.decode()


def test_evaluation_of_the_exported_tables_gives_the_same_figures_as_of_the_originals(tmp_path: Path) -> None:
    programme = simulate(120, 2, 4, cancers_a_year=0.03)
    programme.write(tmp_path)
    results = tmp_path / "scores"
    for name, columns in RESULT_TABLES.items():
        if name not in programme.scores:
            (results / f"{name}.csv").write_text(",".join(columns) + "\n", encoding="utf-8")
    ResultStore(results / STORE_NAME).close()
    export(Job(results, tmp_path / "exported", tmp_path / "followup", images=False), OURS)
    content = load_protocol("salim-2020").model_dump(mode="json")
    content["uncertainty"]["replicates"] = 10
    protocol = tmp_path / "quick.yaml"
    protocol.write_text(yaml.safe_dump(content | {"name": "quick"}), encoding="utf-8")
    original = estimates(figures(results, tmp_path / "followup", protocol, tmp_path / "a"))
    exported = tmp_path / "exported"
    pseudonymised = estimates(figures(exported, exported / "followup", protocol, tmp_path / "b"))
    assert len(original) > 100
    facts = [column for column in original.columns if column != "point"]
    pd.testing.assert_frame_equal(original[facts], pseudonymised[facts])
    both = (original["point"] != "") & (pseudonymised["point"] != "")
    assert both.sum() > 100
    pd.testing.assert_series_equal(original["point"][both], pseudonymised["point"][both])


def figures(scores: Path, followup: Path, protocol: Path, out: Path) -> pd.DataFrame:
    app = Typer()
    join(app)
    arguments = ["evaluate", "--scores", f"ours={scores}", "--followup", followup, "--protocol", protocol, "--out", out]
    done = CliRunner().invoke(app, [str(one) for one in [*arguments, "--no-track"]])
    assert done.exit_code == 0, done.output
    return pd.read_csv(out / "figures.csv", keep_default_na=False, dtype=str)


def estimates(table: pd.DataFrame) -> pd.DataFrame:
    """What was counted and found, in an order of its own; groups of exams have other names in an export.

    Without what is drawn by chance, which follows the order or the names of the women: the bootstrap's limits (a figure
    with too few cases in its draws has no point) and the halves by women in which thresholds for biopsies are chosen.
    """
    columns = ["key", "label", "subgroup", "n", "n_positive", "denominator", "threshold", "benchmark", "point"]
    kept = table.loc[~table["key"].str.contains("biops"), columns]
    renamed = kept.replace(r"\b(site|maker)-[A-Z2-7]{8}\b|\bSite [A-Z]\b|\bMaker \d\b", "a group", regex=True)
    return renamed.sort_values(columns).reset_index(drop=True)


@given(rows=st.lists(st.tuples(st.sampled_from(["A", "B"]), st.dates(date(1950, 1, 1), date(2050, 1, 1))), min_size=2))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_intervals_between_rows_of_a_woman_are_kept_to_the_day(tmp_path: Path, rows: list[tuple[str, date]]) -> None:
    text = "woman_id,diagnosis_date,laterality,malignant\n" + "".join(f"{who},{day},L,1\n" for who, day in rows)
    lines = [line.split(",") for line in table(tmp_path, text).splitlines()[1:]]
    for who in ("A", "B"):
        moved = {day - date.fromisoformat(line[1]) for (one, day), line in zip(rows, lines, strict=True) if one == who}
        assert len(moved) <= 1


def test_parquet_and_csv_give_the_same_table(tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {
            "woman_id": ["A", "B"],
            "diagnosis_date": pd.to_datetime(["2020-01-02", "2021-03-04"]),
            "laterality": ["L", None],
            "malignant": [1, 0],
            "invasive": [1.0, None],
        }
    )
    rows.to_parquet(tmp_path / "diagnoses.parquet")
    text = "woman_id,diagnosis_date,laterality,malignant,invasive\nA,2020-01-02,L,1,1.0\nB,20210304,,0,\n"
    found = export_table(tmp_path / "diagnoses.parquet", FOLLOWUP_TABLES["diagnoses"], OURS).content.decode()
    assert found == table(tmp_path, text)


def test_columns_of_their_own_and_words_outside_the_vocabulary_stay_at_home_and_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "diagnoses.csv"
    path.write_text(
        "woman_id,diagnosis_date,laterality,malignant,detection,surgeon\n"
        "A,2020-01-02,L,1,screen,Dr Referrix\nB,2020-01-03,Erika's left,0,felt by Erika,\n,2020-01-04,L,0,,\n"
    )
    exported = export_table(path, FOLLOWUP_TABLES["diagnoses"], OURS)
    assert "Referrix" not in exported.content.decode()
    assert "Erika" not in exported.content.decode()
    assert exported.emptied == {"laterality": 1, "detection": 1, "diagnosis_date": 1}
    assert (exported.columns_left_out, exported.rows) == (1, 3)


@pytest.mark.parametrize(
    ("cells", "sentence"),
    [
        ("A,soon,L,1", "line 2: diagnosis_date is no date"),
        ("A,2020-02-30,L,1", "line 2: diagnosis_date is no date"),
        ("A,1901-01-01,L,1", "too early"),
        ("A,2020-01-02,L,Erika", "line 2: malignant is no number"),
        ("A,2020-01-02,L,1,more", "5 fields"),
    ],
)
def test_a_cell_that_cannot_be_exported_is_named_by_line_and_column_and_not_quoted(
    cells: str, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=sentence) as error:
        table(tmp_path, f"woman_id,diagnosis_date,laterality,malignant\n{cells}\n")
    assert "Erika" not in str(error.value)


def test_only_names_of_manufacturers_stay(tmp_path: Path) -> None:
    assert maker("Hologic, Inc.", OURS) == "Hologic, Inc."
    assert maker("GE MEDICAL SYSTEMS", OURS) == "GE MEDICAL SYSTEMS"
    for name in ("Erika Musterfrau", "Hologic of Ursula Hospital"):
        assert maker(name, OURS).startswith("maker-")
    assert maker("", OURS) == ""


def test_exported_follow_up_passes_the_same_checks_as_the_registrys(tmp_path: Path) -> None:
    programme = simulate(40, 2, 4)
    programme.write(tmp_path)
    (tmp_path / "out").mkdir()
    for name, columns in FOLLOWUP_TABLES.items():
        path = tmp_path / "followup" / f"{name}.csv"
        if path.exists():
            (tmp_path / "out" / f"{name}.csv").write_bytes(export_table(path, columns, OURS).content)
    before, after = load_followup(tmp_path / "followup"), load_followup(tmp_path / "out")
    assert len(before.notes) == len(after.notes)
    assert [len(before.exams), len(before.diagnoses)] == [len(after.exams), len(after.diagnoses)]

"""`screening evaluate` and `screening audit`, from tables on disk to results on disk."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import typer
import yaml
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner, Result

from evaluation.cli import join, named_path
from evaluation.protocol import bundled_protocols, load_protocol
from tests.support.programme import Programme, simulate

FILES = {"report.html", "figures.csv", "exams.csv", "flow.csv", "notes.txt"}


@dataclass(frozen=True)
class Tables:
    """A simulated programme on disk, a quick protocol, and the scores of a vendor that gives only the least."""

    programme: Programme
    scores: Path
    followup: Path
    protocol: Path
    vendor: Path

    def arguments(self, out: Path) -> list[str]:
        return [
            "evaluate", "--scores", f"ours={self.scores}", "--followup", str(self.followup),
            "--protocol", str(self.protocol), "--out", str(out), "--no-track",
        ]  # fmt: skip


def call(*arguments: str | Path) -> Result:
    app = typer.Typer()
    join(app)
    return CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    folder = tmp_path_factory.mktemp("programme")
    programme = simulate(200, 2, 4, cancers_a_year=0.03)
    programme.write(folder)
    content = load_protocol("salim-2020").model_dump(mode="json")
    content["uncertainty"]["replicates"] = 20
    (folder / "quick.yaml").write_text(yaml.safe_dump(content | {"name": "quick"}), encoding="utf-8")
    scores = pd.read_csv(folder / "scores" / "exams.csv", dtype={"exam_id": str})
    scores = scores[scores["status"] == "scored"]
    scores.assign(score=scores["score"].rank(pct=True))[["exam_id", "score"]].to_csv(folder / "vendor.csv", index=False)
    return Tables(programme, folder / "scores", folder / "followup", folder / "quick.yaml", folder / "vendor.csv")


@pytest.fixture(scope="module")
def evaluated(tables: Tables, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    out = tmp_path_factory.mktemp("out")
    return call(*tables.arguments(out), "--compare", f"Vendor B={tables.vendor}"), out


def figures(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "figures.csv", keep_default_na=False)


def test_the_whole_programme_is_evaluated_into_tables_and_a_page(evaluated: tuple[Result, Path]) -> None:
    result, out = evaluated
    assert result.exit_code == 0, result.output
    assert {path.name for path in out.iterdir()} == FILES
    assert "Not a medical device" in result.stdout
    assert "AUC" in result.stdout
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Evaluation of ours under quick" in page
    assert "Vendor B" in page


def test_every_exam_of_both_sources_is_accounted_for(evaluated: tuple[Result, Path], tables: Tables) -> None:
    _, out = evaluated
    exams = pd.read_csv(out / "exams.csv", dtype={"exam_id": str}, keep_default_na=False)
    read = pd.read_csv(tables.scores / "exams.csv", dtype={"exam_id": str})["exam_id"]
    listed = pd.read_csv(tables.followup / "exams.csv", dtype={"exam_id": str})["exam_id"]
    assert sorted(exams["exam_id"]) == sorted(set(read) | set(listed))
    assert ((exams["excluded_because"] == "") == exams["included"]).all()
    flow = pd.read_csv(out / "flow.csv").groupby("level")["count"].sum()
    assert flow[0] == flow[1] + flow[2] == len(exams)
    assert flow[2] == exams["included"].sum()


def test_the_auc_written_is_that_of_scikit_learn_on_the_exams_written(evaluated: tuple[Result, Path]) -> None:
    _, out = evaluated
    exams = pd.read_csv(out / "exams.csv")
    exams = exams[exams["included"]]
    (written,) = figures(out).query("key == 'auc' and subgroup == 'all'")["point"]
    assert float(written) == pytest.approx(roc_auc_score(exams["role"] == "positive", exams["score"]), abs=1e-9)


def test_another_system_needs_no_more_than_exam_and_score_and_is_compared_pairwise(
    evaluated: tuple[Result, Path],
) -> None:
    _, out = evaluated
    differences = figures(out).query("subgroup == 'Vendor B'")
    assert "auc-difference" in set(differences["key"])
    assert (differences["point"] != "").all() or (differences.loc[differences["point"] == "", "reason"] != "").all()


def test_no_figure_is_without_value_and_without_reason(evaluated: tuple[Result, Path]) -> None:
    table = figures(evaluated[1])
    assert ((table["point"] != "") != (table["reason"] != "")).all()
    assert not table["point"].isin(["nan", "inf", "-inf"]).any()


def test_no_woman_is_named_in_any_file_or_on_the_terminal(evaluated: tuple[Result, Path], tables: Tables) -> None:
    result, out = evaluated
    women = set(pd.read_csv(tables.followup / "followup.csv", dtype=str)["woman_id"])
    texts = [path.read_text(encoding="utf-8") for path in out.iterdir()]
    text = " ".join([result.output, *texts])
    assert not [woman for woman in women if woman in text]


def test_the_same_tables_give_the_same_figures(evaluated: tuple[Result, Path], tables: Tables, tmp_path: Path) -> None:
    again = call(*tables.arguments(tmp_path))
    assert again.exit_code == 0
    first = figures(evaluated[1]).query("subgroup != 'Vendor B'")
    assert (tmp_path / "figures.csv").read_text() == first.to_csv(index=False)


@dataclass(frozen=True)
class Case:
    """Tables that allow few figures: how they are made, and what the results then say."""

    change: Callable[[dict[str, pd.DataFrame]], None]
    key: str
    said: str


def no_diagnoses(tables: dict[str, pd.DataFrame]) -> None:
    tables["diagnoses"] = tables["diagnoses"].iloc[:0]
    tables["lesions"] = tables["lesions"].iloc[:0]


def short_registry(tables: dict[str, pd.DataFrame]) -> None:
    last = tables["exams"]["exam_date"].min()
    tables["followup"]["followed_until"] = last
    no_diagnoses(tables)


@pytest.mark.parametrize(
    "case",
    [
        Case(no_diagnoses, "auc", "both classes"),
        Case(short_registry, "auc", ""),
    ],
    ids=["one class only", "a registry that ends before the window"],
)
def test_follow_up_that_allows_no_figure_gives_its_reason_and_a_page(
    case: Case, tables: Tables, tmp_path: Path
) -> None:
    changed = {path.stem: pd.read_csv(path, dtype=str) for path in tables.followup.glob("*.csv")}
    case.change(changed)
    (tmp_path / "followup").mkdir()
    for name, table in changed.items():
        table.to_csv(tmp_path / "followup" / f"{name}.csv", index=False)
    out = tmp_path / "out"
    result = call(
        "evaluate", "--scores", tables.scores, "--followup", tmp_path / "followup", "--protocol", tables.protocol,
        "--out", out, "--no-track",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    (row,) = figures(out).query(f"key == {case.key!r} and subgroup == 'all'").itertuples()
    assert row.point == ""
    assert case.said in row.reason
    assert "not computable" in (out / "report.html").read_text(encoding="utf-8")


def test_equal_scores_tell_nothing_and_break_nothing(tables: Tables, tmp_path: Path) -> None:
    scores = pd.read_csv(tables.vendor, dtype={"exam_id": str}).assign(score=0.5)
    scores.to_csv(tmp_path / "equal.csv", index=False)
    out = tmp_path / "out"
    result = call(
        "evaluate", "--scores", tmp_path / "equal.csv", "--followup", tables.followup, "--protocol", tables.protocol,
        "--out", out, "--no-track",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    (point,) = figures(out).query("key == 'auc' and subgroup == 'all'")["point"]
    assert float(point) == 0.5


WRONG: dict[str, tuple[Callable[[Tables, Path], list[str | Path]], str]] = {
    "no scores there": (lambda t, d: [d / "none", t.followup, t.protocol], "There are no scores at"),
    "no follow-up there": (lambda t, d: [t.scores, d / "none", t.protocol], "There is no follow-up folder"),
    "unknown protocol": (lambda t, d: [t.scores, t.followup, "best"], bundled_protocols()[0]),
    "unknown key": (lambda t, d: [t.scores, t.followup, keyed(t, d)], "windowmonths is no key of a protocol"),
    "other exams": (lambda t, d: [other_exams(d), t.followup, t.protocol], "None of the"),
    "two models": (lambda t, d: [two_models(t, d), t.followup, t.protocol], "models"),
    "same name": (lambda t, d: [t.scores, t.followup, t.protocol, "--compare", t.scores], "two systems are called"),
    "boxes compared": (lambda t, d: [t.scores, t.followup, "dbtex", "--compare", t.vendor], "leave --compare out"),
}


def keyed(tables: Tables, folder: Path) -> Path:
    content = yaml.safe_load(tables.protocol.read_text(encoding="utf-8")) | {"windowmonths": 12}
    (folder / "wrong.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder / "wrong.yaml"


def other_exams(folder: Path) -> Path:
    pd.DataFrame({"exam_id": ["x"], "score": [0.5]}).to_csv(folder / "other.csv", index=False)
    return folder / "other.csv"


def two_models(tables: Tables, folder: Path) -> Path:
    scores = pd.read_csv(tables.vendor, dtype={"exam_id": str})
    scores.assign(model_id=["a", "b"] * (len(scores) // 2) + ["a"] * (len(scores) % 2)).to_csv(
        folder / "two.csv", index=False
    )
    return folder / "two.csv"


@pytest.mark.parametrize("name", WRONG)
def test_wrong_use_is_one_sentence_and_exit_code_2(name: str, tables: Tables, tmp_path: Path) -> None:
    make, said = WRONG[name]
    scores, followup, protocol, *more = make(tables, tmp_path)
    out = tmp_path / "out"
    result = call(
        "evaluate",
        "--scores",
        scores,
        "--followup",
        followup,
        "--protocol",
        protocol,
        "--out",
        out,
        "--no-track",
        *more,
    )
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
    assert not out.exists()


def test_a_challenges_boxes_are_scored_by_its_rules(tmp_path: Path) -> None:
    box = {"PatientID": ["p", "q"], "StudyUID": ["1.2", "1.3"], "View": ["lcc", "rmlo"]}
    place = {"X": 100, "Y": 200, "Width": 50, "Height": 60}
    truth = pd.DataFrame(box | place | {"Slice": 30, "VolumeSlices": 60})
    (tmp_path / "truth").mkdir()
    truth.to_csv(tmp_path / "truth" / "boxes.csv", index=False)
    pd.DataFrame(box).to_csv(tmp_path / "truth" / "labels.csv", index=False)
    found = pd.DataFrame(box | place | {"Z": 25, "Depth": 10, "Score": [0.9, 0.1]})
    found.iloc[:1].to_csv(tmp_path / "found.csv", index=False)
    result = call(
        "evaluate", "--scores", f"team={tmp_path / 'found.csv'}", "--followup", tmp_path / "truth",
        "--protocol", "dbtex", "--out", tmp_path / "out", "--no-track",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    table = figures(tmp_path / "out")
    assert float(table["point"].iloc[0]) == 0.5
    assert "Evaluation of team under dbtex" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_an_audit_lists_the_missed_exams_of_the_simulated_truth(tables: Tables, tmp_path: Path) -> None:
    result = call(
        "audit", "--scores", f"ours={tables.scores}", "--followup", tables.followup, "--out", tmp_path, "--no-track"
    )
    assert result.exit_code == 0, result.output
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"report.html", "audit.csv", "candidates.csv", "form.csv", "figures.csv"}
    listed = set(pd.read_csv(tmp_path / "audit.csv", dtype={"exam_id": str})["exam_id"])
    truth = tables.programme.truth
    assert listed == set(truth.loc[truth["missed"], "exam_id"])


@pytest.mark.parametrize("command", ["evaluate", "audit"])
def test_results_go_to_mlflow_under_the_names_of_system_and_protocol(
    command: str, tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    import evaluation.tracking

    logged: list[tuple[object, ...]] = []
    monkeypatch.setattr(evaluation.tracking, "log_results", lambda *given, **named: logged.append((*given, named)))
    protocol = tables.protocol if command == "evaluate" else "missed-cancers"
    result = call(
        command, "--scores", f"ours={tables.scores}", "--followup", tables.followup, "--out", tmp_path,
        "--protocol", protocol, "--tracking-uri", "sqlite:///x.db",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    ((name, _, data, figures_, files, *_),) = logged
    assert name == ("ours quick" if command == "evaluate" else "audit ours missed-cancers")
    assert data["systems"][0]["name"] == "ours"
    assert len(figures_) == len(figures(tmp_path))
    assert {path.name for path in files} == {path.name for path in tmp_path.iterdir()}
    assert "sqlite:///x.db" in str(logged)


@pytest.mark.parametrize(
    ("source", "name", "path"),
    [
        ("out/first", None, "out/first"),
        ("ours=out/first", "ours", "out/first"),
        ("Vendor B=b.csv", "Vendor B", "b.csv"),
        ("=b.csv", None, "=b.csv"),
        ("b=", None, "b="),
    ],
)
def test_a_system_may_be_named_before_its_path(source: str, name: str | None, path: str) -> None:
    assert named_path(source) == (name, Path(path))


def test_a_path_that_holds_the_sign_of_a_name_is_a_path(tmp_path: Path) -> None:
    file = tmp_path / "a=b.csv"
    file.touch()
    assert named_path(str(file)) == (None, file)


def test_the_help_says_what_goes_in_and_what_comes_out() -> None:
    for command, words in (("evaluate", ("figures.csv", "Exit code 0")), ("audit", ("form.csv", "Exit code 0"))):
        result = call(command, "--help")
        assert result.exit_code == 0
        for word in words:
            assert word in result.stdout


MANUAL = (Path(__file__).parents[2] / "docs" / "evaluate.md").read_text(encoding="utf-8")


def test_the_protocol_shown_in_the_manual_is_valid(tmp_path: Path) -> None:
    (shown,) = re.findall(r"```yaml\n(.*?)```", MANUAL, re.DOTALL)
    (tmp_path / "ours.yaml").write_text(shown, encoding="utf-8")
    assert load_protocol(tmp_path / "ours.yaml").name == "ours"


def test_the_manual_lists_every_bundled_protocol_and_every_file_written(evaluated: tuple[Result, Path]) -> None:
    listed = re.findall(r"^\| `([a-z0-9.-]+)` \|", MANUAL, re.MULTILINE)
    assert set(bundled_protocols()) <= set(listed)
    assert {path.name for path in evaluated[1].iterdir()} <= set(listed)

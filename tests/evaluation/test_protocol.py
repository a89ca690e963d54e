"""The bundled protocols are valid and say what their sources say; a wrong file is refused by key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from evaluation.protocol import Outcome, OutcomeRules, bundled_protocols, load_protocol
from screening.errors import ConfigError

MINIMAL: dict[str, Any] = {
    "name": "mine",
    "source": "none",
    "description": "a protocol of one's own",
    "outcome": {
        "window_months": 24,
        "minimum_negative_followup_months": 24,
        "interval_months": 24,
        "positives": ["screen-detected", "interval"],
    },
}


def rules(name: str) -> OutcomeRules:
    outcome = load_protocol(name).outcome
    assert outcome is not None
    return outcome


def test_every_named_protocol_is_bundled_under_its_own_name() -> None:
    assert bundled_protocols() == (
        "dbtex",
        "elhakim-2023",
        "larsen-2022",
        "lotter-2021-pre-index",
        "mckinney-2020-uk",
        "mckinney-2020-us",
        "missed-cancers",
        "salim-2020",
    )
    for name in bundled_protocols():
        assert load_protocol(name).name == name


@pytest.mark.parametrize(
    ("name", "window", "negative", "positives"),
    [
        ("salim-2020", 12, 24, {"screen-detected", "interval"}),
        ("mckinney-2020-us", 27, 21, {"screen-detected", "interval", "next-round", "later-cancer"}),
        ("mckinney-2020-uk", 39, 36, {"screen-detected", "interval", "next-round", "later-cancer"}),
        ("elhakim-2023", 24, 24, {"screen-detected", "interval"}),
        ("larsen-2022", 24, 24, {"screen-detected", "interval"}),
        ("missed-cancers", 27, 24, {"interval", "next-round"}),
    ],
)
def test_windows_and_positives_are_those_of_the_sources(
    name: str, window: int, negative: int, positives: set[str]
) -> None:
    found = rules(name)
    assert (found.window_months, found.minimum_negative_followup_months) == (window, negative)
    assert set(found.positives) == positives


def test_operating_points_are_those_of_the_sources() -> None:
    points = {
        name: [
            (point.target, point.value or point.reader, point.chosen_on)
            for point in load_protocol(name).operating_points
        ]
        for name in bundled_protocols()
    }
    assert points["salim-2020"] == [("specificity", 0.966, "same-exams")]
    assert points["larsen-2022"] == [
        ("category", 10, "same-exams"),
        ("recall-rate", 0.088, "same-exams"),
        ("recall-rate", 0.058, "same-exams"),
    ]
    assert points["elhakim-2023"] == [
        ("reader-sensitivity", "reader1", "same-exams"),
        ("reader-specificity", "reader1", "same-exams"),
    ]
    assert {chosen for _, _, chosen in points["mckinney-2020-us"]} == {"validation-split"}
    assert [target for target, _, _ in points["missed-cancers"]] == [
        "fp-per-image", "fp-per-exam", "category", "recall-rate", "recall-rate", "recall-rate"
    ]  # fmt: skip
    dbtex = load_protocol("dbtex").localisation
    assert (dbtex.hit_rule, dbtex.floor_px, dbtex.fp_rates, dbtex.interpolate) == (
        "centre-distance",
        100,
        (1, 2, 3, 4),
        True,
    )


def test_a_protocol_of_ones_own_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    protocol = load_protocol(path)
    assert protocol.outcome is not None
    assert protocol.outcome.positives == (Outcome.SCREEN_DETECTED, Outcome.INTERVAL)
    assert load_protocol(str(path)) == protocol


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"windw": 3}, "windw is no key of a protocol"),
        ({"outcome": {**MINIMAL["outcome"], "window": 3}}, r"outcome\.window is no key"),
        ({"outcome": {**MINIMAL["outcome"], "window_months": "two years"}}, r"outcome\.window_months: .* integer"),
        ({"outcome": {**MINIMAL["outcome"], "window_months": 0}}, r"outcome\.window_months"),
        ({"outcome": {**MINIMAL["outcome"], "workup_months": 30}}, "workup_months is longer than window_months"),
        ({"outcome": {**MINIMAL["outcome"], "positives": ["negative"]}}, "negative is no cancer"),
        ({"outcome": {**MINIMAL["outcome"], "positives": ["missed"]}}, r"outcome\.positives\.0"),
        ({"outcome": {**MINIMAL["outcome"], "positives": []}}, r"outcome\.positives"),
        ({"outcome": {**MINIMAL["outcome"], "next_exam_months": [24, 12]}}, "the least and the most"),
        ({"localisation": {"hit_rule": "overlap"}}, r"localisation\.hit_rule: There is no hit rule 'overlap'"),
        ({"localisation": {"fp_denominator": "some"}}, r"localisation\.fp_denominator"),
        ({"operating_points": [{"name": "a", "target": "specificity"}]}, "specificity needs value and no reader"),
        (
            {"operating_points": [{"name": "a", "target": "reader-specificity", "value": 1}]},
            "needs reader and no value",
        ),
        ({"operating_points": [{"name": "a", "target": "specificity", "value": 96.6}]}, "between 0 and 1, not 96.6"),
        ({"operating_points": [{"name": "a", "target": "category", "value": 11}]}, "whole number from 1 to 10"),
        ({"operating_points": [{"name": "a", "target": "recall-rate", "value": 0.1}] * 2}, "the same name"),
        ({"choices": {"outcome.window": "because"}}, "explains 'outcome.window', which is no parameter"),
        ({"uncertainty": {"level": 95}}, r"uncertainty\.level"),
        ({"name": "../mine"}, "name"),
        ({"source": None}, "source"),
    ],
)
def test_a_wrong_protocol_is_refused_and_the_key_named(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(MINIMAL | change))
    with pytest.raises(ConfigError, match=sentence):
        load_protocol(path)


def test_what_is_no_protocol_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no protocol 'salim'; give a YAML file or one of dbtex, "):
        load_protocol("salim")
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_protocol(tmp_path / "none.yaml")
    for text, sentence in (("- a", "mapping of keys"), ("a: [", "no valid YAML"), ("", "mapping of keys")):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(ConfigError, match=sentence):
            load_protocol(tmp_path / "bad.yaml")

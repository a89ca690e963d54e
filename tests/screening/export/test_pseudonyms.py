"""Keyed pseudonyms, UIDs and date shifts, and the key itself."""

from __future__ import annotations

import re
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID

from screening.errors import ConfigError
from screening.export.dates import Shift
from screening.export.key import KEY_VARIABLE, load_key
from screening.export.pseudonyms import LONGEST_SHIFT_DAYS, Pseudonyms
from tests.support.exports import KEY, OTHER_KEY

OURS, OTHERS = Pseudonyms(KEY), Pseudonyms(OTHER_KEY)
WORDS = st.text(min_size=1).filter(lambda word: word.strip(" \0\t\r\n") != "" != word.strip())
DAYS = st.dates(date(1905, 1, 1), date(2200, 12, 31))


@given(WORDS)
def test_the_same_key_gives_the_same_pseudonyms_and_another_key_others(word: str) -> None:
    again = Pseudonyms(bytes(KEY))
    for make in ("woman", "exam", "region", "uid", "shift_days"):
        assert getattr(OURS, make)(word) == getattr(again, make)(word)
    for make in ("woman", "exam", "region", "uid"):
        if not word.strip(" \0").startswith("1.2.840.10008."):
            assert getattr(OURS, make)(word) != getattr(OTHERS, make)(word)


@given(WORDS)
def test_pseudonyms_are_safe_as_file_names_and_valid_in_dicom_whatever_the_original(word: str) -> None:
    assert re.fullmatch(r"W[A-Z2-7]{16}", OURS.woman(word))
    assert re.fullmatch(r"E[A-Z2-7]{16}|[0-9.]{1,64}", OURS.exam(word))
    if not word.strip(" \0").startswith("1.2.840.10008."):
        assert OURS.uid(word).is_valid
        assert OURS.uid(word).startswith("2.25.")


def test_pseudonyms_of_many_women_differ_and_tell_nothing_of_each_other() -> None:
    women = [OURS.woman(f"P{number:06d}") for number in range(20_000)]
    assert len(set(women)) == len(women)
    assert len({one[1] for one in women}) == 32  # neighbours do not look alike


def test_white_space_and_unicode_forms_make_no_second_woman() -> None:
    assert OURS.woman(" A-1 ") == OURS.woman("A-1\0")
    assert OURS.woman("Mu\u0308ller") == OURS.woman("M\u00fcller")
    assert OURS.shift_days("A-1 ") == OURS.shift_days("A-1")


def test_uids_of_the_standard_stay_and_a_study_id_is_remapped_alike_in_tables_and_headers() -> None:
    assert OURS.uid("1.2.840.10008.5.1.4.1.1.1.2") == UID("1.2.840.10008.5.1.4.1.1.1.2")
    assert OURS.exam("1.2.3.4") == str(OURS.uid("1.2.3.4"))
    assert OURS.exam("Mass-Training_P_00001").startswith("E")


@given(WORDS, st.lists(DAYS, min_size=2, max_size=5))
def test_the_days_between_a_womans_dates_are_kept_to_the_day(woman: str, days: list[date]) -> None:
    shift = Shift(OURS.shift_days(woman))
    moved = [shift.moved(day) for day in days]
    assert [b - a for a, b in pairwise(moved)] == [b - a for a, b in pairwise(days)]
    assert all(1 <= (day - other).days <= LONGEST_SHIFT_DAYS for day, other in zip(days, moved, strict=True))


@given(DAYS, st.integers(1, LONGEST_SHIFT_DAYS), st.integers(0, 235959))
def test_dicom_dates_move_alike_in_every_form(day: date, days: int, time: int) -> None:
    shift, expected = Shift(days), (day - timedelta(days=days)).strftime("%Y%m%d")
    text = day.strftime("%Y%m%d")
    assert shift.da(text) == shift.da(day.strftime("%Y.%m.%d")) == shift.da(text + " ") == expected
    hour = f"{time % 24:02d}"
    assert shift.dt(f"{text}{hour}3059.123456+0100") == f"{expected}{hour}0000"
    assert shift.dt(text) == expected


@pytest.mark.parametrize("text", ["", "today", "2020", "20201350", "19611223-20200101", "0000", "00010101"])
def test_what_is_no_whole_date_is_emptied_for_it_cannot_be_moved(text: str) -> None:
    assert Shift(400).da(text) == ""
    assert Shift(400).dt(text) == ""


def test_times_of_day_are_cut_to_the_hour() -> None:
    shift = Shift(3)
    assert [shift.tm(one) for one in ("101523.456789", "10:15:23", "10", "2460", "x", "")] == [
        "100000", "100000", "100000", "", "", "",
    ]  # fmt: skip


def test_shifts_are_spread_evenly_over_five_years() -> None:
    shifts = [OURS.shift_days(f"woman {number}") for number in range(5000)]
    assert 1 <= min(shifts) <= 5
    assert LONGEST_SHIFT_DAYS - 5 <= max(shifts) <= LONGEST_SHIFT_DAYS
    assert abs(sum(shifts) / 5000 - LONGEST_SHIFT_DAYS / 2) < 40  # 5 standard errors


def test_the_key_comes_from_the_environment_or_from_a_private_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY.decode())
    assert load_key() == KEY
    file = tmp_path / "key"
    file.write_bytes(OTHER_KEY + b"\n")
    file.chmod(0o600)
    assert load_key(file) == OTHER_KEY
    file.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_key(file)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [("", "needs a secret key"), ("short-but-secret", "too short"), ("ab" * 40, "can be guessed")],
)
def test_a_key_that_is_absent_or_weak_is_refused_without_being_quoted(
    value: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, value)
    with pytest.raises(ConfigError, match=sentence) as error:
        load_key()
    assert not value or value not in str(error.value)


def test_the_key_is_not_shown_where_pseudonyms_are_printed() -> None:
    assert KEY.decode() not in repr(OURS) + str(OURS)

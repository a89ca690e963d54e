"""Identifiers of delivered objects follow from what the objects say."""

from __future__ import annotations

import re
import uuid
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import RE_VALID_UID

from screening.delivery.uids import derived_uid
from tests.support.deliveries import CASES, delivery, rejected_instance

words = st.lists(st.text(st.characters(codec="utf-8")), min_size=3, max_size=6)


@given(words)
def test_uid_is_valid_and_a_uuid_of_version_8(parts: list[str]) -> None:
    uid = derived_uid(*parts)
    assert len(uid) <= 64
    assert re.match(RE_VALID_UID, uid)
    as_uuid = uuid.UUID(int=int(uid.removeprefix("2.25.")))
    assert as_uuid.version == 8
    assert as_uuid.variant == uuid.RFC_4122


@given(words, words)
def test_uids_are_equal_only_for_equal_words(one: list[str], other: list[str]) -> None:
    assert (derived_uid(*one) == derived_uid(*other)) == (one == other)


def test_words_that_join_to_the_same_text_give_different_uids() -> None:
    assert derived_uid("1.2", "3", "cad-sr") != derived_uid("1.23", "", "cad-sr")
    assert derived_uid("1.2", "3", "cad-sr", "a") != derived_uid("1.2", "3", "cad-sra")


def test_uid_stays_the_same_over_versions_of_the_program() -> None:
    # If this changes, whatever was delivered before would be delivered a second time under another name.
    assert derived_uid("1.2.3", "ab" * 32, "cad-sr.instance") == "2.25.109124365204461216694142606479384415471"


def test_no_identifier_can_be_read_from_a_uid_of_undecodable_words() -> None:
    assert derived_uid("\ud800\udcff", "", "").startswith("2.25.")


def test_late_image_makes_a_new_object_in_the_same_series(tmp_path: Path) -> None:
    before = delivery(tmp_path, CASES["2d"])
    after = replace(before, result=replace(before.result, images=before.result.images[:3]))
    assert before.instance_uid("cad-sr") != after.instance_uid("cad-sr")
    assert before.series_uid("cad-sr") == after.series_uid("cad-sr")


def test_instance_rejected_later_makes_a_new_object(tmp_path: Path) -> None:
    before = delivery(tmp_path, CASES["2d"])
    after = delivery(tmp_path, CASES["2d"], rejections=[rejected_instance()])
    assert before.instance_uid("cad-sr") != after.instance_uid("cad-sr")


def test_another_operating_point_makes_a_new_object(tmp_path: Path) -> None:
    one, other = (delivery(tmp_path, CASES["2d"], point) for point in ("recall-3", "recall-10"))
    assert one.instance_uid("cad-sr") != other.instance_uid("cad-sr")


def test_kinds_bundles_and_exams_never_share_an_object_or_a_series(tmp_path: Path) -> None:
    first = delivery(tmp_path, CASES["2d"])
    other_bundle = replace(first, algorithm=replace(first.algorithm, sha256="cd" * 32))
    other_exam = replace(first, result=replace(first.result, exam_id="1.2.3"))
    uids = [
        make(kind)
        for one in (first, other_bundle, other_exam)
        for kind in ("cad-sr", "measurement-report")
        for make in (one.instance_uid, one.series_uid, one.other_uid)
    ]
    assert len(set(uids)) == len(uids)

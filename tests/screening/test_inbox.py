"""The inbox keeps what comes, once, and knows across crashes which exams wait to be scored."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread, uid

from screening.delivery.objects import MANUFACTURER
from screening.errors import ConfigError, StoreError
from screening.site import Rule, SiteProfile, load_site
from screening.sources.inbox import Inbox, Kept
from screening.sources.spool import StudyError
from tests.support.dicom import write_dicom
from tests.support.exams import BIRTH_DATE, NAME, WOMAN, image_uid, instance, study_uid

ONE, TWO = study_uid(1), study_uid(2)
PIXELS = np.zeros((8, 8), np.uint16)


def content(tmp_path: Path, study: int = 1, number: int = 1, side: str = "L", view: str = "CC", **header: Any) -> bytes:
    return write_dicom(tmp_path / "made.dcm", instance(study, number, side, view, PIXELS, **header)).read_bytes()


def add(inbox: Inbox, file: bytes) -> Kept:
    return inbox.add(file, hashlib.sha256(file).hexdigest())


def kept(out: Path) -> list[str]:
    """Files in the inbox but its own; nothing may be left of what was coming in."""
    assert list((out / "inbox" / "incoming").iterdir()) == []
    return sorted(str(path.relative_to(out / "inbox")) for path in (out / "inbox").rglob("*.dcm"))


def test_instance_is_kept_once_and_a_changed_one_takes_its_place(tmp_path: Path) -> None:
    first, changed = content(tmp_path), content(tmp_path, ImageComments="changed")
    with Inbox(tmp_path, load_site()) as inbox:
        assert [add(inbox, one) for one in (first, first, changed, changed)] == [
            Kept.NEW,
            Kept.DUPLICATE,
            Kept.CHANGED,
            Kept.DUPLICATE,
        ]
        (waiting,) = inbox.waiting()
    assert (waiting.name, waiting.studies, waiting.views, waiting.changes) == (ONE, ((ONE, 1),), {"LCC"}, 2)
    assert kept(tmp_path) == [f"{ONE}/{image_uid(1, 1)}.dcm"]
    assert (waiting.folder / f"{image_uid(1, 1)}.dcm").read_bytes() == changed


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 2)), min_size=1, max_size=8), st.data())
def test_exams_wait_in_the_order_in_which_they_began_to_come_and_nothing_is_forgotten_by_a_restart(
    tmp_path_factory: pytest.TempPathFactory, arrivals: list[tuple[int, int]], data: st.DataObject
) -> None:
    out = tmp_path_factory.mktemp("out")
    order: dict[int, None] = {}
    scored: set[int] = set()
    came: set[tuple[int, int]] = set()
    for study, number in arrivals:
        with Inbox(out, load_site()) as inbox:
            expected = Kept.DUPLICATE if (study, number) in came else Kept.NEW
            assert add(inbox, content(out, study, number)) is expected
            if expected is Kept.NEW:
                order.setdefault(study)
            came.add((study, number))
            assert [one.name for one in inbox.waiting()] == [study_uid(one) for one in order]
            if inbox.waiting() and data.draw(st.booleans()):
                first = inbox.waiting()[0]
                assert first.again == (next(iter(order)) in scored)
                inbox.scored(first)
                scored.add(next(iter(order)))
                del order[next(iter(order))]


def test_what_comes_while_an_exam_is_scored_is_scored_after_it(tmp_path: Path) -> None:
    with Inbox(tmp_path, load_site()) as inbox:
        add(inbox, content(tmp_path))
        (seen,) = inbox.waiting()
        add(inbox, content(tmp_path, number=2, side="R"))
        inbox.scored(seen)
        (left,) = inbox.waiting()
        assert (left.again, left.views) == (True, {"LCC", "RCC"})
        inbox.scored(left)
        assert inbox.waiting() == ()


def test_own_results_that_a_pacs_sends_back_are_not_kept(tmp_path: Path) -> None:
    with Inbox(tmp_path, load_site()) as inbox:
        assert add(inbox, content(tmp_path, Manufacturer=MANUFACTURER)) is Kept.OURS
        assert inbox.waiting() == ()
    assert kept(tmp_path) == []


def test_what_lies_beside_mammograms_is_kept_and_makes_no_exam_wait(tmp_path: Path) -> None:
    with Inbox(tmp_path, load_site()) as inbox:
        ultrasound = content(tmp_path, 1, 9, Modality="US", SOPClassUID=uid.UltrasoundImageStorage)
        assert add(inbox, ultrasound) is Kept.NEW
        assert inbox.waiting() == ()
        add(inbox, content(tmp_path))
        (waiting,) = inbox.waiting()
        assert waiting.studies == ((ONE, 1),)
    assert len(kept(tmp_path)) == 2


def test_instances_of_one_exam_in_two_studies_are_kept_together_under_a_name_that_tells_nobody(tmp_path: Path) -> None:
    profile = load_site().model_copy(update={"exam": (Rule(attribute="PatientID"),)})
    hostile = f"../../{WOMAN}"
    with Inbox(tmp_path, profile) as inbox:
        for study in (1, 2):
            add(inbox, content(tmp_path, study, PatientID=hostile))
        (waiting,) = inbox.waiting()
        assert dict(waiting.studies) == {ONE: 1, TWO: 1}
        assert waiting.folder.parent == tmp_path / "inbox"
    told = str(list(tmp_path.rglob("*"))) + (tmp_path / "inbox" / "inbox.sqlite").read_bytes().decode("latin-1")
    assert not [word for word in (WOMAN, NAME, BIRTH_DATE) if word in told]


@pytest.mark.parametrize(
    "file", [b"no DICOM" * 100, pytest.param(None, id="study-uid"), pytest.param(1, id="instance-uid")]
)
def test_what_is_no_dicom_or_has_hostile_uids_is_refused_and_leaves_nothing(tmp_path: Path, file: Any) -> None:
    made = tmp_path / "made.dcm"
    write_dicom(made, instance(1, 1, "L", "CC", PIXELS))
    dataset = dcmread(made)
    if file is None:
        dataset["StudyInstanceUID"]._value = "../../etc"
    elif file == 1:
        dataset["SOPInstanceUID"]._value = "../x"
    if not isinstance(file, bytes):
        dataset.save_as(made)
        file = made.read_bytes()
    with Inbox(tmp_path, load_site()) as inbox:
        with pytest.raises(StudyError):
            add(inbox, file)
        assert inbox.waiting() == ()
    assert kept(tmp_path) == []


def test_full_disk_is_told_and_the_instance_can_come_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Inbox(tmp_path, load_site()) as inbox:
        file = content(tmp_path)
        for broken in ("fsync", "replace"):
            with monkeypatch.context() as patch:
                patch.setattr(f"screening.sources.inbox.os.{broken}", full)
                with pytest.raises(StoreError, match="disk is full"):
                    add(inbox, file)
            assert inbox.waiting() == ()
        assert add(inbox, file) is Kept.NEW
    assert len(kept(tmp_path)) == 1


def test_two_programs_cannot_listen_for_one_folder(tmp_path: Path, profile: SiteProfile) -> None:
    with (
        Inbox(tmp_path, profile),
        pytest.raises(ConfigError, match="another program listens"),
        Inbox(tmp_path, profile),
    ):
        pass
    with Inbox(tmp_path, profile):  # free again
        pass


@pytest.fixture
def profile() -> SiteProfile:
    return load_site()

"""Where studies from a PACS come in: instance by instance into `incoming`, and as a whole into `spool`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydicom.config import IGNORE
from pydicom.uid import UID

from screening.dicomfile import open_dicom, text
from screening.errors import ImageError
from screening.store.files import write_errors

_PART = ".part"
_OURS_ONLY = 0o700
"""Mode of the folders: what is in them names women."""


@dataclass(frozen=True)
class Study:
    """A study that a PACS has: its Study Instance UID, "" if that is invalid, and how many instances it should have.

    `instances` is None where the PACS does not say (Number of Study Related Instances is optional); `date` is
    YYYYMMDD, or "".
    """

    uid: str
    instances: int | None = None
    date: str = ""


class StudyError(Exception):
    """A study did not come as it should; the others may. The sentence has no identifier."""


class Spool:
    """The folders `spool` and `incoming` under `out`, made by `with`. A study in `spool` is complete; names are UIDs.

    With `keep`, what an earlier run left in `spool` stays; without, it is removed. At the end nothing is left in
    `incoming`. Every method raises StoreError where the disk is full or the folder not writable.
    """

    def __init__(self, out: Path, keep: bool) -> None:
        self.folder = out / "spool"
        self._incoming = out / "incoming"
        self._keep = keep

    def __enter__(self) -> Spool:
        with write_errors(self.folder):
            for folder, keep in ((self.folder, self._keep), (self._incoming, False)):
                if folder.is_dir() and not keep:
                    shutil.rmtree(folder)
                folder.parent.mkdir(parents=True, exist_ok=True)
                folder.mkdir(mode=_OURS_ONLY, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        with write_errors(self._incoming):
            shutil.rmtree(self._incoming)

    def holds(self, study: Study) -> bool:
        """Whether the study is there, complete as far as the PACS says now."""
        folder = self.folder / study.uid
        return bool(study.uid) and folder.is_dir() and _count(folder) >= (study.instances or 1)

    def add(self, study: Study, chunks: Iterable[bytes]) -> None:
        """Write one instance, a DICOM file in `chunks`. It has its name only when it is all there.

        An instance that came before is replaced. Raises StudyError if it cannot be read, has no valid UID, or belongs
        to another study; what `chunks` raises goes through.
        """
        folder = self._incoming / study.uid
        part = folder / _PART
        with write_errors(part):
            folder.mkdir(mode=_OURS_ONLY, exist_ok=True)
            file = part.open("wb")
        try:
            with file:
                for chunk in chunks:  # a connection that breaks off raises an OSError, too, which is none of the disk
                    with write_errors(part):
                        file.write(chunk)
            name = _checked_uid(part, study)
            with write_errors(part):
                os.replace(part, folder / f"{name}.dcm")
        finally:
            part.unlink(missing_ok=True)

    def received(self, study: Study) -> int:
        """How many instances have come in of a study that is not complete yet."""
        folder = self._incoming / study.uid
        return _count(folder) if folder.is_dir() else 0

    def finish(self, study: Study) -> None:
        """Take a study to be complete."""
        target = self.folder / study.uid
        with write_errors(target):
            if target.is_dir():
                shutil.rmtree(target)
            os.replace(self._incoming / study.uid, target)


def is_uid(value: object) -> bool:
    """Whether a value is a UID (PS3.5 9.1): digits and dots, at most 64; such a text is safe as a file name."""
    return isinstance(value, str) and UID(value, validation_mode=IGNORE).is_valid


def _count(folder: Path) -> int:
    return sum(1 for _ in folder.glob("*.dcm"))


def _checked_uid(path: Path, study: Study) -> str:
    """The SOP Instance UID of a file of this study."""
    try:
        with open_dicom(path, ("SOPInstanceUID", "StudyInstanceUID")) as file:
            name, study_uid = text(file.dataset, "SOPInstanceUID"), text(file.dataset, "StudyInstanceUID")
    except ImageError as error:
        raise StudyError(f"an instance cannot be read: {error}") from error
    if not is_uid(name):
        raise StudyError("an instance has no valid SOP Instance UID")
    if study_uid != study.uid:
        raise StudyError("the PACS sent an instance of another study")
    return name

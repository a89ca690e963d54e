"""Exams from a folder of DICOM files of any depth, from a DICOMDIR, or from a single file."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from pydicom.uid import MediaStorageDirectoryStorage

from screening.dicomfile import DIRECTORY_LIMITS, DicomFile, NotDicomError, RefusedError, items, open_dicom, text, texts
from screening.errors import ImageError, ScreeningError
from screening.exam import Exam, Image, Laterality, View
from screening.headers import PARTIAL_VIEW, Instance, header_keywords, read_instance
from screening.result import InstanceRejection, Reason, Rejection, Status
from screening.site import SiteProfile
from screening.sources.series import join_slices

Progress = Callable[[int, int], None]

_SIDES = {Laterality.RIGHT: "right", Laterality.LEFT: "left"}
_STANDARD_VIEWS = (View.CC, View.MLO)


@dataclass(frozen=True)
class FolderScan:
    """What a folder holds. `instances` is the number of images in exams plus that of rejections: the files read, where
    the slices of a volume that is stored as a series count as one.
    """

    exams: tuple[Exam, ...]
    rejections: tuple[InstanceRejection, ...]
    instances: int


@dataclass(frozen=True)
class _Entry:
    """One file: where it is (`file` is relative, for people), what it holds, and why that is not scored."""

    file: str
    path: Path
    instance: Instance | None = None
    rejection: Rejection | None = None

    @property
    def image(self) -> Image | None:
        """The image, if it may be scored."""
        outcome = self.instance.outcome if self.instance and self.rejection is None else None
        return outcome if isinstance(outcome, Image) else None


def read_folder(root: Path, profile: SiteProfile, on_progress: Progress | None = None) -> FolderScan:
    """Read the headers of all files under `root` (a folder, a DICOMDIR or one DICOM file) into exams.

    Links to folders are followed, each folder once. A DICOMDIR within a folder is passed over, as the files that it
    lists lie beside it; one given as `root` decides which files are read, and what it lists outside of its own folder
    is rejected. Of several files with one SOP Instance UID the one is kept that is no rejection, then the longest,
    then the one whose SHA-256 is smallest, then the first path: neither the order of files nor, unless files are
    equal, their names matter. Images of one exam that name several women are all rejected: somebody's are misfiled.

    `on_progress` is called with (files read, files in all). Raises ScreeningError where `root` does not exist.
    """
    key = profile.pseudonym_key()
    keywords = header_keywords(profile)
    candidates = sorted(_candidates(root), key=lambda entry: entry.file)
    entries = []
    for done, candidate in enumerate(candidates, start=1):
        entry = candidate if candidate.rejection else _read(candidate, profile, keywords, key)
        if entry is not None:
            entries.append(entry)
        if on_progress is not None:
            on_progress(done, len(candidates))
    entries = _reject_mixed_exams(_reject_duplicates(entries))
    rejections = tuple(_instance_rejection(entry) for entry in entries if entry.image is None)
    exams = _exams(entries, profile.name)
    return FolderScan(exams, rejections, len(rejections) + sum(len(exam.images) for exam in exams))


def _candidates(root: Path) -> Iterator[_Entry]:
    if root.is_dir():
        return _walk(root)
    if not root.is_file():
        raise ScreeningError(f"{root} is neither a folder nor a file; give the folder that holds the DICOM files")
    try:
        with open_dicom(root, ("DirectoryRecordSequence",), DIRECTORY_LIMITS) as file:
            if _is_directory(file):
                return iter(tuple(_listed(root.parent, file)))
    except ImageError:
        pass  # not a DICOMDIR; what is wrong with it is found when it is read as an image
    return iter((_Entry(root.name, root),))


def _walk(root: Path) -> Iterator[_Entry]:
    """Every file under `root`; folders behind links come last, and none is entered twice."""
    errors: list[OSError] = []
    seen: set[tuple[int, int]] = set()
    pending = [str(root)]
    while pending:
        for folder, folders, files in os.walk(pending.pop(0), onerror=errors.append):
            info = os.stat(folder)
            if (info.st_dev, info.st_ino) in seen:
                folders.clear()
                continue
            seen.add((info.st_dev, info.st_ino))
            paths = [os.path.join(folder, name) for name in sorted(folders)]
            pending.extend(path for path in paths if os.path.islink(path))
            for name in files:
                yield _on_disk(Path(folder, name), root)
    for error in errors:
        sentence = f"the folder cannot be read: {error.strerror}"
        yield _Entry(_label(Path(error.filename), root), root, rejection=Rejection(Reason.UNREADABLE, sentence))


def _on_disk(path: Path, root: Path) -> _Entry:
    entry = _Entry(_label(path, root), path)
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        return replace(entry, rejection=Rejection(Reason.UNREADABLE, f"the file cannot be read: {error.strerror}"))
    if not regular:  # opening a pipe or a device could wait for ever
        return replace(entry, rejection=Rejection(Reason.NOT_DICOM, "is no regular file"))
    return entry


def _label(path: Path, root: Path) -> str:
    """The path below `root`, in text that any encoding of file names can be written in."""
    return os.fsencode(path.relative_to(root).as_posix()).decode("utf-8", "backslashreplace")


def _listed(folder: Path, directory: DicomFile) -> Iterator[_Entry]:
    """The files that a DICOMDIR lists (PS3.3 F.3.2.2), each once."""
    found: dict[tuple[str, ...], None] = {}
    for record in items(directory.dataset, "DirectoryRecordSequence"):
        parts = texts(record, "ReferencedFileID")
        if parts:
            found.setdefault(parts)
    for parts in found:
        entry = _Entry("/".join(parts), folder)
        path = _inside(folder, parts)
        if path is None:
            sentence = "the DICOMDIR lists this file outside of its own folder; it was not read"
            yield replace(entry, rejection=Rejection(Reason.UNREADABLE, sentence))
        elif not path.is_file():
            sentence = "the DICOMDIR lists this file, but it is not there; send the study again"
            yield replace(entry, rejection=Rejection(Reason.UNREADABLE, sentence))
        else:
            yield replace(entry, path=path)


def _inside(folder: Path, parts: tuple[str, ...]) -> Path | None:
    """The path of a file ID, in lower case if only that exists (CDs are mounted so); None outside of `folder`."""
    if any("\0" in part for part in parts):
        return None
    path = folder.joinpath(*parts)
    lower = folder.joinpath(*(part.lower() for part in parts))
    path = lower if not path.exists() and lower.exists() else path
    return path if path.resolve().is_relative_to(folder.resolve()) else None


def _is_directory(file: DicomFile) -> bool:
    return text(file.meta, "MediaStorageSOPClassUID") == MediaStorageDirectoryStorage


def _read(entry: _Entry, profile: SiteProfile, keywords: frozenset[str], key: bytes | None) -> _Entry | None:
    """Read one file's header; None for a DICOMDIR, which is no instance."""
    try:
        with open_dicom(entry.path, keywords) as file:
            if _is_directory(file):
                return None
            instance = read_instance(file, entry.path, profile, key)
    except NotDicomError as error:
        return replace(entry, rejection=Rejection(Reason.NOT_DICOM, str(error)))
    except RefusedError as error:
        return replace(entry, rejection=Rejection(Reason.IMPLAUSIBLE_HEADER, str(error)))
    except ImageError as error:
        return replace(entry, rejection=Rejection(Reason.UNREADABLE, str(error)))
    except Exception as error:  # the one place that keeps a bad file, whatever it does to the parser, from the others
        sentence = f"the header cannot be read ({type(error).__name__}); send the image again"
        return replace(entry, rejection=Rejection(Reason.UNREADABLE, sentence))
    rejection = instance.outcome if isinstance(instance.outcome, Rejection) else None
    return replace(entry, instance=instance, rejection=rejection)


def _reject_duplicates(entries: list[_Entry]) -> list[_Entry]:
    copies: dict[str, list[_Entry]] = defaultdict(list)
    for entry in entries:
        if entry.instance is not None and entry.instance.image_id:
            copies[entry.instance.image_id].append(entry)
    rejected: dict[str, Rejection] = {}
    for group in copies.values():
        if len(group) == 1:
            continue
        digests = {entry.file: _digest(entry.path) for entry in group}
        kept, *others = sorted(group, key=lambda e: (e.image is None, -e.path.stat().st_size, digests[e.file], e.file))
        for other in others:
            equal = "equal" if digests[other.file] == digests[kept.file] else "different"
            sentence = f"the same SOP Instance UID as {kept.file}, which is kept; the files are {equal}"
            rejected[other.file] = Rejection(Reason.DUPLICATE, sentence)
    return [replace(entry, rejection=rejected.get(entry.file, entry.rejection)) for entry in entries]


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reject_mixed_exams(entries: list[_Entry]) -> list[_Entry]:
    women: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        if entry.image is not None and entry.instance is not None:
            women[entry.instance.exam_id].add(entry.instance.woman_id)
    mixed = Rejection(
        Reason.IMPLAUSIBLE_HEADER, "images of this exam name different women (PatientID); find out whose they are"
    )
    return [
        replace(entry, rejection=mixed)
        if entry.image is not None and entry.instance is not None and len(women[entry.instance.exam_id]) > 1
        else entry
        for entry in entries
    ]


def _instance_rejection(entry: _Entry) -> InstanceRejection:
    assert entry.rejection is not None
    status = Status.FAILED if entry.rejection.code is Reason.UNREADABLE else Status.REJECTED
    known = entry.instance
    if known is None:
        return InstanceRejection(entry.file, "", "", status, entry.rejection)
    return InstanceRejection(
        file=entry.file,
        exam_id=known.exam_id,
        image_id=known.image_id,
        status=status,
        rejection=entry.rejection,
        laterality=known.laterality,
        view=known.view,
        kind=known.kind,
        rows=known.rows,
        columns=known.columns,
        frames=known.frames,
    )


def _exams(entries: Iterable[_Entry], site: str) -> tuple[Exam, ...]:
    """Exams in order of woman and date, their images in hanging order (RCC, LCC, RMLO, LMLO, others)."""
    groups: dict[str, list[tuple[Instance, Image]]] = defaultdict(list)
    for entry in entries:
        if entry.image is not None and entry.instance is not None:
            groups[entry.instance.exam_id].append((entry.instance, entry.image))
    exams = []
    for exam_id, files in groups.items():
        members = join_slices(files)
        images = tuple(sorted((image for _, image in members), key=_hanging_order))
        dates = [instance.exam_date for instance, _ in members if instance.exam_date is not None]
        manufacturers = sorted({instance.manufacturer for instance, _ in members if instance.manufacturer})
        exams.append(
            Exam(
                exam_id=exam_id,
                woman_id=members[0][0].woman_id,
                exam_date=min(dates, default=None),
                site=site,
                manufacturer="; ".join(manufacturers),
                images=images,
                warnings=exam_warnings(images),
            )
        )
    return tuple(sorted(exams, key=lambda exam: (exam.woman_id, exam.exam_date or date.min, exam.exam_id)))


def _hanging_order(image: Image) -> tuple[int, str, bool, str]:
    standard = image.view in _STANDARD_VIEWS
    place = _STANDARD_VIEWS.index(image.view) if standard else len(_STANDARD_VIEWS)
    return place, "" if standard else image.view, image.laterality is Laterality.LEFT, image.image_id


def exam_warnings(images: Iterable[Image]) -> tuple[str, ...]:
    """What a reader should know of an exam as a whole: breast absent, views missing, repeated or partial, implants."""
    images = tuple(images)
    sides = {image.laterality for image in images}
    views = Counter((image.laterality, image.view) for image in images)
    warnings = [f"no image of the {name} breast" for side, name in _SIDES.items() if side not in sides]
    missing = [
        f"{side}{view}" for view in _STANDARD_VIEWS for side in _SIDES if side in sides and not views[side, view]
    ]
    if missing:
        warnings.append(f"missing views: {', '.join(missing)}")
    alike = Counter((image.laterality, image.view, image.kind, image.intent) for image in images)
    repeated = sorted({f"{count} images of {side}{view}" for (side, view, *_), count in alike.items() if count > 1})
    warnings.extend(repeated)
    implants = sorted({f"{image.laterality}{image.view}" for image in images if image.implant})
    if implants:
        warnings.append(f"implant: {', '.join(implants)}")
    partial = sorted({f"{image.laterality}{image.view}" for image in images if PARTIAL_VIEW in image.warnings})
    if partial:
        warnings.append(f"partial views: {', '.join(partial)}")
    return tuple(warnings)

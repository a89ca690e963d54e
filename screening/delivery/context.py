"""What every delivered object needs to know of an exam: the result, the sources' headers, the bundle's facts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset
from pydicom.uid import UID

from screening.delivery.headers import PATIENT_AND_STUDY, DeliveryError, source_header
from screening.delivery.uids import derived_uid
from screening.errors import ImageError
from screening.imaging.volume import stored_order
from screening.model.calibration import OperatingPoint
from screening.result import ExamResult, ImageResult, InstanceRejection, Reason, Region, Status

if TYPE_CHECKING:  # the bundle's module loads torch, which sending results does not need
    from screening.model.bundle import Bundle
    from screening.store import ResultStore

DISCLAIMER = "Computer output, to be verified by a radiologist; not for clinical use"
"""Stands in every object, wherever a score is shown."""


@dataclass(frozen=True)
class Algorithm:
    """Which model answered: name and version of the bundle's card, and the SHA-256 that identifies the bundle."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True)
class Source:
    """One image of the exam: its result, and its header without pixels (valid elements only, see `source_header`)."""

    result: ImageResult
    header: Dataset

    @property
    def sop_class(self) -> UID:
        """SOP Class UID of the source instance."""
        return UID(self.header.SOPClassUID)

    @property
    def sop_instance(self) -> UID:
        """SOP Instance UID of the source instance; equal to `result.image.image_id`."""
        return UID(self.header.SOPInstanceUID)

    @property
    def frames(self) -> int:
        """Number of frames, 1 for a single-frame image. DICOM counts frames from 1, a region's from 0."""
        return self.result.image.frames

    @property
    def multi_frame(self) -> bool:
        """Whether references have to name frames: where the instance itself holds them, even if there is but one.

        One slice of a series does not, though the image that it begins has many.
        """
        return bool(self.header.get("NumberOfFrames") == self.frames)

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The stored frame at each place of a volume, both from 0: regions count places (see `imaging.stack`)."""
        try:
            return stored_order(self.result.image)
        except ImageError as error:
            raise DeliveryError(f"no one can tell the frames of regions in {self.sop_instance} ({error})") from error


@dataclass(frozen=True)
class Delivery:
    """One exam to be delivered. Made by `prepare` or `deliveries`; every object is made from one of these.

    Parameters
    ----------
    result
        What the bundle says of the exam: scored, rejected or failed.
    sources
        The images whose headers can be read, in the exam's order; at least one. Scored or not: see `result.status`.
    unread
        The images that were not scored and whose file cannot be read: objects can name them in words only.
    rejections
        Mammograms of the study that never became an image of the exam (wrong view, unreadable, …).
    points
        The bundle's operating points, from the most specific (highest threshold) to the most sensitive.
    point
        The chosen one, of `points` or the site's own: regions that reach its threshold are marked.
    created
        When the objects are made, with a time zone. Give the same for a repeated delivery, for equal bytes.
    predecessors
        Headers of the structured reports of an earlier result that may have arrived somewhere.
    """

    result: ExamResult
    sources: tuple[Source, ...]
    unread: tuple[ImageResult, ...]
    rejections: tuple[InstanceRejection, ...]
    algorithm: Algorithm
    points: tuple[OperatingPoint, ...]
    point: OperatingPoint
    created: datetime
    predecessors: tuple[Dataset, ...] = ()

    @property
    def identity(self) -> Dataset:
        """The header that patient and study identity are copied from: of the study's first image by UID.

        An exam is one study unless the site profile groups several; then it is the study with the most images. Where
        these name several Patient IDs, of which the profile takes the woman's, the exam has an identity of its own.
        """
        if _patient_ids(self.sources) != 1:
            return _grouped_identity(self.result, self.sources)
        by_study: dict[str, list[Dataset]] = {}
        for source in self.sources:
            by_study.setdefault(source.header.StudyInstanceUID, []).append(source.header)
        study = min(by_study, key=lambda uid: (-len(by_study[uid]), uid))
        return min(by_study[study], key=lambda header: str(header.SOPInstanceUID))

    @cached_property
    def revision(self) -> str:
        """Tells deliveries of one exam apart whose content differs: late or changed images, another operating point."""
        ends = sorted(f"{one.image.image_id}={one.status}" for one in self.result.images)
        rejected = sorted(f"{one.image_id}={one.rejection.code}" for one in self.rejections)
        regions = sorted(f"{one.region_id}={one.score:.6g}" for one in self.result.regions)
        words = (*ends, *rejected, *regions, self.result.status, self.point.name, repr(self.point.threshold))
        return hashlib.sha256("\n".join(words).encode("utf-8", "surrogatepass")).hexdigest()

    def series_uid(self, kind: str) -> UID:
        """Series Instance UID for objects of `kind`: one series for each exam, bundle and kind."""
        return derived_uid(self.result.exam_id, self.algorithm.sha256, f"{kind}.series")

    def instance_uid(self, kind: str, *more: str) -> UID:
        """SOP Instance UID of an object of `kind`. `more`: what tells several objects apart, such as an image id.

        The same exam, images, bundle and operating point give the same UID; a changed exam gives a new one, because
        the content of a SOP instance must not change.
        """
        return derived_uid(self.result.exam_id, self.algorithm.sha256, f"{kind}.instance", self.revision, *more)

    def other_uid(self, kind: str, *more: str) -> UID:
        """A UID for something within an object of `kind`, such as a dimension or the observing device."""
        return derived_uid(self.result.exam_id, self.algorithm.sha256, f"{kind}.part", *more)

    def region_uid(self, *regions: Region) -> UID:
        """Tracking UID of a region, or of several that belong together: the same in every object."""
        return self.other_uid("region", *(region.region_id for region in regions))

    @property
    def marked(self) -> tuple[Region, ...]:
        """Regions that reach the chosen operating point, most suspicious first; empty when nothing is found."""
        return tuple(region for region in self.result.regions if region.score >= self.point.threshold)

    @property
    def local_time(self) -> datetime:
        """`created` on the source's clock: in its Timezone Offset From UTC where the header states one."""
        offset = str(self.identity.get("TimezoneOffsetFromUTC", ""))
        if not offset:
            return self.created
        minutes = int(offset[1:3]) * 60 + int(offset[3:])
        return self.created.astimezone(timezone(timedelta(minutes=minutes if offset[0] == "+" else -minutes)))

    @property
    def summary(self) -> str:
        """One sentence that says how the exam ended, without identifiers."""
        if self.result.status is not Status.SCORED:
            return f"Exam not scored: {self.result.rejection or self.result.status}"
        count = len(self.marked)
        found = "No region" if not count else f"{count} region{'s' * (count > 1)}"
        verb = "reach" if count > 1 else "reaches"
        category = "" if self.result.category is None else f", category {self.result.category} of 10"
        return f"{found} {verb} operating point {self.point.name}; exam score {self.result.score:.4g}{category}"


_NO_IMAGE = (Reason.DUPLICATE, Reason.NOT_MAMMOGRAPHY)
"""Rejected, but no mammograms that were left out. Our own objects, fetched back from the PACS, are among the latter: an
exam must not seem another one because it was delivered."""


def prepare(
    result: ExamResult,
    bundle: Bundle,
    created: datetime,
    operating_point: OperatingPoint | str | None = None,
    rejections: Iterable[InstanceRejection] = (),
) -> Delivery:
    """Read the sources' headers of one exam and gather what its objects need.

    Parameters
    ----------
    operating_point
        The site's own, or the name of one of the bundle's; None takes the bundle's first.
    rejections
        Of the whole store; those of this exam are picked.

    Raises
    ------
    DeliveryError
        If no header of the exam can be read, or not that of a scored image; if identity in them is missing, invalid
        or of several women; if the bundle has no such operating point; if `result` is another bundle's.
    """
    if result.model_id != bundle.model_id:
        raise DeliveryError(f"exam {result.exam_id} was scored by {result.model_id}, not by {bundle.model_id}")
    sources, unread = _sources(result)
    points = tuple(sorted(bundle.calibration.operating_points, key=lambda point: -point.threshold))
    images = {one.image.image_id for one in result.images}
    delivery = Delivery(
        result=result,
        sources=sources,
        unread=unread,
        rejections=tuple(
            one
            for one in rejections
            if one.exam_id == result.exam_id and one.image_id not in images and one.rejection.code not in _NO_IMAGE
        ),
        algorithm=Algorithm(bundle.card.name, bundle.card.version, bundle.sha256),
        points=points,
        point=_chosen(bundle, operating_point),
        created=created,
    )
    if created.tzinfo is None:
        raise DeliveryError("the time of creation has no time zone")
    return delivery


def deliveries(
    store: ResultStore, bundle: Bundle, created: datetime, operating_point: OperatingPoint | str | None = None
) -> Iterator[tuple[ExamResult, Delivery | DeliveryError]]:
    """Every exam of this bundle in the store, with what is needed to deliver it or the reason why it cannot be.

    One exam's bad header is that exam's answer; the others follow. Raises `StoreError` when the store cannot be read.
    Heatmaps are not in the store, so `result.heatmap` is None in these; `prepare` keeps those of a fresh result.
    """
    rejections = tuple(store.rejections())
    for result in store.results(bundle.model_id):
        try:
            yield result, prepare(result, bundle, created, operating_point, rejections)
        except DeliveryError as error:
            yield result, error


def _sources(result: ExamResult) -> tuple[tuple[Source, ...], tuple[ImageResult, ...]]:
    sources, unread, causes = [], [], []
    for one in result.images:
        try:
            header = source_header(one.image.path)
        except ImageError as error:
            unread.append(one)
            causes.append(str(error))
            continue
        if str(header.SOPInstanceUID) != one.image.image_id:
            unread.append(one)
            causes.append("its file holds another instance by now")
        else:
            sources.append(Source(one, header))
    lost = [one.image.image_id for one in unread if one.status is Status.SCORED]
    if sources and lost:
        # Without its header nothing can refer to the image, and its regions would silently be missing.
        raise DeliveryError(f"the file of scored image {lost[0]} cannot be read any more; put it back or score again")
    if not sources:
        why = causes[0] if causes else "it has none"
        raise DeliveryError(f"no image header of exam {result.exam_id} can be read ({why}); nothing can be delivered")
    if _patient_ids(sources) != 1 and not _is_grouped(result, sources):
        raise DeliveryError(f"images of exam {result.exam_id} name different women; find out whose they are")
    return tuple(sources), tuple(unread)


def _patient_ids(sources: Iterable[Source]) -> int:
    """How many different Patient IDs the sources have."""
    return len({str(source.header.PatientID) for source in sources})


def _is_grouped(result: ExamResult, sources: Iterable[Source]) -> bool:
    """Whether the site profile put files of several Patient IDs into one exam: the woman's id is a part of each.

    Such profiles are of archives that write view or side into the Patient ID. Without one the woman's id *is* a
    Patient ID, and a second one is somebody else's.
    """
    part = re.compile(rf"(?<![^\W_]){re.escape(result.woman_id)}(?![^\W_])")
    ids = {str(source.header.PatientID) for source in sources}
    return bool(result.woman_id) and result.woman_id not in ids and all(part.search(one) for one in ids)


def _grouped_identity(result: ExamResult, sources: Iterable[Source]) -> Dataset:
    """Patient and study of an exam of several Patient IDs: the woman's id by the site profile, and a study of its own.

    A study belongs to one patient (PS3.3 A.1.2), so that none of the sources' can be taken. What is the same in all
    sources is kept, but for the numbers and words of their studies; names are not, as they may be of the view, too.
    """
    identity = Dataset()
    for keyword in PATIENT_AND_STUDY:
        setattr(identity, keyword, "")
    for keyword in ("PatientBirthDate", "PatientSex", "StudyDate", "TimezoneOffsetFromUTC"):
        values = {str(source.header.get(keyword, "")) for source in sources}
        if len(values) == 1:
            setattr(identity, keyword, values.pop())
    for keyword in ("PatientAge", "StudyDescription", "IssuerOfPatientID", "TimezoneOffsetFromUTC"):
        if not identity[keyword].value:
            del identity[keyword]
    identity.PatientID = result.woman_id
    identity.StudyInstanceUID = derived_uid(result.exam_id, "", "study")
    return identity


def _chosen(bundle: Bundle, chosen: OperatingPoint | str | None) -> OperatingPoint:
    if isinstance(chosen, OperatingPoint):
        return chosen
    points = bundle.calibration.operating_points
    if not points:
        raise DeliveryError("the bundle has no operating point, so that nothing says which regions are to be marked")
    if chosen is None:
        return points[0]
    try:
        return bundle.calibration.operating_point(chosen)
    except KeyError as error:
        raise DeliveryError(f"there is no operating point {error.args[0]}") from error

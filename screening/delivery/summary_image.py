"""The exam's summary page as a Secondary Capture, for viewers that show nothing else.

BurnedInAnnotation is NO though there is text in the pixels: PS3.3 C.7.6.1 asks whether it suffices "to identify the
patient and date the image was acquired", and neither is on the page; unless a source says that its own pixels do.
"""

from __future__ import annotations

from pathlib import Path

from pydicom.dataset import FileDataset
from pydicom.sequence import Sequence
from pydicom.uid import SecondaryCaptureImageStorage

from screening.delivery.context import Delivery, Source
from screening.delivery.images import new_image_object
from screening.delivery.objects import reference
from screening.delivery.summary_picture import NOTICE, summary_picture


def summary_image(delivery: Delivery, out: Path | None = None) -> FileDataset:
    """The exam's summary as a Secondary Capture Image, RGB, uncompressed.

    Parameters
    ----------
    out
        The batch's output folder. Results that come from the store have no pixels: their pictures are the report's.
    """
    pixels = summary_picture(delivery, out)
    dataset = new_image_object(
        delivery, "summary-image", SecondaryCaptureImageStorage, "OT", "Computer summary: not for clinical use"
    )
    dataset.ContentDate, dataset.ContentTime = dataset.InstanceCreationDate, dataset.InstanceCreationTime
    dataset.ConversionType = "WSD"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.DerivationDescription = f"{delivery.algorithm.name} {delivery.algorithm.version}: {delivery.summary}"[:1024]
    dataset.ImageComments = f"{NOTICE} Operating point {delivery.point.name}. Bundle {delivery.algorithm.sha256}"
    dataset.SourceImageSequence = Sequence(reference(source) for source in delivery.sources)
    dataset.PatientOrientation = ""
    dataset.BurnedInAnnotation = "YES" if any(map(_burned_in, delivery.sources)) else "NO"
    dataset.RecognizableVisualFeatures = "NO"
    dataset.LossyImageCompression = "00"
    dataset.SamplesPerPixel = 3
    dataset.PhotometricInterpretation = "RGB"
    dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelRepresentation = 0
    dataset.add_new("PixelData", "OB", pixels.tobytes())
    return dataset


def _burned_in(source: Source) -> bool:
    return bool(source.header.get("BurnedInAnnotation") == "YES")

"""Coded concepts of the structured reports: PS3.16 Annex D (DCM), SNOMED CT (SCT) and UCUM.

SNOMED RT codes (SRT), which the CAD templates had before 2018, are retired; receivers must map them (PS3.16 8.1.1).
"""

from __future__ import annotations

from pydicom.sr.coding import Code

from screening.exam import Laterality, View

# Document, sections and what stands in them (TID 4000 to 4006, 4015 to 4023).
MAMMOGRAPHY_CAD_REPORT = Code("111036", "DCM", "Mammography CAD Report")
LANGUAGE = Code("121049", "DCM", "Language of Content Item and Descendants")
ENGLISH = Code("en", "RFC5646", "English")
IMAGE_LIBRARY = Code("111028", "DCM", "Image Library")
FINDINGS_SUMMARY = Code("111017", "DCM", "CAD Processing and Findings Summary")
IMPRESSION_DESCRIPTION = Code("111033", "DCM", "Impression Description")
INDIVIDUAL_IMPRESSION = Code("111034", "DCM", "Individual Impression/Recommendation")
COMPOSITE_FEATURE = Code("111015", "DCM", "Composite Feature")
COMPOSITE_TYPE = Code("111016", "DCM", "Composite Type")
SCOPE_OF_FEATURE = Code("111057", "DCM", "Scope of Feature")
CERTAINTY_OF_FEATURE = Code("111011", "DCM", "Certainty of Feature")
SINGLE_IMAGE_FINDING = Code("111059", "DCM", "Single Image Finding")
CERTAINTY_OF_FINDING = Code("111012", "DCM", "Certainty of Finding")
CERTAINTY_OF_IMPRESSION = Code("111013", "DCM", "Certainty of impression")
REGION_DESCRIPTION = Code("111058", "DCM", "Selected Region Description")
CENTER = Code("111010", "DCM", "Center")
OUTLINE = Code("111041", "DCM", "Outline")
TRACKING_IDENTIFIER = Code("112039", "DCM", "Tracking Identifier")
TRACKING_UID = Code("112040", "DCM", "Tracking Unique Identifier")
ALGORITHM_NAME = Code("111001", "DCM", "Algorithm Name")
ALGORITHM_VERSION = Code("111003", "DCM", "Algorithm Version")
ALGORITHM_PARAMETERS = Code("111002", "DCM", "Algorithm Parameters")

SELECTED_REGION = Code("111099", "DCM", "Selected region")
"""What the model finds (CID 6014): a suspicious place, of which it does not say what it is, mass or calcification."""

RELATED_SPATIALLY = Code("111154", "DCM", "Target content items are related spatially")
ON_MULTIPLE_IMAGES = Code("111158", "DCM", "Feature detected on multiple images")

# Rendering intent and operating points.
RENDERING_INTENT = Code("111056", "DCM", "Rendering Intent")
PRESENTATION_REQUIRED = Code("111150", "DCM", "Presentation Required: Rendering device is expected to present")
PRESENTATION_OPTIONAL = Code("111151", "DCM", "Presentation Optional: Rendering device may present")
OPERATING_POINT = Code("111071", "DCM", "CAD Operating Point")
MAXIMUM_OPERATING_POINT = Code("111072", "DCM", "Maximum CAD Operating Point")
RECOMMENDED_OPERATING_POINT = Code("111092", "DCM", "Recommended CAD Operating Point")

# How the processing went.
ALL_WITHOUT_FINDINGS = Code("111241", "DCM", "All algorithms succeeded; without findings")
ALL_WITH_FINDINGS = Code("111242", "DCM", "All algorithms succeeded; with findings")
SOME_WITHOUT_FINDINGS = Code("111243", "DCM", "Not all algorithms succeeded; without findings")
SOME_WITH_FINDINGS = Code("111244", "DCM", "Not all algorithms succeeded; with findings")
NONE_SUCCEEDED = Code("111245", "DCM", "No algorithms succeeded; without findings")
SUCCEEDED = Code("111222", "DCM", "Succeeded")
PARTIALLY_SUCCEEDED = Code("111223", "DCM", "Partially Succeeded")
FAILED = Code("111224", "DCM", "Failed")
SUMMARY_OF_DETECTIONS = Code("111064", "DCM", "Summary of Detections")
SUCCESSFUL_DETECTIONS = Code("111063", "DCM", "Successful Detections")
FAILED_DETECTIONS = Code("111025", "DCM", "Failed Detections")
DETECTION_PERFORMED = Code("111022", "DCM", "Detection Performed")
SUMMARY_OF_ANALYSES = Code("111065", "DCM", "Summary of Analyses")
SUCCESSFUL_ANALYSES = Code("111062", "DCM", "Successful Analyses")
FAILED_ANALYSES = Code("111024", "DCM", "Failed Analyses")
ANALYSIS_PERFORMED = Code("111004", "DCM", "Analysis Performed")
OVERALL_ANALYSIS = Code("111234", "DCM", "Overall Impression / Recommendation Analysis")
COLLOCATION_ANALYSIS = Code("133884007", "SCT", "Spatial collocation analysis")

# Image library (TID 4020).
IMAGE_LATERALITY = Code("111027", "DCM", "Image Laterality")
IMAGE_VIEW = Code("111031", "DCM", "Image View")
IMAGE_VIEW_MODIFIER = Code("111032", "DCM", "Image View Modifier")
ORIENTATION_ROW = Code("111044", "DCM", "Patient Orientation Row")
ORIENTATION_COLUMN = Code("111043", "DCM", "Patient Orientation Column")
STUDY_DATE = Code("111060", "DCM", "Study Date")
STUDY_TIME = Code("111061", "DCM", "Study Time")
HORIZONTAL_SPACING = Code("111026", "DCM", "Horizontal Pixel Spacing")
VERTICAL_SPACING = Code("111066", "DCM", "Vertical Pixel Spacing")

# Measurement report (TID 1500).
MEASUREMENT_REPORT = Code("126000", "DCM", "Imaging Measurement Report")
IMAGING_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")
"""CID 100, which has no mammography."""
BREAST = Code("76752008", "SCT", "Breast")
BREAST_COMPOSITION = Code("129715009", "SCT", "Breast composition")

BREAST_SIDES = {
    Laterality.LEFT: Code("80248007", "SCT", "Left breast"),
    Laterality.RIGHT: Code("73056007", "SCT", "Right breast"),
}
"""CID 6022."""

SIDES = {Laterality.LEFT: Code("7771000", "SCT", "Left"), Laterality.RIGHT: Code("24028007", "SCT", "Right")}
"""CID 244."""

VIEWS = {
    View.CC: Code("399162004", "SCT", "cranio-caudal"),
    View.MLO: Code("399368009", "SCT", "medio-lateral oblique"),
    View.ML: Code("399260004", "SCT", "medio-lateral"),
    View.LM: Code("399352003", "SCT", "latero-medial"),
    View.LMO: Code("399099002", "SCT", "latero-medial oblique"),
    View.FB: Code("399196006", "SCT", "caudo-cranial (from below)"),
    View.SIO: Code("399188001", "SCT", "superolateral to inferomedial oblique"),
    View.ISO: Code("441555000", "SCT", "inferomedial to superolateral oblique"),
    View.XCCL: Code("399192008", "SCT", "cranio-caudal exaggerated laterally"),
    View.XCCM: Code("399101009", "SCT", "cranio-caudal exaggerated medially"),
    View.AT: Code("399368009", "SCT", "medio-lateral oblique"),
    View.CV: Code("399162004", "SCT", "cranio-caudal"),
}
"""CID 4014."""

VIEW_MODIFIERS = {
    View.AT: Code("399011000", "SCT", "Axillary Tail"),
    View.CV: Code("399161006", "SCT", "Cleavage"),
}
"""CID 4015, of the views that DICOM names by a modifier."""

DENSITIES = {
    "A": Code("129716005", "SCT", "Almost entirely fat"),
    "B": Code("129717001", "SCT", "Scattered fibroglandular densities"),
    "C": Code("129718006", "SCT", "Heterogeneously dense"),
    "D": Code("129719003", "SCT", "Extremely dense"),
}
"""CID 6000, by the category of BI-RADS."""

PERCENT = Code("%", "UCUM", "Percent")
MILLIMETER = Code("mm", "UCUM", "millimeter")
ARBITRARY = Code("[arb'U]", "UCUM", "arbitrary unit")
FROM_ZERO = Code("{0:n}", "UCUM", "range: 0:n")
FROM_ONE = Code("{1:n}", "UCUM", "range: 1:n")

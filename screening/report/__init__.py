"""Pictures of scored images, and the batch report that a radiologist reads."""

from screening.report.figures import picture_paths, write_figures
from screening.report.priors import PRIORS_NAME
from screening.report.report import write_report

__all__ = ["PRIORS_NAME", "picture_paths", "write_figures", "write_report"]

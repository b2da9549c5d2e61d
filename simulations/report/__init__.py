"""One self-contained page, and static images, of what an evaluation or a simulation found."""

from simulations.report.content import Curve, Finding, Level, Point, ReportContent, Role
from simulations.report.images import write_images
from simulations.report.page import render_page, write_files, write_page

__all__ = [
    "Curve",
    "Finding",
    "Level",
    "Point",
    "ReportContent",
    "Role",
    "render_page",
    "write_files",
    "write_images",
    "write_page",
]

"""The report of a finished run: one self-contained HTML file."""

from tailora.report.comparison import write_comparison
from tailora.report.inspection import ClassRow, write_inspection, write_scene_page
from tailora.report.method_comparison import write_method_comparison
from tailora.report.run_report import write_report

__all__ = [
    "ClassRow",
    "write_comparison",
    "write_inspection",
    "write_method_comparison",
    "write_report",
    "write_scene_page",
]

"""Reports: traces, metrics and training curves as self-contained HTML pages."""

from pixel_reasoner.reports.page import PageSummary, write_report

__all__ = ["PageSummary", "write_report"]

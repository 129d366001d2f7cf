"""Traces as one self-contained HTML page."""

from pixel_reasoner.report.page import Summary, write_report

__all__ = ["Summary", "write_report"]

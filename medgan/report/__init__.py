"""Pictures and self-contained HTML reports."""

from __future__ import annotations

from medgan.report.html import render_report, write_report

__all__ = ["render_report", "write_report"]

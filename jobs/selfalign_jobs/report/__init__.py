"""The report of a run: one HTML file for people, one JSON file for programs, a small table for the terminal."""

from selfalign_jobs.report.finish import finish_report, has_report, render_report, show_report, summary, write_report

__all__ = ["finish_report", "has_report", "render_report", "show_report", "summary", "write_report"]

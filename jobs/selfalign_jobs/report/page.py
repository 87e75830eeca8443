"""The report of a run as a page."""

from __future__ import annotations

from selfalign_jobs.recipes.base import recipe
from selfalign_jobs.report.evidence import Evidence
from selfalign_jobs.report.layout import page
from selfalign_jobs.report.sections import all_sections
from selfalign_jobs.report.tiles import tiles


def render(evidence: Evidence) -> str:
    """The page."""
    return page(
        "report.html.j2",
        "parts.html.j2",
        list(tiles(evidence)),
        list(all_sections(evidence)),
        plan=evidence.plan,
        paper=recipe(evidence.plan.recipe).paper,
        finished=evidence.finished,
    )

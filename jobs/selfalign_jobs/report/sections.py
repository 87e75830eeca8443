"""The sections of a report in reading order: the result, what each iteration made and trained, the time it took, its lineage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from selfalign_jobs.report.chart import bar
from selfalign_jobs.report.evidence import REST, Evidence
from selfalign_jobs.report.lineage import lineage_section
from selfalign_jobs.report.of_tables import sections_of_tables
from selfalign_jobs.report.of_trainings import sections_of_trainings
from selfalign_jobs.report.result import result_section
from selfalign_jobs.report.samples import sections_of_samples
from selfalign_jobs.report.scale import duration
from selfalign_jobs.report.section import Section, told_apart

OVERHEAD = ("engine start", "start", "load", REST)  # phases that do not grow with the work


def all_sections(evidence: Evidence) -> Iterator[Section]:
    """Every section that the run has something to say in."""
    yield from result_section(evidence)
    several = len(evidence.iterations) > 1
    for iteration in evidence.iterations:
        group = f"iteration {iteration.number}" if several else ""
        found = [
            *sections_of_tables(evidence, iteration),
            *sections_of_trainings(evidence, iteration),
            *sections_of_samples(evidence, iteration),
        ]
        for section in told_apart(found):
            yield replace(section, id=f"{section.id}-{iteration.number}", group=group)
    yield _time(evidence)
    yield lineage_section(evidence)


def _time(evidence: Evidence) -> Section:
    longest = max((facts.seconds for facts in evidence.steps), default=0.0) or 1.0
    rows = []
    for facts in evidence.steps:
        segments = [
            (seconds / longest, "lost" if phase in OVERHEAD else "a", f"{phase} {duration(seconds)}")
            for phase, seconds in facts.phases.items()
        ]
        rows.append({"facts": facts, "bar": bar(segments)})
    return Section("time", "Time", "time", {"rows": rows, "total": sum(facts.seconds for facts in evidence.steps)})

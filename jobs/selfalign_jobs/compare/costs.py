"""What each run took: the rows that it read, tokens written and trained, engine starts, time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from selfalign_api.plan import Evaluate, Generate, SourceRef, Train
from selfalign_jobs.compare.runs import ComparedRun
from selfalign_jobs.recipes.tables import learned_from
from selfalign_jobs.report.evidence import StepFacts


@dataclass(frozen=True)
class Costs:
    """What the finished steps of a run took, those included that it took over from another run (`reused`)."""

    read: dict[str, dict[str, int]]  # source → table that is made of its rows → how many
    tokens: dict[str, int]
    engine_starts: int
    seconds: dict[str, float]
    reused: tuple[str, ...]


def costs_of(run: ComparedRun) -> Costs:
    """The costs of a run so far."""
    done = [facts for facts in run.evidence.steps if facts.manifest is not None]
    read: dict[str, dict[str, int]] = {}
    for source, table, rows in _rows_read(run):
        read.setdefault(source, {})[table] = rows
    engines = [facts for facts in done if isinstance(facts.step, Generate | Evaluate)]
    return Costs(
        read=read,
        tokens={
            "written in generation": sum(
                _tokens(facts, ".out") for facts in engines if isinstance(facts.step, Generate)
            ),
            "written in evaluation": sum(
                _tokens(facts, ".out") for facts in engines if isinstance(facts.step, Evaluate)
            ),
            "read by engines": sum(_tokens(facts, ".in") for facts in engines),
            "trained": sum(facts.tokens_made for facts in done if isinstance(facts.step, Train)),
        },
        # A load whose records were all durable starts none; attempts that were killed started theirs too.
        engine_starts=sum(len(facts.step.loads) for facts in engines if isinstance(facts.step, Generate | Evaluate)),
        seconds={
            word: round(sum(facts.seconds for facts in done if isinstance(facts.step, kind)), 3)
            for word, kind in (("generation", Generate), ("training", Train), ("evaluation", Evaluate))
        },
        reused=tuple(facts.step.name for facts in done if facts.manifest is not None and facts.manifest.reused),
    )


def _tokens(facts: StepFacts, direction: str) -> int:
    counts = {} if facts.manifest is None else facts.manifest.tokens
    return sum(number for name, number in counts.items() if name.endswith(direction))


def _rows_read(run: ComparedRun) -> Iterator[tuple[str, str, int]]:
    """Rows of each source, by the table that is made of them; prompts that are only held out are not read."""
    for iteration in run.evidence.iterations:
        for made in iteration.made:
            for ref in learned_from(made.job.rows):
                if isinstance(ref, SourceRef):
                    yield ref.name, f"{made.facts.step.name}.{made.job.out}", made.drawn
        for trained in iteration.trained:
            for given in learned_from(trained.step.data):
                if isinstance(given, SourceRef):
                    yield given.name, trained.step.name, trained.rows + sum(trained.left_out.values())

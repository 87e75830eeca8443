"""The runs that are compared: read from their folders, or refused in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from selfalign_api import __version__
from selfalign_api.errors import ConfigError, Problem
from selfalign_api.plan import ArtifactRef, Evaluate, Plan
from selfalign_api.plan_values import Json
from selfalign_jobs.accept.owner import Owner
from selfalign_jobs.places.store import PLAN_FILE, Folder, read_plan
from selfalign_jobs.recipes.base import recipe
from selfalign_jobs.report.evidence import Evidence, Iteration, Made, StepFacts, read_evidence

RUN = "RUN"  # as the command line calls it
LEDGER = frozenset({"_record", "_status", "_reason"})  # columns of every table that an engine's step makes
AGAIN = (
    "in a run with another name, and storage.reuseFrom: [URL OF THIS RUN] so that what stays the same is not done again"
)


@dataclass(frozen=True)
class ComparedRun:
    """A run that has been evaluated."""

    number: int
    folder: Folder
    evidence: Evidence

    @property
    def plan(self) -> Plan:
        """Its plan."""
        return self.evidence.plan

    @property
    def letter(self) -> str:
        """A, B, …: what tells it from the others, whose names may be the same."""
        return letter_of(self.number)

    @property
    def label(self) -> str:
        """Letter and name."""
        return f"{self.letter} {self.plan.name}"

    @property
    def owner(self) -> Owner:
        """Whose folder it is: its method, resolved."""
        assert self.evidence.owner is not None  # else it was refused
        return self.evidence.owner

    @cached_property
    def evaluations(self) -> tuple[StepFacts, ...]:
        """Its finished evaluations, the newest last."""
        return tuple(facts for facts in self.evidence.steps if is_evaluated(facts))

    @property
    def results(self) -> dict[str, Json]:
        """The figures of its newest finished evaluation."""
        return self.newest.results

    @property
    def newest(self) -> Iteration:
        """The iteration of its newest finished evaluation."""
        return next(each for each in reversed(self.evidence.iterations) if each.results)

    @property
    def evaluation(self) -> Evaluate:
        """Its newest finished evaluation."""
        step = self.evaluations[-1].step
        assert isinstance(step, Evaluate)
        return step

    def made(self, ref: ArtifactRef) -> Made:
        """The table of that name, of whatever iteration."""
        return next(made for each in self.evidence.iterations for made in each.made if made.ref == ref)


def letter_of(number: int) -> str:
    """A … Z, then A1 …."""
    return chr(ord("A") + number % 26) + (str(number // 26) if number >= 26 else "")


def is_evaluated(facts: StepFacts) -> bool:
    """Whether it is an evaluation that is done, and gave figures."""
    return (
        isinstance(facts.step, Evaluate)
        and facts.manifest is not None
        and bool(facts.manifest.result.get("checks", True))
    )


def read_runs(folders: Sequence[Folder]) -> tuple[ComparedRun, ...]:
    """The runs in these folders. ConfigError with all that cannot be compared, and what to do about each."""
    runs: list[ComparedRun] = []
    problems: list[Problem] = []
    for number, folder in enumerate(folders):
        try:
            with whole(folder):
                runs.append(ComparedRun(number, folder, _read(folder)))
        except ConfigError as error:
            problems += [problem for problem in error.problems if problem not in problems]
    if problems:
        raise ConfigError(problems)
    return tuple(runs)


@contextmanager
def whole(folder: Folder) -> Iterator[None]:
    """ConfigError where a file is missed that the run's manifests name."""
    try:
        yield
    except FileNotFoundError as error:
        words = (
            f"{folder.place} lacks a file that its steps made ({error}); put it back from a copy, or do the run again"
        )
        raise ConfigError.one(RUN, words) from error


def _read(folder: Folder) -> Evidence:
    if not folder.exists(PLAN_FILE):
        below = ", ".join(_runs_below(folder))
        words = f"write {below}" if below else "write the folder that `selfalign run` printed"
        raise ConfigError.one(RUN, f"{folder.place} has no {PLAN_FILE}, so no run is there; {words}")
    plan = read_plan(folder)
    try:
        recipe(plan.recipe)
    except ConfigError:
        raise _unread(folder, plan, f"recipe {plan.recipe} is not built in this version") from None
    evidence = read_evidence(folder, plan)
    for missing in _missing(evidence):
        raise _unread(folder, plan, missing)
    if not any(is_evaluated(facts) for facts in evidence.steps):
        raise ConfigError.one(RUN, f"{folder.place} {_not_evaluated(evidence)}")
    return evidence


def _runs_below(folder: Folder) -> Iterator[str]:
    """Runs of a folder of this machine that `selfalign run --out` was given: DIR/NAMESPACE/NAME."""
    if folder.local is not None:
        yield from (str(file.parent) for file in sorted(folder.local.glob(f"*/*/{PLAN_FILE}"))[:4])


def _missing(evidence: Evidence) -> Iterator[str]:
    """What a run of an older version lacks that comparing reads."""
    if evidence.owner is None:
        yield "it has no owner.json"
    flows = recipe(evidence.plan.recipe).flows
    yield from (
        f"its step {made.facts.step.name} has the flow {made.job.flow}, which this version does not have"
        for iteration in evidence.iterations
        for made in iteration.made
        if made.job.flow not in flows
    )
    needed = _columns_read(evidence)
    for made in (made for iteration in evidence.iterations for made in iteration.made):
        missing = [] if made.table is None else sorted(needed.get(made.ref, LEDGER) - {*made.table.column_names})
        yield from (f"table {made.job.out} of {made.facts.step.name} has no column {name}" for name in missing)
    for facts in evidence.steps:
        if facts.manifest is not None:
            wanted = {"seconds", "checks"} if isinstance(facts.step, Evaluate) else {"seconds"}
            yield from (
                f"the manifest of {facts.step.name} has no {name}" for name in sorted(wanted - {*facts.manifest.result})
            )


def _columns_read(evidence: Evidence) -> dict[ArtifactRef, frozenset[str]]:
    """What is read of the tables that evaluations count."""
    checks = [check for facts in evidence.steps if isinstance(facts.step, Evaluate) for check in facts.step.checks]
    answers = {
        check.after: LEDGER | {"prompt", "reference", "role", "answer"}
        for check in checks
        if not check.verdicts and not check.has_questions
    }
    return answers | {check.verdicts: LEDGER | {"prompt", "p_first"} for check in checks if check.verdicts}


def _unread(folder: Folder, plan: Plan, why: str) -> ConfigError:
    words = f"{folder.place} was written by selfalign {plan.version} and this is {__version__}: {why}"
    return ConfigError.one(RUN, f"{words}; compare it with selfalign {plan.version}, or run it again with this version")


def _not_evaluated(evidence: Evidence) -> str:
    planned = [facts.step.name for facts in evidence.steps if isinstance(facts.step, Evaluate)]
    if planned and all(facts.manifest for facts in evidence.steps if isinstance(facts.step, Evaluate)):
        return f"is evaluated by Exports alone, which give no figure; write a SelfWinRate or an ExactMatch {AGAIN}"
    if not planned:
        return f"is never evaluated; write evaluation.when: Last {AGAIN}"
    return f"is not evaluated yet: its step {planned[0]} is not done; run it to its end, or wait for it"

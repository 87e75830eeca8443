"""What a win rate is called: whose verdicts it rests on, and whose answers the new model's are compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from selfalign_api.plan import Check, Evaluate
from selfalign_api.plan_values import Json
from selfalign_jobs.report.evidence import Evidence

AGAINST = {"previous": "against the iteration before", "answers": "against given answers"}


def words_of(told: Json) -> str:
    """For people: `self-win rate`, `win rate by judge-70b against the iteration before`."""
    judge, against = told.get("judge"), told.get("against")
    rate = "self-win rate" if judge is None else f"win rate by {judge}"
    return rate if against is None else f"{rate} {AGAINST[against]}"


def told_of(evidence: Evidence, check: Check) -> dict[str, Json]:
    """What of it is not as a matter of course: a `judge` that is a helper, whom it is `against` but the initial model."""
    told = {"judge": helper_of(evidence, check), "against": check.against}
    return {name: value for name, value in told.items() if value is not None}


def helper_of(evidence: Evidence, check: Check) -> str | None:
    """The helper that judges it; None where the model as given does, or the control, which asks none."""
    judges = (
        load.model.lineage
        for facts in evidence.steps
        if isinstance(facts.step, Evaluate) and check.verdicts is not None and facts.step.name == check.verdicts.step
        for load in facts.step.loads
        if any(job.out == check.verdicts.name for job in load.jobs)
    )
    return next((judge for judge in judges if judge != "policy"), None)


def judges_of(evidence: Evidence, checks: Sequence[Check]) -> str:
    """Who judges, in the words of the report; where they are several, each with its checks."""
    return _each_with_its_checks(checks, lambda check: helper_of(evidence, check) or "the initial model")


def opponents_of(checks: Sequence[Check]) -> str:
    """Whom they are against, likewise; nothing where that is the initial model."""
    if not any(check.against for check in checks):
        return ""
    return _each_with_its_checks(checks, lambda check: AGAINST.get(check.against or "", "against the initial model"))


def _each_with_its_checks(checks: Sequence[Check], words: Callable[[Check], str]) -> str:
    names: dict[str, list[str]] = {}
    for check in checks:
        names.setdefault(words(check), []).append(check.name)
    if len(names) == 1:
        return next(iter(names))
    return " and ".join(f"{who} ({', '.join(named)})" for who, named in names.items())

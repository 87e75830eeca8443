"""Differences between runs: what their newest models did on the same held-out prompts, prompt by prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from selfalign_api.errors import ConfigError
from selfalign_api.plan import Check
from selfalign_api.plan_values import Json
from selfalign_jobs.compare.runs import RUN, ComparedRun
from selfalign_jobs.evaluate.checks import controlled_name, right_answers
from selfalign_jobs.evaluate.statistics import Estimate, paired_gain, points
from selfalign_jobs.flow import seed_of
from selfalign_jobs.generate.notes import tie_margin_of
from selfalign_jobs.report.result import roles_of
from selfalign_jobs.step.pair_figures import kept_pairs


@dataclass(frozen=True)
class Figure:
    """A figure that runs share: a check, and the role whose answers count (None: the judge's verdicts)."""

    check: str
    type: str
    role: str | None
    against: str | None = None  # of a win rate: answers, where it is against those of a file

    @property
    def name(self) -> str:
        """As the evaluation names it: `accuracy.sampled`, `win`."""
        return self.check if self.role is None else f"{self.check}.{self.role}"

    @property
    def words(self) -> str:
        """For people."""
        return self.name.replace(".", ", ", 1)

    def parts(self, results: dict[str, Json]) -> dict[str, Json]:
        """Before, after and gain of an evaluation, each with its interval; of a win rate the rate (`after`), raw and controlled."""
        if self.role is None:
            even = results.get(controlled_name(self.name))
            return {"after": results[self.name]} | ({} if even is None else {"controlled": even})
        return {part: results[f"{self.name}.{part}"] for part in ("before", "after", "gain")}


@dataclass(frozen=True)
class Difference:
    """By how much a run's model is above another's, over the prompts that both answered."""

    figure: Figure
    run: ComparedRun
    against: ComparedRun
    estimate: Estimate

    @property
    def clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.estimate.low > 0 or self.estimate.high < 0


def shared_figures(runs: Sequence[ComparedRun]) -> tuple[Figure, ...]:
    """The figures that every run has, in the order of the first; ConfigError without any."""
    by_run = [figures_of(run) for run in runs]
    shared = tuple(figure for figure in by_run[0] if all(figure in others for others in by_run[1:]))
    if not shared:
        has = "; ".join(
            f"{run.plan.name} ({run.folder.place}) has {', '.join(figure.name for figure in figures)}"
            for run, figures in zip(runs, by_run, strict=True)
        )
        raise ConfigError.one(
            RUN, f"no check is common to all: {has}; write evaluation.checks of the same name, type and temperatures"
        )
    return shared


def figures_of(run: ComparedRun) -> tuple[Figure, ...]:
    """The figures of its newest evaluation. A rate against a run's own iteration before says nothing of another run."""
    return tuple(
        Figure(check.name, check.type, role, check.against)
        for check in run.evaluation.checks
        if check.against != "previous" and check.type != "Benchmark"  # which has no held-out prompts of the run's
        for role in ([None] if check.type == "SelfWinRate" else roles_of(check.name, run.results))
    )


def differences(runs: Sequence[ComparedRun], figures: Sequence[Figure]) -> tuple[Difference, ...]:
    """Each run against each before it, figure by figure: bootstrap over prompts, the same seeds every time."""
    found: list[Difference] = []
    for figure in figures:
        counted = [counts(run, figure) for run in runs]
        for (old, run), (new, other) in combinations(zip(counted, runs, strict=True), 2):
            both = sorted(old.keys() & new.keys())
            if not both:
                raise ConfigError.one(
                    RUN,
                    f"{run.plan.name} ({run.folder.place}) and {other.plan.name} ({other.folder.place}) share no prompt that "
                    f"both answered ({figure.words}); look at the records that their evaluations set aside",
                )
            seed = seed_of("compare", figure.name)
            estimate = paired_gain([old[prompt] for prompt in both], [new[prompt] for prompt in both], seed)
            found.append(Difference(figure, other, run, estimate))
    return tuple(found)


def counts(run: ComparedRun, figure: Figure) -> dict[str, float]:
    """What each prompt counts: 1 for a right answer (or one that wins), 0 for a wrong one, a half for a tie."""
    (check,) = (check for check in run.evaluation.checks if check.name == figure.check)
    if figure.role is not None:
        answers = kept_pairs(_table(run, check))
        return {prompt: float(right) for prompt, right in right_answers(answers, figure.role).items()}
    assert check.verdicts is not None
    margin = tie_margin_of(run.made(check.verdicts).job.judge)
    rows = kept_pairs(_table(run, check)).select(["prompt", "p_first"]).to_pylist()
    return {row["prompt"]: points(row["p_first"], margin) for row in rows}


def _table(run: ComparedRun, check: Check) -> object:
    table = run.made(check.verdicts or check.after).table
    assert table is not None  # its evaluation is done
    return table

"""The held-out prompts that runs were evaluated on: runs are compared on the same ones only."""

from __future__ import annotations

from collections.abc import Sequence

from selfalign_api.errors import ConfigError
from selfalign_jobs.compare.runs import AGAIN, RUN, ComparedRun, whole
from selfalign_jobs.places.store import step_folder

Asked = frozenset[tuple[str, str | None]]  # prompt, reference answer


def held_out_of_all(runs: Sequence[ComparedRun]) -> Asked:
    """The prompts that all runs were evaluated on; ConfigError where they are not the same, naming the runs."""
    first, *others = runs
    wanted = asked(first)
    for run in others:
        found = asked(run)
        if found != wanted:
            raise ConfigError.one(RUN, f"{_named(first)} and {_named(run)} {_apart(wanted, found)}; {MEND}")
    return wanted


MEND = f"only answers to the same prompts compare: write the same evaluation.prompts {AGAIN}"


def asked(run: ComparedRun) -> Asked:
    """The prompts of its newest evaluation with their reference answers, whatever became of the answers."""
    rows: set[tuple[str, str | None]] = set()
    for ref in {check.after for check in run.evaluation.checks if not check.has_questions}:
        folder = step_folder(run.folder, run.evaluation.iteration, ref.step)
        with whole(run.folder):
            table = folder.read_table(f"prepared/{ref.name}.parquet", columns=["prompt", "reference"])
        rows |= {(row["prompt"], row.get("reference")) for row in table.to_pylist()}
    return frozenset(rows)


def _named(run: ComparedRun) -> str:
    return f"{run.plan.name} ({run.folder.place})"


def _apart(one: Asked, other: Asked) -> str:
    prompts = [{prompt for prompt, _ in asked} for asked in (one, other)]
    if prompts[0] == prompts[1]:
        return f"were evaluated on the same {len(prompts[0]):,} held-out prompts with other reference answers"
    same = len(prompts[0] & prompts[1])
    return (
        f"were evaluated on other held-out prompts: {len(prompts[0]):,} and {len(prompts[1]):,}, of which "
        f"{same or 'none':{',' if same else ''}} {'is' if same < 2 else 'are'} the same"
    )

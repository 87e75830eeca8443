"""What is held out: prompts that are given for training too, whose pairs it leaves out, and the ids of questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from selfalign_api.errors import ConfigError, shown
from selfalign_api.plan import ArtifactRef, Generate, Plan, SourceRef, Train, origin_of
from selfalign_jobs.places.source_rows import SourceRows
from selfalign_jobs.recipes.base import Recipe
from selfalign_jobs.step import second_look

# Sources whose rows have the prompts; those of personas are yet to be written.
GIVEN = ("prompts", "demonstrations", "preferences")


def held_out_notes(plan: Plan, found: Recipe, sources: Mapping[str, SourceRows]) -> Iterator[str]:
    """What of it deserves a second look. ConfigError where a training would be left without any pair."""
    given = next((kind for kind in GIVEN if kind in sources), None)
    if given is None:
        return
    for step in plan.steps:
        held = step.data.inputs[-1] if isinstance(step, Train) and step.data.options.get("held_out") else None
        if not isinstance(step, Train) or not isinstance(held, SourceRef):
            continue
        apart = set(sources[held.name].read()["prompt"].to_pylist())
        made = [ref for ref in step.data.inputs[:-1] if isinstance(ref, ArtifactRef)]  # else its own function says it
        drawn = [prompt for ref in made for prompt in _drawn(plan, found, given, sources[given], ref)]
        both = sum(prompt in apart for prompt in drawn)
        if drawn and both == len(drawn):
            raise ConfigError.one(
                "spec.evaluation.prompts.url",
                f"holds all {both:,} prompts that {step.name} draws from data.{given}, and training leaves out what is held "
                "out; write other prompts for one of the two",
            )
        yield from second_look.on_held_out_pairs(len(drawn), both)


def refuse_equal_ids(sources: Mapping[str, SourceRows]) -> None:
    """ConfigError where two held-out questions have one id: whoever looks an answer up by it would find one of two."""
    held = sources["evaluation"].read() if "evaluation" in sources else None
    if held is None or "id" not in held.column_names:
        return
    ((most, times),) = Counter(held["id"].to_pylist()).most_common(1)
    if times > 1:
        message = f"{shown(most)} is the id of {times:,} of {held.num_rows:,} rows; write the column that tells the questions apart"
        raise ConfigError.one("spec.evaluation.prompts.columns.id", message)


def _drawn(plan: Plan, found: Recipe, given: str, source: SourceRows, ref: ArtifactRef) -> list[str]:
    """The prompts of the records that a table of pairs is made from; none where these are of another table, or not all taken."""
    step = plan.step(ref.step)
    assert isinstance(step, Generate)
    job = origin_of(step, ref.name)
    if job.rows.inputs != (SourceRef(name=given),):
        return []
    taken = found.prepares[job.rows.fn].run((source,), job.rows.options)
    prompts: list[str] = taken["prompt"].to_pylist()
    return prompts

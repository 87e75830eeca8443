"""Files of answers that the evaluation compares with: whether they answer what is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pyarrow.compute as pc

from selfalign_api.errors import refused_as
from selfalign_jobs.places.source_rows import SourceRows
from selfalign_jobs.places.sources import none_answered
from selfalign_jobs.recipes.evaluation import OF_FILE
from selfalign_jobs.step import second_look


def answers_notes(sources: Mapping[str, SourceRows]) -> Iterator[str]:
    """What of them deserves a second look, where it is known by now what is asked. ConfigError for one that answers nothing."""
    if "evaluation" not in sources:
        return
    asked = set(sources["evaluation"].read()["prompt"].to_pylist())
    for name in (name for name in sources if name.startswith(OF_FILE)):
        check, rows = name.removeprefix(OF_FILE), sources[name].read()
        answered = len(asked.intersection(rows.filter(pc.is_valid(rows["response"]))["prompt"].to_pylist()))
        if answered == 0:
            with refused_as("DataNotFound"):
                raise none_answered(check, len(asked))
        yield from second_look.on_unanswered(check, len(asked), answered)

"""`selfalign preview`: which runs have something to show, and how a record is shown."""

from __future__ import annotations

from io import StringIO

import pyarrow as pa
import pytest
from plans import plan_of, spin
from played_shapes import SHAPES
from rich.console import Console

from selfalign_api.errors import ConfigError
from selfalign_jobs.local.preview import first_generation, shown


def test_a_run_whose_first_step_writes_has_something_to_show() -> None:
    assert first_generation(plan_of("spin", spin())).name == "i1-generate"


@pytest.mark.parametrize("shape", ["synpo", "offline"])
def test_one_that_trains_first_is_told_what_shows_it(shape: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"recipe {shape} trains \(.*\) before it generates anything; `selfalign plan`"
    ):
        first_generation(plan_of(shape, SHAPES[shape]()))


def test_records_stand_in_the_order_of_their_rows_with_how_each_ended() -> None:
    rows = [
        {
            "_source": 1,
            "_status": "dropped",
            "_reason": "tie",
            "_detail": "[b]4[/b]",
            "prompt": "2 + 2?",
            "chosen": None,
        },
        {"_source": 0, "_status": "rows", "_reason": None, "_detail": None, "prompt": "Hi\nyou", "chosen": "[red]Yes"},
    ]
    output = StringIO()
    table = pa.Table.from_pylist([row | {"margin": 0.5, "chosen_finish": "stop", "prompt_ids": [1]} for row in rows])
    Console(file=output, width=60).print(shown("pairs", table))
    lines = [line.rstrip() for line in output.getvalue().splitlines()[1:]]
    first = ["record 1", "  prompt:", "  Hi", "  you", "  chosen: [red]Yes", "  margin: 0.500", ""]
    second = ["record 2  dropped: tie", "  prompt: 2 + 2?", "  margin: 0.500", "  detail: [b]4[/b]", ""]
    assert lines == [*first, *second]

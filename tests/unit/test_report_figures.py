"""The report's figures, on tables as the generation ledger writes them."""

from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign_jobs.generate.records import Record, to_table
from selfalign_jobs.recipes.answers import repetition
from selfalign_jobs.recipes.rows import PAIRS, SCORED_PAIRS
from selfalign_jobs.recipes.sao import RECIPE
from selfalign_jobs.report.figures import Stage, funnel, order_margins, sample_pairs, scores
from selfalign_jobs.step.pair_figures import counted, lengths, verdicts

ASKED = {"persona": "a baker", "prompt": "why?", "prompt_seed": 1, "prompt_ids": [1, 2], "answer_seed": 1}


def judged(forward: str, backward: str | None, **more: Any) -> dict[str, Any]:
    return ASKED | {"verdict_forward": forward, "verdict_backward": backward, "p_first": 0.7} | more


def pair(**more: Any) -> dict[str, Any]:
    row = {"chosen": "a", "rejected": "b", "chosen_ids": [1], "rejected_ids": [1], "first_chosen": True, "margin": 1.0}
    finish = {"chosen_finish": "stop", "rejected_finish": "stop"}
    return judged("first", "first") | row | finish | more


def table_of(*records: Record) -> pa.Table:
    return counted(to_table(list(records), PAIRS))


def of_sao(table: pa.Table, drawn: int, source: str = "personas") -> tuple[Stage, ...]:
    return funnel(table, drawn, source, RECIPE.flows["sao"].milestones, kept="pairs kept")


def ended(number: int, status: str, reason: str, row: dict[str, Any] | None) -> Record:
    return Record(str(number), number, 0, status, reason, rows=(row,) if row else ())  # type: ignore[arg-type]


def kept(number: int, **more: Any) -> Record:
    return Record(str(number), number, 0, "rows", rows=(pair(**more),))


ENDS = (
    ("set-aside", "too long", None),
    ("set-aside", "no prefix", {"persona": "a baker"}),
    ("dropped", "identical answers", ASKED),
    ("dropped", "tie", judged("tie", "tie")),
)


@given(st.lists(st.integers(0, len(ENDS))), st.integers(0, 50))
def test_the_funnel_loses_no_record_and_counts_none_twice(kinds: list[int], open_: int) -> None:
    records = [kept(n) if kind == len(ENDS) else ended(n, *ENDS[kind]) for n, kind in enumerate(kinds)]
    stages = of_sao(table_of(*records), len(records) + open_)
    for stage, following in pairwise(stages):
        assert stage.records - sum(n for _, n in stage.lost) == following.records
    assert stages[0].records == len(records) + open_
    assert stages[-1].records == kinds.count(len(ENDS))


def test_a_record_is_lost_at_the_stage_that_it_did_not_pass() -> None:
    records = [ended(n, *end) for n, end in enumerate(ENDS)] + [kept(9)]
    stages = {stage.label: stage for stage in of_sao(table_of(*records), 5)}
    assert dict(stages["personas drawn"].lost) == {"too long": 1, "no prefix": 1}
    assert dict(stages["answered twice"].lost) == {"identical answers": 1}
    assert dict(stages["judged"].lost) == {"tie": 1}
    assert (stages["prompts written"].records, stages["pairs kept"].records) == (3, 1)


def test_a_record_with_several_pairs_is_one_record() -> None:
    record = Record("0", 0, 0, "rows", rows=(pair(), pair()))
    assert of_sao(table_of(record), 1)[-1].records == 1


def test_prompts_repeat_up_to_whitespace() -> None:
    texts = ["why?", " why?\n", "who?", "when?"]
    assert repetition(table_of(*(kept(n, prompt=text) for n, text in enumerate(texts)))) == 0.25
    assert repetition(table_of(ended(0, *ENDS[1]))) is None


@pytest.mark.parametrize(
    ("forward", "backward", "consistent", "first_position"),
    [
        ("first", "first", 1.0, 0.5),  # the same answer, once in each place
        ("first", "second", 0.0, 1.0),  # whatever is shown first
        ("second", "first", 0.0, 0.0),  # whatever is shown second
        ("first", None, None, 1.0),  # one order: nothing to be consistent with
        ("tie", "first", None, 0.0),
    ],
)
def test_consistency_and_position_are_told_apart(
    forward: str, backward: str | None, consistent: float | None, first_position: float
) -> None:
    found = verdicts(table_of(ended(0, "dropped", "tie", judged(forward, backward))))
    assert (found.consistent, found.first_position) == (consistent, first_position)


@pytest.mark.parametrize(("p_first", "tie_margin", "ties"), [(0.5, 0.0, 1.0), (0.51, 0.0, 0.0), (0.51, 0.02, 1.0)])
def test_ties_are_what_the_margins_do_not_decide(p_first: float, tie_margin: float, ties: float) -> None:
    margins = {"margin_forward": 1.0, "margin_backward": -1.0, "p_first": p_first}
    assert verdicts(table_of(kept(0, **margins)), tie_margin).ties == ties
    assert verdicts(table_of(kept(0, p_first=p_first)), tie_margin).ties is None  # parsed: nothing is a tie


def test_parsed_verdicts_have_a_parse_rate_and_log_probabilities_have_none() -> None:
    parsed = [kept(0), ended(1, "dropped", "unparsed verdict", judged("unparsed", "first"))]
    assert verdicts(table_of(*parsed)).parsed == 0.75
    margins = {"margin_forward": 1.0, "margin_backward": 0.5}
    assert verdicts(table_of(kept(0, **margins))).parsed is None


def test_records_that_were_judged_and_dropped_count_for_the_judge_but_not_for_the_pairs() -> None:
    found = verdicts(table_of(kept(0), ended(1, *ENDS[3])))
    assert (found.judged, found.calls, found.first_chosen, found.median_margin) == (2, 4, 1.0, 1.0)


def test_margins_of_both_orders_come_in_pairs() -> None:
    table = table_of(kept(0, margin_forward=2.0, margin_backward=-1.0), kept(1, margin_forward=3.0))
    forward, backward = order_margins(table)
    assert (forward.tolist(), backward.tolist()) == ([2.0], [-1.0])


def test_lengths_are_those_of_kept_pairs_in_tokens() -> None:
    records = [
        kept(0, chosen_ids=[1] * 5, rejected_ids=[1] * 3, rejected_finish="length"),
        kept(1, chosen_ids=[1] * 2, rejected_ids=[1] * 3),
        kept(2),
        ended(3, *ENDS[3]),
    ]
    found = lengths(table_of(*records))
    assert found is not None
    assert (found.chosen.tolist(), found.rejected.tolist()) == ([5, 2, 1], [3, 3, 1])
    assert (found.chosen_longer, found.cut) == (0.5, pytest.approx(1 / 6))
    assert lengths(table_of(ended(0, *ENDS[0]))) is None


def test_sample_pairs_repeat_with_the_seed_and_are_kept_pairs_only() -> None:
    table = table_of(*(kept(n, margin=float(n)) for n in range(60)), ended(60, *ENDS[3]))
    drawn = sample_pairs(table, seed=3)
    assert drawn == sample_pairs(table, seed=3)
    assert drawn != sample_pairs(table, seed=4)
    margins = [pair["margin"] for pair in drawn]
    assert len(drawn) == 20
    assert margins == sorted(margins, reverse=True)


def test_pairs_that_no_scoring_model_judged_have_no_scores() -> None:
    """The columns are there where a recipe has one schema for all that may judge."""
    for scored, expected in (({}, []), ({"chosen_score": 2.0, "rejected_score": 1.0}, [("scores", [2.0], [1.0])])):
        table = to_table([Record("r0", 0, 1, "rows", rows=(pair(**scored),))], SCORED_PAIRS)
        assert [(name, [*chosen], [*rejected]) for name, chosen, rejected in scores(table)] == expected

"""The recipe SAO as a reader sees it: one row in, requests out, one pair or a reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jinja2
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from selfalign_api.plan import FlowJob, Judge, Prepare, Role
from selfalign_jobs.flow import Ask, Compare, Comparison, Completion, Dropped, SetAside, Write
from selfalign_jobs.recipes.judge import judge, parse_verdict
from selfalign_jobs.recipes.rows import PAIRS
from selfalign_jobs.recipes.sao import sao

ROLES = {
    "writePrompt": Role(template="You are {{ persona }}."),
    "respond": Role(),
    "judge": Role(template="{{ prompt }}|{{ first }}|{{ second }}", temperature=0),
}


def render(template: str, variables: Mapping[str, Any]) -> str:
    return jinja2.Template(template).render(variables)


def ask_with(method: str = "logprobs", record: str = "r1", **options: Any) -> Ask:
    job = FlowJob(
        flow="sao",
        rows=Prepare(fn="draw"),
        out="pairs",
        roles=ROLES,
        judge=Judge(method=method, verdicts=("A > B", "B > A"), tie_margin=options.pop("tie_margin", 0.0)),  # type: ignore[arg-type]
        options={"identical": "Drop", "truncated": "Keep"} | options,
    )
    return Ask(job, 7, record, render)


def said(text: str, finish: str = "stop", seed: int = 5) -> Completion:
    return Completion(text, tuple(range(len(text))), (1, 2), finish, seed)


def play(flow: Any, *replies: Any) -> tuple[list[Any], Any]:
    """Drive a flow with these replies; its requests, and its rows."""
    requests = [next(flow)]
    try:
        for reply in replies:
            requests.append(flow.send(reply))
    except StopIteration as stop:
        return requests, stop.value
    raise AssertionError(f"the flow asks for more: {requests[-1]}")


def margins(forward: float, backward: float) -> list[Comparison]:
    """Replies to the two orders, for margins that are about the answers."""
    return [Comparison(forward, 0.0), Comparison(0.0, backward)]


def test_answers_come_from_the_prompt_alone() -> None:
    requests, _ = play(
        sao({"persona": "a baker"}, ask_with()), [said(" why? ")], [said("one"), said("two")], margins(1, 1)
    )
    write, respond, _ = requests
    assert isinstance(write, Write)
    assert write.user == "You are a baker."
    assert (respond.role, respond.user, respond.n) == ("respond", "why?", 2)


def test_the_better_answer_is_chosen() -> None:
    _, rows = play(sao({"persona": "p"}, ask_with()), [said("q")], [said("one"), said("two")], margins(-3, -1))
    (row,) = rows
    assert (row["chosen"], row["rejected"], row["first_chosen"], row["margin"]) == ("two", "one", False, 2.0)


def test_a_row_with_every_column_of_the_pair_schema() -> None:
    _, (row,) = play(sao({"persona": "p"}, ask_with()), [said("q")], [said("one"), said("two")], margins(3, 1))
    assert set(PAIRS.names) == set(row)


def test_a_prompt_of_the_users_is_answered_as_it_is() -> None:
    requests, rows = play(sao({"prompt": "q"}, ask_with()), [said("one"), said("two")], margins(1, 1))
    assert requests[0].user == "q"
    assert rows[0]["persona"] is None


def test_equal_answers_are_dropped_with_what_is_known() -> None:
    with pytest.raises(Dropped, match="identical") as dropped:
        play(sao({"persona": "p"}, ask_with()), [said("q")], [said("one"), said("one")])
    assert dropped.value.row is not None
    assert dropped.value.row["prompt"] == "q"


def test_equal_answers_are_judged_when_the_filter_keeps_them() -> None:
    requests, _ = play(sao({"persona": "p"}, ask_with(identical="Keep")), [said("q")], [said("one")] * 2, margins(1, 0))
    assert len(requests) == 3


def test_an_empty_prompt_is_set_aside() -> None:
    with pytest.raises(SetAside, match="empty prompt"):
        play(sao({"persona": "p"}, ask_with()), [said("  \n")])


def test_a_cut_answer_is_dropped_when_the_filter_says_so() -> None:
    with pytest.raises(Dropped, match="cut"):
        play(sao({"persona": "p"}, ask_with(truncated="Drop")), [said("q")], [said("one", "length"), said("two")])


def test_a_tie_within_the_margin_makes_no_pair() -> None:
    with pytest.raises(Dropped, match="tie") as dropped:
        play(
            sao({"persona": "p"}, ask_with(tie_margin=0.1)), [said("q")], [said("one"), said("two")], margins(0.2, -0.1)
        )
    assert dropped.value.row is not None
    assert dropped.value.row["verdict_backward"] == "second"


@given(st.floats(-30, 30), st.floats(-30, 30))
def test_both_orders_ask_about_the_answers_not_the_positions(forward: float, backward: float) -> None:
    flow = judge(ask_with(), "q", "one", "two")
    (requests,), verdict = play(flow, margins(forward, backward))
    assert [request.user for request in requests] == ["q|one|two", "q|two|one"]
    assert all(isinstance(request, Compare) for request in requests)
    assert verdict.margin == pytest.approx((forward + backward) / 2)


@given(st.floats(-15, 15), st.floats(-15, 15))
def test_a_preference_for_a_position_cancels(bias: float, worth: float) -> None:
    """The first position gains `bias` nats in both orders; the verdict is the worth's alone.

    As far as floats tell: what a smaller worth adds to the mean probability beside a large bias is below their precision.
    """
    assume(abs(worth) > 1e-3)
    _, verdict = play(judge(ask_with(), "q", "one", "two"), margins(worth + bias, worth - bias))
    assert verdict.margin == pytest.approx(worth)
    assert verdict.better in ({"first"} if worth > 0 else {"second"})


@pytest.mark.parametrize(
    ("texts", "better", "reason"),
    [
        (("ranking: A > B", "ranking: B > A"), "first", ""),
        (("ranking: B > A", "ranking: A > B"), "second", ""),
        (("ranking: A > B", "ranking: A > B"), None, "inconsistent verdicts"),
        (("ranking: A > B", "no idea"), None, "unparsed verdict"),
    ],
)
def test_parsed_verdicts_count_when_both_orders_agree(texts: tuple[str, str], better: str | None, reason: str) -> None:
    _, verdict = play(judge(ask_with("generate"), "q", "one", "two"), [[said(text)] for text in texts])
    assert verdict.better == better
    assert better or verdict.reason == reason


def test_the_papers_own_method_asks_once() -> None:
    (requests,), verdict = play(judge(ask_with("paper"), "q", "one", "two"), [[said("I say\nranking:  b > a")]])
    assert len(requests) == 1
    assert (verdict.better, verdict.backward) == ("second", None)


def test_the_control_judges_without_asking_and_without_favour() -> None:
    verdicts = []
    for record in range(400):
        with pytest.raises(StopIteration) as stop:
            next(judge(ask_with("random", record=str(record)), "q", "one", "two"))
        verdicts.append(stop.value.value.better)
    assert 150 < verdicts.count("first") < 250


@given(st.text(), st.text())
def test_the_last_verdict_in_the_text_counts(before: str, between: str) -> None:
    assume("b > a" not in between.casefold() and "a > b" not in between.casefold())
    assert parse_verdict(f"{before} A > B {between} B > A", "A > B", "B > A") == "second"


def test_a_replayed_record_draws_the_same_seeds() -> None:
    seeds = [next(sao({"persona": "p"}, ask_with())).seed for _ in range(2)]
    assert seeds[0] == seeds[1] < 2**63
    assert next(sao({"persona": "p"}, ask_with(record="r2"))).seed != seeds[0]

"""The loop: flows side by side on one engine, none waiting for another."""

from __future__ import annotations

from collections.abc import Generator
from itertools import pairwise
from typing import Any, cast

import pytest
from fake_engine import FakeEngine, likes_first
from hypothesis import given
from hypothesis import strategies as st

from selfalign_api.plan import FlowJob, Prepare, Role
from selfalign_jobs.flow import Ask, Comparison, Completion, Dropped, Flow, Row, SetAside
from selfalign_jobs.generate.chat import History
from selfalign_jobs.generate.engine import EngineRequest, EngineResult, Labels, Sample, Sampling
from selfalign_jobs.generate.in_flight import max_open_flows
from selfalign_jobs.generate.loop import FlowLoop, JobSetup, Task
from selfalign_jobs.generate.records import Record
from selfalign_jobs.generate.render import Renderer

ROLES = {
    "ask": Role(template="About {{ topic }}", max_tokens=8),
    "long": Role(max_tokens=250),
    "prefixed": Role(max_tokens=8, output_prefix="Q:"),
    "judge": Role(template="{{ prompt }}?", max_tokens=8),
}
JOB = FlowJob(flow="f", rows=Prepare(fn="draw"), out="out", roles=ROLES)


class Letters:
    """A chat whose tokens are characters, and whose template is a full stop."""

    end_id = 2
    reasoning = None

    def text(self, user: str, history: History = ()) -> str:
        return f"{user}."

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def given(self, user: str, answer: str, history: History = ()) -> tuple[list[int], list[int]]:
        return self.encode(self.text(user, history)), [*self.encode(answer), self.end_id]

    def decode(self, ids: tuple[int, ...]) -> str:
        return "".join(chr(id) for id in ids if id != self.end_id)


def run(flow: Flow, rows: list[Row], engine: FakeEngine, max_open: int = 4) -> list[Record]:
    setup = JobSetup(JOB, flow, Renderer(Letters(), ROLES, engine.facts.context_tokens), run_seed=0)
    loop = FlowLoop(engine, {"out": setup}, max_open)
    loop.add([Task("out", number, f"r{number}", 1, row) for number, row in enumerate(rows)])
    records: list[Record] = []
    while loop.unfinished:
        loop.advance()
        records += loop.take_finished()["out"]
    assert not engine.open
    return sorted(records, key=lambda record: record.source)


def several_roles(row: Row, ask: Ask) -> Generator[Any, Any, list[Row]]:
    (first,) = yield ask.write("ask", topic=row["topic"])
    (a, b), (c,) = yield [ask.write("ask", n=2, topic=first.text), ask.write("ask", topic="x")]
    verdict = yield ask.compare("judge", ("yes", "no"), prompt=first.text)
    assert isinstance(verdict, Comparison)
    return [{"text": part.text, "seed": part.seed, "margin": verdict.first - verdict.second} for part in (a, b, c)]


@given(topics=st.lists(st.text("abc", max_size=3), max_size=12), max_open=st.integers(1, 5), data=st.data())
def test_the_order_in_which_requests_finish_changes_no_record(
    topics: list[str], max_open: int, data: st.DataObject
) -> None:
    def chosen(count: int) -> list[int]:
        return data.draw(st.lists(st.integers(0, count - 1), min_size=1, unique=True))

    rows = [{"topic": topic} for topic in topics]
    assert run(several_roles, rows, FakeEngine(likes_first, chosen), max_open) == run(
        several_roles, rows, FakeEngine(likes_first)
    )


class Ticks:
    """A clock that goes on by one whenever it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@given(topics=st.lists(st.text("abc", max_size=3), max_size=12), seconds=st.integers(0, 9), data=st.data())
def test_how_long_the_host_has_before_a_step_changes_no_record(
    topics: list[str], seconds: int, data: st.DataObject
) -> None:
    def chosen(count: int) -> list[int]:
        return data.draw(st.lists(st.integers(0, count - 1), min_size=1, unique=True))

    rows: list[Row] = [{"topic": topic} for topic in topics]
    engine = FakeEngine(likes_first, chosen)
    setup = JobSetup(JOB, several_roles, Renderer(Letters(), ROLES, 256), run_seed=0)
    loop = FlowLoop(engine, {"out": setup}, 4, host_seconds=seconds, clock=Ticks())
    loop.add([Task("out", number, f"r{number}", 1, row) for number, row in enumerate(rows)])
    records: list[Record] = []
    while loop.unfinished:
        loop.advance()
        records += loop.take_finished()["out"]
    expected = run(several_roles, rows, FakeEngine(likes_first))
    assert sorted(records, key=lambda record: record.source) == expected


def test_before_a_step_the_host_takes_no_longer_than_it_may() -> None:
    """A thousand rows that all begin at once would leave a GPU idle until the last is rendered."""
    engine = FakeEngine(likes_first, sequences=1000)
    begun: list[int] = []
    step = engine.step

    def counted() -> list[EngineResult]:
        begun.append(len(engine.requests))
        return step()

    engine.step = counted  # type: ignore[method-assign]
    setup = JobSetup(JOB, several_roles, Renderer(Letters(), ROLES, 256), run_seed=0)
    loop = FlowLoop(engine, {"out": setup}, 1000, host_seconds=20, clock=Ticks())
    loop.add([Task("out", number, f"r{number}", 1, {"topic": "t"}) for number in range(1000)])
    for _ in range(5):
        loop.advance()
    assert begun[0] in range(1, 21)
    assert all(later > before for before, later in pairwise(begun))


def test_on_a_gpu_what_has_arrived_is_read_though_all_slots_are_taken() -> None:
    """Where answers gather, the next requests would wait until a slot is empty."""
    engine = FakeEngine(likes_first, lambda _: [0], sequences=2)
    setup = JobSetup(JOB, several_roles, Renderer(Letters(), ROLES, 256), run_seed=0)
    loop = FlowLoop(engine, {"out": setup}, 8, host_seconds=100, clock=Ticks())
    loop.add([Task("out", number, f"r{number}", 1, {"topic": "t"}) for number in range(8)])
    loop.advance()
    assert len(engine.requests) == 8
    loop.advance()
    assert len(engine.requests) == 10  # of the flow whose first request was answered


def test_no_role_waits_for_another() -> None:
    """The first flow is through while the second one's first request is still open."""
    engine = FakeEngine(likes_first, lambda count: [0] if count == 1 else [1])
    setup = JobSetup(JOB, several_roles, Renderer(Letters(), ROLES, 256), run_seed=0)
    loop = FlowLoop(engine, {"out": setup}, 2)
    loop.add([Task("out", number, f"r{number}", 1, {"topic": "t"}) for number in range(2)])
    finished: list[Record] = []
    while not finished:
        loop.advance()
        finished = loop.take_finished()["out"]
    assert loop.unfinished == 1


@given(sizes=st.lists(st.integers(1, 3), min_size=1, max_size=30), data=st.data())
def test_no_slot_of_the_engine_is_empty_while_rows_are_left(sizes: list[int], data: st.DataObject) -> None:
    """Each step of the engine has as many sequences as it runs at once, until the last rows are begun."""
    begun = 0

    def flow(row: Row, ask: Ask) -> Generator[Any, Any, list[Row]]:
        nonlocal begun
        begun += 1
        yield ask.write("ask", n=row["n"], topic="t")
        yield ask.write("ask", n=row["n"], topic="u")
        return [{"n": 1}]

    class Slots(FakeEngine):
        def step(self) -> list[EngineResult]:
            sequences = sum(cast(Sampling, request.task).n for request in self.open.values())
            assert sequences >= self.facts.max_sequences or begun == len(sizes)
            return super().step()

    def chosen(count: int) -> list[int]:
        return data.draw(st.lists(st.integers(0, count - 1), min_size=1, unique=True))

    engine = Slots(likes_first, chosen, sequences=4)
    assert len(run(flow, [{"n": size} for size in sizes], engine, max_open=max_open_flows(engine.facts))) == len(sizes)


def test_finished_requests_gather_until_a_slot_would_be_empty() -> None:
    """Six requests on an engine of four slots, one finishes at each step: nothing is read until three are left."""
    engine = FakeEngine(likes_first, lambda _: [0], sequences=4)

    def flow(row: Row, ask: Ask) -> Generator[Any, Any, list[Row]]:
        yield ask.write("ask", topic="t")
        return [{"n": 1}]

    loop = FlowLoop(engine, {"out": JobSetup(JOB, flow, Renderer(Letters(), ROLES, 256), run_seed=0)}, max_open=6)
    loop.add([Task("out", number, f"r{number}", 1, {}) for number in range(6)])
    ended = []
    while loop.unfinished:
        loop.advance()
        ended.append(len(loop.take_finished()["out"]))
    assert ended == [0, 0, 0, 3, 1, 1, 1]


def test_at_most_max_open_flows_are_open() -> None:
    most = 0

    def chosen(count: int) -> list[int]:
        nonlocal most
        most = max(most, count)
        return [0]

    def one(row: Row, ask: Ask) -> Generator[Any, Any, list[Row]]:
        yield ask.write("ask", topic=row["topic"])
        return [{"n": 1}]

    assert len(run(one, [{"topic": "t"}] * 9, FakeEngine(likes_first, chosen), max_open=3)) == 9
    assert most == 3


def test_a_reply_has_what_was_asked() -> None:
    seen: list[Completion] = []

    def flow(row: Row, ask: Ask) -> Generator[Any, Any, list[Row]]:
        seen.extend((yield ask.write("ask", n=2, topic=row["topic"])))
        return [{"n": 1}]

    engine = FakeEngine(lambda _: (Sample((65, 2), "stop"), Sample((66,), "length")))
    (record,) = run(flow, [{"topic": "t"}], engine)
    (request,) = engine.requests
    assert request.prompt_ids == [ord(letter) for letter in "About t."]
    assert not isinstance(request.task, Labels)
    assert [(c.text, c.ids, c.finish_reason) for c in seen] == [("A", (65, 2), "stop"), ("B", (66,), "length")]
    assert [c.seed for c in seen] == [request.task.seed, request.task.seed + 1]
    assert all(c.prompt_ids == tuple(request.prompt_ids) for c in seen)
    assert record.tokens == {"ask": [8, 3]}


def test_candidates_are_compared_where_they_part() -> None:
    def flow(row: Row, ask: Ask) -> Generator[Any, Any, list[Row]]:
        verdict = yield ask.compare("judge", ("rank A", "rank B"), prompt=row["topic"])
        return [{"first": verdict.first, "second": verdict.second}]

    engine = FakeEngine(likes_first)
    (record,) = run(flow, [{"topic": "t"}], engine)
    (request,) = engine.requests
    assert "".join(map(chr, request.prompt_ids)) == "t?.rank "
    assert request.task == Labels(ord("A"), ord("B"))
    assert record.rows == [{"first": -0.5, "second": -1.5}]


def test_a_candidate_that_begins_the_other_is_compared_where_it_ends() -> None:
    def flow(row: Row, ask: Ask) -> Generator[Any, Any, list[Row]]:
        yield ask.compare("judge", ("yes", "yes!"), prompt=row["topic"])
        return [{"n": 1}]

    engine = FakeEngine(likes_first)
    run(flow, [{"topic": "t"}], engine)
    assert engine.requests[0].task == Labels(Letters.end_id, ord("!"))


@pytest.mark.parametrize(
    ("request_of", "reason"),
    [
        (lambda ask: ask.write("long", prompt="too much"), "too long"),
        (lambda ask: ask.compare("judge", ("same", "same"), prompt="p"), "equal verdicts"),
        (lambda ask: [ask.write("ask", topic="fine"), ask.write("long", prompt="too much")], "too long"),
        (lambda ask: ask.write("ask", wrong="variable"), "flow failed"),
        (lambda ask: ask.write("nobody", prompt="p"), "flow failed"),
    ],
)
def test_what_cannot_be_asked_sets_its_record_aside_and_asks_nothing(request_of: Any, reason: str) -> None:
    def flow(row: Row, ask: Ask) -> Generator[Any, Any, list[Row]]:
        yield request_of(ask)
        return [{"n": 1}]

    engine = FakeEngine(likes_first)
    (record,) = run(flow, [{}], engine)
    assert (record.status, record.reason) == ("set-aside", reason)
    assert not engine.requests


def test_a_flow_may_catch_what_cannot_be_asked() -> None:
    def flow(row: Row, ask: Ask) -> Generator[Any, Any, list[Row]]:
        try:
            yield ask.write("long", prompt="too much")
        except SetAside:
            yield ask.write("ask", topic="short")
        return [{"n": 1}]

    (record,) = run(flow, [{}], FakeEngine(likes_first))
    assert record.status == "rows"


def test_a_missing_prefix_aborts_what_else_was_asked() -> None:
    def flow(row: Row, ask: Ask) -> Generator[Any, Any, list[Row]]:
        yield [ask.write("prefixed", prompt="p"), ask.write("ask", topic="t")]
        return [{"n": 1}]

    engine = FakeEngine(lambda _: (Sample((65, 2), "stop"),), lambda _: [0])
    (record,) = run(flow, [{}], engine)
    assert (record.status, record.reason, record.detail) == ("set-aside", "no prefix", "A")
    assert len(engine.aborted) == 1


def test_answers_that_come_with_a_missing_prefix_are_not_read() -> None:
    """All requests of the flow finish in one step; the first one's answer ends the flow."""

    def flow(row: Row, ask: Ask) -> Generator[Any, Any, list[Row]]:
        yield [ask.write("prefixed", prompt="p"), ask.write("ask", topic="t"), ask.write("ask", topic="u")]
        return [{"n": 1}]

    records = run(flow, [{}] * 3, FakeEngine(lambda _: (Sample((65, 2), "stop"),)))
    assert [record.reason for record in records] == ["no prefix"] * 3


def test_a_broken_engine_sets_no_record_aside() -> None:
    """What goes wrong in the engine is no record's fault: it ends the worker, and the rows are leased again."""

    class Broken(FakeEngine):
        def submit(self, request: EngineRequest) -> None:
            raise RuntimeError("the engine is dead")

    with pytest.raises(RuntimeError, match="the engine is dead"):
        run(several_roles, [{"topic": "t"}], Broken(likes_first))


def test_the_prefix_is_stripped() -> None:
    def flow(row: Row, ask: Ask) -> Generator[Any, Any, list[Row]]:
        (reply,) = yield ask.write("prefixed", prompt="p")
        return [{"text": reply.text}]

    answer = tuple(map(ord, "\nQ: why?"))
    (record,) = run(flow, [{}], FakeEngine(lambda _: (Sample(answer, "stop"),)))
    assert record.rows == [{"text": "why?"}]


@pytest.mark.parametrize(
    ("ending", "status", "reason", "rows"),
    [
        (Dropped("tie", row={"prompt": "p"}), "dropped", "tie", ({"prompt": "p"},)),
        (SetAside("unparsed"), "set-aside", "unparsed", ()),
        (ZeroDivisionError("by zero"), "set-aside", "flow failed", ()),
    ],
)
def test_a_record_says_how_it_ended(ending: Exception, status: str, reason: str, rows: tuple[Row, ...]) -> None:
    def flow(row: Row, ask: Ask) -> Generator[Any, Any, list[Row]]:
        yield ask.write("ask", topic=row["topic"])
        raise ending

    (record,) = run(flow, [{"topic": "t"}], FakeEngine(likes_first))
    assert (record.status, record.reason, record.rows) == (status, reason, rows)


def test_the_same_row_asks_the_same_again() -> None:
    """A row replayed after a kill has the same prompts and seeds: its record does not depend on what ran beside it."""

    def asked(rows: list[Row]) -> list[tuple[list[int], Any]]:
        engine = FakeEngine(likes_first)
        run(several_roles, rows, engine)
        return [(list(r.prompt_ids), r.task) for r in engine.requests if r.id.startswith("r0-")]

    assert asked([{"topic": "t"}]) == asked([{"topic": "t"}, {"topic": "u"}, {"topic": "v"}])


def test_requests_of_one_engine_have_their_own_ids() -> None:
    engine = FakeEngine(likes_first)
    run(several_roles, [{"topic": "t"}] * 5, engine)
    assert len({request.id for request in engine.requests}) == len(engine.requests) == 5 * 4


def test_seeds_of_different_records_differ() -> None:
    def flow(row: Row, ask: Ask) -> Generator[Any, Any, list[Row]]:
        yield ask.write("ask", n=2, topic="same")
        return [{"n": 1}]

    engine = FakeEngine(likes_first)
    run(flow, [{}] * 50, engine)
    seeds = [request.task.seed + i for request in engine.requests for i in (0, 1)]  # type: ignore[union-attr]
    assert len(set(seeds)) == 100

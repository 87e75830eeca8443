"""Recipe SELM against the paper (arXiv 2405.19332): scripted models play two iterations, and every table is as by hand."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fake_engine import FakeEngine
from hypothesis import given
from hypothesis import strategies as st
from test_generate_loop import Letters

from selfalign_api.errors import ConfigError
from selfalign_api.load import load_run, parse
from selfalign_api.plan import AnyStep, EngineLoad, Evaluate, FlowJob, Generate, Judge, ModelRef, SourceRef, Train
from selfalign_api.run import SelfAlignmentRun
from selfalign_jobs.accept.resolve import method_of, method_values
from selfalign_jobs.flow import Ask, Comparison, Completion, Rank, Ranking, Score, Scores, Write
from selfalign_jobs.generate.engine import EngineRequest, Pairs, Sample
from selfalign_jobs.generate.loop import FlowLoop, JobSetup, Task
from selfalign_jobs.generate.records import Batch, Record
from selfalign_jobs.generate.render import Renderer
from selfalign_jobs.recipes.base import recipe
from selfalign_jobs.recipes.method import Method
from selfalign_jobs.recipes.ranking import rank, verdict
from selfalign_jobs.recipes.selm import remarks
from selfalign_jobs.recipes.tables import counts_of
from selfalign_jobs.step.prepared import rows_of
from selfalign_jobs.template import render_template

EXAMPLES = Path(__file__).parents[2] / "examples"
SELM = recipe("selm")
END = Letters.end_id
RANKER = {"name": "pairrm", "kind": "PairRanker", "url": "file:///r"}
BY_RANKER = {"auxiliaryModels": [RANKER], "judge": {"method": "score", "modelName": "pairrm"}}


def method(**spec: Any) -> Method:
    document = {
        "apiVersion": "selfalign.dev/v1alpha1",
        "kind": "SelfAlignmentRun",
        "metadata": {"name": "r"},
        "spec": {
            "recipe": "selm",
            "model": {"url": "file:///m"},
            "data": {"preferences": {"url": "file:///p.jsonl"}},
        }
        | spec,
    }
    return method_of(method_values(parse(SelfAlignmentRun, document, ""), "CPU", {}, Path()))


# What somebody prefers; what the model of each iteration answers; and how good the ranker thinks an answer is.
PREFERENCES = {
    "q1": ("good", "bad"),  # new best
    "q2": ("bad", "good"),  # the ranker has another opinion: the old pair is exchanged
    "q3": ("fair", "bad"),  # new worst
    "q4": ("same", "same"),
    "q5": ("fair", "poor"),  # the new answer is the chosen one again
    "q6": ("good", "bad"),  # held out
}
ANSWERS = {
    "q1": {0: ("great", "stop"), 1: ("bad", "stop")},
    "q2": {0: ("fair", "stop"), 1: ("great", "stop")},
    "q3": {0: ("awf", "length"), 1: ("good", "stop")},
    "q4": {0: ("same", "stop"), 1: ("great", "stop")},
    "q5": {0: ("fair", "stop"), 1: ("poor", "stop")},
    "q6": {0: ("great", "stop"), 1: ("great", "stop")},
}
WORTH = {"great": 5, "good": 4, "fair": 3, "same": 2, "poor": 1, "bad": 0, "awf": -1}
SOURCE = pa.table(
    {
        "history": pa.nulls(6, pa.string()),
        "prompt": [*PREFERENCES],
        "chosen": [chosen for chosen, _ in PREFERENCES.values()],
        "rejected": [rejected for _, rejected in PREFERENCES.values()],
        "answers": [1] * 6,
    }
)
HELD = pa.table({"prompt": ["q6"], "reference": ["good"]})


class Shown:
    """A pair ranker's renderer that remembers what it was asked: the order is the paper's."""

    def __init__(self) -> None:
        self.asked: list[Rank] = []

    def render(self, request: Rank) -> tuple[list[int], Pairs]:
        self.asked.append(request)
        every = len(request.answers)
        return [len(self.asked) - 1], Pairs(every, (1,) * (every * (every - 1)))

    def rank(self, request: EngineRequest) -> Ranking:
        worth = [WORTH[text] for text in self.asked[request.prompt_ids[0]].answers]
        return Ranking(tuple(tuple(0.0 if one == other else float(one - other) for other in worth) for one in worth))


def ids(text: str, *, ended: bool = True) -> list[int]:
    return [*map(ord, text), *([END] if ended else [])]


def play(job: FlowJob, rows: pa.Table, renderer: Any, answer: Any) -> list[Record]:
    engine = FakeEngine(answer)
    setup = JobSetup(job, SELM.flows[job.flow].run, renderer, run_seed=0)
    loop = FlowLoop(engine, {job.out: setup}, 4)
    loop.add([Task(job.out, number, f"r{number}", 1, row) for number, row in enumerate(rows.to_pylist())])
    while loop.unfinished:
        loop.advance()
    return sorted(loop.take_finished()[job.out], key=lambda record: record.rows[0]["prompt"])


def answered(job: FlowJob, rows: pa.Table, k: int) -> list[Record]:
    """As the model of iteration k answers."""

    def answer(request: EngineRequest) -> tuple[Sample, ...]:
        prompt = "".join(map(chr, request.prompt_ids)).removesuffix(".")
        text, finish = ANSWERS[prompt][k]
        return (Sample(tuple(ids(text, ended=finish == "stop")), finish),)

    return play(job, rows, Renderer(Letters(), job.roles, 2000), answer)


def kept(records: list[Record], flow: str) -> pa.Table:
    """As a step that reads them sees the rows."""
    return rows_of(Batch.of(records, SELM.flows[flow].schema).lines)


def explored(step: Generate, k: int, ranker: Shown) -> tuple[list[Record], list[Record]]:
    """The records of both loads."""
    (answering, *_), (ranking,) = (load.jobs for load in step.loads)
    rows = SELM.prepares[answering.rows.fn].run((SOURCE,), answering.rows.options)
    first = answered(answering, rows, k)
    return first, play(ranking, kept(first, answering.flow), ranker, ranker.rank)


def pair(prompt: str, chosen: str, rejected: str, new: str, *cut: str) -> dict[str, Any]:
    """A row of the training's table, by hand."""
    return {
        "prompt": prompt,
        "prompt_ids": [*map(ord, f"{prompt}.")],  # the chat's own rendering, and nothing after it
        "chosen_ids": ids(chosen, ended=chosen not in cut),  # one end token
        "rejected_ids": ids(rejected, ended=rejected not in cut),  # none after a cut answer
        "kept_ids": ids(new, ended=new not in cut),
    }


HELD_OUT = {"evaluation": {"prompts": {"url": "file:///h.jsonl"}}}
EVERY_TIME = {"preferences": {"url": "file:///p.jsonl", "draw": "Same"}}  # both iterations see all six


def test_two_iterations_are_the_papers() -> None:
    found = method(iterations=2, data=EVERY_TIME, **BY_RANKER, **HELD_OUT)
    steps = {step.name: step for step in SELM.plan(found)}
    assert [*steps] == ["i1-generate", "i1-train", "i1-evaluate", "i2-generate", "i2-train", "i2-evaluate"]
    trained, fates, ranker = {}, {}, Shown()
    for k in (1, 2):
        generate, train = steps[f"i{k}-generate"], steps[f"i{k}-train"]
        assert isinstance(generate, Generate) and isinstance(train, Train)
        assert [load.model for load in generate.loads] == [ModelRef(iteration=k - 1), ModelRef(lineage="pairrm")]
        assert train.start == train.reference == ModelRef(iteration=k - 1)
        _, records = explored(generate, k - 1, ranker)
        fates[k] = [(record.reason, record.rows[0]["best"], record.rows[0]["worst"]) for record in records]
        tables = tuple(
            HELD if isinstance(ref, SourceRef) else kept(records, "rank-three").select(TRAINED)
            for ref in train.data.inputs
        )
        trained[k] = SELM.prepares[train.data.fn].run(tables, train.data.options)
    same = "best and worst are the same text"
    assert fates == {
        1: [
            (None, "new", "rejected"),
            (None, "rejected", "chosen"),
            (None, "chosen", "new"),
            (same, "new", "new"),  # all three are equal
            (None, "new", "rejected"),  # of equal ones the earlier
            (None, "new", "rejected"),
        ],
        2: [
            (None, "chosen", "new"),  # new and rejected are equal: the earlier
            (None, "new", "chosen"),
            (None, "new", "rejected"),
            (None, "new", "chosen"),
            (None, "chosen", "new"),
            (None, "new", "rejected"),
        ],
    }
    assert trained[1].sort_by("prompt").to_pylist() == [
        pair("q1", "great", "bad", "great"),
        pair("q2", "good", "bad", "fair"),
        pair("q3", "fair", "awf", "awf", "awf"),
        pair("q5", "fair", "poor", "fair"),
    ]
    assert trained[2].sort_by("prompt").to_pylist() == [
        pair("q1", "good", "bad", "bad"),
        pair("q2", "great", "bad", "great"),
        pair("q3", "good", "bad", "good"),
        pair("q4", "great", "same", "great"),
        pair("q5", "fair", "poor", "poor"),
    ]
    assert [counts_of(trained[k])["promptHeldOut"] for k in (1, 2)] == [1, 1]
    # New, old chosen, old rejected; a text that stands there twice is asked about once, three times not at all.
    assert {(rank.prompt, rank.answers) for rank in ranker.asked} == {
        ("q1", ("great", "good", "bad")), ("q2", ("fair", "bad", "good")), ("q3", ("awf", "fair", "bad")),
        ("q5", ("fair", "poor")), ("q6", ("great", "good", "bad")), ("q1", ("bad", "good")), ("q2", ("great", "bad", "good")),
        ("q3", ("good", "fair", "bad")), ("q4", ("great", "same")), ("q5", ("poor", "fair")),
    }  # fmt: skip


TRAINED = ["prompt", "prompt_ids", "chosen_ids", "rejected_ids", "kept_ids"]


def test_each_iteration_sees_rows_that_none_saw() -> None:
    steps = [step for step in SELM.plan(method(**BY_RANKER, **HELD_OUT)) if isinstance(step, Generate)]
    drawn = [
        SELM.prepares[job.rows.fn].run((SOURCE,), job.rows.options) for job in (step.load.jobs[0] for step in steps)
    ]
    prompts = [prompt for rows in drawn for prompt in rows["prompt"].to_pylist()]
    assert sorted(prompts) == [*PREFERENCES]
    assert [rows.num_rows for rows in drawn] == [2, 2, 2]


def test_an_offline_first_iteration_is_dpo_on_the_given_pairs() -> None:
    found = method(iterations=3, selm={"firstIteration": "Offline"}, **BY_RANKER, **HELD_OUT)
    steps = {step.name: step for step in SELM.plan(found)}
    first, train, second = steps["i1-generate"], steps["i1-train"], steps["i2-train"]
    assert isinstance(first, Generate) and isinstance(train, Train) and isinstance(second, Train)
    assert [job.out for load in first.loads for job in load.jobs] == ["initial-answers"]  # nothing is explored
    pairs = SELM.prepares[train.data.fn].run((SOURCE, HELD), train.data.options)
    assert {*pairs["prompt"].to_pylist()} <= {*PREFERENCES} - {"q6", "q4"}
    assert train.data.options["parts"] == 3
    assert (train.loss.type, train.loss.beta, train.reference) == ("dpo", 0.01, ModelRef())
    assert (second.loss.type, second.loss.alpha, second.reference) == ("selm", 1e-3, ModelRef(iteration=1))
    explored = [step.name for step in steps.values() if isinstance(step, Generate) and "pairs" in step.outputs]
    assert explored == ["i2-generate", "i3-generate"]
    never = SELM.plan(method(selm={"firstIteration": "Offline"}, evaluation={"when": "Never"}))
    assert [step.name for step in never] == ["i1-train", "i2-generate", "i2-train", "i3-generate", "i3-train"]


@pytest.mark.parametrize(("window", "read"), [("Current", [2, 3]), ("LastTwo", [2, 2, 3]), ("All", [2, 2, 3])])
def test_a_window_has_what_was_explored(window: str, read: list[int]) -> None:
    steps = SELM.plan(method(selm={"firstIteration": "Offline"}, iteration={"dataWindow": window}, **HELD_OUT))
    names = [
        ref.step for step in steps[1:] if isinstance(step, Train) for ref in step.data.inputs if ref.ref == "artifact"
    ]
    assert names == [f"i{k}-generate" for k in read]


def test_the_papers_values_stand_where_they_are_left_out() -> None:
    found = method()
    training = [
        (step.settings.learning_rate, step.loss.beta, step.loss.alpha)
        for step in SELM.plan(found)
        if isinstance(step, Train)
    ]
    assert training == [(5e-7, 0.01, 1e-3), (5e-7, 0.01, 1e-3), (1e-7, 0.01, 1e-3)]
    settings = found.training.settings
    assert (settings.optimizer.type, settings.epochs, settings.global_batch_size) == ("adamw", 1, 256)
    assert (settings.learning_rate_schedule, settings.warmup_ratio) == ("cosine", 0.1)
    assert (settings.max_length_tokens, settings.max_prompt_tokens) == (1024, 512)
    respond = found.roles["respond"]
    assert (respond.temperature, respond.max_tokens) == (0, 1024)
    assert (found.data["preferences"].draw, found.iteration.data_window) == ("Fresh", "Current")


@pytest.mark.parametrize(
    ("given", "trained"),
    [
        ({"iterations": 1}, [(5e-7, "selm", 1e-3)]),
        ({"iterations": 2}, [(5e-7, "selm", 1e-3), (1e-7, "selm", 1e-3)]),
        ({"training": {"learningRate": 1e-4}}, [(1e-4, "selm", 1e-3)] * 3),
        ({"training": {"loss": {"alpha": 0}}}, [(5e-7, "dpo", 0)] * 2 + [(1e-7, "dpo", 0)]),
        ({"training": {"loss": {"type": "ipo"}}}, [(5e-7, "ipo", 0)] * 2 + [(1e-7, "ipo", 0)]),
        (
            {"iterations": 2, "training": {"iterationOverrides": [{"fromIteration": 2, "alpha": 0}]}},
            [(5e-7, "selm", 1e-3), (1e-7, "dpo", 0)],
        ),
    ],
)
def test_what_is_written_holds_for_all_iterations(given: dict[str, Any], trained: list[tuple[Any, ...]]) -> None:
    steps = [step for step in SELM.plan(method(**given)) if isinstance(step, Train)]
    assert [(step.settings.learning_rate, step.loss.type, step.loss.alpha) for step in steps] == trained
    assert all(step.reference is not None for step in steps)


def test_the_papers_example_is_the_recipes_own_values() -> None:
    run = load_run(EXAMPLES / "selm-paper.yaml")
    written = method_of(method_values(run, "GPU", {}, EXAMPLES))
    left_out = run.spec.model_copy(update={"training": None, "generation": None, "iteration": None})
    filled = method_of(method_values(run.model_copy(update={"spec": left_out}), "GPU", {}, EXAMPLES))
    assert written.training.settings.overlong == "Truncate"
    assert written.training.model_copy(update={"settings": filled.training.settings}) == filled.training
    assert written.training.settings.model_copy(update={"overlong": "Drop"}) == filled.training.settings
    assert (written.roles, written.iteration) == (filled.roles, filled.iteration)


# --- who ranks ------------------------------------------------------------------------------------------------------------


def only(step: AnyStep) -> EngineLoad:
    assert isinstance(step, Generate)
    (load,) = step.loads
    return load


@pytest.mark.parametrize(
    ("judge", "loads"),
    [
        ({}, [("policy", "text")]),
        ({"method": "random"}, [("policy", "text")]),
        ({"method": "generate"}, [("policy", "text")]),
        ({"modelName": "initial"}, [("policy", "text"), ("policy", "text")]),
        (BY_RANKER["judge"], [("policy", "text"), ("pairrm", "score")]),
        ({"modelName": "other"}, [("policy", "text"), ("other", "text")]),
    ],
)
def test_whoever_judges_ranks_in_a_load_of_its_own_unless_it_has_just_answered(
    judge: dict[str, Any], loads: list[tuple[str, str]]
) -> None:
    other = {"name": "other", "url": "file:///o"}
    step = SELM.plan(method(judge=judge, auxiliaryModels=[RANKER, other]))[3]
    assert isinstance(step, Generate) and step.name == "i2-generate"
    assert [(load.model.lineage, load.task) for load in step.loads] == loads


TEXTS = st.lists(st.sampled_from(["great", "good", "bad", "awf"]), min_size=3, max_size=3)
MADE = {  # method and scorer, and what the judge says: all of one mind
    "ranker": ("score", "PairRanker"),
    "reward model": ("score", "RewardModel"),
    "logprobs": ("logprobs", None),
    "generate": ("generate", None),
}


def reply_to(request: Any) -> Any:
    """By worth, whatever is asked."""
    if isinstance(request, Rank):
        worth = [WORTH[text] for text in request.answers]
        return Ranking(
            tuple(tuple(float(i != j) * (one - other) for j, other in enumerate(worth)) for i, one in enumerate(worth))
        )
    if isinstance(request, Score):
        return Scores((float(WORTH[request.answer]),))
    first, second = request.user.split("|")
    if isinstance(request, Write):
        return [Completion(f"says {first if WORTH[first] > WORTH[second] else second}!", (), (), "stop", 0)]
    return Comparison(float(WORTH[first]) + 1, float(WORTH[second]))  # and it likes what it is shown first


def asked(made: str, method: Any = None) -> Ask:
    name, scorer = MADE[made]
    judge = Judge(
        method=method or name, verdicts=("says {{ first }}!", "says {{ second }}!"), scorer=scorer, min_score_gap=0
    )  # type: ignore[arg-type]
    role = {"template": "{{ first }}|{{ second }}", "temperature": 0}
    job = FlowJob.model_validate(
        {"flow": "f", "rows": {"fn": "as-made"}, "out": "pairs", "roles": {"judge": role}, "judge": judge.model_dump()}
    )
    return Ask(job, 0, "record", render_template)


def ranked(ask: Ask, texts: list[str]) -> tuple[Ranking, list[Any]]:
    flow, said, requests = rank(ask, "q", texts), None, []
    try:
        while True:
            made = flow.send(said)
            requests += made if isinstance(made, list) else [made]
            said = [reply_to(each) for each in made] if isinstance(made, list) else reply_to(made)
    except StopIteration as done:
        return done.value, requests


@pytest.mark.parametrize("made", MADE)
@given(texts=TEXTS)
def test_each_way_to_judge_ranks_by_worth_and_equal_texts_share_a_rank(made: str, texts: list[str]) -> None:
    ask = asked(made)
    ranking, requests = ranked(ask, texts)
    worth = [WORTH[text] for text in texts]
    assert ranking.ranks == tuple(1 + sum(other > one for other in worth) for one in worth)
    different = len({*texts})
    passes = {"ranker": int(different > 1), "reward model": different if different > 1 else 0}
    assert len(requests) == passes.get(made, different * (different - 1))
    for one, other in permutations(range(3), 2):
        if texts[one] != texts[other]:
            better = verdict(ask.judge, ranking, one, other).better
            assert better == ("first" if worth[one] > worth[other] else "second")


@given(texts=TEXTS, record=st.integers(0, 1000))
def test_the_control_ranks_whatever_the_answers_say_and_the_same_again(texts: list[str], record: int) -> None:
    rankings = []
    for _ in range(2):
        ask = asked("generate", "random")
        ask.record = str(record)
        rankings.append(ranked(ask, texts))
    assert rankings[0] == rankings[1]
    ranking, requests = rankings[0]
    assert requests == []
    assert len({*ranking.ranks}) == len({*texts})


def test_the_control_puts_each_answer_first_as_often_as_the_others() -> None:
    first = [0, 0, 0]
    for record in range(600):
        ask = asked("generate", "random")
        ask.record = str(record)
        first[ranked(ask, ["a", "b", "c"])[0].ranks.index(1)] += 1
    assert min(first) > 150


def test_a_verdict_that_cannot_be_read_is_a_vote_for_neither() -> None:
    flow = rank(asked("generate"), "q", ["great", "bad"])
    next(flow)
    with pytest.raises(StopIteration) as done:
        flow.send([[Completion("what?", (), (), "stop", 0)], [Completion("says great!", (), (), "stop", 0)]])
    ranking = done.value.value
    assert ranking.logits == ((0.0, 0.0), (-1.0, 0.0))
    found = verdict(asked("generate").judge, ranking, 0, 1)
    assert (found.forward, found.backward, found.better, found.reason) == (
        "unparsed",
        "first",
        None,
        "unparsed verdict",
    )


# --- what becomes of a row ------------------------------------------------------------------------------------------------


def one_row(texts: tuple[str, str, str], judge: dict[str, Any], **filters: str) -> Record:
    found = method(**{**BY_RANKER, "judge": BY_RANKER["judge"] | judge}, generation={"filters": filters})
    step = SELM.plan(found)[0]
    assert isinstance(step, Generate)
    (job,) = step.then[0].jobs
    names = ("new", "given_chosen", "given_rejected")
    row = {"history": None, "prompt": "q", "prompt_ids": [1], "answer_seed": 7} | dict(zip(names, texts, strict=True))
    row |= {f"{name}_ids": [5] for name in names} | {f"{name}_finish": "stop" for name in names}
    ranker = Shown()
    (record,) = play(job, pa.Table.from_pylist([row]), ranker, ranker.rank)
    return record


def test_answers_nearer_than_the_gap_make_no_pair() -> None:
    record = one_row(("great", "good", "fair"), {"minScoreGap": 5})  # great over fair: 2 in each order
    assert (record.reason, record.rows[0]["best"], record.rows[0]["worst"]) == (
        "score gap below minScoreGap", "new", "rejected",
    )  # fmt: skip
    record = one_row(("great", "good", "fair"), {"minScoreGap": 4})
    row = record.rows[0]
    assert (record.status, row["chosen_score"], row["rejected_score"], row["margin"]) == ("rows", 2.0, -2.0, 4.0)


def test_equal_texts_can_be_kept_as_the_paper_does() -> None:
    record = one_row(("same", "same", "same"), {}, identical="Keep")
    row = record.rows[0]
    assert (record.status, row["chosen"], row["rejected"], row["kept_ids"]) == ("rows", "same", "same", [5])
    assert "verdict_forward" not in row  # nobody was asked


def test_an_own_answer_that_was_cut_can_be_dropped() -> None:
    found = method(generation={"filters": {"truncated": "Drop"}}, **BY_RANKER, data=EVERY_TIME)
    step = SELM.plan(found)[0]
    assert isinstance(step, Generate)
    rows = SELM.prepares["draw"].run((SOURCE,), step.load.jobs[0].rows.options | {"apart": 0})
    records = answered(step.load.jobs[0], rows, 0)
    assert [record.reason for record in records if record.reason] == ["answer cut at maxTokens"]


def test_a_judge_is_shown_the_conversation_that_a_prompt_goes_on_with() -> None:
    found = method(**BY_RANKER)
    step = SELM.plan(found)[0]
    assert isinstance(step, Generate)
    history = '[["user", "hi"], ["assistant", "ho"]]'
    source = {"prompt": "q1", "history": history, "chosen": "good", "rejected": "bad", "answers": 2}
    told: list[str] = []

    class Told(Letters):
        def text(self, user: str, history: Any = ()) -> str:
            told.append("|".join(message["content"] for message in history))
            return super().text(user)

    job, ranker = step.load.jobs[0], Shown()
    great = Sample(tuple(ids("great")), "stop")
    records = play(job, pa.Table.from_pylist([source]), Renderer(Told(), job.roles, 2000), lambda _: (great,))
    play(step.then[0].jobs[0], kept(records, job.flow), ranker, ranker.rank)
    assert told == ["hi|ho"] * 3  # of both given answers and of the new one
    assert [request.prompt for request in ranker.asked] == ["User: hi\n\nAssistant: ho\n\nUser: q1"]


def test_fewer_rows_than_iterations_are_refused() -> None:
    rows = only(SELM.plan(method(**HELD_OUT))[0]).jobs[0].rows
    with pytest.raises(ConfigError, match="rows are needed and there are 2; write a smaller count or fewer iterations"):
        SELM.prepares[rows.fn].run((SOURCE.slice(0, 2),), rows.options)


def test_the_report_reads_where_new_answers_rank() -> None:
    step = SELM.plan(method(iterations=1, data=EVERY_TIME, **BY_RANKER, **HELD_OUT))[0]
    assert isinstance(step, Generate)
    _, records = explored(step, 0, Shown())
    table = Batch.of(records, SELM.flows["rank-three"].schema).lines
    found = {remark.name: remark.value for remark in remarks({"pairs": table})}
    assert found == pytest.approx(
        {"newBest": 4 / 6, "newWorst": 2 / 6, "newEqualsChosen": 2 / 6, "newEqualsRejected": 0}
    )
    assert list(remarks({"pairs": table.slice(0, 0)})) == []


def test_each_evaluation_compares_with_the_initial_model() -> None:
    for first in ("Online", "Offline"):
        steps = [step for step in SELM.plan(method(selm={"firstIteration": first})) if isinstance(step, Evaluate)]
        assert [[load.model.iteration for load in step.loads] for step in steps] == [[1, 0], [2, 0], [3, 0]]
        assert {check.before.step for step in steps for check in step.checks} == {"i1-generate"}

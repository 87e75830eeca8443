"""Recipe SPIN against the paper (arXiv 2401.01335): a scripted model plays two iterations, and every table is as by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fake_engine import FakeEngine
from test_generate_loop import Letters

from selfalign_api.load import load_run, parse
from selfalign_api.plan import Evaluate, FlowJob, Generate, ModelRef, SourceRef, Train
from selfalign_api.run import SelfAlignmentRun
from selfalign_jobs.accept.resolve import method_of, method_values
from selfalign_jobs.generate.engine import EngineRequest, Sample
from selfalign_jobs.generate.loop import FlowLoop, JobSetup, Task
from selfalign_jobs.generate.records import Record
from selfalign_jobs.generate.render import Renderer
from selfalign_jobs.recipes.base import recipe
from selfalign_jobs.recipes.method import Method
from selfalign_jobs.recipes.tables import counts_of

EXAMPLES = Path(__file__).parents[2] / "examples"
SPIN = recipe("spin")
END = Letters.end_id


def method(**spec: Any) -> Method:
    document = {
        "apiVersion": "selfalign.dev/v1alpha1",
        "kind": "SelfAlignmentRun",
        "metadata": {"name": "r"},
        "spec": {
            "recipe": "spin",
            "model": {"url": "file:///m"},
            "data": {"demonstrations": {"url": "file:///d.jsonl"}},
        }
        | spec,
    }
    return method_of(method_values(parse(SelfAlignmentRun, document, ""), "CPU", {}, Path()))


# What the demonstrations say, and what each model answers: text, and whether it ends by itself.
DEMONSTRATIONS = [("q1", "right"), ("q2", "fine"), ("q3", "long"), ("q4", "held")]
ANSWERS = {
    0: {"q1": ("wrong", "stop"), "q2": ("fine", "stop"), "q3": ("lo", "length"), "q4": ("x", "stop")},
    1: {"q1": ("right", "stop"), "q2": ("fyne", "stop"), "q3": ("lang", "stop"), "q4": ("y", "stop")},
}
SOURCE = pa.table(
    {
        "history": pa.nulls(4, pa.string()),
        "prompt": [prompt for prompt, _ in DEMONSTRATIONS],
        "response": [answer for _, answer in DEMONSTRATIONS],
        "answers": [1] * 4,
    }
)
HELD = pa.table({"prompt": ["q4"], "reference": ["held"]})


def ids(text: str, *, ended: bool = True) -> list[int]:
    return [*map(ord, text), *([END] if ended else [])]


def play(job: FlowJob, rows: pa.Table, k: int) -> list[Record]:
    """The flow over its rows, answered as the model of iteration k does."""

    def answer(request: EngineRequest) -> tuple[Sample, ...]:
        prompt = "".join(map(chr, request.prompt_ids)).removesuffix(".")
        text, finish = ANSWERS[k][prompt]
        return (Sample(tuple(ids(text, ended=finish == "stop")), finish),)

    engine = FakeEngine(answer)
    setup = JobSetup(job, SPIN.flows[job.flow].run, Renderer(Letters(), job.roles, 256), run_seed=0)
    loop = FlowLoop(engine, {job.out: setup}, 4)
    loop.add([Task(job.out, number, f"r{number}", 1, row) for number, row in enumerate(rows.to_pylist())])
    while loop.unfinished:
        loop.advance()
    return sorted(loop.take_finished()[job.out], key=lambda record: record.rows[0]["prompt"])


def pair(prompt: str, demonstration: str, own: str, finish: str = "stop") -> dict[str, Any]:
    """A row of the training's table, by hand."""
    return {
        "prompt": prompt,
        "prompt_ids": [*map(ord, f"{prompt}.")],  # the chat's own rendering, and nothing after it
        "chosen_ids": ids(demonstration),  # one end token
        "rejected_ids": ids(own, ended=finish == "stop"),  # none after a cut answer
    }


def test_two_iterations_are_the_papers() -> None:
    found = method(iterations=2, generation={"roles": [{"name": "respond", "maxTokens": 8}]},
                   evaluation={"prompts": {"url": "file:///h.jsonl"}})  # fmt: skip
    steps = {step.name: step for step in SPIN.plan(found)}
    assert [*steps] == ["i1-generate", "i1-train", "i1-evaluate", "i2-generate", "i2-train", "i2-evaluate"]
    tables: dict[str, pa.Table] = {}
    fates = {}
    for k in (1, 2):
        generate, train = steps[f"i{k}-generate"], steps[f"i{k}-train"]
        assert isinstance(generate, Generate) and isinstance(train, Train)
        assert generate.load.model == ModelRef(iteration=k - 1)  # the current model answers
        assert train.start == train.reference == ModelRef(iteration=k - 1)  # and is what it is trained from and against
        job = generate.load.jobs[0]
        rows = SPIN.prepares[job.rows.fn].run((SOURCE,), job.rows.options)
        records = play(job, rows, k - 1)
        fates[k] = [(record.status, record.reason) for record in records]
        kept = [row for record in records if record.status == "rows" for row in record.rows]
        tables[generate.name] = pa.Table.from_pylist([{name: row[name] for name in PAIR} for row in kept])
        inputs = tuple(
            {"evaluation": HELD}[ref.name] if isinstance(ref, SourceRef) else tables[ref.step]
            for ref in train.data.inputs
        )
        tables[train.name] = SPIN.prepares[train.data.fn].run(inputs, train.data.options)
    dropped = ("dropped", "own answer equals the demonstration")
    assert fates == {
        1: [("rows", None), dropped, ("rows", None), ("rows", None)],
        2: [dropped, ("rows", None), ("rows", None), ("rows", None)],
    }
    first = [pair("q1", "right", "wrong"), pair("q3", "long", "lo", "length")]
    second = [pair("q2", "fine", "fyne"), pair("q3", "long", "lang")]
    assert tables["i1-train"].to_pylist() == first
    assert tables["i2-train"].to_pylist() == [*first, *second]  # the last iteration's own answers are not scored again
    assert [counts_of(tables[f"i{k}-train"])["promptHeldOut"] for k in (1, 2)] == [1, 2]


PAIR = ("prompt", "prompt_ids", "chosen_ids", "rejected_ids")


def test_a_conversation_is_answered_after_what_was_said_before() -> None:
    job = next(step for step in SPIN.plan(method()) if isinstance(step, Generate)).load.jobs[0]
    history = '[["user", "hi"], ["assistant", "ho"]]'
    asked: list[str] = []

    class Told(Letters):
        def text(self, user: str, history: Any = ()) -> str:
            asked.append("|".join(message["content"] for message in history))
            return super().text(user)

    setup = JobSetup(job, SPIN.flows[job.flow].run, Renderer(Told(), job.roles, 400), run_seed=0)
    loop = FlowLoop(FakeEngine(lambda _: (Sample((ord("a"), END), "stop"),)), {job.out: setup}, 4)
    loop.add([Task(job.out, 0, "r0", 1, {"prompt": "q", "history": history, "response": "b"})])
    while loop.unfinished:
        loop.advance()
    assert asked == ["hi|ho"] * 2  # of the demonstration and of the own answer


def test_an_own_answer_that_was_cut_can_be_dropped() -> None:
    found = method(generation={"filters": {"truncated": "Drop"}, "roles": [{"name": "respond", "maxTokens": 8}]})
    job = next(step for step in SPIN.plan(found) if isinstance(step, Generate)).load.jobs[0]
    assert [record.reason for record in play(job, SOURCE, 0)][2] == "answer cut at maxTokens"


def test_the_papers_values_stand_where_they_are_left_out() -> None:
    found = method()
    training = [(step.settings.learning_rate, step.loss.beta) for step in SPIN.plan(found) if isinstance(step, Train)]
    assert training == [(5e-7, 0.1), (5e-7, 0.1), (1e-7, 0.1), (1e-7, 5.0)]
    settings = found.training.settings
    assert (settings.optimizer.type, settings.optimizer.beta2, settings.optimizer.weight_decay) == ("rmsprop", 0.99, 0)
    assert (settings.epochs, settings.global_batch_size, settings.learning_rate_schedule) == (2, 64, "linear")
    respond = found.roles["respond"]
    assert (respond.temperature, respond.top_p, respond.max_tokens) == (1.0, 1.0, 256)


@pytest.mark.parametrize(
    ("given", "trained"),
    [
        ({"iterations": 1}, [(5e-7, 0.1)]),
        ({"iterations": 3}, [(5e-7, 0.1), (5e-7, 0.1), (1e-7, 0.1)]),
        ({"training": {"learningRate": 1e-4}}, [(1e-4, 0.1)] * 3 + [(1e-4, 5.0)]),
        ({"training": {"loss": {"type": "dpo", "beta": 0.5}}}, [(5e-7, 0.5)] * 2 + [(1e-7, 0.5)] * 2),
        ({"training": {"loss": {"type": "hinge"}}}, [(5e-7, 0.1)] * 2 + [(1e-7, 0.1)] * 2),
    ],
)
def test_what_is_written_holds_for_all_iterations(given: dict[str, Any], trained: list[tuple[float, float]]) -> None:
    steps = SPIN.plan(method(**given))
    assert [(s.settings.learning_rate, s.loss.beta) for s in steps if isinstance(s, Train)] == trained
    assert all(step.reference is not None for step in steps if isinstance(step, Train))


def test_the_papers_example_is_the_recipes_own_values() -> None:
    run = load_run(EXAMPLES / "spin-paper.yaml")
    written = method_of(method_values(run, "GPU", {}, EXAMPLES))
    filled = method_of(method_values(run.model_copy(update={"spec": method_only(run)}), "GPU", {}, EXAMPLES))
    assert written.training == filled.training
    assert written.roles == filled.roles
    assert written.iteration == filled.iteration


def method_only(run: SelfAlignmentRun) -> Any:
    return run.spec.model_copy(update={"training": None, "generation": None, "iteration": None, "iterations": None})


def test_each_evaluation_asks_what_is_held_out_and_compares_with_the_initial_model() -> None:
    steps = [step for step in SPIN.plan(method(iterations=3)) if isinstance(step, Evaluate)]
    assert [[load.model.iteration for load in step.loads] for step in steps] == [[1, 0], [2, 0], [3, 0]]
    assert {check.before.step for step in steps for check in step.checks} == {"i1-generate"}

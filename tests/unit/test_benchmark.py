"""Benchmark checks: what the harness asks, and what its own code makes of the answers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval.api.model import TemplateLM

from selfalign_api.errors import ConfigError
from selfalign_api.load import load_run
from selfalign_api.plan import Evaluate, ModelRef, Plan, Role
from selfalign_api.sources import BenchmarkTasks
from selfalign_jobs.accept.resolve import resolve
from selfalign_jobs.evaluate.benchmark import Metric, benchmark_figures, score
from selfalign_jobs.flow import Context, Continue, Likelihood, Likely
from selfalign_jobs.generate.chat import ModelChat
from selfalign_jobs.generate.engine import Sample, Tail
from selfalign_jobs.generate.render import Renderer
from selfalign_jobs.generate.tokenizer import read_tokenizer
from selfalign_jobs.places.benchmark_tasks import requests_table
from selfalign_jobs.recipes.benchmarks import ANSWERED, ROLE, answer_request, chat_context, context_of
from selfalign_jobs.step import second_look

EXAMPLES = Path(__file__).parents[2] / "examples"
TINY = EXAMPLES / "tiny-model"
TASKS = TINY / "tasks"
FIELD = "spec.evaluation.checks[board].benchmark"


def chance(*parts: object) -> float:
    """A number from 0 to 1 that depends on what is asked, and on nothing else."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=6).digest(), "big") / 2**48


def says(kind: str, context: str, text: str, reference: str | None = None) -> dict[str, Any]:
    """What a model of chance says to a request: of two answers one is right."""
    odds = chance(kind, context, text)
    if kind == "generate_until":
        return {"answer": context.split()[-1] if odds < 0.5 else "no idea"}
    return {"log_p": -10 * odds - 0.1, "greedy": odds < 0.2}


def answers_to(requests: pa.Table) -> pa.Table:
    empty = {"answer": None, "log_p": None, "greedy": None, "tokens": 1, "fills": False}
    rows = [row | empty | says(row["kind"], row["context"], row["text"]) for row in requests.to_pylist()]
    return pa.Table.from_pylist(rows, ANSWERED)


def of_the_harness(tasks: tuple[str, ...], limit: int | None = None, shots: int | None = None) -> dict[str, Any]:
    """What lm_eval's own function says of the same model."""
    from contextlib import chdir

    from lm_eval import simple_evaluate
    from lm_eval.api.model import LM
    from lm_eval.tasks import TaskManager

    class Chance(LM):
        def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
            said = [says("loglikelihood", *each.args) for each in requests]
            return [(each["log_p"], each["greedy"]) for each in said]

        def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
            return [says("loglikelihood_rolling", "", each.args[0])["log_p"] for each in requests]

        def generate_until(self, requests: list[Any]) -> list[str]:
            return [says("generate_until", each.args[0], "")["answer"] for each in requests]

    with chdir(TASKS):
        found = simple_evaluate(
            Chance(),
            tasks=[*tasks],
            task_manager=TaskManager(include_path=str(TASKS), include_defaults=False),
            limit=limit,
            num_fewshot=shots,
            bootstrap_iters=1000,
        )
    assert found is not None
    results: dict[str, Any] = found["results"]
    return results


@pytest.mark.parametrize(
    ("asked", "metrics"),
    [
        (BenchmarkTasks(tasks=("tiny_requests",)), {"tiny_requests.exact_match"}),
        (BenchmarkTasks(tasks=("tiny_numbers",), limit=40), {"tiny_numbers.acc"}),
        (BenchmarkTasks(tasks=("tiny_words",)), {"tiny_words.word_perplexity"}),
        (
            BenchmarkTasks(tasks=("tiny_numbers", "tiny_requests"), shots=2),
            {"tiny_numbers.acc", "tiny_requests.exact_match"},
        ),
    ],
)
def test_the_figures_are_those_of_the_harness(asked: BenchmarkTasks, metrics: set[str]) -> None:
    ours, account = score(asked, TASKS, FIELD, answers_to(requests_table(asked, TASKS, FIELD)))
    theirs = of_the_harness(asked.tasks, asked.limit, asked.shots)
    assert ours.keys() == metrics
    for name, found in ours.items():
        task, _, metric = name.partition(".")
        assert found.value == theirs[task][f"{metric},none"]
        assert found.n == account["n-samples"][task]["effective"]
        if metric != "word_perplexity":  # whose error is a bootstrap of its own
            assert found.error == theirs[task][f"{metric}_stderr,none"]
            assert found.by_doc


def test_a_group_with_figures_of_its_own_is_told_as_one(tmp_path: Path) -> None:
    copy_of_tasks(tmp_path)
    group = {
        "group": "tiny",
        "task": ["tiny_numbers", "tiny_requests"],
        "aggregate_metric_list": [{"metric": "acc", "weight_by_size": True}],
    }
    (tmp_path / "tasks" / "tiny.yaml").write_text(yaml.safe_dump(group))
    asked = BenchmarkTasks(tasks=("tiny",), limit=10)
    folder = tmp_path / "tasks"
    found, _ = score(asked, folder, FIELD, answers_to(requests_table(asked, folder, FIELD)))
    assert "tiny.acc" in found


def copy_of_tasks(folder: Path) -> None:
    (folder / "tasks").mkdir()
    for file in TASKS.iterdir():
        if file.is_file():
            (folder / "tasks" / file.name).write_bytes(file.read_bytes())
    (folder / "heldout.jsonl").write_bytes((TINY / "heldout.jsonl").read_bytes())


def test_a_chat_is_scored_as_a_plain_text_is() -> None:
    asked = BenchmarkTasks(tasks=("tiny_numbers", "tiny_requests"), limit=20, chat=True)
    requests = requests_table(asked, TASKS, FIELD)
    empty = {"log_p": -1.0, "greedy": False, "tokens": 1, "fills": False}
    references = [json.loads(line)["reference"] for line in (TINY / "heldout.jsonl").read_text().splitlines()]
    rows = [row | empty | {"answer": references[row["doc"]]} for row in requests.to_pylist()]
    found, _ = score(asked, TASKS, FIELD, pa.Table.from_pylist(rows, ANSWERED))
    assert found["tiny_requests.exact_match"].value == 1.0


def test_what_was_not_written_is_wrong() -> None:
    asked = BenchmarkTasks(tasks=("tiny_requests",), limit=100)
    answers = answers_to(requests_table(asked, TASKS, FIELD))
    found, _ = score(asked, TASKS, FIELD, answers.slice(0, 50))
    right = [each for (_, doc), each in found["tiny_requests.exact_match"].by_doc.items() if doc >= 50]
    assert right == [0.0] * 50


def test_a_choice_that_was_not_weighed_is_not_taken() -> None:
    asked = BenchmarkTasks(tasks=("tiny_numbers",), limit=10)
    answers = answers_to(requests_table(asked, TASKS, FIELD))
    seconds = answers.take([number for number in range(20) if number % 2])
    found, _ = score(asked, TASKS, FIELD, seconds)
    questions = [json.loads(line) for line in (TINY / "heldout.jsonl").read_text().splitlines()]
    numbers = [each for each in questions if "number" in each["prompt"]][:10]
    right = [float(each["prompt"].split()[-1] == each["reference"]) for each in numbers]
    assert [*found["tiny_numbers.acc"].by_doc.values()] == right


def test_a_request_that_is_made_several_times_has_an_answer_each_time(tmp_path: Path) -> None:
    copy_of_tasks(tmp_path)
    task = yaml.safe_load((tmp_path / "tasks" / "tiny_requests.yaml").read_text())
    (tmp_path / "tasks" / "tiny_requests.yaml").write_text(yaml.safe_dump(task | {"repeats": 3}))
    requests = requests_table(BenchmarkTasks(tasks=("tiny_requests",), limit=4), tmp_path / "tasks", FIELD)
    assert requests["doc"].to_pylist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "no data": ({"dataset_kwargs": {"data_files": {"test": "nowhere.jsonl"}}}, "cannot be read: FileNotFoundError"),
    "a split that is none": ({"test_split": "nothing"}, "cannot be read"),
    "a column that is none": ({"doc_to_text": "{{absent}}"}, "cannot be read: "),
    "an unknown metric": ({"metric_list": [{"metric": "excellence"}]}, "cannot be read: "),
    "code that the model writes": ({"unsafe_code": True}, "runs the code that a model writes, which is not done here"),
    "an output of another kind": ({"output_type": "pictures"}, "cannot be read: "),
}


@pytest.mark.parametrize("change", BROKEN)
def test_a_task_that_cannot_be_asked_is_refused_before_anything_is_paid_for(change: str, tmp_path: Path) -> None:
    copy_of_tasks(tmp_path)
    values, said = BROKEN[change]
    task = yaml.safe_load((tmp_path / "tasks" / "tiny_requests.yaml").read_text())
    (tmp_path / "tasks" / "tiny_requests.yaml").write_text(yaml.safe_dump(task | values))
    asked = BenchmarkTasks(tasks=("tiny_requests",))
    with pytest.raises(ConfigError, match=said) as refused:
        requests_table(asked, tmp_path / "tasks", FIELD)
    (problem,) = refused.value.problems
    assert problem.path == f"{FIELD}.tasks"
    assert "tiny_requests" in problem.message


def test_an_unknown_task_is_refused_with_those_that_are_like_it() -> None:
    with pytest.raises(ConfigError, match=r"did you mean tiny_numbers.*lm_eval ls tasks prints the harness's own"):
        requests_table(BenchmarkTasks(tasks=("tiny_number",)), TASKS, FIELD)


# --- figures --------------------------------------------------------------------------------------------------------------


def metric(values: list[float], *, better: bool = True) -> Metric:
    mean = sum(values) / len(values)
    return Metric(mean, 0.01, len(values), better, {("t", n): value for n, value in enumerate(values)})


def test_the_gain_of_a_mean_is_paired_by_question() -> None:
    before, after = {"t.acc": metric([0.0] * 50 + [1.0] * 50)}, {"t.acc": metric([0.0] * 49 + [1.0] * 51)}
    figures = benchmark_figures("board", before, after, seed=0)
    gain = figures["board.t.acc.gain"]
    assert gain["value"] == pytest.approx(0.01)
    assert gain["high"] - gain["low"] < 0.05  # unpaired it is a quarter wide


def test_a_metric_that_is_no_mean_has_the_gain_of_two_independent_figures() -> None:
    before, after = (Metric(value, 0.3, 100, False, {}) for value in (4.0, 3.0))
    figures = benchmark_figures("board", {"t.perplexity": before}, {"t.perplexity": after}, seed=0)
    gain = figures["board.t.perplexity.gain"]
    assert gain == {
        "value": -1.0,
        "low": pytest.approx(-1.831542),
        "high": pytest.approx(-0.168458),
        "n": 100,
        "lowerIsBetter": True,
    }


def test_a_metric_without_a_standard_error_has_no_interval_and_is_not_told_as_a_gain() -> None:
    before, after = (Metric(value, None, 100, False, {}) for value in (2127.0, 1690.0))
    figures = benchmark_figures("board", {"t.perplexity": before}, {"t.perplexity": after}, seed=0)
    assert all(figure["noInterval"] for figure in figures.values())
    assert list(second_look.on_results(figures)) == []


# --- what is asked of the engine ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chat() -> ModelChat:
    return ModelChat(read_tokenizer(TINY / "model"))


def renderer(chat: ModelChat, context: int = 64) -> Renderer:
    return Renderer(chat, {ROLE: Role()}, context)


class Parting:
    """What the harness parts a context and a text with."""

    backend = "causal"

    def __init__(self, chat: ModelChat) -> None:
        self.tok_encode = chat.plain


WORDS = st.lists(st.sampled_from(["red", "blue", "cow", "29", "Reverse", "words:"]), min_size=1, max_size=12).map(
    " ".join
)


@settings(max_examples=60, deadline=None)
@given(context=WORDS, text=WORDS, space=st.sampled_from(["", " ", "  ", "\n"]))
def test_context_and_text_are_parted_as_the_harness_parts_them(context: str, text: str, space: str) -> None:
    chat = ModelChat(read_tokenizer(TINY / "model"))
    ids, tail = renderer(chat).render(Likelihood(ROLE, Context(context + space), f" {text}"))
    assert isinstance(tail, Tail)
    theirs = TemplateLM._encode_pair(Parting(chat), context + space, f" {text}")  # type: ignore[arg-type]
    assert (ids[: len(ids) - tail.tokens], ids[len(ids) - tail.tokens :]) == theirs


def test_a_text_behind_nothing_stands_behind_the_first_token_of_all(chat: ModelChat) -> None:
    ids, tail = renderer(chat).render(Likelihood(ROLE, Context(""), "red cow"))
    assert ids == [chat.prefix_id, *chat.plain("red cow", special=False)]
    assert tail == Tail(len(ids) - 1)


@settings(max_examples=40, deadline=None)
@given(words=st.lists(st.sampled_from(["red", "blue", "cow", "axe"]), max_size=60), size=st.integers(4, 40))
def test_each_token_of_a_long_text_is_in_one_window(words: list[str], size: int) -> None:
    chat = ModelChat(read_tokenizer(TINY / "model"))
    text, made = " ".join(words), renderer(chat, size)
    first = Likelihood(ROLE, None, text)
    windows = made.likely(first, [], Likely(0.0, True)).windows
    said: list[int] = []
    for window in range(windows):
        ids, tail = made.render(first._replace(window=window))
        assert isinstance(tail, Tail)
        assert len(ids) < size
        assert len(ids) > tail.tokens  # each token has one before it
        said += ids[len(ids) - tail.tokens :]
    assert said == chat.plain(text, special=False)


@pytest.mark.parametrize("length", [1, 20, 60, 61, 200])
def test_of_a_long_context_the_end_is_taken_and_told(chat: ModelChat, length: int) -> None:
    words = " ".join(["red"] * length)
    made = renderer(chat, 64)
    whole = chat.plain(words + " cow")
    asked = Likelihood(ROLE, Context(words), " cow")
    ids, _ = made.render(asked)
    assert ids == whole[-63:]
    assert made.likely(asked, ids, Likely(-1.0, True)).fills == (len(whole) >= 63)


def test_what_ends_an_answer_is_no_part_of_it(chat: ModelChat) -> None:
    made = renderer(chat)
    asked = Continue(ROLE, Context("red"), 8, ("cow",), 0)
    ids = tuple(chat.plain("blue cow axe", special=False))
    said = made.continued(asked, chat.plain("red"), (Sample(ids, "stop"),))
    assert said.text.strip() == "blue"


def test_a_chat_is_rendered_by_the_models_own_template(chat: ModelChat) -> None:
    messages = [{"role": "user", "content": "Say red"}, {"role": "assistant", "content": "The answer: "}]
    context = context_of(chat_context(messages) + "more")
    assert context == Context("The answer: more", "Say red")
    ids, _ = renderer(chat, 256).render(Continue(ROLE, context, 4, (), 0))
    assert ids == chat.encode(chat.text("Say red") + "The answer: more")


def test_a_rolling_text_is_the_sum_of_its_windows() -> None:
    row = {"task": "t", "doc": 0, "kind": "loglikelihood_rolling", "context": "", "text": "a b c", "settings": ""}
    flow = answer_request(row, None)  # type: ignore[arg-type]
    next(flow)
    others = flow.send(Likely(-1.0, True, windows=3))
    assert [each.window for each in others] == [1, 2]
    with pytest.raises(StopIteration) as done:
        flow.send([Likely(-2.0, True), Likely(-3.0, False)])
    (made,) = done.value.value
    assert (made["log_p"], made["greedy"]) == (-6.0, False)


def test_the_account_of_the_harness_is_json() -> None:
    asked = BenchmarkTasks(tasks=("tiny_numbers",), limit=5)
    _, account = score(asked, TASKS, FIELD, answers_to(requests_table(asked, TASKS, FIELD)))
    assert json.loads(json.dumps(account))["configs"]["tiny_numbers"]["task"] == "tiny_numbers"


# --- the plan -------------------------------------------------------------------------------------------------------------

BOARD: dict[str, Any] = {
    "name": "board",
    "type": "Benchmark",
    "benchmark": {"tasks": ["tiny_numbers"], "tasksUrl": TASKS.as_uri()},
}


def planned(example: Path, checks: Any, folder: Path) -> Plan:
    document = yaml.safe_load(example.read_text(encoding="utf-8"))
    document["spec"]["evaluation"]["checks"] = checks
    file = folder / "run.yaml"
    file.write_text(yaml.safe_dump(document))
    return resolve(load_run(file), "CPU", {"selfalign": str(EXAMPLES)}, folder).plan


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*-tiny.yaml")), ids=lambda file: file.stem)
def test_every_recipe_asks_the_initial_model_once_and_the_trained_one_each_time(example: Path, tmp_path: Path) -> None:
    given = yaml.safe_load(example.read_text(encoding="utf-8"))["spec"]["evaluation"]["checks"]
    with_board, without = planned(example, [*given, BOARD], tmp_path), planned(example, given, tmp_path)
    evaluations = [step for step in with_board.steps if isinstance(step, Evaluate)]
    loads = [(step, load) for step in evaluations for load in step.loads]
    asked = [(step.name, load.model, job.out) for step, load in loads for job in load.jobs if job.flow == "benchmark"]
    before = (evaluations[0].name, ModelRef(), "benchmark-board-initial")
    after = {(step.name, load.model, "benchmark-board") for step, load in loads if load.jobs[0].out == "answers"}
    assert len(after) == len(evaluations)
    assert sorted(asked, key=str) == sorted({before, *after}, key=str)
    for step in without.steps:
        if not isinstance(step, Evaluate):
            assert step == with_board.step(step.name)  # what is generated and trained does not change


def test_a_run_may_have_benchmarks_alone(tmp_path: Path) -> None:
    plan = planned(EXAMPLES / "sao-tiny.yaml", [BOARD], tmp_path)
    (step,) = [step for step in plan.steps if isinstance(step, Evaluate)]
    assert [check.type for check in step.checks] == ["Benchmark"]
    assert [[job.out for job in load.jobs] for load in step.loads] == [
        ["answers", "benchmark-board"],
        ["benchmark-board-initial"],
    ]


def test_other_tasks_make_another_evaluation(tmp_path: Path) -> None:
    one, same, other, fewer = (
        planned(EXAMPLES / "sao-tiny.yaml", [BOARD | {"benchmark": BOARD["benchmark"] | more}], tmp_path)
        for more in ({}, {}, {"tasks": ["tiny_requests"]}, {"limit": 5})
    )
    assert one.step_digest("i1-evaluate") == same.step_digest("i1-evaluate")
    assert len({plan.step_digest("i1-evaluate") for plan in (one, other, fewer)}) == 3
    assert len({plan.step_digest("i1-train") for plan in (one, other, fewer)}) == 1


def test_the_questions_of_mt_bench_are_asked_of_the_trained_model_alone(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"question_id": 81, "category": "math", "turns": ["a", "b"]}\n')
    asked = {"format": "MTBench", "questions": {"url": (tmp_path / "q.jsonl").as_uri()}}
    plan = planned(EXAMPLES / "sao-tiny.yaml", [{"name": "mt", "type": "Export", "export": asked}], tmp_path)
    (step,) = [step for step in plan.steps if isinstance(step, Evaluate)]
    assert [[job.out for job in load.jobs] for load in step.loads] == [["answers", "dialogues-mt"]]
    assert [(check.name, check.format, check.after.name) for check in step.checks] == [
        ("mt", "MTBench", "dialogues-mt")
    ]


def test_a_folder_of_tasks_that_is_not_there_is_refused(tmp_path: Path) -> None:
    nowhere = BOARD | {"benchmark": {"tasks": ["x"], "tasksUrl": "file:///nowhere"}}
    with pytest.raises(ConfigError, match="there is no folder /nowhere; write the URL of a folder of task files"):
        planned(EXAMPLES / "sao-tiny.yaml", [nowhere], tmp_path)

"""Recipe ReverseGen against the paper (arXiv 2410.16736): scripted models play two iterations, and every table is as by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fake_engine import FakeEngine
from hypothesis import given
from hypothesis import strategies as st
from played_plan import PlayedPlan, ids, run_job
from test_generate_loop import Letters

from selfalign_api.errors import ConfigError
from selfalign_api.load import load_run, parse
from selfalign_api.method import Output
from selfalign_api.plan import EngineLoad, FlowJob, Generate, ModelRef, Train
from selfalign_api.run import SelfAlignmentRun
from selfalign_jobs.accept.resolve import method_of, method_values, publish_steps
from selfalign_jobs.flow import Comparison, Scores
from selfalign_jobs.generate.engine import Answer, EngineRequest, Head, Labels, Sample
from selfalign_jobs.generate.records import Record
from selfalign_jobs.generate.render import Renderer
from selfalign_jobs.generate.score_render import ScoreRenderer
from selfalign_jobs.recipes.base import Step, recipe
from selfalign_jobs.recipes.method import Method
from selfalign_jobs.recipes.oracles import entropy, final, one_item
from selfalign_jobs.recipes.tables import counts_of
from selfalign_jobs.train.written import TARGET, written

EXAMPLES = Path(__file__).parents[2] / "examples"
REVERSEGEN = recipe("reversegen")
END = Letters.end_id
HELPERS = [
    {"name": "verifier", "kind": "Classifier", "label": "valid", "url": "file:///v"},
    {"name": "guard", "kind": "Classifier", "label": "unsafe", "url": "file:///g"},
    {"name": "rm", "kind": "RewardModel", "url": "file:///r"},
    {"name": "strong", "url": "file:///s"},
]
OPTIONS: dict[str, Any] = {
    "proposerModelName": "initial",
    "verifierModelName": "verifier",
    "teacherModelName": "strong",
    "contextShots": 2,
    "proposalsPerIteration": 5,
    "oracle": {"type": "ExactMatch"},
}
SPEC: dict[str, Any] = {
    "recipe": "reversegen",
    "seed": 5,
    "model": {"url": "file:///m"},
    "auxiliaryModels": HELPERS,
    "data": {"prompts": {"url": "file:///p.jsonl"}},
    "generation": {
        "roles": [
            {"name": "propose", "template": "after {{ context | join(' ') }}", "maxTokens": 24},
            {"name": "respond", "maxTokens": 24},
            {"name": "teach", "maxTokens": 24},
        ],
        "filters": {"nearDuplicates": {"method": "Exact"}},
    },
    "evaluation": {"prompts": {"url": "file:///h.jsonl"}, "checks": [{"name": "win", "type": "SelfWinRate"}]},
    "reversegen": OPTIONS,
}


def method(**spec: Any) -> Method:
    document = {"apiVersion": "selfalign.dev/v1alpha1", "kind": "SelfAlignmentRun", "metadata": {"name": "r"}}
    run = parse(SelfAlignmentRun, document | {"spec": SPEC | spec}, "")
    return method_of(method_values(run, "CPU", {}, Path()))


# Of five seeds ten contexts of two: five an iteration, all of them once. One seed comes twice, one is held out.
SEEDS = ["a", "b", "c", "held", "a", "d", "e"]
SOURCES = {"prompts": pa.table({"prompt": SEEDS}), "evaluation": pa.table({"prompt": ["held", "do held"]})}
WRITES = {
    "ab": "3. fail ab\n4. fail xy",  # only the item that was asked for counts
    "ac": "do ac",
    "ad": "fail ad",
    "ae": "nonsense",  # not valid
    "bc": "do bc",
    "bd": "fail same",
    "be": "Fail  same",  # near the one before, whichever comes first
    "cd": "do cd",
    "ce": " ",  # nothing
    "de": "do held",  # held out for evaluation
}
ITEMS = {key: text for key, text in WRITES.items() if text.strip()} | {"ab": "fail ab"}


def play(job: FlowJob, load: EngineLoad, rows: pa.Table) -> list[Record]:
    def answer(request: EngineRequest) -> Answer:
        text = "".join(map(chr, request.prompt_ids))
        if isinstance(request.task, Head):
            return Scores((-1.0 if text == "nonsense" else 1.0,))
        said = text.removesuffix(".")
        if job.flow == "propose":
            said = WRITES["".join(sorted(said.removeprefix("after ").split()))]
        elif load.model == ModelRef() and said.casefold().startswith("fail"):
            said = "no"
        else:  # the teacher, and the target where it knows better
            said = f"yes {said.casefold().split()[-1]}"
        return (Sample(tuple(ids(said)), "stop"),)

    return played(job, FakeEngine(answer), rows, load.task)


def played(job: FlowJob, engine: FakeEngine, rows: pa.Table, task: str = "text") -> list[Record]:
    renderer = ScoreRenderer(Texts(), 256) if task == "score" else Renderer(Guarded(), job.roles, 256)
    return run_job(REVERSEGEN, job, engine, renderer, rows)


class Texts:
    """What a scoring model reads here: the answer, or a prompt alone."""

    def ids(self, prompt: str, answer: str | None, history: Any = ()) -> list[int]:
        return [*map(ord, prompt if answer is None else answer)]


class Guarded(Letters):
    """A chat that shows what both have said."""

    def answered(self, user: str, answer: str) -> str:
        return f"{user}:{answer}."


class Played(PlayedPlan):
    """And the contexts of each iteration."""

    def __init__(self, steps: tuple[Step, ...]) -> None:
        super().__init__(REVERSEGEN, SOURCES, steps, play)
        self.contexts = [step.load.jobs[0].rows for step in steps if isinstance(step, Generate)]

    def keys(self, k: int) -> list[str]:
        """The contexts of iteration k, as WRITES has them."""
        contexts = self.prepared(self.contexts[k - 1])["context"].to_pylist()
        return ["".join(sorted(context)) for context in contexts]


@pytest.fixture(name="steps", scope="module")
def _steps() -> tuple[Step, ...]:
    return REVERSEGEN.plan(method())


@pytest.fixture(name="found", scope="module")
def _found(steps: tuple[Step, ...]) -> Played:
    return Played(steps)


def test_models_load_and_train_as_in_the_paper(steps: tuple[Step, ...]) -> None:
    """The proposer from and against the last one, the target once, at the end."""
    assert [step.name for step in steps] == [
        "i1-warm-up",
        "i1-generate",
        "i1-train",
        "i2-generate",
        "i2-harden",
        "i2-evaluate",
    ]
    trainings = {step.name: step for step in steps if isinstance(step, Train)}
    warm, learned = ModelRef(lineage="warmProposer", iteration=1), ModelRef(lineage="proposer", iteration=1)
    assert {name: (step.start, step.reference, step.result) for name, step in trainings.items()} == {
        "i1-warm-up": (ModelRef(), None, warm),
        "i1-train": (warm, warm, learned),
        "i2-harden": (ModelRef(), None, ModelRef(iteration=2)),
    }
    assert {name: (step.stage, step.loss.type) for name, step in trainings.items()} == {
        "i1-warm-up": ("warmUp", "sft"),
        "i1-train": (None, "dpo"),
        "i2-harden": ("harden", "sft"),
    }
    loads = [[load.model for load in step.loads] for step in steps if isinstance(step, Generate)]
    others = [ModelRef(lineage="verifier"), ModelRef(), ModelRef(lineage="strong")]
    assert loads == [[warm, *others], [learned, *others]]


def test_each_seed_is_once_the_one_to_write_and_no_two_stand_after_the_same_others(found: Played) -> None:
    taught = found.rows("i1-warm-up", "trained", "target", "user")
    assert [target for target, _ in taught] == ["a", "b", "c", "d", "e"]  # neither twice nor held out
    others = [user.removeprefix("after ").split() for _, user in taught]
    assert all(
        target not in context and len(set(context)) == 2 for (target, _), context in zip(taught, others, strict=True)
    )
    assert len({frozenset(context) for context in others}) == len(others)
    rows = written(found.tables["i1-warm-up", "trained"], Letters(), TARGET).to_pylist()  # type: ignore[arg-type]
    assert [row["prompt_ids"] for row in rows] == [ids(f"{row['user']}.", ended=False) for row in rows]
    assert [row["target_ids"] for row in rows] == [ids(row["target"]) for row in rows]


def test_contexts_come_once_in_all_iterations(found: Played) -> None:
    assert sorted(found.keys(1) + found.keys(2)) == sorted(WRITES)


def test_proposals_are_one_item_each_with_the_ids_of_what_is_kept(found: Played) -> None:
    for k in (1, 2):
        rows = found.tables[f"i{k}-generate", "proposals"].to_pylist()
        keys = ["".join(sorted(row["context"])) for row in rows]
        assert {key: row["prompt"] for key, row in zip(keys, rows, strict=True)} == {
            key: ITEMS[key] for key in found.keys(k) if key in ITEMS
        }
        for row in rows:
            assert row["context_ids"] == ids(f"after {' '.join(row['context'])}.", ended=False)
            assert row["proposal_ids"] == ids(row["prompt"])
    assert reasons(found, "proposals") == {"empty"}


def reasons(found: Played, table: str) -> set[str | None]:
    """Why records of a table made no row, in both iterations."""
    return {reason for k in (1, 2) for _, reason in found.lost(f"i{k}-generate", table)}


def expected(found: Played, k: int) -> list[tuple[str, str, bool]]:
    """What iteration k finds, by hand: valid, and near none before it."""
    before = [ITEMS[key] for i in range(1, k) for key in found.keys(i) if key in ITEMS]
    seen = {" ".join(text.casefold().split()) for text in before}
    rows = []
    for text in (ITEMS[key] for key in found.keys(k) if key in ITEMS):
        folded = " ".join(text.casefold().split())
        if folded not in seen and text != "nonsense":
            failed = folded.startswith("fail")
            rows.append((text, "no" if failed else f"yes {folded.split()[-1]}", failed))
        seen.add(folded)
    return sorted(rows)


def test_what_is_valid_and_new_is_answered_and_compared_with_the_teacher(found: Played) -> None:
    both = [expected(found, k) for k in (1, 2)]
    for k, rows in enumerate(both, 1):
        assert found.rows(f"i{k}-generate", "found", "prompt", "answer", "failed") == rows
        references = found.rows(f"i{k}-generate", "found", "prompt", "reference", "oracle")
        assert references == [(text, f"yes {text.casefold().split()[-1]}", "ExactMatch") for text, _, _ in rows]
    assert sum(text.casefold().split() == ["fail", "same"] for rows in both for text, _, _ in rows) == 1
    assert reasons(found, "verified") == {"not valid"}


def test_failures_beat_what_was_handled_at_contexts_of_the_same_iteration(found: Played) -> None:
    rows = [row for row in expected(found, 1) if row[0] != "do held"]
    failures, handled = ({text for text, _, failed in rows if failed is side} for side in (True, False))
    assert failures and handled, "write another seed"
    pairs = found.tables["i1-train", "trained"].to_pylist()
    assert len(pairs) == min(len(failures), len(handled))
    for side, texts in (("chosen", failures), ("rejected", handled)):
        names = [row[side] for row in pairs]
        assert len(set(names)) == len(names) and {*names} <= texts
        assert [row[f"{side}_ids"] for row in pairs] == [ids(name) for name in names]
    turns = [
        tuple(ids(f"after {' '.join(c)}.", ended=False))
        for c in found.prepared(found.contexts[0])["context"].to_pylist()
    ]
    assert {tuple(row["prompt_ids"]) for row in pairs} <= {*turns}
    counts = counts_of(found.tables["i1-train", "trained"])
    assert counts["pairs"] + counts["unpaired"] + counts["promptHeldOut"] == len(expected(found, 1))


def test_the_target_is_hardened_on_all_failures_and_a_share_of_the_rest(found: Played) -> None:
    rows = [row for k in (1, 2) for row in expected(found, k) if row[0] != "do held"]
    failures, handled = ({text for text, _, failed in rows if failed is side} for side in (True, False))
    taught = found.rows("i2-harden", "trained", "prompt", "user", "target")
    assert {prompt for prompt, _, _ in taught} >= failures
    assert {prompt for prompt, _, _ in taught} - failures <= handled
    assert len(taught) == len(failures) + round(len(failures) / 2)
    assert all(user == prompt and target == f"yes {prompt.casefold().split()[-1]}" for prompt, user, target in taught)


# --- oracles --------------------------------------------------------------------------------------------------------------


def ended(
    oracle: dict[str, Any], answer: Callable[[EngineRequest], Answer], **options: Any
) -> tuple[Generate, list[Record]]:
    """The last generation of a plan with this oracle, and what its oracle says of one answer, "so".

    With the entropy of answers the target gives them itself.
    """
    steps = REVERSEGEN.plan(method(iterations=1, reversegen=OPTIONS | {"oracle": oracle} | options))
    (step,) = (step for step in steps if isinstance(step, Generate))
    (load, job) = next((load, job) for load in step.loads for job in load.jobs if job.out == "found")
    row = pa.table({"prompt": ["ask"], "answer": ["so"], "failed": [None]})
    return step, played(job, FakeEngine(answer), row, load.task)


@pytest.mark.parametrize(
    ("oracle", "score", "failed"),
    [
        ({"type": "Classifier", "classifier": {"modelName": "guard"}}, 0.0, True),
        ({"type": "Classifier", "classifier": {"modelName": "guard"}}, -0.1, False),
        ({"type": "Classifier", "classifier": {"modelName": "guard", "threshold": 2}}, 1.9, False),
        ({"type": "Reward", "reward": {"modelName": "rm", "threshold": -1.5}}, -1.6, True),
        ({"type": "Reward", "reward": {"modelName": "rm", "threshold": -1.5}}, -1.5, False),
    ],
)
def test_a_scoring_model_is_an_oracle_by_its_threshold(oracle: dict[str, Any], score: float, failed: bool) -> None:
    step, (record,) = ended(oracle, lambda _: Scores((score,)))
    (row,) = record.rows
    assert (row["oracle"], row["oracle_score"], row["failed"]) == (oracle["type"], score, failed)
    assert step.loads[-1].model == ModelRef(lineage="strong")  # who teaches at the end what was found
    assert step.loads[-1].jobs[0].out == "lessons"


@pytest.mark.parametrize(("margin", "failed"), [(0.5, True), (-0.5, False), (0.0, False)])
@pytest.mark.parametrize("template", [None, "judge {{ prompt }}: {{ answer }}"])
def test_a_guard_that_writes_is_shown_both_and_its_two_verdicts_are_compared(
    margin: float, failed: bool, template: str | None
) -> None:
    seen: list[str] = []

    def guard(request: EngineRequest) -> Answer:
        assert isinstance(request.task, Labels)
        assert (chr(request.task.first), chr(request.task.second)) == ("u", "s")
        seen.append("".join(map(chr, request.prompt_ids)))
        return Comparison(margin, 0.0)

    oracle = {"type": "Verdict", "verdict": {"modelName": "strong"}}
    roles = SPEC["generation"]["roles"] + ([{"name": "guard", "template": template}] if template else [])
    generation = SPEC["generation"] | {"roles": roles}
    steps = REVERSEGEN.plan(method(iterations=1, generation=generation, reversegen=OPTIONS | {"oracle": oracle}))
    job = next(j for s in steps if isinstance(s, Generate) for load in s.loads for j in load.jobs if j.out == "found")
    (record,) = played(job, FakeEngine(guard), pa.table({"prompt": ["ask"], "answer": ["so"]}))
    assert (record.rows[0]["failed"], record.rows[0]["oracle_score"]) == (failed, margin)
    assert seen == ["ask:so." if template is None else "judge ask: so."]


@pytest.mark.parametrize(("answers", "failed"), [("aaaa", False), ("aabb", False), ("abcd", True), ("abca", False)])
def test_answers_that_differ_fail_by_their_entropy(answers: str, failed: bool) -> None:
    said = iter([tuple(Sample((ord(letter), END), "stop") for letter in answers)])
    _, (record,) = ended({"type": "Entropy"}, lambda _: next(said), answersPerProposal=4)
    (row,) = record.rows
    assert row["failed"] is failed  # 1.193 nats; of four answers ln 4 = 1.386 at the most
    assert row["answer"] == max(answers, key=lambda letter: (answers.count(letter), -answers.index(letter)))


@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=12))
def test_entropy_is_that_of_the_counts_whatever_their_order(texts: list[str]) -> None:
    found = entropy(texts)
    assert found == pytest.approx(entropy(sorted(texts)))
    assert 0 <= found <= math.log(len(set(texts))) + 1e-9
    assert (found == 0) == (len(set(texts)) == 1)
    assert entropy(texts * 2) == pytest.approx(found)


@pytest.mark.parametrize(
    ("answer", "mark", "is_"),
    [
        ("a  b\n", None, "a b"),
        ("so 3+4 #### 7 ", "####", "7"),
        ("#### 1 no, #### 2", "####", "2"),
        ("nothing", "####", None),
        ("7 ####", "####", ""),
    ],
)
def test_what_is_compared_stands_after_the_last_mark(answer: str, mark: str | None, is_: str | None) -> None:
    assert final(answer, mark) == is_


def test_a_teacher_without_an_answer_says_nothing_of_the_target() -> None:
    _, (record,) = ended(
        {"type": "ExactMatch", "exactMatch": {"after": "#"}}, lambda _: (Sample(tuple(ids("none")), "stop"),)
    )
    assert (record.status, record.reason) == ("dropped", "the teacher gave no answer")


@pytest.mark.parametrize(
    ("text", "item"),
    [
        ("Say it", "Say it"),
        ("4. Say it\n5. Sing it", "Say it"),
        ("  4) Say it\n  5) Sing it", "Say it"),
        ("3.5 is what?", "3.5 is what?"),
        ("Sort:\n- 2 apples\n- 1 pear", "Sort:\n- 2 apples\n- 1 pear"),
        ("\n", ""),
        ("4. \n5. ", ""),
    ],
)
def test_a_proposal_is_one_item_of_a_list(text: str, item: str) -> None:
    assert one_item(text) == item


# --- values, and what is refused ------------------------------------------------------------------------------------------


def test_the_codes_values_stand_where_they_are_left_out() -> None:
    found = method(
        reversegen={n: OPTIONS[n] for n in ("proposerModelName", "teacherModelName", "oracle")}, generation=None
    )
    training = found.training
    assert (training.loss.type, training.loss.beta, training.settings.learning_rate) == ("dpo", 0.1, 5e-5)
    assert (training.settings.global_batch_size, training.settings.max_gradient_norm) == (8, 10)
    assert training.settings.optimizer.type == "rmsprop"
    assert [training.stage(name).learning_rate for name in ("warmUp", "harden")] == [5e-7, 5e-5]
    propose, respond = found.roles["propose"], found.roles["respond"]
    assert (propose.temperature, propose.top_p, propose.max_tokens) == (1.0, 0.9, 512)
    assert (respond.temperature, respond.max_tokens) == (0, 1024)
    assert (found.options["context_shots"], found.options["proposals_per_iteration"]) == (3, 100_000)
    near = found.filters.near_duplicates
    assert near is not None and (near.method, near.threshold, near.ngram) == ("MinHash", 0.78, 1)


def test_of_entropy_ten_answers_are_sampled() -> None:
    found = method(reversegen=OPTIONS | {"oracle": {"type": "Entropy"}})
    assert (found.options["answers_per_proposal"], found.roles["respond"].temperature) == (10, 1.0)
    assert found.options["oracle"]["entropy"]["min_entropy"] == 1.193


def test_a_verifier_that_writes_is_asked_for_one_of_two_verdicts() -> None:
    steps = REVERSEGEN.plan(method(reversegen=OPTIONS | {"verifierModelName": "initial"}))
    (load,) = (
        load
        for step in steps[:2]
        if isinstance(step, Generate)
        for load in step.loads
        if load.jobs[0].out == "verified"
    )
    assert (load.model, load.task, load.jobs[0].options) == (ModelRef(), "text", {"verdicts": ["Yes", "No"]})
    records = played(load.jobs[0], FakeEngine(lambda _: Comparison(-2.0, -1.0)), pa.table({"prompt": ["odd"]}))
    assert [(record.reason, record.rows[0]["validity_score"]) for record in records] == [("not valid", -1.0)]


def test_one_iteration_hardens_on_what_the_warmed_up_proposer_finds() -> None:
    steps = REVERSEGEN.plan(method(iterations=1))
    assert [step.name for step in steps] == ["i1-warm-up", "i1-generate", "i1-harden", "i1-evaluate"]


def test_an_override_that_no_training_of_the_proposer_reaches_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"iterationOverrides\[2\].*the last iteration, 2, trains no proposer"):
        REVERSEGEN.plan(method(training={"iterationOverrides": [{"fromIteration": 2, "beta": 0.2}]}))


@pytest.mark.parametrize(
    ("options", "seeds", "message"),
    [
        (
            {"proposalsPerIteration": 6},
            SEEDS,
            r"5 seeds, of which 10 different contexts of 2 can be made, and 12 are needed",
        ),
        ({"contextShots": 5}, SEEDS, r"leaves 5 seeds of 7 rows drawn \(1 come twice, 1 are held out"),
        ({}, ["a"] * 7, r"leaves 1 seeds of 7 rows drawn \(6 come twice, 0 are held out"),
    ],
)
def test_too_few_seeds_are_refused_with_what_there_are(options: dict[str, Any], seeds: list[str], message: str) -> None:
    steps = REVERSEGEN.plan(method(reversegen=OPTIONS | options))
    tables = (pa.table({"prompt": seeds}), SOURCES["evaluation"])
    last = [step.load.jobs[0].rows for step in steps if isinstance(step, Generate)][-1]
    with pytest.raises(ConfigError, match=message):
        REVERSEGEN.prepares[last.fn].run(tables, last.options)


@pytest.mark.parametrize("failed", [[True, True], [False, False], []])
def test_what_cannot_be_told_apart_is_refused_with_how_many_failed(failed: list[bool]) -> None:
    table = pa.table(
        {
            "prompt": pa.array([f"p{n}" for n in range(len(failed))], pa.string()),
            "failed": pa.array(failed, pa.bool_()),
            "context_ids": pa.array([[1]] * len(failed), pa.list_(pa.int32())),
            "proposal_ids": pa.array([[1]] * len(failed), pa.list_(pa.int32())),
        }
    )
    options = {"held_out": False, "seed": 0, "max_new_pairs": None, "handled_percent": 50}
    told = rf"of {len(failed)} valid and distinct proposals the target failed on {sum(failed)} and handled"
    with pytest.raises(ConfigError, match=rf"{told}.*nothing tells the two apart"):
        REVERSEGEN.prepares["failure-pairs"].run((table,), options)
    if not any(failed):
        with pytest.raises(ConfigError, match=rf"{told}.*nothing to harden it on"):
            REVERSEGEN.prepares["to-teach"].run((table,), options)


@pytest.mark.parametrize(
    ("oracle", "tables"),
    [
        ({"type": "ExactMatch"}, ["i1-generate:found", "i2-generate:found"]),
        ({"type": "Entropy"}, ["i1-generate:found", "i2-generate:found", "i2-generate:lessons"]),
    ],
)
def test_what_is_found_is_published_and_the_teachers_lessons(oracle: dict[str, Any], tables: list[str]) -> None:
    found = method(reversegen=OPTIONS | {"oracle": oracle})
    output = Output(url=None, dataset_url="file:///out")
    (copy,) = publish_steps(REVERSEGEN.plan(found), output, found.evaluation, Path())
    assert copy.model == ModelRef(iteration=2)
    assert [f"{ref.step}:{ref.name}" for ref in copy.pairs] == tables


def test_the_report_says_how_many_proposals_are_new_valid_and_failed_on() -> None:
    def table(statuses: list[str], **columns: list[Any]) -> pa.Table:
        return pa.table({"_status": statuses} | columns)

    rows = ["rows"] * 8
    tables = {
        "proposals": table([*rows, "dropped", "dropped"]),
        "verified": table([*rows[:4], "dropped", "set-aside"]),
        "found": table(rows[:4], failed=[True, False, False, False]),
    }
    found = {remark.name: (remark.value, remark.rises) for remark in REVERSEGEN.remarks(tables)}
    assert found == {
        "proposalsDistinct": (6 / 8, False),
        "proposalsInvalid": (pytest.approx(1 / 5), False),
        "targetFails": (0.25, True),
    }
    assert list(REVERSEGEN.remarks({"proposals": tables["proposals"].slice(0, 0)})) == []


@pytest.mark.parametrize("name", ["reversegen-tiny", "reversegen-paper"])
def test_an_example_is_a_valid_run(name: str) -> None:
    run = load_run(EXAMPLES / f"{name}.yaml")
    REVERSEGEN.plan(method_of(method_values(run, "GPU", {}, EXAMPLES)))

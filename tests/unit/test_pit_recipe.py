"""Recipe PIT against the paper (arXiv 2310.00898): scripted models play two rounds, and every table is as by hand."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fake_engine import FakeEngine
from hypothesis import given
from hypothesis import strategies as st
from played_plan import Play, PlayedPlan, ids, run_job
from test_generate_loop import Letters

from selfalign_api.errors import ConfigError
from selfalign_api.load import load_run, parse
from selfalign_api.plan import (
    ArtifactRef,
    EngineLoad,
    Evaluate,
    FlowJob,
    Generate,
    ModelRef,
    Plan,
    Prepare,
    Publish,
    Train,
)
from selfalign_api.run import SelfAlignmentRun
from selfalign_jobs.accept.resolve import method_of, method_values, publish_steps
from selfalign_jobs.flow import Ask, Dropped, Score, Scores, SetAside
from selfalign_jobs.generate.engine import Answer, EngineRequest, Head, Sample
from selfalign_jobs.generate.records import Record
from selfalign_jobs.generate.render import Renderer
from selfalign_jobs.generate.score_render import AsTrained, ScoreRenderer
from selfalign_jobs.recipes.base import Step, recipe
from selfalign_jobs.recipes.folds import FOLDS, GAP, ROUNDS, SFT, fold
from selfalign_jobs.recipes.gap_figures import length_matched, remarks
from selfalign_jobs.recipes.gaps import order_pair
from selfalign_jobs.recipes.method import Method
from selfalign_jobs.recipes.tables import counts_of
from selfalign_jobs.train.losses import GAP_ORDERS
from selfalign_jobs.train.settings import GAP_PAIRS
from selfalign_jobs.train.written import GAPS, TARGET, written

EXAMPLES = Path(__file__).parents[2] / "examples"
PIT = recipe("pit")
END = Letters.end_id
SPEC: dict[str, Any] = {
    "recipe": "pit",
    "model": {"url": "file:///m"},
    "data": {"preferences": {"url": "file:///p.jsonl"}},
    "generation": {
        "roles": [
            {"name": "respond", "maxTokens": 16},
            {"name": "improve", "template": "mend {{ prompt }}: {{ draft }}", "maxTokens": 16},
        ]
    },
    "evaluation": {
        "prompts": {"url": "file:///h.jsonl", "columns": {"reference": "reference"}},
        "checks": [{"name": "accuracy", "type": "ExactMatch", "exactMatch": {"temperatures": [0]}}],
    },
    "pit": {"candidates": 3, "improvePasses": 2},
}
IMPROVER, DRAFTER, GAP_MODEL = (
    ModelRef(lineage=name, iteration=1) for name in ("improver", "draftModel", "rewardModel")
)


def method(**spec: Any) -> Method:
    document = {"apiVersion": "selfalign.dev/v1alpha1", "kind": "SelfAlignmentRun", "metadata": {"name": "r"}}
    run = parse(SelfAlignmentRun, document | {"spec": SPEC | spec}, "")
    return method_of(method_values(run, "CPU", {}, Path()))


def number_of(prompt: str, history: str = "", seed: int = 0) -> int:
    """The fold of a prompt: a hash of run's seed, what was said before, and the prompt, by three."""
    text = "\x1f".join([str(seed), "fold", history, prompt])
    return (int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1) % 3


FRUIT = [
    f"{colour} {fruit}"
    for colour in ("dry", "green", "red", "ripe")
    for fruit in ("apple", "date", "fig", "grape", "pear", "plum")
]
PROMPTS = [[fruit for fruit in FRUIT if number_of(fruit) == number] for number in range(3)]
HELD = PROMPTS[SFT][-1]  # given for training and held out: no training sees it
PREFERENCES = [
    {"history": None, "prompt": fruit, "chosen": f"right {fruit}", "rejected": f"wrong {fruit}", "answers": 1}
    for fruit in FRUIT
]
SAME = {"history": None, "prompt": PROMPTS[GAP][0], "chosen": "as one", "rejected": "as one", "answers": 1}
SCHEMA = pa.schema(
    [*((name, pa.string()) for name in ("history", "prompt", "chosen", "rejected")), ("answers", pa.int64())]
)
SOURCES = {
    "preferences": pa.Table.from_pylist([*PREFERENCES, SAME], SCHEMA),
    "evaluation": pa.table({"prompt": [HELD, "zucchini"], "reference": [f"right {HELD}", "right zucchini"]}),
}
STUCK, ALIKE, CUT = PROMPTS[ROUNDS][:3]  # of the rounds' prompts: those with which something goes wrong


def writes(model: ModelRef, user: str) -> list[str]:
    """What the script's models say: M_P drafts, an improver makes a good, a bad and the same again of any draft."""
    if not user.startswith("mend"):
        return [f"draft {user}"]
    prompt, drafted = user.removeprefix("mend ").split(": ")
    if prompt == STUCK:
        return [f"bad {prompt}", f"worse {prompt}", drafted]
    if prompt == ALIKE:
        return [f"good {prompt}"] * 3
    if prompt == CUT:
        return [f"good{model.iteration} cut", f"bad {prompt}", drafted]
    return [f"bad {prompt}", drafted, f"good{model.iteration} {prompt}"]


def worth(answer: str) -> float:
    """The script's worth of an answer: right and good ones are better than drafts, which are better than bad ones."""
    first = answer.split()[0]
    return {"right": 5.0, "good": 7.0, "good0": 7.0, "good1": 8.0, "draft": 3.0, "wrong": 2.0, "bad": 1.0}.get(
        first, 0.0
    )


def gap_of(read: str) -> float:
    """What the joint model says: it reads the improver's turn about the draft, and the answer."""
    turn, answer = read.split(".")
    return worth(answer) - worth(turn.split(": ")[1])


def play(job: FlowJob, load: EngineLoad, rows: pa.Table, difference: bool = False) -> list[Record]:
    def answer(request: EngineRequest) -> Answer:
        text = "".join(map(chr, request.prompt_ids)).removesuffix("\x02")
        if isinstance(request.task, Head):
            return Scores((worth(text.split(".")[1]) if difference else gap_of(text),))
        said = writes(load.model, text.removesuffix("."))[: request.task.n]  # type: ignore[union-attr]
        return tuple(Sample(tuple(ids(each, ended="cut" not in each)), ending(each)) for each in said)

    chat: Any = Letters()
    renderer = ScoreRenderer(AsTrained(chat), 256) if load.task == "score" else Renderer(chat, job.roles, 256)
    return run_job(PIT, job, FakeEngine(answer), renderer, rows)


def ending(text: str) -> str:
    return "length" if "cut" in text else "stop"


class Played(PlayedPlan):
    """And what the report would say of it."""

    def __init__(self, steps: tuple[Step, ...], *, difference: bool = False) -> None:
        playing: Play = lambda job, load, rows: play(job, load, rows, difference)  # noqa: E731
        super().__init__(PIT, SOURCES, steps, playing, (Generate, Evaluate))

    def remarks(self, k: int) -> dict[str, float]:
        tables = {name: self._ledger(step, name) for step, name in self.records if step.startswith(f"i{k}")}
        return {remark.name: remark.value for remark in remarks(tables)}

    def _ledger(self, step: str, name: str) -> pa.Table:
        every = [{**row, "_status": record.status} for record in self.records[step, name] for row in record.rows]
        return pa.Table.from_pylist(every, self.tables[step, name].schema.append(pa.field("_status", pa.string())))


@pytest.fixture(name="steps", scope="module")
def _steps() -> tuple[Step, ...]:
    return PIT.plan(method())


@pytest.fixture(name="played", scope="module")
def _played(steps: tuple[Step, ...]) -> Played:
    return Played(steps)


def test_models_load_and_train_as_in_the_paper(steps: tuple[Step, ...]) -> None:
    """M_P, improver and gap model from the model as given; each round's improver from the one before, against it."""
    rounds = ["generate", "train", "evaluate"]
    teachers = ["train-drafter", "train-improver", "train-gap-model"]
    assert [step.name for step in steps] == [
        *(f"i1-{name}" for name in teachers + rounds),
        *(f"i2-{name}" for name in rounds),
    ]
    trainings = [step for step in steps if isinstance(step, Train)]
    assert [(step.objective, step.stage, step.start, step.reference, step.result) for step in trainings] == [
        ("sft", "draftModel", ModelRef(), None, DRAFTER),
        ("sft", "improver", ModelRef(), None, IMPROVER),
        ("gap", "rewardModel", ModelRef(), None, GAP_MODEL),
        ("preference", None, IMPROVER, IMPROVER, ModelRef(iteration=1)),
        ("preference", None, ModelRef(iteration=1), ModelRef(iteration=1), ModelRef(iteration=2)),
    ]
    loads = [[load.model for load in step.loads] for step in steps if isinstance(step, Generate)]
    assert loads == [
        [IMPROVER, GAP_MODEL, ModelRef(), DRAFTER],  # the last two for the evaluations
        [DRAFTER, ModelRef(iteration=1), GAP_MODEL],
    ]
    evaluated = [[load.model for load in step.loads] for step in steps if isinstance(step, Evaluate)]
    assert evaluated == [[ModelRef(iteration=1)], [ModelRef(iteration=2)]]


def test_each_fold_teaches_one_thing(played: Played) -> None:
    answers = [prompt for prompt in PROMPTS[SFT] if prompt != HELD]
    assert played.rows("i1-train-drafter", "trained", "prompt", "target") == [
        (fruit, f"right {fruit}") for fruit in answers
    ]
    assert played.rows("i1-train-improver", "trained", "user", "target") == [
        (f"mend {fruit}: wrong {fruit}", f"right {fruit}") for fruit in answers
    ]
    assert played.rows("i1-train-gap-model", "trained", "prompt", "chosen", "rejected") == [
        (fruit, f"right {fruit}", f"wrong {fruit}") for fruit in PROMPTS[GAP]
    ]  # the row of equal answers teaches nothing
    assert counts_of(played.tables["i1-train-gap-model", "trained"])["identical"] == 1
    assert counts_of(played.tables["i1-train-improver", "trained"])["promptHeldOut"] == 1
    taught = written(played.tables["i1-train-improver", "trained"], Letters(), TARGET).to_pylist()  # type: ignore[arg-type]
    assert [(row["prompt_ids"], row["target_ids"]) for row in taught] == [
        (ids(f"mend {fruit}: wrong {fruit}.", ended=False), ids(f"right {fruit}")) for fruit in answers
    ]


def test_a_joint_gap_model_is_trained_on_the_improvers_turn_about_one_answer_and_then_the_other(played: Played) -> None:
    """What the four sequences of a row begin with is its prompt; the orders of Eq. 2 are between these."""
    rows = written(played.tables["i1-train-gap-model", "trained"], Letters(), GAPS).to_pylist()  # type: ignore[arg-type]
    assert sorted(row["prompt"] for row in rows) == PROMPTS[GAP]
    for row in rows:
        fruit = row["prompt"]
        said = {"chosen": f"right {fruit}", "rejected": f"wrong {fruit}"}
        assert row["prompt_ids"] == ids(f"mend {fruit}: ", ended=False)
        for first, second in GAP_PAIRS:
            assert row["prompt_ids"] + row[f"{first}_{second}_ids"] == ids(
                f"mend {fruit}: {said[second]}.{said[first]}"
            )
    named = [{"chosen": "w", "rejected": "l"}[a] + {"chosen": "w", "rejected": "l"}[b] for a, b in GAP_PAIRS]
    orders = {(named[first], named[second]) for first, second in GAP_ORDERS}
    assert orders == {("wl", "ww"), ("wl", "ll"), ("wl", "lw"), ("ww", "lw"), ("ll", "lw")}


@given(st.text(max_size=8), st.text(max_size=8), st.text(max_size=8))
def test_whatever_the_answers_every_sequence_of_a_gap_is_whole_and_has_an_end_of_its_own(
    prompt: str, chosen: str, rejected: str
) -> None:
    turns = {"chosen_user": [f"{prompt}:{chosen}"], "rejected_user": [f"{prompt}:{rejected}"]}
    table = pa.table({"history": [None], "prompt": [prompt], "chosen": [chosen], "rejected": [rejected]} | turns)
    (row,) = written(table, Letters(), GAPS).to_pylist()  # type: ignore[arg-type]
    said = {"chosen": chosen, "rejected": rejected}
    for first, second in GAP_PAIRS:
        assert row[f"{first}_{second}_ids"]
        assert row["prompt_ids"] + row[f"{first}_{second}_ids"] == ids(f"{prompt}:{said[second]}.{said[first]}")


def pair(prompt: str, draft: str, chosen: str, rejected: str, k: int) -> dict[str, Any]:
    """A row of a round's pairs, by hand: the improver's own prompt, best over worst, gaps over the draft."""
    return {
        "prompt": prompt,
        "prompt_ids": ids(f"mend {prompt}: {draft}.", ended=False),
        "chosen": chosen,
        "rejected": rejected,
        "chosen_ids": ids(chosen),
        "rejected_ids": ids(rejected),
        "chosen_score": worth(chosen) - worth(draft),
        "rejected_score": worth(rejected) - worth(draft),
        "drafted_by": "policy" if k == 2 else draft.replace("right", "chosen").replace("wrong", "rejected").split()[0],
    }


def order(row: dict[str, Any]) -> tuple[str, str]:
    return row["prompt"], row["drafted_by"]


def made(played: Played, k: int) -> list[dict[str, Any]]:
    """The pairs of a round, as far as one writes them by hand."""
    columns = [*pair("a", "wrong a", "b", "c", k)]
    return sorted(played.tables[f"i{k}-generate", "pairs"].select(columns).to_pylist(), key=order)


def test_round_one_betters_both_answers_of_the_data_and_round_two_those_of_the_policy(played: Played) -> None:
    usual = PROMPTS[ROUNDS][3:]
    first = [
        pair(prompt, f"{draft} {prompt}", f"good1 {prompt}", f"bad {prompt}", 1)
        for prompt in usual
        for draft in ("wrong", "right")
    ]  # by the supervised improver; the next is round 1's, whose number is one too
    assert made(played, 1) == sorted(first, key=order)
    second = [pair(prompt, f"draft {prompt}", f"good1 {prompt}", f"bad {prompt}", 2) for prompt in usual]
    cut = pair(
        CUT, f"draft {CUT}", f"draft {CUT}", f"bad {CUT}", 2
    )  # the good one was cut: the draft itself is the best
    assert cut["chosen_score"] == 0
    assert made(played, 2) == sorted(second, key=order)
    trained = [played.tables[f"i{k}-train", "trained"].num_rows for k in (1, 2)]
    assert trained == [2 * len(usual), len(usual)]


def test_drafts_that_no_candidate_betters_and_candidates_that_are_all_alike_make_no_pair(played: Played) -> None:
    none, alike = "no candidate is better than the draft", "best and worst are the same"
    for k in (1, 2):
        assert played.lost(f"i{k}-generate", "pairs") == {(STUCK, none), (CUT, none), (ALIKE, alike)}
    kept = Played(PIT.plan(method(generation=SPEC["generation"] | {"filters": {"truncated": "Keep"}})))
    assert (CUT, none) not in kept.lost("i2-generate", "pairs")
    assert "good1 cut" in [chosen for (chosen,) in kept.rows("i2-generate", "pairs", "chosen")]


def test_the_difference_of_two_rewards_makes_the_pairs_that_the_joint_model_makes(played: Played) -> None:
    steps = PIT.plan(method(pit=SPEC["pit"] | {"gapModel": "Difference"}))
    (gap_model,) = [step for step in steps if isinstance(step, Train) and step.stage == "rewardModel"]
    assert (gap_model.objective, gap_model.loss.type) == ("reward", "bradley-terry")
    found = Played(steps, difference=True)
    for key in (("i1-generate", "pairs"), ("i2-generate", "pairs"), ("i1-generate", "orders")):
        assert found.tables[key] == played.tables[key]


def test_an_evaluation_passes_over_the_policys_drafts_again_and_again(played: Played) -> None:
    for k in (1, 2):
        assert played.rows(f"i{k}-evaluate", "answers", "prompt", "draft", "passes", "answer", "reference") == [
            (prompt, f"draft {prompt}", [f"bad {prompt}"] * 2, f"bad {prompt}", f"right {prompt}")
            for prompt in (HELD, "zucchini")
        ]  # of one sample the script says the first
    (check,) = next(step for step in PIT.plan(method()) if isinstance(step, Evaluate)).checks
    assert (check.before, check.after) == (
        ArtifactRef(step="i1-generate", name="initial-answers"),
        ArtifactRef(step="i1-evaluate", name="answers"),
    )


def test_the_report_has_the_gap_models_worth_and_what_passes_do(played: Played) -> None:
    found = played.remarks(1)
    assert {found[name] for name in ("gapRight", "gapOrdersRight", "gapRightLengthMatched")} == {1.0}
    kept, all_drafts = 2 * (len(PROMPTS[ROUNDS]) - 3), 2 * len(PROMPTS[ROUNDS])
    assert found["draftsBettered"] == kept / all_drafts
    assert (found["greedyPass0Right"], found["greedyPass1Right"], found["greedyPass2Unchanged"]) == (0.0, 0.0, 1.0)
    drafted = [len(f"draft {prompt}") + 1 for prompt in (HELD, "zucchini")]
    assert found["greedyPass1LengthRatio"] == pytest.approx((sum(drafted) - 4) / sum(drafted))
    assert list(remarks({})) == []


@pytest.mark.parametrize(
    ("chosen", "rejected", "alike"),
    [("a" * 10, "b" * 9, True), ("a" * 10, "b" * 8, False), ("x", "y", True), ("", "y", False)],
)
def test_lengths_are_matched_within_a_tenth_of_the_longer(chosen: str, rejected: str, alike: bool) -> None:
    for pair in ({"chosen": [chosen], "rejected": [rejected]}, {"chosen": [rejected], "rejected": [chosen]}):
        assert length_matched(pa.table(pair)).tolist() == [alike]


def test_a_pair_that_does_not_fit_into_the_gap_models_context_is_left_out_of_its_figures() -> None:
    job = FlowJob(flow="order-pair", rows=Prepare(fn="fold"), out="orders", options={"gap_model": "Difference"})
    row = {"history": None, "prompt": "q", "chosen": "w", "rejected": "l"}
    flow = order_pair(row, Ask(job, 0, "r", lambda template, _: template))
    assert next(flow) == [Score("improve", "q", answer) for answer in ("l", "w", "l")]
    with pytest.raises(Dropped, match="too long"):
        flow.throw(SetAside("too long"))


def test_what_was_said_before_stands_before_every_turn() -> None:
    history = json.dumps([["user", "hi"], ["assistant", "ho"]])
    said = ({"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"})
    row = {
        "history": history,
        "prompt": "q",
        "draft": "d",
        "drafted_by": "policy",
        "candidates": ["a"],
        "chosen": "w",
        "rejected": "l",
    }
    roles = {name: role for name, role in method().roles.items() if name != "judge"}
    options = {"candidates": 2, "truncated": "Keep", "gap_model": "Joint"}
    for name in ("draft", "improve", "rank-candidates", "order-pair"):
        job = FlowJob(flow=name, rows=Prepare(fn="fold"), out="t", roles=roles, options=options)
        asked = next(PIT.flows[name].run(row, Ask(job, 0, "r", lambda template, _: template)))
        requests = asked if isinstance(asked, list) else [asked]
        assert [request.history for request in requests] == [said] * len(requests)


# --- folds ----------------------------------------------------------------------------------------------------------------

OPTIONS = {"seed": 0, "apart": 0, "part": 0, "parts": 1, "count": None, "held_out": False, "identical": "Drop"}


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from([None, "before"])), min_size=1), st.integers(0, 9)
)
def test_folds_part_the_rows_and_keep_those_of_one_prompt_together(
    rows: list[tuple[str, str | None]], seed: int
) -> None:
    table = pa.Table.from_pylist(
        [
            {"history": said, "prompt": prompt, "chosen": str(n), "rejected": "no", "answers": 1}
            for n, (prompt, said) in enumerate(rows)
        ],
        SCHEMA,
    )
    where: dict[tuple[str, str | None], int] = {}
    found: list[str] = []
    for number in range(FOLDS):
        try:
            part = fold((table,), OPTIONS | {"seed": seed, "fold": number}).to_pylist()
        except ConfigError:  # none is of this fold
            continue
        found += [row["chosen"] for row in part]
        for row in part:
            assert where.setdefault((row["prompt"], row["history"]), number) == number
            assert number == number_of(row["prompt"], row["history"] or "", seed)
    assert sorted(found, key=int) == [str(n) for n in range(len(rows))]


def test_rows_set_apart_for_the_evaluation_and_all_of_their_prompts_are_in_no_fold() -> None:
    table = pa.Table.from_pylist([row for row in PREFERENCES for _ in range(2)], SCHEMA)
    apart = OPTIONS | {"apart": 4}
    held = set(PIT.prepares["apart-questions"].run((table,), apart)["prompt"].to_pylist())
    seen = {prompt for n in range(FOLDS) for prompt in fold((table,), apart | {"fold": n})["prompt"].to_pylist()}
    assert held and not held & seen
    assert held | seen == {*FRUIT}


def test_a_fold_that_is_empty_says_what_became_of_its_rows() -> None:
    table = SOURCES["preferences"].filter(pa.compute.equal(SOURCES["preferences"]["prompt"], PROMPTS[GAP][0]))
    with pytest.raises(
        ConfigError, match=r"data.preferences.url: has no pair for drafts and improvements among the 2 rows"
    ):
        fold((table,), OPTIONS | {"fold": SFT})
    with pytest.raises(ConfigError, match=r"for the gap model .*of this one's 1 rows 1 have equal answers"):
        fold((table.slice(1),), OPTIONS | {"fold": GAP})


# --- the model as given as M_P, publishing, values ------------------------------------------------------------------------


def test_the_model_as_given_can_draft() -> None:
    steps = PIT.plan(method(pit=SPEC["pit"] | {"draftModel": "Initial"}))
    assert [step.name for step in steps][:2] == ["i1-train-improver", "i1-train-gap-model"]
    generated = [step for step in steps if isinstance(step, Generate)]
    assert [load.model for load in generated[0].loads] == [IMPROVER, GAP_MODEL, ModelRef()]
    assert generated[1].load.model == ModelRef()
    evaluate = next(step for step in steps if isinstance(step, Evaluate))
    assert evaluate.loads[0].jobs[0].rows.inputs == (ArtifactRef(step="i1-generate", name="initial-answers"),)
    assert "draftModel" not in method(pit={"draftModel": "Initial"}).training.stages


def plan_of(steps: tuple[Step, ...]) -> Plan:
    return Plan(version="0", name="r", recipe="pit", seed=0, digest="sha256:0", models={}, sources={}, steps=steps)


def test_the_improver_is_published_with_the_model_that_drafts_below_it(steps: tuple[Step, ...], tmp_path: Path) -> None:
    output = load_run(EXAMPLES / "pit-paper.yaml").spec.output
    (published,) = publish_steps(steps, output, method().evaluation, tmp_path, PIT.beside)
    assert isinstance(published, Publish)
    assert (published.model, published.beside) == (ModelRef(iteration=2), {"draft-model": DRAFTER})
    card = PIT.used(plan_of(steps))
    assert "Have the model in draft-model/ answer" in card
    assert "mend {{ prompt }}: {{ draft }}" in card
    alone = PIT.plan(method(pit={"draftModel": "Initial"}))
    assert "Have the model as given answer" in PIT.used(plan_of(alone))
    (published,) = publish_steps(alone, output, method().evaluation, tmp_path, PIT.beside)
    assert published.beside == {}


def test_a_round_from_the_initial_improver_is_one_from_the_supervised_one() -> None:
    steps = PIT.plan(method(iteration={"start": "initial", "reference": "initial"}))
    trained = [step for step in steps if isinstance(step, Train) and step.stage is None]
    assert {(step.start, step.reference) for step in trained} == {(IMPROVER, IMPROVER)}


def test_the_papers_values_stand_where_they_are_left_out() -> None:
    found = method(pit={}, generation={})
    assert found.iterations == 2
    assert found.roles["improve"].temperature == 0.5
    assert found.options == {
        "optimizer": "SampleRankDPO",
        "gap_model": "Joint",
        "draft_model": "Trained",
        "candidates": 4,
        "improve_passes": 1,
    }
    assert [(name, stage.epochs) for name, stage in found.training.stages.items()] == [
        ("draftModel", 1),
        ("improver", 1),
        ("rewardModel", 1),
    ]


def test_the_papers_example_is_the_recipes_own_values() -> None:
    run = load_run(EXAMPLES / "pit-paper.yaml")
    written_out = method_of(method_values(run, "GPU", {}, EXAMPLES))
    left_out = {"training": None, "iteration": None, "iterations": None, "pit": None}
    filled = method_of(
        method_values(run.model_copy(update={"spec": run.spec.model_copy(update=left_out)}), "GPU", {}, EXAMPLES)
    )
    assert written_out.training == filled.training
    assert (written_out.iteration, written_out.iterations) == (filled.iteration, filled.iterations)
    assert written_out.options == filled.options | {"improve_passes": 5}

"""Helper models: where the plan loads them, what is refused, and that runs without them are as they were."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from model_folders import TINY, Change, model_folder
from scorers import classifier, pair_ranker, reward_model

from cases.case import ON_CPU, REPOSITORY, Room
from selfalign_api.errors import ConfigError
from selfalign_api.load import load_run
from selfalign_api.plan import Evaluate, FlowJob, Generate, Judge, ModelRef, Plan, Prepare
from selfalign_jobs.accept.owner import Owner
from selfalign_jobs.accept.program import examine
from selfalign_jobs.accept.resolve import Resolved
from selfalign_jobs.flow import Ask, Score, Scores
from selfalign_jobs.generate.chat import ModelChat
from selfalign_jobs.generate.score_render import AsTrained, Conversations
from selfalign_jobs.recipes.judge import judge
from selfalign_jobs.recipes.rows import history_of
from selfalign_jobs.report.evidence import Evidence
from selfalign_jobs.report.lineage import run_file
from selfalign_jobs.train.written import PAIR, written

JUDGE = ModelRef(lineage="big")
EVALUATED = {
    "prompts": {"url": "pvc://selfalign/tiny-model/heldout.jsonl"},
    "checks": [{"name": "win", "type": "SelfWinRate"}],
}


def looked_at(tmp_path: Path, changes: dict[str, Change] | None = None, **spec: Any) -> Resolved:
    """A run of the tiny model with a copy of it, changed, as a helper named big, which judges."""
    folder = tmp_path / "big"
    if not folder.exists():
        model_folder(folder, changes or {})
    helper = {"name": "big", "url": folder.as_uri()}
    values = {"auxiliaryModels": [helper], "judge.modelName": "big", "evaluation": EVALUATED} | spec
    run = load_run(Room(tmp_path / "room").run(values))
    return examine(run, ON_CPU, {"selfalign": str(REPOSITORY / "examples")}, tmp_path)


def loads(plan: Plan) -> dict[str, list[ModelRef]]:
    """The models that each step of engines loads, in order."""
    return {
        step.name: [load.model for load in step.loads] for step in plan.steps if isinstance(step, Generate | Evaluate)
    }


def test_a_helper_judges_in_generation_and_evaluation_alike(tmp_path: Path) -> None:
    found = loads(looked_at(tmp_path, iterations=2, **{"data.personas.count": 40}).plan)
    assert found == {
        "i1-generate": [ModelRef(), JUDGE],
        "i1-evaluate": [ModelRef(iteration=1), JUDGE],
        "i2-generate": [ModelRef(iteration=1), JUDGE],
        "i2-evaluate": [ModelRef(iteration=2), JUDGE],
    }


def test_a_judge_that_is_loaded_anyway_is_loaded_once(tmp_path: Path) -> None:
    """The model as given judges in the first iteration's one load, and in a load of its own in the second's."""
    none: dict[str, Any] = {"auxiliaryModels": [], "judge.modelName": "initial", "iterations": 2}
    found = loads(looked_at(tmp_path, **none, **{"data.personas.count": 40}).plan)
    assert found["i1-generate"] == [ModelRef()]
    assert found["i2-generate"] == [ModelRef(iteration=1), ModelRef()]


def test_a_plan_without_helpers_says_nothing_of_them(tmp_path: Path) -> None:
    """So the digests of steps that were finished before there were helpers hold."""
    plan = looked_at(tmp_path, **{"auxiliaryModels": [], "judge.modelName": "self"}).plan
    step = plan.step("i1-generate").model_dump(mode="json")
    assert "then" not in step
    assert "max_model_tokens" not in step["load"]
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


def test_another_helper_costs_judging_and_what_follows_only_by_its_content(tmp_path: Path) -> None:
    before = looked_at(tmp_path)
    shutil.move(tmp_path / "big", tmp_path / "elsewhere")
    moved = looked_at(tmp_path, auxiliaryModels=[{"name": "big", "url": (tmp_path / "elsewhere").as_uri()}])
    assert moved.plan.digest == before.plan.digest  # the same content elsewhere is the same run
    tokens = tmp_path / "elsewhere" / "tokenizer_config.json"
    tokens.write_text(json.dumps(json.loads(tokens.read_text()) | {"x": 1}))
    other = looked_at(tmp_path, auxiliaryModels=[{"name": "big", "url": (tmp_path / "elsewhere").as_uri()}])
    assert other.plan.digest != before.plan.digest
    assert other.plan.step_digest("i1-generate") != before.plan.step_digest("i1-generate")


def test_a_helper_that_can_hold_less_has_a_context_of_its_own(tmp_path: Path) -> None:
    found = looked_at(tmp_path, {"config.json": lambda c: c.update(max_position_embeddings=200)})
    step = found.plan.step("i1-generate")
    assert isinstance(step, Generate)
    assert step.engine.max_model_tokens == 256
    assert (step.load.max_model_tokens, step.then[0].max_model_tokens) == (None, 200)


def test_the_run_file_of_the_report_names_helpers_by_their_places(tmp_path: Path) -> None:
    found = looked_at(tmp_path)
    owner = Owner(digest=found.plan.digest, version="0", method=found.values)
    written = run_file(Evidence(found.plan, owner, ()))
    assert written is not None
    assert (tmp_path / "big").as_uri() in written


REFUSED: dict[str, tuple[dict[str, Change], dict[str, Any], str]] = {
    "used by nothing": (
        {},
        {"judge.modelName": "self"},
        "spec.auxiliaryModels[big]: nothing of this run uses it; write judge.modelName: big, or remove it",
    ),
    "the control asks no judge": (
        {},
        {"judge": {"method": "random", "modelName": "big"}},
        "nothing of this run uses it",
    ),
    "a name that is not there": (
        {},
        {"judge.modelName": "bog"},
        "spec.judge.modelName: bog: did you mean big? names no model; write self, initial, or",
    ),
    "no folder": ({}, {"auxiliaryModels": [{"name": "big", "url": "file:///none"}]}, "spec.auxiliaryModels[big].url: "),
    "cut weights": (
        {"model.safetensors": (TINY / "model.safetensors").read_bytes()[:-64]},
        {},
        "model.safetensors has 2993616 bytes where its header says 2993680: it was cut",
    ),
    "an embedder": (
        {"config.json": lambda c: c.update(architectures=["BertModel"], model_type="bert")},
        {},
        "is a BertModel, which reads texts and writes none",
    ),
    "quantised": (
        {"config.json": lambda c: c.update(quantization_config={"quant_method": "awq"})},
        {},
        "is quantised (awq); write the URL of the model before it was quantised: generation.precision is of weights",
    ),
    "no chat template": (
        {"chat_template.jinja": None},
        {},
        "the model has no chat template; take an instruct model",
    ),
    "a template that shows no user": (
        {"chat_template.jinja": "nothing"},
        {},
        "does not show what the user says; write the URL of another model that shows it",
    ),
    "code of its own": (
        {"config.json": lambda c: c.update(auto_map={"AutoModelForCausalLM": "mine.Mine"})},
        {},
        "spec.auxiliaryModels[big].remoteCode: ",
    ),
    "a judge whose context is short": (
        {"config.json": lambda c: c.update(max_position_embeddings=24)},
        {},
        "spec.generation.roles[judge].maxTokens: 24 is beyond the context of 24 tokens",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_helper_that_cannot_judge_is_refused_at_its_own_field(name: str, tmp_path: Path) -> None:
    changes, spec, said = REFUSED[name]
    with pytest.raises(ConfigError) as error:
        looked_at(tmp_path, changes, **spec)
    assert said in str(error.value)
    assert "spec.model" not in str(error.value)


SCORE = {"method": "score", "modelName": "big"}


def with_scorer(tmp_path: Path, kind: str, judge: dict[str, Any] | None = None) -> Resolved:
    """A run judged by the folder `big` as a model of that kind."""
    helper = {"name": "big", "url": (tmp_path / "big").as_uri(), "kind": kind}
    return looked_at(tmp_path, auxiliaryModels=[helper], judge=SCORE | (judge or {}))


@pytest.mark.parametrize(("kind", "make"), [("RewardModel", reward_model), ("PairRanker", pair_ranker)])
def test_a_scoring_model_judges_in_a_load_of_its_own(kind: str, make: Callable[[Path], Path], tmp_path: Path) -> None:
    make(tmp_path / "big")
    plan = with_scorer(tmp_path, kind, {"minScoreGap": 0.2}).plan
    step, evaluation = plan.step("i1-generate"), plan.step("i1-evaluate")
    assert isinstance(step, Generate) and isinstance(evaluation, Evaluate)
    for load in (step.then[0], evaluation.loads[1]):
        (job,) = load.jobs
        assert (load.task, load.model, plan.models["big"].kind) == ("score", JUDGE, kind)
        assert job.judge is not None
        assert (job.judge.scorer, job.judge.min_score_gap) == (kind, 0.2)
    assert step.then[0].jobs[0].flow == "score-two"


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        (
            "RewardModel",
            {"architectures": ["LlamaForCausalLM"]},
            "is a LlamaForCausalLM, which gives no score of an answer",
        ),
        ("RewardModel", {"architectures": ["Qwen2ForRewardModel"]}, "whose name vLLM loads as an embedder"),
        ("RewardModel", {"architectures": ["DebertaV2ForSequenceClassification"]}, "does not serve; write a model"),
        ("RewardModel", {"architectures": ["LlamaForRewardModelWithGating"]}, "which gives no score of an answer"),
        (
            "RewardModel",
            {"id2label": {"0": "a", "1": "b"}},
            "has one output (score.weight), and config.json says 2 labels",
        ),
        ("PairRanker", {}, "is of type llama, and a PairRanker is a deberta-v2"),
    ],
)
def test_a_folder_that_gives_no_such_score_is_refused(
    kind: str, changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    file = reward_model(tmp_path / "big") / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(ConfigError) as error:
        with_scorer(tmp_path, kind)
    assert said in str(error.value)
    assert str(error.value).startswith("spec.auxiliaryModels[big].url")


def test_a_scorer_of_several_labels_or_without_a_head_is_no_reward_model(tmp_path: Path) -> None:
    reward_model(tmp_path / "big", labels=3)
    with pytest.raises(
        ConfigError, match=r"gives 3 numbers of an answer \(score.weight\), and a RewardModel gives one"
    ):
        with_scorer(tmp_path, "RewardModel")
    shutil.copyfile(TINY / "model.safetensors", tmp_path / "big" / "model.safetensors")
    with pytest.raises(ConfigError, match=r"has no scoring head"):
        with_scorer(tmp_path, "RewardModel")


def with_classifier(tmp_path: Path, label: str) -> Resolved:
    """A run judged by a label of the folder `big`."""
    helper = {"name": "big", "url": (tmp_path / "big").as_uri(), "kind": "Classifier", "label": label}
    return looked_at(tmp_path, auxiliaryModels=[helper], judge=SCORE)


def test_a_classifier_judges_by_one_of_its_labels(tmp_path: Path) -> None:
    classifier(tmp_path / "big")
    plan = with_classifier(tmp_path, "safe").plan
    step = plan.step("i1-generate")
    assert isinstance(step, Generate)
    (load,) = step.then
    assert (load.task, load.model, plan.models["big"].label) == ("score", JUDGE, "safe")
    assert load.max_model_tokens == 128  # its own, whatever the run needs
    assert load.jobs[0].judge is not None
    assert load.jobs[0].judge.scorer == "Classifier"


def test_a_label_that_the_model_does_not_have_is_told_which_there_are(tmp_path: Path) -> None:
    classifier(tmp_path / "big")
    with pytest.raises(
        ConfigError, match=r"\[big\].label: polite is none of the model's labels; write one of: safe, rude, wrong"
    ):
        with_classifier(tmp_path, "polite")


def test_a_reward_model_has_no_labels(tmp_path: Path) -> None:
    reward_model(tmp_path / "big")
    with pytest.raises(ConfigError, match=r"gives 1 numbers of an answer .*kind: RewardModel for one with one output"):
        with_classifier(tmp_path, "LABEL_0")


def test_a_ranker_whose_head_is_of_another_shape_is_refused(tmp_path: Path) -> None:
    file = pair_ranker(tmp_path / "big") / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"n_tasks": 2}))
    with pytest.raises(
        ConfigError, match=r"has head_layer.4.weight of shape \[1, 32\], and its config.json makes it \[2, 32\]"
    ):
        with_scorer(tmp_path, "PairRanker")


def test_a_reward_model_without_a_template_of_its_own_is_refused(tmp_path: Path) -> None:
    (reward_model(tmp_path / "big") / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match=r"\[big\].url: .*has no chat template; take an instruct model"):
        with_scorer(tmp_path, "RewardModel")


def test_a_scorer_without_the_method_score_is_told_which_to_write(tmp_path: Path) -> None:
    reward_model(tmp_path / "big")
    helper = {"name": "big", "url": (tmp_path / "big").as_uri(), "kind": "RewardModel"}
    with pytest.raises(ConfigError, match=r"spec.judge.method: .*write judge.method: score"):
        looked_at(tmp_path, auxiliaryModels=[helper], judge={"modelName": "big"})


@pytest.mark.parametrize(
    ("template", "last"),
    [
        (None, "<|im_end|>\n"),
        ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", "assistant: right<|im_end|>"),
    ],
)
def test_a_scored_conversation_ends_its_turn(template: str | None, last: str, tmp_path: Path) -> None:
    folder = reward_model(tmp_path / "big")
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    conversations = Conversations(ModelChat.of(folder, None))
    text = conversations.text("is it?", "right")
    assert text.endswith(last)
    assert text.count("right") == 1
    assert conversations.text("", "").rstrip().endswith(last.replace("right", "").strip().removeprefix("assistant: "))


@pytest.mark.parametrize("history", [None, json.dumps([["user", "who?"], ["assistant", "I"]])])
def test_a_model_that_the_run_trained_is_shown_to_the_token_what_it_was_trained_on(history: str | None) -> None:
    """A template may write something after the turn's end, at whose last token a reward would be read; a training does not."""
    chat = ModelChat.of(TINY, None)
    rows = pa.table({"history": [history], "prompt": ["is it?"], "chosen": ["right"], "rejected": [" no\n"]})
    (row,) = written(rows, chat, PAIR).to_pylist()
    for side in PAIR:
        ids = AsTrained(chat).ids("is it?", rows[side][0].as_py(), history_of(history))
        assert ids == row["prompt_ids"] + row[f"{side}_ids"]
        assert ids[-1] == chat.end_id != Conversations(chat).ids("is it?", "right")[-1]


@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(0, 2))
def test_scores_decide_by_their_gap(first: float, second: float, least: float) -> None:
    job = FlowJob(
        flow="score-two",
        rows=Prepare(fn="as-made"),
        out="pairs",
        judge=Judge(method="score", verdicts=("a", "b"), scorer="RewardModel", min_score_gap=least),
    )
    flow = judge(Ask(job, 0, "r", lambda template, _: template), "q", "one", "two")
    assert next(flow) == [Score("judge", "q", "one"), Score("judge", "q", "two")]
    with pytest.raises(StopIteration) as stop:
        flow.send([Scores((first,)), Scores((second,))])
    verdict, gap = stop.value.value, first - second
    assume(gap == 0 or abs(gap) > 1e-12)  # nearer, its probability is rounded to a half or not
    if gap == 0 or abs(gap) < least or abs(sigmoid(gap) - 0.5) == 0:
        assert verdict.better is None
    else:
        assert verdict.better == ("first" if gap > 0 else "second")


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_the_example_is_judged_by_its_helper() -> None:
    examples = REPOSITORY / "examples"
    run = load_run(examples / "sao-judge-tiny.yaml")
    plan = examine(run, ON_CPU, {"selfalign": str(examples)}, examples).plan
    assert loads(plan)["i1-generate"] == [ModelRef(), ModelRef(lineage="judge")]

"""Recipe SynPO against the paper (arXiv 2410.06961): scripted models play two iterations, and every table is as by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fake_engine import FakeEngine
from played_plan import PlayedPlan, ids, run_job
from test_generate_loop import Letters

from selfalign_api.errors import ConfigError
from selfalign_api.load import load_run, parse
from selfalign_api.plan import ArtifactRef, EngineLoad, FlowJob, Generate, ModelRef, Train
from selfalign_api.run import SelfAlignmentRun
from selfalign_jobs.accept.resolve import method_of, method_values
from selfalign_jobs.flow import Scores
from selfalign_jobs.generate.chat import History
from selfalign_jobs.generate.engine import Answer, EngineRequest, Head, Sample
from selfalign_jobs.generate.records import Record
from selfalign_jobs.generate.render import Renderer
from selfalign_jobs.generate.score_render import ScoreRenderer
from selfalign_jobs.recipes.base import Step, recipe
from selfalign_jobs.recipes.method import Method
from selfalign_jobs.recipes.tables import counts_of
from selfalign_jobs.train.written import TARGET, written

EXAMPLES = Path(__file__).parents[2] / "examples"
SYNPO = recipe("synpo")
END = Letters.end_id
SPEC: dict[str, Any] = {
    "recipe": "synpo",
    "iterations": 2,
    "model": {"url": "file:///m"},
    "auxiliaryModels": [{"name": "rm", "kind": "RewardModel", "url": "file:///rm"}],
    "data": {"demonstrations": {"url": "file:///d.jsonl"}, "corpus": {"url": "file:///c.txt", "count": 5}},
    "generation": {
        "roles": [
            {"name": "writePrompt", "template": "write {{ keywords | sort | join(' ') }}", "maxTokens": 8},
            {"name": "respond", "maxTokens": 8},
            {"name": "improve", "template": "mend {{ prompt }}: {{ draft }}", "maxTokens": 8},
        ]
    },
    "judge": {"method": "score", "modelName": "rm", "minScoreGap": 0.5},
    "evaluation": {"prompts": {"url": "file:///h.jsonl"}, "checks": [{"name": "win", "type": "SelfWinRate"}]},
    "synpo": {"seedWords": 1, "noiseWords": 1, "wordsPerPrompt": 1},
}


def method(**spec: Any) -> Method:
    document = {"apiVersion": "selfalign.dev/v1alpha1", "kind": "SelfAlignmentRun", "metadata": {"name": "r"}}
    run = parse(SelfAlignmentRun, document | {"spec": SPEC | spec}, "")
    return method_of(method_values(run, "CPU", {}, Path()))


# One keyword a prompt and a paragraph, so that what is drawn of them is no matter of chance.
SEEDS = [
    ("what of apples", "ripe"),
    ("what of boats", "afloat"),
    ("what of caves", "dark"),
    ("what of apples", "again"),
]
HELD = pa.table({"prompt": ["what of caves"]})
CORPUS = ["level", "narrow", "worse", "alike", "chant", "lost", "plain", "cut", "fine", "rosy"]
SOURCES = {
    "demonstrations": pa.table(
        {
            "history": pa.nulls(4, pa.string()),
            "prompt": [prompt for prompt, _ in SEEDS],
            "response": [answer for _, answer in SEEDS],
            "answers": [1] * 4,
        }
    ),
    "evaluation": HELD,
    "corpus": pa.table({"text": [f"there is {word}" for word in CORPUS]}).slice(0, 10),
}
INITIAL = {"chant": "a b a b a b a b a b"}  # what the initial model says of these; of others `old` and the word
SCORES = {"ripe": 3.0, "afloat": 2.0, "own0 apples": 1.0, "own0 boats": 1.9, "own1 apples": 2.9, "own1 boats": 1.0}


def writes(model: ModelRef, user: str, *, draft: bool) -> str:
    """What the models of the script say; of the initial model's two answers in iteration 1 the first is the draft."""
    word = user.removesuffix(".").split()[-1]
    if model.lineage == "promptGenerator":
        return "no tags" if word == "lost" else f"<question> ask {word}</question>"
    if model.lineage == "improver":
        return INITIAL.get(word, f"old {word}") if word in ("alike", "chant") else f"new{model.iteration} {word}"
    if user.startswith("what"):
        return f"own{model.iteration} {word}"
    return f"draft{model.iteration} {word}" if draft else INITIAL.get(word, f"old {word}")


def worth(answer: str) -> float:
    """The script's reward."""
    word = answer.split()[-1]
    if answer.startswith("new"):
        return {"narrow": 1.4, "worse": 0.0, "level": 1.5}.get(word, 2.0)
    return SCORES.get(answer, 1.0)


class Answers:
    """What a scoring model reads here: the answer alone."""

    def ids(self, prompt: str, answer: str, history: History = ()) -> list[int]:
        return [*map(ord, answer)]


def play(job: FlowJob, load: EngineLoad, rows: pa.Table) -> list[Record]:
    asked: set[str] = set()

    def answer(request: EngineRequest) -> Answer:
        text = "".join(map(chr, request.prompt_ids))
        if isinstance(request.task, Head):
            return Scores((worth(text),))
        said = writes(load.model, text, draft=job.flow != "answer-initially" and text not in asked)
        asked.add(text)
        return (Sample(tuple(ids(said, ended="cut" not in said)), ending(said)),)

    renderer = ScoreRenderer(Answers(), 256) if load.task == "score" else Renderer(Letters(), job.roles, 256)
    return run_job(SYNPO, job, FakeEngine(answer), renderer, rows)


def ending(text: str) -> str:
    return "length" if "cut" in text else "stop"


def play_all(steps: tuple[Step, ...]) -> PlayedPlan:
    return PlayedPlan(SYNPO, SOURCES, steps, play)


@pytest.fixture(name="steps", scope="module")
def _steps() -> tuple[Step, ...]:
    return SYNPO.plan(method())


@pytest.fixture(name="played", scope="module")
def _played(steps: tuple[Step, ...]) -> PlayedPlan:
    return play_all(steps)


def test_models_load_and_train_as_in_the_paper(steps: tuple[Step, ...]) -> None:
    """The generator once, improvers and policy from the initial model each time; no model is loaded twice in a step."""
    rounds = ["generate", "train-improver", "improve", "train", "evaluate"]
    assert [step.name for step in steps] == ["i1-train-generator", *(f"i{k}-{name}" for k in (1, 2) for name in rounds)]
    trainings = [step for step in steps if isinstance(step, Train)]
    assert {(step.start, step.reference) for step in trainings} == {(ModelRef(), None)}
    assert [(step.objective, step.stage, step.loss.type) for step in trainings] == [
        ("sft", "promptGenerator", "sft"),
        *[("sft", "improver", "sft"), ("preference", None, "simpo")] * 2,
    ]
    loads = [[load.model for load in step.loads] for step in steps if isinstance(step, Generate)]
    writer, scorer = ModelRef(lineage="promptGenerator", iteration=1), ModelRef(lineage="rm")
    improvers = [ModelRef(lineage="improver", iteration=k) for k in (1, 2)]
    assert loads == [
        [writer, ModelRef(), scorer],  # the initial model's answers in the load of the drafts
        [improvers[0], scorer],
        [writer, ModelRef(iteration=1), ModelRef(), scorer],
        [improvers[1], scorer],
    ]


def test_the_generator_learns_questions_and_solutions_from_two_seeds_words(played: PlayedPlan) -> None:
    assert played.rows("i1-train-generator", "trained", "user", "target") == [
        ("write apples boats", "<question>what of apples</question>\n<solution>ripe</solution>"),
        ("write apples boats", "<question>what of boats</question>\n<solution>afloat</solution>"),
    ]  # the seed that is held out, and the prompt that comes twice, are no seeds
    taught = written(played.tables["i1-train-generator", "trained"], Letters(), TARGET).to_pylist()  # type: ignore[arg-type]
    assert [row["prompt_ids"] for row in taught] == [ids(f"{row['user']}.", ended=False) for row in taught]
    assert [row["target_ids"] for row in taught] == [ids(row["target"]) for row in taught]


def test_prompts_are_written_for_fresh_keywords_up_to_the_closing_tag(
    played: PlayedPlan, steps: tuple[Step, ...]
) -> None:
    prompts = [[prompt for (prompt,) in played.rows(f"i{k}-generate", "prompts", "prompt")] for k in (1, 2)]
    assert sorted(prompts[0] + prompts[1]) == sorted(f"ask {word}" for word in CORPUS if word != "lost")
    lost = [reason for k in (1, 2) for _, reason in played.lost(f"i{k}-generate", "prompts")]
    assert lost == ["no question in its tags"]
    generate = steps[1]
    assert isinstance(generate, Generate)
    assert generate.load.jobs[0].roles["writePrompt"].stop == ("</question>",)


def test_seeds_teach_the_improver_where_their_answer_is_better_by_the_gap(played: PlayedPlan) -> None:
    """From the model's own answer to the seed's: the threshold of the pairs holds for seeds too."""
    assert played.rows("i1-generate", "scored-seeds", "prompt", "answer", "gap") == [
        ("what of apples", "own0 apples", 2.0),
        ("what of boats", "own0 boats", pytest.approx(0.1)),
    ]
    assert played.rows("i1-train-improver", "trained", "prompt_ids", "target_ids") == [
        (ids("mend what of apples: own0 apples.", ended=False), ids("ripe")),
    ]
    assert played.rows("i2-train-improver", "trained", "prompt_ids", "target_ids") == [
        (ids("mend what of boats: own1 boats.", ended=False), ids("afloat")),
    ]
    assert counts_of(played.tables["i1-train-improver", "trained"])["belowGap"] == 1


def expected(k: int, words: set[str]) -> list[dict[str, Any]]:
    """The pairs of iteration k, by hand: improved drafts against the initial model's answers."""
    kept = sorted(words & {"level", "plain", "cut", "fine", "rosy"})  # level: a gap that is just the threshold
    return [
        {
            "prompt": f"ask {word}",
            "prompt_ids": ids(f"ask {word}.", ended=False),  # the answer's prompt, not the improver's
            "chosen_ids": ids(f"new{k} {word}", ended=word != "cut"),
            "rejected_ids": ids(f"old {word}", ended=word != "cut"),
        }
        for word in kept
    ]


def test_pairs_are_improved_drafts_over_the_initial_models_answers_of_all_iterations(played: PlayedPlan) -> None:
    words = [{prompt[4:] for (prompt,) in played.rows(f"i{k}-generate", "prompts", "prompt")} for k in (1, 2)]
    for k, drawn in enumerate(words, 1):
        drafted = played.rows(f"i{k}-generate", "answers", "draft", "initial")
        assert drafted == sorted((f"draft{k - 1} {word}", INITIAL.get(word, f"old {word}")) for word in drawn)
        why = {"alike": "identical answers", "chant": "identical answers"}
        assert played.lost(f"i{k}-improve", "improved") == {(f"ask {word}", why[word]) for word in drawn & why.keys()}
        why = {"narrow": "score gap below minScoreGap", "worse": "the initial answer is better"}
        assert played.lost(f"i{k}-improve", "pairs") == {(f"ask {word}", why[word]) for word in drawn & why.keys()}
        assert {gain for (gain,) in played.rows(f"i{k}-improve", "pairs", "gain")} <= {1.0, 0.5}
    columns = ("prompt", "prompt_ids", "chosen_ids", "rejected_ids")
    first, second = expected(1, words[0]), expected(2, words[1])
    trained = [played.tables[f"i{k}-train", "trained"].select(columns).to_pylist() for k in (1, 2)]
    by_prompt: Any = lambda row: row["prompt"]  # noqa: E731
    assert sorted(trained[0], key=by_prompt) == first
    assert sorted(trained[1], key=by_prompt) == sorted([*first, *second], key=by_prompt)


def test_an_iteration_adds_no_more_pairs_than_its_quota() -> None:
    steps = SYNPO.plan(method(iteration={"maxNewPairs": 1}))
    found = play_all(steps)
    assert [found.tables[f"i{k}-train", "trained"].num_rows for k in (1, 2)] == [1, 2]


def test_texts_that_repeat_themselves_and_answers_that_were_cut_can_be_left_out() -> None:
    filters = {"identical": "Keep", "truncated": "Drop", "maxRepetitionPercent": 60}
    found = play_all(SYNPO.plan(method(generation=SPEC["generation"] | {"filters": filters})))
    lost = found.lost("i1-improve", "improved") | found.lost("i2-improve", "improved")
    assert lost == {("ask chant", "repeats itself"), ("ask cut", "answer cut at maxTokens")}


def test_a_threshold_that_no_seed_passes_is_refused_with_the_best_gap() -> None:
    with pytest.raises(ConfigError, match=r"minSeedScoreGap.*is 7,.*the best gap of 2 seeds is 2"):
        play_all(SYNPO.plan(method(synpo=SPEC["synpo"] | {"minSeedScoreGap": 7})))


def test_held_out_prompts_are_those_of_seeds_set_apart_where_none_are_given() -> None:
    steps = {step.name: step for step in SYNPO.plan(method(evaluation={}))}
    for name in ("i1-train-improver", "i1-train"):
        step = steps[name]
        assert isinstance(step, Train)
        assert ArtifactRef(step="i1-generate", name="initial-answers") in step.data.inputs
    generator = steps["i1-train-generator"]
    assert isinstance(generator, Train) and generator.data.options["apart"] == 500


def test_the_papers_values_stand_where_they_are_left_out() -> None:
    bare = {name: SPEC[name] for name in ("recipe", "model", "auxiliaryModels", "data")}
    document = {"apiVersion": "selfalign.dev/v1alpha1", "kind": "SelfAlignmentRun", "metadata": {"name": "r"}}
    rankers = [{"name": "rm", "kind": "PairRanker", "url": "file:///rm"}]
    run = parse(
        SelfAlignmentRun, document | {"spec": bare | {"auxiliaryModels": rankers, "judge": {"modelName": "rm"}}}, ""
    )
    found = method_of(method_values(run, "GPU", {}, Path()))
    assert (found.judge.method, found.judge.min_score_gap, found.options["min_seed_score_gap"]) == ("score", 0.2, 0.2)
    for name, length in (("promptGenerator", 8000), ("improver", 6000)):
        stage = found.training.stage(name)
        assert (stage.learning_rate, stage.global_batch_size, stage.epochs, stage.warmup_ratio) == (1e-6, 32, 3, 0.1)
        assert (stage.max_length_tokens, stage.optimizer.type) == (length, "adamw")
    assert {found.roles[name].temperature for name in ("writePrompt", "respond", "improve")} == {0.7}
    assert (found.training.loss.gamma, found.iteration.max_new_pairs, found.iteration.data_window) == (
        1.6,
        10_000,
        "All",
    )
    assert (found.iterations, found.filters.max_repetition_percent) == (4, 50)


@pytest.mark.parametrize(
    ("judge", "gap", "seeds"),
    [({"modelName": "rm"}, 0.02, 0.02), ({"modelName": "rm", "method": "score", "minScoreGap": 3}, 3, 3)],
)
def test_the_threshold_of_seeds_is_that_of_pairs(judge: dict[str, Any], gap: float, seeds: float) -> None:
    found = method(judge=judge, synpo={})
    assert (found.judge.min_score_gap, found.options["min_seed_score_gap"]) == (gap, seeds)


def test_the_papers_example_is_the_recipes_own_values() -> None:
    run = load_run(EXAMPLES / "synpo-paper.yaml")
    written_out = method_of(method_values(run, "GPU", {}, EXAMPLES))
    left_out = {"training": None, "iteration": None, "iterations": None, "synpo": None}
    filled = method_of(
        method_values(run.model_copy(update={"spec": run.spec.model_copy(update=left_out)}), "GPU", {}, EXAMPLES)
    )
    assert written_out.training == filled.training
    assert (written_out.iteration, written_out.iterations) == (filled.iteration, filled.iterations)
    assert written_out.options == filled.options

"""Recipe ALMoST against the paper (arXiv 2305.13735): scripted models play its pass, and every table is as by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fake_engine import FakeEngine
from hypothesis import given
from hypothesis import strategies as st
from played_plan import PlayedPlan, run_job
from test_generate_loop import Letters

from selfalign_api.errors import ConfigError
from selfalign_api.load import load_run, parse
from selfalign_api.plan import ArtifactRef, EngineLoad, FlowJob, Generate, ModelRef, Train
from selfalign_api.run import SelfAlignmentRun
from selfalign_jobs.accept.resolve import method_of, method_values
from selfalign_jobs.flow import Scores
from selfalign_jobs.generate.chat import History
from selfalign_jobs.generate.chat_template import render_chat
from selfalign_jobs.generate.engine import Answer, EngineRequest, Head, Sample
from selfalign_jobs.generate.records import Record
from selfalign_jobs.generate.render import Renderer
from selfalign_jobs.generate.score_render import ScoreRenderer
from selfalign_jobs.recipes.almost import INITIAL, REWARD_MODEL
from selfalign_jobs.recipes.base import Step, recipe
from selfalign_jobs.recipes.method import Method
from selfalign_jobs.recipes.ordered import order_notes, order_remarks, ordered
from selfalign_jobs.recipes.provenance import compared, comparisons, is_kept
from selfalign_jobs.recipes.shots import DIALOGUE, queries, said
from selfalign_jobs.recipes.tables import counts_of

EXAMPLES = Path(__file__).parents[2] / "examples"
MOUNTS = {"selfalign": str(EXAMPLES)}
ALMOST = recipe("almost")
END = Letters.end_id
STRONG, WEAK = (ModelRef(lineage=name) for name in ("strong", "weak"))
SPEC: dict[str, Any] = {
    "recipe": "almost",
    "model": {"url": "file:///m"},
    "auxiliaryModels": [{"name": "strong", "url": "file:///s"}, {"name": "weak", "url": "file:///w"}],
    "data": {"prompts": {"url": "file:///p.jsonl"}, "demonstrations": {"url": "file:///d.jsonl"}},
    "generation": {"roles": [{"name": "respond", "maxTokens": 8}]},
    "evaluation": {"prompts": {"url": "file:///h.jsonl"}, "checks": [{"name": "win", "type": "SelfWinRate"}]},
    "almost": {
        "responders": [
            {"modelName": "strong", "shots": 2},
            {"modelName": "initial", "shots": 1, "demonstrations": "Any"},
            {"modelName": "weak"},
        ],
        "bestOf": 3,
    },
}


def method(**spec: Any) -> Method:
    document = {"apiVersion": "selfalign.dev/v1alpha1", "kind": "SelfAlignmentRun", "metadata": {"name": "r"}}
    run = parse(SelfAlignmentRun, document | {"spec": SPEC | spec}, "")
    return method_of(method_values(run, "CPU", {}, Path()))


WORDS = ["plain", "twin", "evade", "brief", "cut", "labels", "empty", "held", "flute"]
DEMONSTRATIONS = [("ask plain", "demo plain"), ("how one", "so one"), ("how two", "so two"), ("how three", "so three")]
SOURCES = {
    "prompts": pa.table({"prompt": [f"ask {word}" for word in [*WORDS, "plain"]]}),  # one comes twice
    "evaluation": pa.table({"prompt": ["ask held"]}),
    "demonstrations": pa.table(
        {
            "history": pa.array([None] * 4, pa.string()),
            "prompt": [prompt for prompt, _ in DEMONSTRATIONS],
            "response": [answer for _, answer in DEMONSTRATIONS],
            "answers": [1] * 4,
        }
    ),
}
SAYS = {  # where a responder does not say its own word and the prompt's
    ("strong", "twin"): "fair twin",
    ("strong", "evade"): "I don't know evade",
    ("strong", "brief"): "ok",
    ("weak", "cut"): "bad that",
    ("strong", "labels"): " good labels \nHuman: ask more",
    ("weak", "empty"): "  ",
}
OWN = {"strong": "good", "policy": "fair", "weak": "dull"}
POOL = {  # the three answers of the strongest, where they are no other
    "twin": ["alike", "alike", "alike"],
    "cut": ["a that", "b that", "c that"],
    "labels": ["x\nAssistant: y", "zzz", "yy"],
    "brief": ["best that", "b", "ccc"],
}
POOL_OF_ANY = ["a", "bb", "ccc"]


class Turns(Letters):
    """Shows what was said before, with a bar behind each turn."""

    def text(self, user: str, history: History = ()) -> str:
        return "|".join([*(turn["content"] for turn in history), f"{user}."])


class Answers:
    """What a scoring model reads here: the answer alone."""

    def ids(self, prompt: str, answer: str, history: History = ()) -> list[int]:
        return [*map(ord, answer)]


def worth(answer: str) -> float:
    """The script's reward: the strong above the others by their word, pool answers by their length."""
    return {"good": 3.0, "fair": 1.0, "dull": 2.0}.get(answer.split()[0], float(len(answer)))


def sample(text: str) -> Sample:
    ended = "that" not in text
    return Sample((*map(ord, text), *([END] if ended else [])), "stop" if ended else "length")


def play(job: FlowJob, load: EngineLoad, rows: pa.Table, shown: dict[str, list[str]]) -> list[Record]:
    def answer(request: EngineRequest) -> Answer:
        text = "".join(map(chr, request.prompt_ids))
        if isinstance(request.task, Head):
            return Scores((worth(text),))
        shown.setdefault(job.out, []).append(text)
        name, word = load.model.lineage, text.removesuffix(".").split()[-1]
        if job.flow == "sample-pool":
            return tuple(sample(said) for said in POOL.get(word, POOL_OF_ANY))
        return (sample(SAYS.get((name, word), f"{OWN[name]} {word}")),)

    renderer = ScoreRenderer(Answers(), 256) if load.task == "score" else Renderer(Turns(), job.roles, 256)
    return run_job(ALMOST, job, FakeEngine(answer), renderer, rows)


class Played(PlayedPlan):
    """And what each table's model was shown."""

    def __init__(self, steps: tuple[Step, ...]) -> None:
        self.shown: dict[str, list[str]] = {}
        super().__init__(ALMOST, SOURCES, steps, lambda job, load, rows: play(job, load, rows, self.shown))


@pytest.fixture(name="steps", scope="module")
def _steps() -> tuple[Step, ...]:
    return ALMOST.plan(method())


@pytest.fixture(name="played", scope="module")
def _played(steps: tuple[Step, ...]) -> Played:
    return Played(steps)


def test_models_load_and_train_as_in_the_paper(steps: tuple[Step, ...]) -> None:
    """Each model once for its answers; the reward model from the initial one; the initial one on the best answers."""
    assert [step.name for step in steps] == ["i1-generate", "i1-train-reward", "i1-score", "i1-train", "i1-evaluate"]
    loads = [[(load.model, load.task) for load in step.loads] for step in steps if isinstance(step, Generate)]
    assert loads == [[(STRONG, "text"), (INITIAL, "text"), (WEAK, "text")], [(REWARD_MODEL, "score")]]
    trainings = [(s.objective, s.loss.type, s.start, s.result) for s in steps if isinstance(s, Train)]
    assert trainings == [
        ("reward", "bradley-terry", INITIAL, REWARD_MODEL),
        ("sft", "sft", INITIAL, ModelRef(iteration=1)),
    ]


def test_a_model_that_has_no_chat_template_is_shown_a_dialogue_and_the_runs_own_is_not(steps: tuple[Step, ...]) -> None:
    generate = steps[0]
    assert isinstance(generate, Generate)
    assert [load.chat_template for load in generate.loads] == [DIALOGUE, None, DIALOGUE]
    said_so = [{"role": role, "content": text} for role, text in [("user", "u"), ("assistant", "a"), ("user", "q")]]
    assert (
        render_chat(DIALOGUE, said_so, {"bos_token": "<s>"}) == "<s>Human: u\n\nAssistant: a\n\nHuman: q\n\nAssistant:"
    )
    for load in generate.loads:
        stops = {job.flow: job.roles["respond"].stop for job in load.jobs if job.flow != "answer"}
        assert {*stops.values()} == {("\nHuman:", "\nAssistant:")}


def test_prompts_stand_behind_the_best_or_any_demonstrations_and_never_behind_their_own(played: Played) -> None:
    best = sorted(played.shown["responses-1"])
    assert best == sorted(
        "how one|so one|how two|so two|ask plain."
        if word == "plain"
        else f"ask plain|demo plain|how one|so one|ask {word}."
        for word in WORDS
    )
    before = {text.rpartition("|")[2]: text.rpartition("|")[0] for text in played.shown["responses-2"]}
    assert {*before} == {f"ask {word}." for word in WORDS}
    assert {*before.values()} <= {f"{prompt}|{answer}" for prompt, answer in DEMONSTRATIONS} and len(
        {*before.values()}
    ) > 1
    assert before["ask plain."] != "ask plain|demo plain"
    assert sorted(played.shown["responses-3"]) == sorted(f"ask {word}." for word in WORDS)


def test_an_answer_ends_where_the_next_speaker_begins_and_an_empty_one_is_none(played: Played) -> None:
    answers = dict(played.rows("i1-generate", "responses-1", "prompt", "response"))
    assert answers["ask labels"] == "good labels"
    assert played.lost("i1-generate", "responses-3") == {("ask empty", "empty answer")}
    assert dict(played.rows("i1-generate", "responses-3", "prompt", "finish"))["ask cut"] == "length"


def test_comparisons_are_the_earlier_responders_answers_over_the_later_ones(played: Played) -> None:
    """Not of equal texts, nor of a better answer that evades or is short, nor of prompts held out or kept for validation."""
    found = played.rows("i1-train-reward", "trained", "prompt", "chosen", "rejected", "better", "worse")
    good, fair, dull = (lambda word, own=own: f"{own} {word}" for own in ("good", "fair", "dull"))
    assert found == sorted(
        [
            *[row for word in ("plain", "labels") for row in (
                (f"ask {word}", good(word), fair(word), 1, 2),
                (f"ask {word}", good(word), dull(word), 1, 3),
                (f"ask {word}", fair(word), dull(word), 2, 3),
            )],
            ("ask twin", "fair twin", "dull twin", 1, 3),
            ("ask twin", "fair twin", "dull twin", 2, 3),
            ("ask evade", "fair evade", "dull evade", 2, 3),  # the strong one evades
            ("ask brief", "fair brief", "dull brief", 2, 3),  # and is short here
            ("ask cut", "good cut", "fair cut", 1, 2),
            ("ask cut", "good cut", "bad that", 1, 3),
            ("ask cut", "fair cut", "bad that", 2, 3),
            ("ask empty", "good empty", "fair empty", 1, 2),
        ]
    )  # fmt: skip
    counts = counts_of(played.tables["i1-train-reward", "trained"])
    assert counts == {
        "pairs": 14, "identical": 1, "evasive": 2, "short": 2, "promptHeldOut": 1, "forValidation": 1,
    }  # fmt: skip


def test_what_the_reward_model_has_not_seen_is_scored_of_all_responders(played: Played) -> None:
    assert played.rows("i1-score", "scores", "prompt", "responders", "responses", "scores") == [
        (
            "ask flute",
            ["strong, 2 Best shots", "initial, 1 Any shots", "weak"],
            ["good flute", "fair flute", "dull flute"],
            [3.0, 1.0, 2.0],
        )
    ]


def test_the_best_of_the_pool_is_learned_and_no_answer_that_was_cut(played: Played) -> None:
    """The worst beside it for who looks; of one text there is none."""
    columns = ("prompt", "chosen", "rejected", "chosen_score", "mean_score")
    made = {row[0][4:]: row[1:] for row in played.rows("i1-score", "pairs", *columns)}
    assert made.pop("twin") == ("alike", None, 5.0, 5.0)
    assert made.pop("labels") == ("zzz", "x", 3.0, 2.0)
    assert made.pop("brief") == ("ccc", "b", 3.0, 2.0)  # the best one was cut
    assert {*made.values()} == {("ccc", "a", 3.0, 2.0)}
    assert played.lost("i1-score", "pairs") == {("ask cut", "every answer empty or cut at maxTokens")}
    learned = {prompt[4:]: text for prompt, text in played.rows("i1-train", "trained", "prompt", "target")}
    assert learned == {
        word: {"twin": "alike", "labels": "zzz"}.get(word, "ccc") for word in WORDS if word not in ("cut", "held")
    }


def test_the_pool_are_answers_of_the_model_that_is_named(steps: tuple[Step, ...]) -> None:
    named = ALMOST.plan(method(almost=SPEC["almost"] | {"poolModelName": "initial"}))
    for plan, model, shots in ((steps, STRONG, 2), (named, INITIAL, 1)):
        generate = plan[0]
        assert isinstance(generate, Generate)
        ((load, job),) = ((load, job) for load in generate.loads for job in load.jobs if job.out == "pool")
        assert (load.model, job.rows.options["shots"], job.options) == (model, shots, {"best_of": 3})


def test_a_finish_by_dpo_learns_the_best_over_the_worst() -> None:
    steps = ALMOST.plan(method(almost=SPEC["almost"] | {"finish": "SampleRankDPO"}))
    training = steps[3]
    assert isinstance(training, Train)
    assert (training.objective, training.loss.type, training.reference) == ("preference", "dpo", INITIAL)
    played = Played(steps)
    assert ("ask twin", "all answers are the same text") in played.lost("i1-score", "pairs")
    found = {row[0][4:]: row[1:] for row in played.rows("i1-train", "trained", "prompt", "chosen", "rejected")}
    assert found["labels"] == ("zzz", "x") and not {"twin", "cut", "held"} & {*found}


def test_neighbours_alone_are_compared_where_it_is_said() -> None:
    played = Played(ALMOST.plan(method(almost=SPEC["almost"] | {"pairs": "Neighbours"})))
    kinds = {(better, worse) for better, worse in played.rows("i1-train-reward", "trained", "better", "worse")}
    assert kinds == {(1, 2), (2, 3)}


def test_cut_and_doubtful_comparisons_are_kept_or_not_as_the_run_says() -> None:
    generation = SPEC["generation"] | {"filters": {"truncated": "Drop", "identical": "Keep"}}
    played = Played(ALMOST.plan(method(generation=generation, almost=SPEC["almost"] | {"doubtful": "Keep"})))
    found = played.rows("i1-train-reward", "trained", "prompt", "better", "worse")
    assert ("ask evade", 1, 2) in found and ("ask brief", 1, 2) in found and ("ask twin", 1, 2) in found
    assert [row for row in found if row[0] == "ask cut"] == [("ask cut", 1, 2)]


@given(
    prompts=st.lists(st.text(min_size=1, max_size=5), unique=True, max_size=40),
    seed=st.integers(0, 9),
    n=st.integers(2, 5),
)
def test_no_prompt_is_split_between_training_and_validation(prompts: list[str], seed: int, n: int) -> None:
    tables = tuple(
        pa.table({"prompt": prompts, "response": [f"{place} {p}" for p in prompts], "finish": ["stop"] * len(prompts)})
        for place in range(n)
    )
    options = {
        "held_out": False,
        "seed": seed,
        "pairs": "All",
        "identical": "Drop",
        "truncated": "Keep",
        "doubtful": "Keep",
    }
    kept = {prompt for prompt in prompts if is_kept(prompt, seed)}
    if len(kept) == len(prompts):
        with pytest.raises(ConfigError, match="give no comparison"):
            comparisons(tables, options)
        return
    found = comparisons(tables, options).to_pylist()
    assert {row["prompt"] for row in found} == {*prompts} - kept
    assert (
        len(found)
        == (len(prompts) - len(kept)) * n * (n - 1) // 2
        == (len(prompts) - len(kept)) * len(compared(n, "All"))
    )
    assert all(row["better"] < row["worse"] for row in found)


@given(shots=st.integers(0, 4), more=st.integers(0, 3), seed=st.integers(0, 99), rows=st.integers(4, 12))
def test_a_responder_with_fewer_shots_is_shown_the_first_of_the_same(
    shots: int, more: int, seed: int, rows: int
) -> None:
    table = pa.table(
        {"history": pa.nulls(rows, pa.string()), "prompt": [f"d{n}" for n in range(rows)], "response": ["r"] * rows}
    )
    asked = pa.table({"prompt": [f"p{n}" for n in range(5)]})
    most = min(rows, shots + more)
    common = {"seed": seed, "apart": 0, "part": 0, "parts": 1, "count": None, "most_shots": most}
    for which in ("Any", "Best"):
        fewer, all_of_them = (
            [json.loads(history or "[]") for history in queries(
                (asked, table), common | {"shots": number, "demonstrations": which})["history"].to_pylist()]
            for number in (min(shots, most), most)
        )  # fmt: skip
        assert [len(turns) for turns in all_of_them] == [2 * most] * 5
        assert all(long[: len(short)] == short for short, long in zip(fewer, all_of_them, strict=True))
        prompts = [[text for role, text in turns if role == "user"] for turns in all_of_them]
        assert all(len({*each}) == len(each) for each in prompts)
        assert which == "Any" or all(each == [f"d{n}" for n in range(most)] for each in prompts)


@given(st.text(), st.text(), st.sampled_from(["\nHuman:", "\nAssistant:"]))
def test_what_is_said_has_no_label_of_a_next_speaker(before: str, after: str, label: str) -> None:
    found = said(f"{before}{label}{after}")
    assert "\nHuman:" not in found and "\nAssistant:" not in found
    assert found == found.strip() and before.strip().startswith(found)


# --- what the reward model orders ---------------------------------------------------------------------------------------


def scored(*rows: list[tuple[str, float] | None], names: tuple[str, ...] = ("big", "small", "tiny")) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "prompt": f"p{number}",
                "responders": [*names],
                "responses": [answer and answer[0] for answer in row],
                "scores": [answer and answer[1] for answer in row],
                "_status": "rows",
            }
            for number, row in enumerate(rows)
        ],
        pa.schema([*ALMOST.flows["score-responses"].schema, ("_status", pa.string())]),
    )


def test_accuracy_is_told_of_all_pairs_of_each_kind_and_of_equal_lengths() -> None:
    table = scored(
        [("four", 3.0), ("five", 2.0), ("a", 1.0)],
        [("four", 1.0), ("four", 2.0), ("b", 3.0)],  # the first two are the same text
        [("four", 1.0), None, ("seventeen", 0.0)],
    )
    told = {remark.name: remark.value for remark in ALMOST.remarks({"scores": table})}
    assert told == {
        "rewardAccuracy": 4 / 6,
        "rewardAccuracyLengthMatched": 1.0,
        "rewardAccuracy1Over2": 1.0,
        "rewardAccuracy1Over3": 2 / 3,
        "rewardAccuracy2Over3": 0.5,
        "responderScore1": pytest.approx(5 / 3),
        "responderScore2": 2.0,
        "responderScore3": pytest.approx(4 / 3),
    }
    (words,) = (remark.words for remark in order_remarks("scores", ordered(table)) if remark.name == "responderScore2")
    assert "small, whose answers have 4.0 characters" in words


def test_responders_whose_scores_do_not_fall_are_named() -> None:
    right = [("aa", 3.0), ("bb", 2.0), ("cc", 1.0)]
    assert list(order_notes(scored(*[right] * 9))) == []
    notes = list(order_notes(scored(*[[("aa", 3.0), ("cc", 1.0), ("bb", 2.0)]] * 9)))
    assert len(notes) == 2 and all(len(note) <= 240 for note in notes)
    assert notes[0].startswith("The reward model scores tiny (2.00) above small (1.00), which stands before it")
    assert notes[1].startswith("The reward model puts small above tiny in 0% of 9 pairs: hardly better than chance")


def test_nothing_is_said_of_no_answers() -> None:
    assert list(order_notes(scored())) == list(ALMOST.remarks({"scores": scored()})) == []


@given(st.lists(st.lists(st.floats(-9, 9), min_size=3, max_size=3), min_size=1, max_size=20))
def test_the_accuracy_of_scores_and_of_their_opposites_is_one_together(scores: list[list[float]]) -> None:
    shares = []
    for sign in (1, -1):
        found = ordered(scored(*[[(name, sign * x) for name, x in zip("abc", row, strict=True)] for row in scores]))
        assert found is not None
        shares.append(found.all)
    ties = sum(row[i] == row[j] for row in scores for i, j in compared(3, "All"))
    assert shares[0].right + shares[1].right + ties == shares[0].pairs == 3 * len(scores)


# --- runs that cannot be --------------------------------------------------------------------------------------------------


ONE_SHOT = {"modelName": "weak", "shots": 1}


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ({"almost": {"responders": [{"modelName": "weak"}, {"modelName": "weak"}]}},
         r"responders\[1\]: weak is the same as responders\[0\]"),
        ({"almost": {"responders": [ONE_SHOT, ONE_SHOT | {"demonstrations": "Best"}]}},
         r"responders\[1\]: weak, 1 Best shots is the same"),
        ({"data": {"prompts": {"url": "file:///p"}}}, r"responders\[0\].shots: 2: are taken from data.demonstrations"),
        ({"almost": {"responders": [{"modelName": "weak"}, {"modelName": "strong"}]}},
         "data.demonstrations: is shown to nobody: no responder has shots"),
    ],
)  # fmt: skip
def test_responders_that_cannot_be_are_refused(spec: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        ALMOST.plan(method(**spec))


def test_too_few_demonstrations_are_refused() -> None:
    rows = pa.table({"history": [None, "[]"], "prompt": ["a", "b"], "response": ["x", "y"]})
    options = {
        "seed": 0,
        "apart": 0,
        "part": 0,
        "parts": 1,
        "count": None,
        "shots": 2,
        "most_shots": 2,
        "demonstrations": "Best",
    }
    with pytest.raises(ConfigError, match=r"has 1 rows that begin a conversation, and a responder is shown 2"):
        queries((pa.table({"prompt": ["p"]}), rows), options)


def test_the_same_text_of_all_responders_leaves_nothing_to_learn_and_is_refused_with_counts() -> None:
    table = pa.table({"prompt": ["p", "q"], "response": ["same"] * 2, "finish": ["stop"] * 2})
    options = {
        "held_out": False,
        "seed": 1,
        "pairs": "All",
        "identical": "Drop",
        "truncated": "Keep",
        "doubtful": "Drop",
    }
    assert not is_kept("p", 1) and not is_kept("q", 1)
    with pytest.raises(ConfigError, match=r"give no comparison to train the reward model on \(identical 2\)"):
        comparisons((table, table), options)


# --- values ---------------------------------------------------------------------------------------------------------------


def test_held_out_prompts_are_those_set_apart_where_none_are_given() -> None:
    trainings = [step for step in ALMOST.plan(method(evaluation={})) if isinstance(step, Train)]
    assert all(step.data.inputs[-1] == ArtifactRef(step="i1-generate", name="initial-answers") for step in trainings)


def test_values_that_are_left_out_are_those_of_the_finish() -> None:
    tuned, ranked = (
        method(almost=SPEC["almost"] | {"finish": finish}).training for finish in ("BestOfN", "SampleRankDPO")
    )
    assert (tuned.loss.type, tuned.settings.learning_rate, tuned.settings.epochs) == ("sft", 2e-5, 3)
    assert (ranked.loss.type, ranked.loss.beta, ranked.settings.learning_rate) == ("dpo", 0.1, 5e-7)
    assert tuned.stage("rewardModel").learning_rate == 1e-5


def test_the_papers_example_is_the_recipes_own_values() -> None:
    run = load_run(EXAMPLES / "almost-paper.yaml")
    written_out = method_of(method_values(run, "GPU", MOUNTS, EXAMPLES))
    left_out = {"training": None, "iteration": None, "iterations": None}
    filled = method_of(
        method_values(run.model_copy(update={"spec": run.spec.model_copy(update=left_out)}), "GPU", MOUNTS, EXAMPLES)
    )
    assert written_out.training == filled.training
    assert (written_out.iteration, written_out.iterations) == (filled.iteration, filled.iterations)

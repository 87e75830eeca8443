"""What a run computes, fourth part: how the new model is compared with the one before. And the recipes' own options."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from selfalign_api.base import INT32_MAX, ApiModel, Count, MapBy, Name, NonNegative, Text, Url
from selfalign_api.method import Source


class AnswerColumns(ApiModel):
    """Which column carries what. Unset: the column of the same name."""

    prompt: Text | None = None
    """Column with the prompt, as the held-out prompts have it."""

    response: Text | None = None
    """Column with the answer."""


class Answers(ApiModel):
    """Somebody else's answers to the held-out prompts: rows as data has them, of which the first of a prompt counts."""

    url: Annotated[Url, Field(examples=["hf://datasets/org/answers/strong.jsonl"])]
    """Where the rows are: hf://datasets/ORG/NAME[@REVISION][/FILE], s3://, gs://, pvc:// or file://."""

    split: Text | None = None
    """Split of a hub dataset. Unset: train."""

    subset: Text | None = None
    """Subset (configuration) of a hub dataset."""

    columns: AnswerColumns | None = None
    """Which column carries what."""


class SelfWinRate(ApiModel):
    """How often the judge prefers the new model's answer."""

    against: Literal["initial", "previous"] | None = None
    """Whose answers it is compared with: the model's as given, or those of the iteration before. Unset: initial."""

    answers: Answers | None = None
    """Answers of another model, instead of the run's own."""


class CheckJudge(ApiModel):
    """Who judges a check in both orders, by the template, verdicts and criteria of the run's own judge."""

    model_name: Annotated[Name, Field(examples=["judge-70b"])]
    """The judge: initial (the model as given), or an entry of auxiliaryModels that writes or scores."""

    method: Literal["logprobs", "generate", "score"] | None = None
    """Log-probabilities in both orders, both parsed, or scores. Unset: score by a model that scores, else logprobs."""

    tie_margin: Annotated[float, Field(ge=0, lt=0.5)] | None = None
    """Tie when the mean P(the new answer is better) of both orders is within this of 0.5. Unset: 0."""


class ExactMatch(ApiModel):
    """How often the answer equals the reference."""

    temperatures: (
        Annotated[tuple[Annotated[float, Field(ge=0, le=5)], ...], Field(min_length=1, max_length=4)] | None
    ) = None
    """Sampling temperatures, one figure each; 0 is greedy. Unset: 0 and 1."""


class Questions(ApiModel):
    """MT-Bench's questions: rows of question_id, category and turns."""

    url: Annotated[Url, Field(examples=["pvc://data/mt_bench/question.jsonl"])]
    """Where the rows are: hf://datasets/ORG/NAME[@REVISION][/FILE], s3://, gs://, pvc:// or file://."""


class Export(ApiModel):
    """The new model's answers to the held-out prompts, or to MT-Bench's questions, in a file that another tool reads."""

    format: Annotated[Literal["AlpacaEval", "ArenaHard", "MTBench"], Field(examples=["AlpacaEval"])]
    """AlpacaEval's model outputs, a JSON list; or Arena-Hard's or MT-Bench's model answers, a JSON object a line."""

    questions: Questions | None = None
    """With format: MTBench: what is asked in the place of the held-out prompts, two turns each."""


class Benchmark(ApiModel):
    """Tasks of lm-evaluation-harness, put to the model as given and to the new one, with the harness's own metrics."""

    tasks: Annotated[tuple[Text, ...], Field(min_length=1, max_length=64, examples=[["arc_challenge", "gsm8k"]])]
    """Tasks, groups or tags by name, as lm_eval --tasks takes them."""

    tasks_url: Annotated[Url, Field(examples=["pvc://selfalign/tasks"])] | None = None
    """A folder of task files (YAML) beside the harness's own: pvc://, file:// or a bucket's."""

    shots: Annotated[int, Field(ge=0, le=100)] | None = None
    """Examples before each question (--num_fewshot). Unset: as each task has it."""

    limit: Count | None = None
    """Questions of each task, the first so many (--limit). Unset: all."""

    prompts: Literal["Plain", "Chat"] | None = None
    """Chat: questions in the model's chat template (--apply_chat_template). Unset: Plain, as they stand."""


class Check(ApiModel):
    """One figure of the evaluation, or a file of the answers."""

    name: Annotated[Name, Field(examples=["win"])]
    """Its name in the results."""

    type: Annotated[Literal["SelfWinRate", "ExactMatch", "Benchmark", "Export"], Field(examples=["SelfWinRate"])]
    """Which figure; Export gives none."""

    self_win_rate: SelfWinRate | None = None
    """With type: SelfWinRate."""

    judge: CheckJudge | None = None
    """With type: SelfWinRate: who judges. Unset: the judge of the run; in the place of self, the model as given."""

    exact_match: ExactMatch | None = None
    """With type: ExactMatch."""

    benchmark: Benchmark | None = None
    """With type: Benchmark."""

    export: Export | None = None
    """With type: Export."""


class Gate(ApiModel):
    """A figure that the model to be published must reach: else nothing is published, and the run fails."""

    check: Annotated[Name, Field(examples=["accuracy"])]
    """Whose figure: the name of a check. Of an ExactMatch at several temperatures each must reach it."""

    figure: Annotated[Literal["value", "gain", "low"], Field(examples=["low"])]
    """The new model's value, its gain over the model as given, or the low end of the 95 % interval: the gain's, or a rate's."""

    at_least: Annotated[float, Field(ge=-1, le=1, examples=[0.02])]
    """What it must be at the least."""


class Evaluation(ApiModel):
    """How the new model is compared with the one before."""

    when: Literal["EachIteration", "Last", "Never"] | None = None
    """After which rounds. Unset: EachIteration."""

    prompts: Source | None = None
    """Held-out prompts, which the loop never sees. Unset: 500 rows of the recipe's prompts, set apart by hash."""

    checks: Annotated[tuple[Check, ...], Field(min_length=1, max_length=16), MapBy("name")] | None = None
    """The figures. Unset: one SelfWinRate, named win."""

    select_by: Annotated[Name, Field(examples=["accuracy"])] | None = None
    """The check by whose value the best iteration is published; of several temperatures their mean. Unset: the last one is."""

    stop_after_worse: Annotated[int, Field(ge=1, le=30, examples=[2])] | None = None
    """Iterations in a row without a better value of selectBy after which the loop ends. Unset: it goes on to the last."""

    gates: Annotated[tuple[Gate, ...], Field(max_length=16)] | None = None
    """What must be reached, after the last round, before anything is published. Unset: nothing."""


class SaoOptions(ApiModel):
    """Options of the recipe sao."""

    prompt_mode: Literal["Persona", "Free"] | None = None
    """Whether a prompt is written for a persona, or for none (the paper's ablation). Unset: Persona."""


class SelmOptions(ApiModel):
    """Options of the recipe selm."""

    first_iteration: Literal["Online", "Offline"] | None = None
    """Offline: the first round is plain DPO on the given pairs, for which nothing is generated. Unset: Online."""


class FspoOptions(ApiModel):
    """Options of the recipe fspo."""

    shots: Annotated[int, Field(ge=1, le=64)] | None = None
    """Pairs of a user that are shown before the question. Unset: 8."""

    shuffles: Annotated[int, Field(ge=1, le=1000)] | None = None
    """How often a user's questions are dealt anew into windows of shots and a target. Unset: 2 · (shots + 1), the paper's."""

    describe_user: Literal["Never", "BeforeAnswer"] | None = None
    """BeforeAnswer: an answer begins with what the user is like, as the labels or columns.description have it. Unset: Never."""

    questions_per_user: Count | None = None
    """Of data.prompts: questions that each user is asked, drawn; all, where there are fewer. Unset: 50."""

    views_per_question: Annotated[int, Field(ge=1, le=64)] | None = None
    """Of data.prompts: viewpoints from which each responder answers a question. Unset: 4."""

    responder_model_names: Annotated[tuple[Name, ...], Field(min_length=1, max_length=8)] | None = None
    """Of data.prompts: who answers the questions: initial, or entries of auxiliaryModels that write. Unset: initial."""


class Responder(ApiModel):
    """Who answers every prompt, and what is shown before it."""

    model_name: Annotated[Name, Field(examples=["strong"])]
    """The model: initial (the model as given), or an entry of auxiliaryModels that writes."""

    shots: Annotated[int, Field(ge=0, le=64)] | None = None
    """Demonstrations before the prompt, of data.demonstrations. Unset: 0."""

    demonstrations: Literal["Best", "Any"] | None = None
    """Which: the first rows of data.demonstrations, or rows drawn for each prompt. Unset: Best."""


class AlmostOptions(ApiModel):
    """Options of the recipe almost."""

    responders: Annotated[
        tuple[Responder, ...],
        Field(min_length=2, max_length=8, examples=[[{"modelName": "strong"}, {"modelName": "initial"}]]),
    ]
    """Who answers, the strongest first: the order is the label."""

    pairs: Literal["All", "Neighbours"] | None = None
    """Which responders are compared: each with each, or each with the next. Unset: All."""

    doubtful: Literal["Drop", "Keep"] | None = None
    """Comparisons whose better answer evades, or is short beside the prompt's other answers. Unset: Drop."""

    pool_model_name: Name | None = None
    """A responder's model, whose answers the reward model chooses from. Unset: the first responder's."""

    best_of: Annotated[int, Field(ge=2, le=64)] | None = None
    """Answers to each prompt that it chooses from. Unset: 4."""

    finish: Literal["BestOfN", "SampleRankDPO"] | None = None
    """Fine-tuning on the best answers, or DPO of the best over the worst: a stand-in for the paper's PPO. Unset: BestOfN."""


class PitOptions(ApiModel):
    """Options of the recipe pit."""

    optimizer: Literal["SampleRankDPO"] | None = None
    """What stands in for the paper's reinforcement learning, which it does not report: DPO on best and worst candidate."""

    gap_model: Literal["Joint", "Difference"] | None = None
    """What says how much better an answer is: a model that reads both, or the difference of two rewards. Unset: Joint."""

    draft_model: Literal["Trained", "Initial"] | None = None
    """Who drafts: the model after supervised training on the better answers, or the model as given. Unset: Trained."""

    candidates: Annotated[int, Field(ge=2, le=64)] | None = None
    """Improvements that are written of each draft; best and worst make the pair. Unset: 4."""

    improve_passes: Annotated[int, Field(ge=1, le=16)] | None = None
    """Times that the improver goes over a draft in the evaluation, each time over what it wrote last. Unset: 1."""


class SynpoOptions(ApiModel):
    """Options of the recipe synpo."""

    seed_words: Count | None = None
    """Keywords that the prompt generator is shown of a seed's prompt. Unset: 2."""

    noise_words: Annotated[int, Field(ge=0, le=INT32_MAX)] | None = None
    """Keywords of another seed's prompt beside them. Unset: 1."""

    words_per_prompt: Count | None = None
    """Keywords of one paragraph of the corpus that a prompt is written from. Unset: 3."""

    min_seed_score_gap: NonNegative | None = None
    """A seed teaches the improver when its answer's score is this much above the model's. Unset: judge.minScoreGap."""

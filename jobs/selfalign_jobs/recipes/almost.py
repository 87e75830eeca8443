"""ALMoST, Aligning through Synthetic Feedback (arXiv 2305.13735): who answered says which answer is better, and nobody judges.

Several responders answer the same prompts: larger and smaller models, with more or fewer, better or any demonstrations
before the prompt. A reward model is trained on the order that is known of them. It then chooses the best of several answers
of a responder to each prompt, and the initial model is fine-tuned on these. In the place of the paper's last stage, PPO
against the reward model, `finish: SampleRankDPO` trains on the best against the worst of them: a stand-in.

The paper's numbers are in no source that we could read: every value here is ours, as near to its accounts as we know them.
Its second filter, a reward model of community answers, is not built.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from selfalign_api.errors import ConfigError
from selfalign_api.plan import (
    ArtifactRef,
    EngineLoad,
    FlowJob,
    Generate,
    ModelRef,
    Prepare,
    Role,
    SourceRef,
    TableRef,
    Train,
)
from selfalign_api.plan_values import Frozen, Json
from selfalign_api.training_values import Loss
from selfalign_jobs.flow import Ask, Dropped, Request, Row, Scores
from selfalign_jobs.recipes.answers import ANSWER, COMPARE
from selfalign_jobs.recipes.base import FlowDef, PrepareDef, Recipe, Remark, Step
from selfalign_jobs.recipes.evaluation import answers_job, evaluate_step
from selfalign_jobs.recipes.judge import JUDGE_VARIABLES, judge_role, judge_values
from selfalign_jobs.recipes.method import Method
from selfalign_jobs.recipes.ordered import order_notes, order_remarks, ordered
from selfalign_jobs.recipes.own_tables import APART_QUESTIONS, asked, draw_options, held_out_table
from selfalign_jobs.recipes.provenance import (
    TEXTS,
    VALIDATED,
    comparisons,
    most_comparisons,
    validation_answers,
)
from selfalign_jobs.recipes.rows import history_of
from selfalign_jobs.recipes.shots import DIALOGUE, NEXT_SPEAKER, queries, said
from selfalign_jobs.recipes.tables import (
    AS_MADE,
    JOINED_ANSWERS,
    QUESTIONS,
    most_drawn,
    targets_of_pairs,
    training_pairs,
)
from selfalign_jobs.recipes.trainings import train_on_pairs

GENERATE, SCORE = "i1-generate", "i1-score"
INITIAL_ANSWERS = ArtifactRef(step=GENERATE, name="initial-answers")
INITIAL, REWARD_MODEL = ModelRef(), ModelRef(lineage="rewardModel", iteration=1)

Flow = Generator[Request | list[Request], Any, list[Row]]

RESPONSES = pa.schema(
    [
        *((name, pa.string()) for name in ("prompt", "response", "finish")),
        ("tokens", pa.int32()),  # as the responder's own tokenizer counts
        ("answer_seed", pa.uint64()),
    ]
)
POOL = pa.schema(
    [("prompt", pa.string()), ("candidates", TEXTS), ("finishes", TEXTS), ("answer_seed", pa.uint64())],
)
SCORED = pa.schema([*VALIDATED, ("scores", pa.list_(pa.float64()))])
PAIRS = pa.schema(
    [
        *((name, pa.string()) for name in ("prompt", "chosen", "rejected")),
        *((f"{name}_score", pa.float64()) for name in ("chosen", "rejected", "mean")),
        ("answer_seed", pa.uint64()),
    ]
)


class Responder(Frozen):
    """Who answers, and what is shown before the prompt."""

    model_name: str
    shots: int = 0
    demonstrations: str = "Best"

    @property
    def model(self) -> ModelRef:
        """The model that answers."""
        return INITIAL if self.model_name == "initial" else ModelRef(lineage=self.model_name)

    @property
    def label(self) -> str:
        """As the report names it."""
        return f"{self.model_name}, {self.shots} {self.demonstrations} shots" if self.shots else self.model_name


# --- the flows: what happens to one prompt --------------------------------------------------------------------------------


def respond(row: Row, ask: Ask) -> Flow:
    """Prompt behind its demonstrations → one answer."""
    (answer,) = yield ask.write("respond", prompt=row["prompt"], history=_shown(row))
    text = said(answer.text)
    known = {"prompt": row["prompt"], "answer_seed": answer.seed}
    if not text:
        raise Dropped("empty answer", row=known)
    return [known | {"response": text, "finish": answer.finish_reason, "tokens": len(answer.ids)}]


def sample_pool(row: Row, ask: Ask) -> Flow:
    """Prompt behind its demonstrations → several answers, for the reward model to choose from."""
    answers = yield ask.write("respond", ask.options["best_of"], prompt=row["prompt"], history=_shown(row))
    known = {"prompt": row["prompt"], "answer_seed": answers[0].seed}
    texts = [said(answer.text) for answer in answers]
    return [known | {"candidates": texts, "finishes": [answer.finish_reason for answer in answers]}]


def best_of(row: Row, ask: Ask) -> Flow:
    """Several answers → the one that scores best over the one that scores worst."""
    ended = [text for text, how in zip(row["candidates"], row["finishes"], strict=True) if text and how != "length"]
    known = {"prompt": row["prompt"], "answer_seed": row["answer_seed"]}
    if not ended:  # one that was cut would be taught as one that ends there
        raise Dropped("every answer empty or cut at maxTokens", row=known)
    scores = yield from _scored(ask, row["prompt"], ended)
    best, worst = max(ended, key=scores.__getitem__), min(ended, key=scores.__getitem__)
    seen = known | {"chosen": best, "chosen_score": scores[best]}
    seen["mean_score"] = sum(scores[text] for text in ended) / len(ended)
    if best != worst:
        return [seen | {"rejected": worst, "rejected_score": scores[worst]}]
    if ask.options["pairs"]:
        raise Dropped("all answers are the same text", row=seen)
    return [seen]


def score_responses(row: Row, ask: Ask) -> Flow:
    """The answers of all responders to a prompt that the reward model has not seen → their scores."""
    scores = yield from _scored(ask, row["prompt"], [text for text in row["responses"] if text is not None])
    return [{**row, "scores": [None if text is None else scores[text] for text in row["responses"]]}]


def _scored(ask: Ask, prompt: str, answers: list[str]) -> Generator[list[Request], Any, dict[str, float]]:
    """The reward of each different answer."""
    texts = list(dict.fromkeys(answers))
    replies: list[Scores] = yield [ask.score(prompt, text, role="respond") for text in texts]
    return {text: reply.reward for text, reply in zip(texts, replies, strict=True)}


def _shown(row: Row) -> list[dict[str, str]]:
    return history_of(row["history"])


# --- the plan: generate → train the reward model → score → train → evaluate ----------------------------------------------


def plan(method: Method) -> tuple[Step, ...]:
    """One pass. Raises ConfigError for responders that cannot be told apart, and demonstrations that nobody is shown."""
    refuse_responders(method)
    held = held_out_table(method, INITIAL_ANSWERS)
    steps: list[Step] = [generate_step(method), train_reward_model(method, held), score_step(method)]
    if method.options["finish"] == "SampleRankDPO":
        steps.append(train_on_pairs(method, 1, held, made_by="score"))
    else:
        steps.append(fine_tune(method, held))
    if method.evaluation.after(1, 1):
        asked_again = Prepare(fn="questions", inputs=(held or INITIAL_ANSWERS,))
        steps.append(evaluate_step(method, 1, asked_again, INITIAL_ANSWERS))
    return tuple(steps)


def responders(method: Method) -> list[Responder]:
    """The strongest first."""
    return [Responder(**given) for given in method.options["responders"]]


def pool_of(method: Method) -> Responder:
    """Whose answers the reward model chooses from: the first responder of the model that is named, or of all."""
    name = method.options.get("pool_model_name")
    return next(each for each in responders(method) if name in (None, each.model_name))


def refuse_responders(method: Method) -> None:
    """ConfigError for two that are the same, for shots without demonstrations, and for demonstrations without shots."""
    seen: dict[Responder, int] = {}
    shots, given = False, "demonstrations" in method.data and method.data["demonstrations"].given
    for place, each in enumerate(responders(method)):
        path = f"spec.almost.responders[{place}]"
        if each in seen:
            message = (
                f"is the same as responders[{seen[each]}], and no order is known of the two; write another modelName, other "
                "shots, or other demonstrations"
            )
            raise ConfigError.one(path, message, each.label)
        seen[each] = place
        shots = shots or each.shots > 0
        if each.shots and not given:
            message = (
                "are taken from data.demonstrations, which is not there; write data.demonstrations.url, or shots: 0"
            )
            raise ConfigError.one(f"{path}.shots", message, each.shots)
    if given and not shots:
        message = "is shown to nobody: no responder has shots; write almost.responders[].shots, or remove it"
        raise ConfigError.one("spec.data.demonstrations", message)


def generate_step(method: Method) -> Generate:
    """An engine load for each model: the answers of its responders, the pool, the initial model's answers for later."""
    jobs: dict[ModelRef, list[FlowJob]] = {}
    for place, responder in enumerate(responders(method), 1):
        job = asking_job(method, responder, "respond", f"responses-{place}")
        jobs.setdefault(responder.model, []).append(job)
    pool = pool_of(method)
    jobs[pool.model].append(asking_job(method, pool, "sample-pool", "pool", best_of=method.options["best_of"]))
    if method.evaluation.when != "Never":
        jobs.setdefault(INITIAL, []).append(answers_job(method, asked(method, "prompts"), INITIAL_ANSWERS.name))
    loads = [
        EngineLoad(model=model, jobs=tuple(made), chat_template=None if model == INITIAL else DIALOGUE)
        for model, made in jobs.items()
    ]
    return Generate(name=GENERATE, iteration=1, load=loads[0], then=tuple(loads[1:]), engine=method.engine)


def asking_job(method: Method, responder: Responder, flow: str, out: str, **options: Json) -> FlowJob:
    """The prompts, behind a responder's demonstrations, into answers."""
    sources = ("prompts", "demonstrations") if responder.shots else ("prompts",)
    shown = {"shots": responder.shots, "demonstrations": responder.demonstrations}
    most = {"most_shots": max(each.shots for each in responders(method))}
    return FlowJob(
        flow=flow,
        rows=Prepare(
            fn="queries",
            inputs=tuple(SourceRef(name=name) for name in sources),
            options=draw_options(method, "prompts", 1) | shown | most,
        ),
        out=out,
        roles={"respond": method.roles["respond"].model_copy(update={"stop": NEXT_SPEAKER})},
        options=options,
    )


def response_tables(method: Method) -> tuple[ArtifactRef, ...]:
    """The answers of each responder, the strongest first."""
    return tuple(ArtifactRef(step=GENERATE, name=f"responses-{place}") for place, _ in enumerate(responders(method), 1))


def train_reward_model(method: Method, held: TableRef | None) -> Train:
    """From the initial model, on the comparisons that provenance labels."""
    options = {
        "held_out": held is not None,
        "seed": method.seed,
        "pairs": method.options["pairs"],
        "doubtful": method.options["doubtful"],
        "identical": method.filters.identical,
        "truncated": method.filters.truncated,
    }
    inputs = (*response_tables(method), *(() if held is None else (held,)))
    return Train(
        name="i1-train-reward",
        iteration=1,
        stage="rewardModel",
        objective="reward",
        loss=Loss(type="bradley-terry"),
        data=Prepare(fn="comparisons", inputs=inputs, options=options),
        start=INITIAL,
        result=REWARD_MODEL,
        settings=method.training.stage("rewardModel"),
    )


def score_step(method: Method) -> Generate:
    """What the reward model says: of the pool, for the last training; of answers that it has not seen, of its own worth."""
    names = [each.label for each in responders(method)]
    kept = Prepare(
        fn="validation-answers", inputs=response_tables(method), options={"responders": names, "seed": method.seed}
    )
    pool = Prepare(fn="as-made", inputs=(ArtifactRef(step=GENERATE, name="pool"),))
    finish = {"pairs": method.options["finish"] == "SampleRankDPO"}
    jobs = (
        FlowJob(flow="best-of", rows=pool, out="pairs", roles={"respond": Role()}, options=finish),
        FlowJob(flow="score-responses", rows=kept, out="scores", roles={"respond": Role()}),
    )
    load = EngineLoad(model=REWARD_MODEL, task="score", jobs=jobs)
    return Generate(name=SCORE, iteration=1, load=load, engine=method.engine)


def fine_tune(method: Method, held: TableRef | None) -> Train:
    """The initial model on the best answers."""
    options = {"held_out": held is not None, "max_new_pairs": method.iteration.max_new_pairs, "seed": method.seed}
    best = ArtifactRef(step=SCORE, name="pairs")
    return Train(
        name="i1-train",
        iteration=1,
        objective="sft",
        loss=Loss(type=method.training.loss.type),
        data=Prepare(fn="best-answers", inputs=(best, *(() if held is None else (held,))), options=options),
        start=method.iteration.start_of(1),
        result=ModelRef(iteration=1),
        settings=method.training.settings_of(1),
    )


def defaults_for(given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of fields left out: all ours. Those of the fine-tuning are as Alpaca's authors write them."""
    finish = given.get("almost", {}).get("finish", "BestOfN")
    loss = given.get("training", {}).get("loss", {}).get("type", "dpo")
    losses = {"simpo": {"type": "simpo", "beta": 2, "gamma": 1}}
    tuned = {"loss": {"type": "sft"}, "learningRate": 2e-5, "epochs": 3, "globalBatchSize": 128}
    ranked = {"loss": losses.get(loss, {"type": loss, "beta": 0.1}), "learningRate": 5e-7, "epochs": 1}
    data = {"prompts": {"draw": "Same"}}
    if "demonstrations" in given.get("data", {}):
        data["demonstrations"] = {"draw": "Same"}
    return {
        "iterations": 1,
        "data": data,
        "generation": {
            "maxSetAsidePercent": 1,
            "roles": [
                {"name": "respond", "temperature": 1.0, "topP": 1.0, "maxTokens": 512, "reasoning": "Strip"},
                judge_role(),  # of the evaluation
            ],
            "filters": {"identical": "Drop", "truncated": "Keep"},
        },
        "judge": judge_values(),
        "iteration": {"start": "initial", "reference": "initial", "dataWindow": "Current"},
        "training": (tuned if finish == "BestOfN" else ranked | {"globalBatchSize": 64})
        | {
            "learningRateSchedule": "cosine",
            "warmupRatio": 0.03 if finish == "BestOfN" else 0.1,
            "maxLengthTokens": 2048,
            "maxPromptTokens": 1024,
            "stages": [{"name": "rewardModel", "learningRate": 1e-5, "epochs": 1, "globalBatchSize": 64}],
        },
        "almost": {"bestOf": 4, "finish": "BestOfN", "pairs": "All", "doubtful": "Drop"},
    }


def longest(method: Method, sources: Mapping[str, int]) -> dict[str, int]:
    """Tokens of each variable at the most; a prompt stands behind its demonstrations, two texts each."""
    shots = max(each.shots for each in responders(method))
    asked_for = max(sources["prompts"], sources.get("evaluation", 0))
    answer = method.roles["respond"].max_tokens
    return {"prompt": asked_for + 2 * shots * sources.get("demonstrations", 0), "first": answer, "second": answer}


def remarks(tables: Mapping[str, pa.Table]) -> Iterator[Remark]:
    """How well the reward model orders what it has not seen, how the responders answer, and what choosing the best adds."""
    if "scores" in tables:
        yield from order_remarks("scores", ordered(_of_rows(tables["scores"])))
    if "pairs" in tables and (table := _of_rows(tables["pairs"])).num_rows:
        gain = pc.mean(pc.subtract(table["chosen_score"], table["mean_score"])).as_py()
        yield Remark("pairs", "bestOverMean", gain, "is how much the best answer scores above the mean of the pool's.")


def _of_rows(table: pa.Table) -> pa.Table:
    return table.filter(pc.equal(table["_status"], "rows"))


RECIPE = Recipe(
    name="almost",
    paper="arXiv 2305.13735",
    data={"prompts": True, "demonstrations": False},
    needs={
        "almost": {"responders": [{"modelName": "strong"}, {"modelName": "initial"}]},
        "auxiliaryModels": [{"name": "strong", "url": "file:///data/strong"}],
    },
    defaults_for=defaults_for,
    variables={"respond": frozenset({"prompt"}), "judge": JUDGE_VARIABLES},
    required={"respond": frozenset({"prompt"}), "judge": frozenset({"prompt", "first", "second"})},
    flows={
        "respond": FlowDef(respond, RESPONSES),
        "sample-pool": FlowDef(sample_pool, POOL),
        "best-of": FlowDef(best_of, PAIRS, {"chosen_score": "scored"}),
        "score-responses": FlowDef(score_responses, SCORED, {"scores": "scored"}, order_notes),
        "answer": ANSWER,
        "compare": COMPARE,
    },
    prepares={
        "queries": PrepareDef(queries, most=most_drawn, takes_rows=True, looks=True),
        "comparisons": PrepareDef(comparisons, most=most_comparisons, reads=("prompt", "response", "finish")),
        "validation-answers": PrepareDef(validation_answers, reads=("prompt", "response")),
        "as-made": AS_MADE,
        "best-answers": PrepareDef(targets_of_pairs, reads=("prompt", "chosen")),
        "training-pairs": PrepareDef(training_pairs, reads=("prompt", "chosen", "rejected")),
        "questions": QUESTIONS,
        "apart-questions": APART_QUESTIONS,
        "joined-answers": JOINED_ANSWERS,
    },
    plan=plan,
    longest=longest,
    remarks=remarks,
)

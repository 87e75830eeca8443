"""PIT, implicit self-improvement (arXiv 2310.00898): preferences teach to improve answers, no rubric says how.

Somebody's preferences are parted into three folds by their prompts. The first teaches M_P to answer (x → y_w) and an
improver to better an answer (x, y_l → y_w). The second teaches a gap model how much better one answer is than another
(Eq. 2: five orders of better and worse). On the third the improver is trained in two rounds to widen the gap between what
it writes and the draft that it was shown: drafts of the first round are the answers of the data, y_l and y_w, those of the
second are M_P's own. What comes out is the improver: at use M_P drafts, and the improver passes over the draft k times.

How the paper's reinforcement learning goes is not reported. `SampleRankDPO` stands in for it, and is ours: of several
candidates the one with the largest gap is chosen and the one with the smallest rejected, and the improver is trained on the
pairs with DPO's loss against itself as it was.

Where the paper reports a value it is the default here; what it does not report is marked `# ours`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from selfalign_api.plan import (
    ArtifactRef,
    EngineLoad,
    Evaluate,
    FlowJob,
    Generate,
    ModelRef,
    Plan,
    Prepare,
    SourceRef,
    TableRef,
    Train,
)
from selfalign_api.training_values import Loss
from selfalign_jobs.recipes.answers import ANSWER, COMPARE
from selfalign_jobs.recipes.base import FlowDef, PrepareDef, Recipe, Step
from selfalign_jobs.recipes.evaluation import answers_job, evaluate_answers
from selfalign_jobs.recipes.folds import (
    GAP,
    ROUNDS,
    SFT,
    answers_taught,
    asked_once,
    fold,
    gaps_taught,
    improvements_taught,
    most_of_fold,
    references,
)
from selfalign_jobs.recipes.gap_figures import remarks
from selfalign_jobs.recipes.gaps import (
    CANDIDATES,
    DRAFTS,
    ORDERS,
    PAIRS,
    PASSES,
    draft,
    improve,
    improve_repeatedly,
    order_pair,
    rank_candidates,
)
from selfalign_jobs.recipes.judge import JUDGE_VARIABLES, judge_role, judge_values
from selfalign_jobs.recipes.method import Method
from selfalign_jobs.recipes.own_tables import APART_QUESTIONS, HELD, asked, draw_options, held_out_table
from selfalign_jobs.recipes.rows import TRAINED
from selfalign_jobs.recipes.tables import AS_MADE, JOINED_ANSWERS, QUESTIONS, training_pairs
from selfalign_jobs.recipes.trainings import train_on_pairs

IMPROVE = """\
Here is a request, and an answer to it. Write a better answer to the request; where the answer cannot be bettered, write it \
again as it is.

[Request]
{{ prompt }}

[Answer]
{{ draft }}

Write the better answer and nothing else.
"""

OWN = SourceRef(name="preferences")
INITIAL_ANSWERS = ArtifactRef(step="i1-generate", name="initial-answers")
DRAFTER = ModelRef(lineage="draftModel", iteration=1)
TAUGHT = ModelRef(lineage="improver", iteration=1)  # before the rounds
DRAFTS_FROM = "draft-model"  # where M_P is published, below the improver
GAP_MODEL = ModelRef(lineage="rewardModel", iteration=1)
RANKINGS = {"SampleRankDPO": "rank-candidates"}  # the flow that makes an optimiser's pairs
OF_FOLDS = {
    name: PrepareDef(made, most=most_of_fold, takes_rows=True, looks=True)
    for name, made in (
        ("fold", fold),
        ("answers-taught", answers_taught),
        ("improvements-taught", improvements_taught),
        ("gaps-taught", gaps_taught),
        ("references", references),
        ("asked-once", asked_once),
    )
}

# --- the plan: three trainings, then generate → train → evaluate, for each round ------------------------------------------


def plan(method: Method) -> tuple[Step, ...]:
    """Round k improves drafts with the improver of k-1, and trains that on best against worst; M_P and gap model stay."""
    steps: list[Step] = [train_improver(method), train_gap_model(method)]
    if drafter(method) == DRAFTER:
        steps.insert(0, train_drafter(method))
    for k in range(1, method.iterations + 1):
        steps += [generate_step(method, k), training(method, k)]
        if method.evaluation.after(k, method.iterations):
            steps.append(evaluation(method, k))
    return tuple(steps)


def drafter(method: Method) -> ModelRef:
    """M_P: trained on the better answers, or the model as given."""
    return DRAFTER if method.options["draft_model"] == "Trained" else ModelRef()


def improver(k: int) -> ModelRef:
    """The improver after round k."""
    return TAUGHT if k == 0 else ModelRef(iteration=k)


def train_drafter(method: Method) -> Train:
    """M_P, by supervised fine-tuning: prompt → better answer."""
    return _taught(method, "draftModel", DRAFTER, rows_of(method, "answers-taught", SFT))


def train_improver(method: Method) -> Train:
    """The improver, by supervised fine-tuning: prompt and worse answer → better answer."""
    data = rows_of(method, "improvements-taught", SFT, template=method.roles["improve"].template)
    return _taught(method, "improver", TAUGHT, data)


def _taught(method: Method, stage: str, result: ModelRef, data: Prepare) -> Train:
    return Train(
        name=f"i1-train-{'drafter' if stage == 'draftModel' else stage}",
        iteration=1,
        stage=stage,
        objective="sft",
        loss=Loss(type="sft"),
        data=data,
        start=ModelRef(),
        result=result,
        settings=method.training.stage(stage),
    )


def train_gap_model(method: Method) -> Train:
    """How much better one answer is than another: read of both (Eq. 2), or the difference of their rewards."""
    joint = method.options["gap_model"] == "Joint"
    template = method.roles["improve"].template
    data = rows_of(method, "gaps-taught", GAP, template=template) if joint else rows_of(method, "fold", GAP)
    return Train(
        name="i1-train-gap-model",
        iteration=1,
        stage="rewardModel",
        objective="gap" if joint else "reward",
        loss=Loss(type="gap" if joint else "bradley-terry"),
        data=data,
        start=ModelRef(),
        result=GAP_MODEL,
        settings=method.training.stage("rewardModel"),
    )


def generate_step(method: Method, k: int) -> Generate:
    """Drafts, candidates, gaps; in round 1 also what the gap model is worth, and what evaluations begin with."""
    name = f"i{k}-generate"
    drafts = rows_of(method, "references", ROUNDS, drafts=["rejected", "chosen"])
    loads: list[EngineLoad] = []
    if k > 1:
        respond = {"respond": method.roles["respond"]}
        job = FlowJob(flow="draft", rows=rows_of(method, "asked-once", ROUNDS, k=k), out="references", roles=respond)
        loads.append(EngineLoad(model=drafter(method), jobs=(job,)))
        drafts = _made(name, "references")
    loads.append(EngineLoad(model=improver(k - 1), jobs=(candidates_job(method, drafts),)))
    scoring = [scoring_job(method, RANKINGS[method.options["optimizer"]], _made(name, "candidates"), "pairs")]
    if k == 1:
        scoring.insert(0, scoring_job(method, "order-pair", rows_of(method, "fold", ROUNDS), "orders"))
    loads.append(EngineLoad(model=GAP_MODEL, task="score", jobs=tuple(scoring)))
    if k == 1 and method.evaluation.when != "Never":
        held_out = asked(method, "preferences")
        loads.append(EngineLoad(model=ModelRef(), jobs=(answers_job(method, held_out, INITIAL_ANSWERS.name),)))
        if drafter(method) == DRAFTER:
            loads.append(EngineLoad(model=DRAFTER, jobs=(answers_job(method, held_out, "drafts"),)))
    return Generate(name=name, iteration=k, load=loads[0], then=tuple(loads[1:]), engine=method.engine)


def candidates_job(method: Method, drafts: Prepare) -> FlowJob:
    """Drafts into candidates of the improver."""
    return FlowJob(
        flow="improve",
        rows=drafts,
        out="candidates",
        roles={"improve": method.roles["improve"]},
        options={"candidates": method.options["candidates"], "truncated": method.filters.truncated},
    )


def scoring_job(method: Method, flow: str, rows: Prepare, out: str) -> FlowJob:
    """Answers into gaps; the model reads what the improver reads."""
    roles = {"improve": method.roles["improve"]}
    return FlowJob(flow=flow, rows=rows, out=out, roles=roles, options={"gap_model": method.options["gap_model"]})


def training(method: Method, k: int) -> Train:
    """SampleRankDPO, in the place of the paper's reinforcement learning: the improver on the pairs of the window."""
    step = train_on_pairs(method, k, held_out_table(method, drafted(method)))
    models = {"start": step.start, "reference": step.reference}
    return step.model_copy(update={name: model and improver(model.iteration) for name, model in models.items()})


def evaluation(method: Method, k: int) -> Evaluate:
    """M_P's answers after the passes of the improver of round k, against the initial model's answers."""
    job = FlowJob(
        flow="improve-repeatedly",
        rows=Prepare(fn="as-made", inputs=(drafted(method),)),
        out="answers",
        roles={"improve": method.roles["improve"]},
        options={"passes": method.options["improve_passes"]},
    )
    return evaluate_answers(method, k, (EngineLoad(model=improver(k), jobs=(job,)),), INITIAL_ANSWERS)


def drafted(method: Method) -> ArtifactRef:
    """M_P's answers to the held-out prompts."""
    return INITIAL_ANSWERS if drafter(method) == ModelRef() else ArtifactRef(step="i1-generate", name="drafts")


def rows_of(method: Method, fn: str, number: int, k: int = 1, **options: Any) -> Prepare:
    """A fold of the preferences that round k draws, as `fn` makes it."""
    held = held_out_table(method, drafted(method)) == HELD
    inputs: tuple[TableRef, ...] = (OWN, HELD) if held else (OWN,)
    drawn = draw_options(method, "preferences", k) | {"held_out": held, "identical": method.filters.identical}
    return Prepare(fn=fn, inputs=inputs, options=drawn | {"fold": number} | options)


def _made(step: str, name: str) -> Prepare:
    return Prepare(fn="as-made", inputs=(ArtifactRef(step=step, name=name),))


def defaults_for(given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of fields left out: ours, but for the two rounds, how an improver samples, and one epoch of SFT."""
    loss = given.get("training", {}).get("loss", {}).get("type", "dpo")
    drafted = given.get("pit", {}).get("draftModel", "Trained")
    taught = {"learningRate": 1e-5, "epochs": 1}  # the rate: ours; a review names 3e-5 for the paper's own models
    return {
        "iterations": 2,
        "data": {"preferences": {"draw": "Same", "turn": "Last"}},
        "generation": {
            "maxSetAsidePercent": 1,
            "roles": [
                {"name": "respond", "temperature": 1.0, "topP": 1.0, "maxTokens": 1024, "reasoning": "Strip"},
                {
                    "name": "improve",
                    "template": IMPROVE,
                    "temperature": 0.5,  # the best of the paper's: 0.4 to 0.6
                    "topP": 1.0,
                    "maxTokens": 1024,
                    "reasoning": "Strip",
                },
                judge_role(),  # of the evaluation
            ],
            "filters": {"identical": "Drop", "truncated": "Drop"},
        },
        "judge": judge_values(),
        "iteration": {"start": "previous", "reference": "previous", "dataWindow": "Current"},
        "training": {
            "loss": {"type": "simpo", "beta": 2, "gamma": 1} if loss == "simpo" else {"type": "dpo", "beta": 0.1},
            "learningRate": 5e-7,
            "learningRateSchedule": "cosine",
            "warmupRatio": 0.1,
            "epochs": 1,
            "globalBatchSize": 64,
            "maxLengthTokens": 4096,
            "maxPromptTokens": 3072,  # request and draft
            "stages": [
                *([{"name": "draftModel", **taught}] if drafted == "Trained" else []),
                {"name": "improver", **taught},
                {"name": "rewardModel", "learningRate": 5e-6},
            ],
        },
        "pit": {
            "optimizer": "SampleRankDPO",
            "gapModel": "Joint",  # the paper's
            "draftModel": "Trained",  # the paper's
            "candidates": 4,
            "improvePasses": 1,
        },
    }


def longest(method: Method, sources: Mapping[str, int]) -> dict[str, int]:
    """Tokens of each variable at the most: drafts are given answers too, and what is improved is improved again."""
    own = max(method.roles[name].max_tokens for name in ("respond", "improve"))
    prompt = max(sources["preferences"], sources.get("evaluation", 0))
    return {"prompt": prompt, "draft": max(own, sources["preferences"]), "first": own, "second": own}


def used(plan: Plan) -> str:
    """How an improver is used, for its card: it takes an answer to better it."""
    rewriting = next(step for step in plan.steps if isinstance(step, Generate)).load.jobs[0].roles["improve"]
    drafts = f"the model in {DRAFTS_FROM}/" if plan.trainer_of(DRAFTER) else "the model as given"
    return f"""
## How to use it

This model improves answers, and is no model to ask. Have {drafts} answer; then give this one, as the user's turn, the
template below (Jinja) with the request (`prompt`) and the answer (`draft`), at temperature {rewriting.temperature:g}.
What it writes may be given to it again.

```jinja
{rewriting.template}
```
"""


RECIPE = Recipe(
    name="pit",
    paper="arXiv 2310.00898",
    data={"preferences": True},
    defaults_for=defaults_for,
    variables={
        "respond": frozenset({"prompt"}),
        "improve": frozenset({"prompt", "draft"}),
        "judge": JUDGE_VARIABLES,
    },
    required={
        "respond": frozenset({"prompt"}),
        "improve": frozenset({"prompt", "draft"}),
        "judge": frozenset({"prompt", "first", "second"}),
    },
    flows={
        "draft": FlowDef(draft, DRAFTS),
        "improve": FlowDef(improve, CANDIDATES),
        "order-pair": FlowDef(order_pair, ORDERS, {"gap_lw": "scored"}),
        "rank-candidates": FlowDef(rank_candidates, PAIRS, {"chosen_score": "scored"}),
        "improve-repeatedly": FlowDef(improve_repeatedly, PASSES),
        "answer": ANSWER,
        "compare": COMPARE,
    },
    prepares={
        **OF_FOLDS,
        "as-made": AS_MADE,
        "questions": QUESTIONS,
        "apart-questions": APART_QUESTIONS,
        "training-pairs": PrepareDef(training_pairs, reads=TRAINED),
        "joined-answers": JOINED_ANSWERS,
    },
    plan=plan,
    longest=longest,
    beside={DRAFTER.lineage: DRAFTS_FROM},
    used=used,
    remarks=remarks,
)

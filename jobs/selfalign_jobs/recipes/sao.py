"""SAO, Self-Alignment Optimization (arXiv 2510.06652): one instruct model is writer, responder, judge and trainee.

For each persona the model writes the one prompt that this persona may ask, answers it twice from the prompt alone, judges
its two answers, and is trained on the pairs with SimPO. Nothing from outside: no labels, no stronger judge.

Where the paper reports a value it is the default here; what it does not report is marked `# ours`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import Any

import pyarrow as pa

from selfalign_api.plan import (
    ArtifactRef,
    Check,
    EngineLoad,
    Evaluate,
    FlowJob,
    Generate,
    ModelRef,
    Prepare,
    Role,
    SourceRef,
    TableRef,
    Train,
)
from selfalign_jobs.flow import Ask, Dropped, Request, Row, SetAside
from selfalign_jobs.recipes.answers import ANSWER, COMPARE, answer_row, repetition, role_at
from selfalign_jobs.recipes.base import FlowDef, Recipe, Remark, Step
from selfalign_jobs.recipes.judge import JUDGE_VARIABLES, judge
from selfalign_jobs.recipes.method import EvaluationCheck, Method
from selfalign_jobs.recipes.rows import ANSWERS, PAIRS, TRAINED
from selfalign_jobs.recipes.tables import draw, joined_answers, questions, training_pairs

WRITE_PROMPT = """\
Here is a description of a person:

{{ persona }}

Guess one prompt that this person may give to an AI assistant. It must be informative and specific to what this person \
does, knows or wants, and it must be complete by itself. Write exactly one prompt, without an answer and without a comment, \
and start your output with "User prompt:".
"""

WRITE_PROMPT_FREE = """\
Guess one prompt that a person may give to an AI assistant. It must be informative and specific, and complete by itself. \
Write exactly one prompt, without an answer and without a comment, and start your output with "User prompt:".
"""

JUDGE = """\
Two answers to the same prompt are to be ranked. Weigh {{ criteria | join(", ") }}. The order in which they are shown \
says nothing about their worth.

[Prompt]
{{ prompt }}

[Answer A]
{{ first }}

[Answer B]
{{ second }}

Write exactly one line, "ranking: A > B" if answer A is better, or "ranking: B > A" if answer B is better.
"""

HELD_OUT = 500  # prompts set apart for evaluation when the run names none

Pairs = Generator[Request | list[Request], Any, list[Row]]


# --- the flows: what happens to one row ---------------------------------------------------------------------------------


def sao(row: Row, ask: Ask) -> Pairs:
    """Persona (or a prompt of the user's) → prompt → two answers → verdict → one pair."""
    persona = row.get("persona")
    prompt, prompt_seed = (row["prompt"], None) if "prompt" in row else (yield from write_prompt(persona, ask))
    seen: dict[str, Any] = {"persona": persona, "prompt": prompt, "prompt_seed": prompt_seed}

    first, second = yield ask.write(
        "respond", n=2, prompt=prompt
    )  # from the prompt alone: no persona, no system message
    seen |= {"prompt_ids": first.prompt_ids, "answer_seed": first.seed}
    if ask.options["truncated"] == "Drop" and "length" in (first.finish_reason, second.finish_reason):
        raise Dropped("answer cut at maxTokens", row=seen)
    if ask.options["identical"] == "Drop" and first.text == second.text:
        raise Dropped("identical answers", row=seen | {"chosen": first.text, "rejected": second.text})

    verdict = yield from judge(ask, prompt, first.text, second.text)
    if verdict.better is None:
        raise Dropped(verdict.reason, row=seen | verdict.columns)

    chosen, rejected = (first, second) if verdict.better == "first" else (second, first)
    return [
        seen
        | verdict.columns
        | {
            "chosen": chosen.text,
            "rejected": rejected.text,
            "chosen_ids": chosen.ids,
            "rejected_ids": rejected.ids,
            "chosen_finish": chosen.finish_reason,
            "rejected_finish": rejected.finish_reason,
            "first_chosen": verdict.better == "first",
        }
    ]


def held_out(row: Row, ask: Ask) -> Pairs:
    """A persona's prompt, set apart from training, with the initial model's answers to it: one row a role of evaluation."""
    prompt, _ = (row["prompt"], None) if "prompt" in row else (yield from write_prompt(row.get("persona"), ask))
    roles = {name: role for name, role in ask.job.roles.items() if name not in ("writePrompt", "judge")}
    replies = yield [ask.write(name, prompt=prompt) for name in roles]
    return [
        answer_row(prompt, None, name, role, completion)
        for (name, role), (completion,) in zip(roles.items(), replies, strict=True)
    ]


def write_prompt(persona: str | None, ask: Ask) -> Generator[Request, Any, tuple[str, int]]:
    """The one prompt that this persona may ask (without a persona: any, the paper's ablation), and its seed."""
    (written,) = yield ask.write("writePrompt", persona=persona)
    prompt = written.text.strip()
    if not prompt:
        raise SetAside("empty prompt", row={"persona": persona})
    return prompt, written.seed


# --- the plan: generate → train → evaluate, for each iteration ------------------------------------------------------------


def plan(method: Method) -> tuple[Step, ...]:
    """Iteration k writes, answers and judges with the model of k-1, trains it, and evaluates the result."""
    steps: list[Step] = []
    for k in range(1, method.iterations + 1):
        policy = ModelRef(iteration=k - 1)
        jobs = [pairs_job(method, k)]
        if k == 1 and method.evaluation.when != "Never":
            jobs.append(initial_answers_job(method))  # the initial model is loaded here anyway
        steps.append(
            Generate(
                name=f"i{k}-generate",
                iteration=k,
                load=EngineLoad(model=policy, jobs=tuple(jobs)),
                engine=method.engine,
            )
        )
        steps.append(train_step(method, k))
        if method.evaluation.after(k, method.iterations):
            steps.append(evaluate_step(method, k))
    return tuple(steps)


def pairs_job(method: Method, k: int) -> FlowJob:
    """Personas (or the user's prompts) of iteration k into pairs."""
    kind = "prompts" if "prompts" in method.data else "personas"
    roles = {name: method.roles[name] for name in ("writePrompt", "respond", "judge")}
    return FlowJob(
        flow="sao",
        rows=Prepare(fn="draw", inputs=(SourceRef(name=kind),), options=draw_options(method, k)),
        out="pairs",
        roles=roles,
        judge=method.judge,
        options={"identical": method.filters.identical, "truncated": method.filters.truncated},
    )


def draw_options(method: Method, k: int) -> dict[str, Any]:
    """Rows [skip, skip + count) of the seeded shuffle: iteration k's, after those set apart for evaluation."""
    kind = "prompts" if "prompts" in method.data else "personas"
    source = method.data[kind]
    apart = 0 if method.evaluation.prompts_given or method.evaluation.when == "Never" else HELD_OUT
    return {
        "seed": method.seed,
        "apart": apart,
        "part": k - 1 if source.draw == "Fresh" else 0,
        "parts": method.iterations if source.draw == "Fresh" else 1,
        "count": source.count,
        "blank": method.options["prompt_mode"] == "Free" and kind == "personas",
    }


def initial_answers_job(method: Method) -> FlowJob:
    """The initial model's answers to the held-out prompts."""
    roles = answer_roles(method)
    if method.evaluation.prompts_given:
        rows = Prepare(fn="questions", inputs=(SourceRef(name="evaluation"),))
        return FlowJob(flow="answer", rows=rows, out="initial-answers", roles=roles)
    kind = "prompts" if "prompts" in method.data else "personas"
    options = draw_options(method, 1) | {"part": 0, "parts": 1, "count": HELD_OUT, "apart": 0}
    rows = Prepare(fn="draw", inputs=(SourceRef(name=kind),), options=options)
    return FlowJob(
        flow="held-out",
        rows=rows,
        out="initial-answers",
        roles=roles | {"writePrompt": method.roles["writePrompt"]},
    )


def train_step(method: Method, k: int) -> Train:
    """SimPO (or another pairwise loss) on the pairs of the window, less those whose prompt is held out."""
    loss = method.training.loss_of(k)
    window: tuple[TableRef, ...] = tuple(
        ArtifactRef(step=f"i{i}-generate", name="pairs") for i in method.iteration.window_of(k)
    )
    held = () if method.evaluation.when == "Never" else (held_out_table(method),)
    return Train(
        name=f"i{k}-train",
        iteration=k,
        loss=loss,
        data=Prepare(
            fn="training-pairs",
            inputs=(*window, *held),
            options={"held_out": bool(held), "max_new_pairs": method.iteration.max_new_pairs, "seed": method.seed},
        ),
        start=method.iteration.start_of(k),
        reference=method.iteration.reference_of(k) if loss.type in ("dpo", "ipo", "hinge") else None,
        result=ModelRef(iteration=k),
        settings=method.training.settings_of(k),
    )


def held_out_table(method: Method) -> TableRef:
    """The table with the prompts that training must not see."""
    if method.evaluation.prompts_given:
        return SourceRef(name="evaluation")
    return ArtifactRef(step="i1-generate", name="initial-answers")


def evaluate_step(method: Method, k: int) -> Evaluate:
    """The new model answers the held-out prompts; the initial model judges, where a check asks for verdicts."""
    name = f"i{k}-evaluate"
    before = ArtifactRef(step="i1-generate", name="initial-answers")
    after = ArtifactRef(step=name, name="answers")
    asked = Prepare(fn="questions", inputs=(held_out_table(method),))
    loads = [
        EngineLoad(
            model=ModelRef(iteration=k),
            jobs=(FlowJob(flow="answer", rows=asked, out="answers", roles=answer_roles(method)),),
        )
    ]
    if any(check.type == "SelfWinRate" for check in method.evaluation.checks):
        both = Prepare(fn="joined-answers", inputs=(before, after), options={"role": "respond"})
        judging = FlowJob(
            flow="compare", rows=both, out="verdicts", roles={"judge": method.roles["judge"]}, judge=method.judge
        )
        loads.append(EngineLoad(model=ModelRef(), jobs=(judging,)))
    checks = tuple(check_of(check, before, after, name) for check in method.evaluation.checks)
    return Evaluate(name=name, iteration=k, loads=tuple(loads), engine=method.engine, checks=checks)


def check_of(check: EvaluationCheck, before: ArtifactRef, after: ArtifactRef, step: str) -> Check:
    """A check of the spec, with the tables that it reads."""
    verdicts = ArtifactRef(step=step, name="verdicts") if check.type == "SelfWinRate" else None
    return Check(
        name=check.name,
        type=check.type,
        before=before,
        after=after,
        verdicts=verdicts,
        temperatures=check.temperatures,
    )


def answer_roles(method: Method) -> dict[str, Role]:
    """The roles that answer held-out prompts: one a temperature of ExactMatch, and `respond` for the win rate."""
    respond = method.roles["respond"]
    roles: dict[str, Role] = {}
    for check in method.evaluation.checks:
        if check.type == "SelfWinRate":
            roles["respond"] = respond
        for temperature in check.temperatures:
            roles[role_at(temperature)] = respond.model_copy(update={"temperature": temperature})
    return roles


def defaults_for(given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of fields left out: the paper's where it reports one."""
    asked = "prompts" in given.get("data", {})
    free = given.get("sao", {}).get("promptMode") == "Free"
    loss = given.get("training", {}).get("loss", {}).get("type", "simpo")
    return {
        "iterations": 1,
        "data": {"prompts": {"draw": "Fresh"}} if asked else {"personas": {"count": 60_000, "draw": "Fresh"}},
        "generation": {
            "maxSetAsidePercent": 1,
            "roles": [
                {
                    "name": "writePrompt",
                    "template": WRITE_PROMPT_FREE if free else WRITE_PROMPT,  # ours, to the paper's contract
                    "temperature": 0.6,  # ours, like the next two: Persona-Hub's demo with the same template
                    "topP": 0.95,
                    "maxTokens": 2048,
                    "outputPrefix": "User prompt:",
                    "reasoning": "Strip",
                },
                # topP, maxTokens: ours; what a model thinks before it answers is trained with the answer
                {"name": "respond", "temperature": 0.6, "topP": 0.95, "maxTokens": 2048, "reasoning": "Keep"},
                {"name": "judge", "template": JUDGE, "temperature": 0, "maxTokens": 64, "reasoning": "Strip"},  # ours
            ],
            "filters": {"identical": "Drop", "truncated": "Keep"},  # the paper filters nothing
        },
        "judge": {
            "method": "logprobs",  # ours; the paper's own is `paper`
            "verdicts": ["ranking: A > B", "ranking: B > A"],
            "criteria": ["relevance and specificity", "accuracy", "completeness", "clarity"],
            "tieMargin": 0,
        },
        "iteration": {"start": "previous", "reference": "previous", "dataWindow": "Current"},  # ours
        "training": {
            "loss": {"type": "simpo", "beta": 10, "gamma": 3} if loss == "simpo" else {"beta": 0.1},  # 0.1: ours
            "learningRate": 1e-6,
            "learningRateSchedule": "cosine",
            "warmupRatio": 0.1,
            "epochs": 1,
            "globalBatchSize": 128,
            "maxLengthTokens": 2048,  # ours, like the next: SimPO's matching recipe
            "maxPromptTokens": 1800,
        },
        "sao": {"promptMode": "Persona"},
    }


def longest(method: Method, sources: Mapping[str, int]) -> dict[str, int]:
    """Tokens of each variable at the most: of texts of the user's as given, of those that a role writes its maxTokens."""
    written = method.roles["writePrompt"].max_tokens if "personas" in method.data else 0
    prompt = max(written, sources.get("prompts", 0), sources.get("evaluation", 0))
    answer = method.roles["respond"].max_tokens
    return {"persona": sources.get("personas", 0), "prompt": prompt, "first": answer, "second": answer}


def remarks(tables: Mapping[str, pa.Table]) -> Iterator[Remark]:
    """How often the written prompts repeat: what the paper measures personas by."""
    if (share := repetition(tables["pairs"]) if "pairs" in tables else None) is not None:
        words = (
            "of the written prompts repeat an earlier one. The SAO paper has 0.73\N{NO-BREAK SPACE}% with personas and "
            "45.65\N{NO-BREAK SPACE}% without; near the latter, personas do not steer the writer."
        )
        yield Remark("pairs", "promptsRepeated", share, words, share=True)


def spared(method: Method) -> frozenset[str]:
    """Without personas (the paper's ablation) no template names one."""
    return frozenset({"persona"}) if method.options["prompt_mode"] == "Free" else frozenset()


RECIPE = Recipe(
    name="sao",
    paper="arXiv 2510.06652",
    data={"personas": False, "prompts": False},  # personas are built in; prompts take their place
    defaults_for=defaults_for,
    variables={"writePrompt": frozenset({"persona"}), "respond": frozenset({"prompt"}), "judge": JUDGE_VARIABLES},
    required={
        "writePrompt": frozenset({"persona"}),
        "respond": frozenset({"prompt"}),
        "judge": frozenset({"prompt", "first", "second"}),
    },
    flows={
        "sao": FlowDef(
            sao,
            PAIRS,
            {"prompt": "prompts written", "prompt_ids": "answered twice", "verdict_forward": "judged"},
        ),
        "held-out": FlowDef(held_out, ANSWERS),
        "answer": ANSWER,
        "compare": COMPARE,
    },
    prepares={
        "draw": draw,
        "questions": questions,
        "training-pairs": training_pairs,
        "joined-answers": joined_answers,
    },
    plan=plan,
    longest=longest,
    takes_rows=frozenset({"draw"}),
    reads={"training-pairs": TRAINED},
    spared=spared,
    remarks=remarks,
)

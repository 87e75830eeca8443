"""SAO, Self-Alignment Optimization (arXiv 2510.06652): one instruct model is writer, responder, judge and trainee.

For each persona the model writes the one prompt that this persona may ask, answers it twice from the prompt alone, judges
its two answers, and is trained on the pairs with SimPO. Nothing from outside: no labels, no stronger judge.

Where the paper reports a value it is the default here; what it does not report is marked `# ours`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import Any

import pyarrow as pa

from selfalign_api.plan import ArtifactRef, EngineLoad, FlowJob, Generate, ModelRef, Prepare, SourceRef, TableRef
from selfalign_jobs.flow import Ask, Dropped, Request, Row, SetAside
from selfalign_jobs.recipes.answers import ANSWER, COMPARE, answer_row, repetition
from selfalign_jobs.recipes.base import FlowDef, PrepareDef, Recipe, Remark, Step
from selfalign_jobs.recipes.embedding import EMBED, embedding_loads
from selfalign_jobs.recipes.evaluation import HELD_OUT, answer_roles, answers_job, evaluate_step
from selfalign_jobs.recipes.judge import JUDGE_VARIABLES, Verdict, judge, judge_role, judge_values
from selfalign_jobs.recipes.method import Method
from selfalign_jobs.recipes.rows import ANSWERS, CANDIDATES, PAIRS, SCORED_PAIRS, TRAINED
from selfalign_jobs.recipes.tables import AS_MADE, DRAW, JOINED_ANSWERS, QUESTIONS, training_pairs
from selfalign_jobs.recipes.trainings import train_on_pairs

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

INITIAL_ANSWERS = ArtifactRef(step="i1-generate", name="initial-answers")

Pairs = Generator[Request | list[Request], Any, list[Row]]


# --- the flows: what happens to one row ---------------------------------------------------------------------------------


def sao(row: Row, ask: Ask) -> Pairs:
    """Persona (or a prompt of the user's) → prompt → two answers → verdict → one pair."""
    (candidates,) = yield from answer_twice(row, ask)
    return (yield from judge_two(candidates, ask))


def answer_twice(row: Row, ask: Ask) -> Pairs:
    """Persona (or a prompt of the user's) → prompt → two answers, for whoever judges."""
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
        raise Dropped("identical answers", first.text, row=seen)
    return [
        seen
        | {
            "first": first.text,
            "second": second.text,
            "first_ids": first.ids,
            "second_ids": second.ids,
            "first_finish": first.finish_reason,
            "second_finish": second.finish_reason,
        }
    ]


def judge_two(row: Row, ask: Ask) -> Pairs:
    """Two answers → verdict → one pair."""
    seen = {name: row[name] for name in ("persona", "prompt", "prompt_seed", "prompt_ids", "answer_seed")}
    verdict = yield from judge(ask, row["prompt"], row["first"], row["second"])
    if verdict.better is None:
        raise Dropped(verdict.reason, row=seen | verdict.columns)

    chosen, rejected = ("first", "second") if verdict.better == "first" else ("second", "first")
    return [
        seen
        | verdict.columns
        | {
            "chosen": row[chosen],
            "rejected": row[rejected],
            "chosen_ids": row[f"{chosen}_ids"],
            "rejected_ids": row[f"{rejected}_ids"],
            "chosen_finish": row[f"{chosen}_finish"],
            "rejected_finish": row[f"{rejected}_finish"],
            "first_chosen": verdict.better == "first",
        }
        | scores_of(verdict)
    ]


def scores_of(verdict: Verdict) -> dict[str, float]:
    """The scores of both sides, where a scoring model judged."""
    if verdict.scores is None:
        return {}
    first, second = verdict.scores
    chosen, rejected = (first, second) if verdict.better == "first" else (second, first)
    return {"chosen_score": chosen, "rejected_score": rejected}


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
        steps += [generate_step(method, k), train_on_pairs(method, k, held_out_table(method))]
        if method.evaluation.after(k, method.iterations):
            asked = Prepare(fn="questions", inputs=(held_out_table(method) or INITIAL_ANSWERS,))
            steps.append(evaluate_step(method, k, asked, INITIAL_ANSWERS))
    return tuple(steps)


def generate_step(method: Method, k: int) -> Generate:
    """Personas (or the user's prompts) of iteration k into pairs: by one engine load, or, judged by another model, two."""
    name, policy = f"i{k}-generate", ModelRef(iteration=k - 1)
    judging = method.judge_of(policy)
    first = pairs_job(method, k) if judging == policy else candidates_job(method, k)
    jobs = [first]
    if k == 1 and method.evaluation.when != "Never":
        jobs.append(initial_answers_job(method))  # the initial model is loaded here anyway
    judged = () if judging == policy else (method.judge_load(policy, judging_job(method, name)),)
    then = (*judged, *embedding_loads(method, name))
    return Generate(
        name=name, iteration=k, load=EngineLoad(model=policy, jobs=tuple(jobs)), then=then, engine=method.engine
    )


def pairs_job(method: Method, k: int) -> FlowJob:
    """Rows of iteration k into pairs, by a model that judges itself."""
    roles = {name: method.roles[name] for name in ("writePrompt", "respond", "judge")}
    return FlowJob(
        flow="sao",
        rows=drawn_rows(method, k),
        out="pairs",
        roles=roles,
        judge=method.judge,
        options=filter_options(method),
    )


def candidates_job(method: Method, k: int) -> FlowJob:
    """Rows of iteration k into prompts with two answers."""
    roles = {name: method.roles[name] for name in ("writePrompt", "respond")}
    return FlowJob(
        flow="answer-twice",
        rows=drawn_rows(method, k),
        out="candidates",
        roles=roles,
        options=filter_options(method),
    )


def judging_job(method: Method, step: str) -> FlowJob:
    """Prompts with two answers, of this step, into pairs."""
    return FlowJob(
        flow="judge-two" if method.judge.scorer is None else "score-two",
        rows=Prepare(fn="as-made", inputs=(ArtifactRef(step=step, name="candidates"),)),
        out="pairs",
        roles={"judge": method.roles["judge"]},
        judge=method.judge,
    )


def filter_options(method: Method) -> dict[str, Any]:
    """Which answers make no pair."""
    return {"identical": method.filters.identical, "truncated": method.filters.truncated}


def drawn_rows(method: Method, k: int) -> Prepare:
    """The personas (or the user's prompts) of iteration k."""
    kind = "prompts" if "prompts" in method.data else "personas"
    return Prepare(fn="draw", inputs=(SourceRef(name=kind),), options=draw_options(method, k))


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
        return answers_job(method, Prepare(fn="questions", inputs=(SourceRef(name="evaluation"),)), "initial-answers")
    kind = "prompts" if "prompts" in method.data else "personas"
    options = draw_options(method, 1) | {"part": 0, "parts": 1, "count": HELD_OUT, "apart": 0}
    rows = Prepare(fn="draw", inputs=(SourceRef(name=kind),), options=options)
    return FlowJob(
        flow="held-out",
        rows=rows,
        out="initial-answers",
        roles=roles | {"writePrompt": method.roles["writePrompt"]},
    )


def held_out_table(method: Method) -> TableRef | None:
    """The table with the prompts that training must not see."""
    if method.evaluation.when == "Never":
        return None
    return SourceRef(name="evaluation") if method.evaluation.prompts_given else INITIAL_ANSWERS


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
                judge_role(),
            ],
            "filters": {"identical": "Drop", "truncated": "Keep"},  # the paper filters nothing
        },
        "judge": judge_values(),
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
        "answer-twice": FlowDef(
            answer_twice, CANDIDATES, {"prompt": "prompts written", "prompt_ids": "answered twice"}
        ),
        "judge-two": FlowDef(judge_two, PAIRS, {"verdict_forward": "judged"}),
        "score-two": FlowDef(judge_two, SCORED_PAIRS, {"verdict_forward": "scored"}),
        "held-out": FlowDef(held_out, ANSWERS),
        "answer": ANSWER,
        "compare": COMPARE,
        "embed": EMBED,
    },
    prepares={
        "draw": DRAW,
        "as-made": AS_MADE,
        "questions": QUESTIONS,
        "training-pairs": PrepareDef(training_pairs, reads=(*TRAINED, "vector")),
        "joined-answers": JOINED_ANSWERS,
    },
    plan=plan,
    longest=longest,
    spared=spared,
    remarks=remarks,
)

"""SynPO, Self-Boosting with Synthetic Preference Data (arXiv 2410.06961): few good answers become many pairs.

From seeds, prompts with good answers, the model learns once to write prompts for keywords, and in each iteration to turn
an answer of its own into a better one. It writes prompts for keywords of a corpus, answers them, and improves its answers;
what a scoring model finds better than the initial model's answer by a gap makes a pair with that. The initial model is
trained on all pairs so far with SimPO.

Where the paper reports a value it is the default here; what it does not report is marked `# ours`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from selfalign_api.plan import ArtifactRef, EngineLoad, FlowJob, Generate, ModelRef, Prepare, SourceRef, TableRef, Train
from selfalign_api.training_values import Loss
from selfalign_jobs.flow import Ask, Completion, Dropped, Request, Row, SetAside
from selfalign_jobs.recipes.answers import ANSWER, COMPARE, normalised
from selfalign_jobs.recipes.base import FlowDef, PrepareDef, Recipe, Remark, Step
from selfalign_jobs.recipes.embedding import EMBED, embedding_loads
from selfalign_jobs.recipes.evaluation import answers_job, evaluate_step
from selfalign_jobs.recipes.judge import JUDGE_VARIABLES, judge, judge_role, judge_values
from selfalign_jobs.recipes.keywords import BYTES
from selfalign_jobs.recipes.method import Method
from selfalign_jobs.recipes.own_tables import APART_QUESTIONS, HELD, asked, draw_options, held_out_table
from selfalign_jobs.recipes.repeated import repeated_percent
from selfalign_jobs.recipes.rows import IDS, SCORED_PAIRS, TRAINED
from selfalign_jobs.recipes.seeds import QUESTION, WORDS, improvements, seeds, word_lists, words_to_prompts
from selfalign_jobs.recipes.tables import AS_MADE, JOINED_ANSWERS, QUESTIONS, most_drawn, training_pairs
from selfalign_jobs.recipes.trainings import train_on_pairs

WRITE_PROMPT = """\
Write one question that a person may ask an AI assistant, and its solution. The question should try to use these keywords: \
{{ keywords | join(", ") }}. It must be complete by itself. The solution must be correct and detailed.

Write the question between <question> and </question>, then the solution between <solution> and </solution>.
"""

IMPROVE = """\
You are an editor who makes answers better. Rewrite the answer below: correct what is wrong, say more where it says too \
little, stay with the question, and go into detail.

[Question]
{{ prompt }}

[Answer]
{{ draft }}

Write the rewritten answer and nothing else.
"""

SEEDS = SourceRef(name="demonstrations")
INITIAL_ANSWERS = ArtifactRef(step="i1-generate", name="initial-answers")
INITIAL, GENERATOR = ModelRef(), ModelRef(lineage="promptGenerator", iteration=1)
SHOWN_CHARACTERS = 200  # of what was written without a question

Flow = Generator[Request | list[Request], Any, list[Row]]

PROMPTS = pa.schema([("keywords", WORDS), ("prompt", pa.string()), ("prompt_seed", pa.uint64())])
SEED_ANSWERS = pa.schema(
    [
        *((name, pa.string()) for name in ("prompt", "response", "answer")),
        ("prompt_ids", IDS),  # of the improver's turn, with the model's own answer as the draft
        ("target_ids", IDS),  # of the seed's answer
        ("answer_seed", pa.uint64()),
    ]
)
SCORED_SEEDS = pa.schema([*SEED_ANSWERS, *((name, pa.float64()) for name in ("response_score", "answer_score", "gap"))])
DRAFTS = pa.schema([("prompt", pa.string()), ("prompt_ids", IDS), ("draft", pa.string()), ("answer_seed", pa.uint64())])


def _with_answer(schema: pa.Schema, name: str) -> pa.Schema:
    return pa.schema([*schema, (name, pa.string()), (f"{name}_ids", IDS), (f"{name}_finish", pa.string())])


ANSWERED = _with_answer(DRAFTS, "initial")
IMPROVED = _with_answer(ANSWERED, "improved")
PAIRS = pa.schema([*SCORED_PAIRS, ("gain", pa.float64())])  # by how much the improved answer scores above its draft

# --- the flows: what happens to a seed, and to a list of keywords ---------------------------------------------------------


def write_prompt(row: Row, ask: Ask) -> Flow:
    """Keywords → prompt, by the prompt generator."""
    (written,) = yield ask.write("writePrompt", keywords=row["keywords"])
    seen = {"keywords": row["keywords"], "prompt_seed": written.seed}
    opening, closing = QUESTION
    _, opened, rest = written.text.partition(opening)
    prompt, closed, _ = rest.partition(closing)
    if not (opened and closed and prompt.strip()) or opening in prompt:
        raise SetAside("no question in its tags", written.text[:SHOWN_CHARACTERS], row=seen)
    if _repeats(ask, prompt):
        raise Dropped("repeats itself", row=seen)
    return [seen | {"prompt": prompt.strip()}]


def answer_seed(row: Row, ask: Ask) -> Flow:
    """Seed → the model's own answer, and what the improver has to learn of both."""
    (own,) = yield ask.write("respond", prompt=row["prompt"])
    better = yield ask.given("improve", row["response"], prompt=row["prompt"], draft=own.text)
    return [
        {
            "prompt": row["prompt"],
            "response": row["response"],
            "answer": own.text,
            "prompt_ids": better.prompt_ids,
            "target_ids": better.ids,
            "answer_seed": own.seed,
        }
    ]


def score_seed(row: Row, ask: Ask) -> Flow:
    """How much better the seed's answer is than the model's own."""
    verdict = yield from judge(ask, row["prompt"], row["response"], row["answer"])
    assert verdict.scores is not None
    response, answer = verdict.scores
    return [{**row, "response_score": response, "answer_score": answer, "gap": response - answer}]


def draft(row: Row, ask: Ask) -> Flow:
    """Prompt → the model's draft."""
    (written,) = yield ask.write("respond", prompt=row["prompt"])
    return [_drafted(row, written)]


def draft_and_answer(row: Row, ask: Ask) -> Flow:
    """Prompt → draft and initial answer, of the initial model both: iteration 1."""
    replies = yield [ask.write("respond", prompt=row["prompt"]) for _ in range(2)]
    (written,), (initial,) = replies
    return [_drafted(row, written) | _answered("initial", initial)]


def answer_initially(row: Row, ask: Ask) -> Flow:
    """Prompt → the initial model's answer, beside the draft of a later one."""
    (initial,) = yield ask.write("respond", prompt=row["prompt"])
    return [{**row} | _answered("initial", initial)]


def improve(row: Row, ask: Ask) -> Flow:
    """Draft → improved answer, where that can make a pair with the initial one."""
    (improved,) = yield ask.write("improve", prompt=row["prompt"], draft=row["draft"])
    made = {**row} | _answered("improved", improved)
    if ask.options["truncated"] == "Drop" and "length" in (improved.finish_reason, row["initial_finish"]):
        raise Dropped("answer cut at maxTokens", row=made)
    if ask.options["identical"] == "Drop" and normalised(improved.text) == normalised(row["initial"]):
        raise Dropped("identical answers", row=made)
    if any(_repeats(ask, text) for text in (improved.text, row["initial"])):
        raise Dropped("repeats itself", row=made)
    return [made]


def score_pair(row: Row, ask: Ask) -> Flow:
    """Improved answer against the initial model's → one pair, where it is better by the gap."""
    verdict = yield from judge(ask, row["prompt"], row["improved"], row["initial"])
    over_draft = yield from judge(ask, row["prompt"], row["improved"], row["draft"])
    assert verdict.scores is not None
    chosen_score, rejected_score = verdict.scores
    pair = {
        "prompt": row["prompt"],
        "prompt_ids": row["prompt_ids"],
        "answer_seed": row["answer_seed"],
        "chosen": row["improved"],
        "rejected": row["initial"],
        **{f"chosen_{part}": row[f"improved_{part}"] for part in ("ids", "finish")},
        **{f"rejected_{part}": row[f"initial_{part}"] for part in ("ids", "finish")},
        "chosen_score": chosen_score,
        "rejected_score": rejected_score,
        "gain": over_draft.margin,
    } | verdict.columns
    if verdict.better is None:
        raise Dropped(verdict.reason, row=pair)
    if verdict.better == "second":
        raise Dropped("the initial answer is better", row=pair)
    return [pair]


def _drafted(row: Row, written: Completion) -> dict[str, Any]:
    said = {"prompt": row["prompt"], "prompt_ids": written.prompt_ids}
    return said | {"draft": written.text, "answer_seed": written.seed}


def _answered(name: str, completion: Completion) -> dict[str, Any]:
    return {name: completion.text, f"{name}_ids": completion.ids, f"{name}_finish": completion.finish_reason}


def _repeats(ask: Ask, text: str) -> bool:
    most = ask.options["max_repetition_percent"]
    return most is not None and repeated_percent(text) > most


# --- the plan: generate → train the improver → improve → train → evaluate, for each iteration ------------------------------


def plan(method: Method) -> tuple[Step, ...]:
    """The prompt generator once; iteration k answers with the model of k-1, improves, and trains the initial model anew."""
    steps: list[Step] = [train_generator(method)]
    for k in range(1, method.iterations + 1):
        steps += [generate_step(method, k), train_improver(method, k), improve_step(method, k)]
        steps.append(train_on_pairs(method, k, held_out_table(method, INITIAL_ANSWERS), made_by="improve"))
        if method.evaluation.after(k, method.iterations):
            held = Prepare(fn="questions", inputs=(held_out_table(method, INITIAL_ANSWERS) or INITIAL_ANSWERS,))
            steps.append(evaluate_step(method, k, held, INITIAL_ANSWERS))
    return tuple(steps)


def train_generator(method: Method) -> Train:
    """G, from the initial model: keywords of a seed and of another → its question, and its solution."""
    words = {name: method.options[name] for name in ("seed_words", "noise_words")}
    options = seed_options(method, 1) | words | {"template": method.roles["writePrompt"].template}
    return Train(
        name="i1-train-generator",
        iteration=1,
        stage="promptGenerator",
        objective="sft",
        loss=Loss(type="sft"),
        data=Prepare(fn="words-to-prompts", inputs=seed_tables(method), options=options),
        start=INITIAL,
        result=GENERATOR,
        settings=method.training.stage("promptGenerator"),
    )


def generate_step(method: Method, k: int) -> Generate:
    """Prompts by G; seeds and prompts answered by the model of k-1, prompts by the initial model too; seeds scored."""
    name, current = f"i{k}-generate", ModelRef(iteration=k - 1)
    respond = {"respond": method.roles["respond"]}
    written = Prepare(fn="questions", inputs=(ArtifactRef(step=name, name="prompts"),))
    answers: tuple[FlowJob, ...] = (seed_answers_job(method, k),)
    initially: tuple[EngineLoad, ...] = ()
    if k == 1:  # the current model is the initial one
        answers += (FlowJob(flow="draft-and-answer", rows=written, out="answers", roles=respond),)
        if method.evaluation.when != "Never":
            answers += (answers_job(method, asked(method, "demonstrations"), INITIAL_ANSWERS.name),)
    else:
        answers += (FlowJob(flow="draft", rows=written, out="drafts", roles=respond),)
        job = FlowJob(flow="answer-initially", rows=_made(name, "drafts"), out="answers", roles=respond)
        initially = (EngineLoad(model=INITIAL, jobs=(job,)),)
    scoring = scoring_job(method, "score-seed", _made(name, "seed-answers"), "scored-seeds")
    return Generate(
        name=name,
        iteration=k,
        load=EngineLoad(model=GENERATOR, jobs=(prompts_job(method, k),)),
        then=(EngineLoad(model=current, jobs=answers), *initially, method.judge_load(current, scoring)),
        engine=method.engine,
    )


def train_improver(method: Method, k: int) -> Train:
    """R of iteration k, from the initial model: a seed with the current model's answer → the seed's answer."""
    held = held_out_table(method, INITIAL_ANSWERS)
    options = {"held_out": held is not None, "min_gap": method.options["min_seed_score_gap"]}
    scored = ArtifactRef(step=f"i{k}-generate", name="scored-seeds")
    return Train(
        name=f"i{k}-train-improver",
        iteration=k,
        stage="improver",
        objective="sft",
        loss=Loss(type="sft"),
        data=Prepare(fn="improvements", inputs=(scored, *(() if held is None else (held,))), options=options),
        start=INITIAL,
        result=ModelRef(lineage="improver", iteration=k),
        settings=method.training.stage("improver"),
    )


def improve_step(method: Method, k: int) -> Generate:
    """Drafts improved by R; what is better than the initial model's answer by the gap makes the pairs."""
    name, improver = f"i{k}-improve", ModelRef(lineage="improver", iteration=k)
    filters = method.filters
    job = FlowJob(
        flow="improve",
        rows=_made(f"i{k}-generate", "answers"),
        out="improved",
        roles={"improve": method.roles["improve"]},
        options={"identical": filters.identical, "truncated": filters.truncated} | repetition_option(method),
    )
    scoring = scoring_job(method, "score-pair", _made(name, "improved"), "pairs")
    return Generate(
        name=name,
        iteration=k,
        load=EngineLoad(model=improver, jobs=(job,)),
        then=(method.judge_load(improver, scoring), *embedding_loads(method, name)),
        engine=method.engine,
    )


def prompts_job(method: Method, k: int) -> FlowJob:
    """Keyword lists of iteration k into prompts; what follows the question is not written."""
    options = draw_options(method, "corpus", k) | {"apart": 0, "words": method.options["words_per_prompt"]}
    return FlowJob(
        flow="write-prompt",
        rows=Prepare(fn="word-lists", inputs=(SourceRef(name="corpus"),), options=options),
        out="prompts",
        roles={"writePrompt": method.roles["writePrompt"].model_copy(update={"stop": (QUESTION[1],)})},
        options=repetition_option(method),
    )


def seed_answers_job(method: Method, k: int) -> FlowJob:
    """The seeds of iteration k, answered."""
    return FlowJob(
        flow="answer-seed",
        rows=Prepare(fn="seeds", inputs=seed_tables(method), options=seed_options(method, k)),
        out="seed-answers",
        roles={name: method.roles[name] for name in ("respond", "improve")},
    )


def scoring_job(method: Method, flow: str, rows: Prepare, out: str) -> FlowJob:
    """Answers into scores."""
    return FlowJob(flow=flow, rows=rows, out=out, roles={"judge": method.roles["judge"]}, judge=method.judge)


def _made(step: str, name: str) -> Prepare:
    return Prepare(fn="as-made", inputs=(ArtifactRef(step=step, name=name),))


def repetition_option(method: Method) -> dict[str, Any]:
    """How much a text may repeat itself."""
    return {"max_repetition_percent": method.filters.max_repetition_percent}


def seed_tables(method: Method) -> tuple[TableRef, ...]:
    """The seeds, and where the user gives them the prompts that are held out."""
    return (SEEDS, HELD) if held_out_table(method, INITIAL_ANSWERS) == HELD else (SEEDS,)


def seed_options(method: Method, k: int) -> dict[str, Any]:
    """The seeds that iteration k draws."""
    return draw_options(method, "demonstrations", k) | {"held_out": held_out_table(method, INITIAL_ANSWERS) == HELD}


def defaults_for(given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of fields left out: the paper's where it reports one."""
    gap = given.get("judge", {}).get("minScoreGap", gap_of(given))
    loss = given.get("training", {}).get("loss", {}).get("type", "simpo")
    teaching = {"learningRate": 1e-6, "globalBatchSize": 32, "epochs": 3}
    sampling = {"temperature": 0.7, "topP": 1.0, "maxTokens": 2048, "reasoning": "Strip"}  # topP, maxTokens: ours
    return {
        "iterations": 4,
        "data": {"demonstrations": {"draw": "Same", "turn": "First"}, "corpus": {"count": 50_000, "draw": "Fresh"}},
        "generation": {
            "maxSetAsidePercent": 1,
            "roles": [
                {
                    "name": "writePrompt",
                    "template": WRITE_PROMPT,
                    **sampling,
                },  # ours, to the paper's contract, like improve's
                {"name": "respond", **sampling},
                {"name": "improve", "template": IMPROVE, **sampling},
                judge_role(),
            ],
            "filters": {"identical": "Drop", "truncated": "Keep", "maxRepetitionPercent": 50},  # the first two: ours
        },
        "judge": judge_values() | {"method": "score", "minScoreGap": gap},
        "iteration": {"start": "initial", "reference": "initial", "dataWindow": "All", "maxNewPairs": 10_000},
        "training": {
            # The paper searches β in {2, 4, 6, 8, 10, 12} for each iteration; 0.1, of other losses: ours.
            "loss": {"type": "simpo", "beta": 2, "gamma": 1.6} if loss == "simpo" else {"beta": 0.1},
            "learningRate": 1e-6,  # ours, like all that follows: SimPO's own
            "learningRateSchedule": "cosine",
            "warmupRatio": 0.1,
            "epochs": 1,
            "globalBatchSize": 128,
            "maxLengthTokens": 2048,
            "maxPromptTokens": 1800,
            "stages": [
                {"name": "promptGenerator", **teaching, "maxLengthTokens": 8000},
                {"name": "improver", **teaching, "maxLengthTokens": 6000, "maxPromptTokens": 4000},  # the last: ours
            ],
        },
        "synpo": {"seedWords": 2, "noiseWords": 1, "wordsPerPrompt": 3, "minSeedScoreGap": gap},
    }


def gap_of(given: Mapping[str, Any]) -> float:
    """The paper's threshold: of PairRM's scores, or of a reward model's (ArmoRM; of a classifier: ours)."""
    name = given.get("judge", {}).get("modelName")
    kinds = {helper["name"]: helper.get("kind") for helper in given.get("auxiliaryModels", ())}
    return 0.02 if kinds.get(name) in ("RewardModel", "Classifier") else 0.2


def longest(method: Method, sources: Mapping[str, int]) -> dict[str, int]:
    """Tokens of each variable at the most: of texts of the user's as given, of those that a role writes its maxTokens."""
    given = max(sources["demonstrations"], sources.get("evaluation", 0))
    answer = method.roles["respond"].max_tokens
    answers = max(answer, method.roles["improve"].max_tokens, sources["demonstrations"])
    words = max(method.options["words_per_prompt"], method.options["seed_words"] + method.options["noise_words"])
    return {
        "keywords": words * (BYTES + 2),
        "prompt": max(given, method.roles["writePrompt"].max_tokens),
        "draft": answer,
        "first": answers,
        "second": answers,
    }


def remarks(tables: Mapping[str, pa.Table]) -> Iterator[Remark]:
    """How well prompts are written, what the improver adds to a draft, what the gap keeps, and the paper's validation."""
    if "prompts" in tables and (table := tables["prompts"]).num_rows:
        distinct = len({normalised(prompt) for prompt in _of_rows(table)["prompt"].to_pylist()}) / table.num_rows
        yield Remark(
            "prompts", "promptsDistinct", distinct, "of the lists became a prompt that no other is.", share=True
        )
    if "scored-seeds" in tables and (table := _of_rows(tables["scored-seeds"])).num_rows:
        gap = pc.mean(table["gap"]).as_py()
        words = "is how much a seed's answer scores above the model's, on average: it should fall from iteration to iteration."
        yield Remark("scored-seeds", "seedGap", gap, words)
    if "pairs" in tables and (table := tables["pairs"]).num_rows:
        kept = _of_rows(table).num_rows / table.num_rows
        yield Remark(
            "pairs", "pairsKept", kept, "of the improved answers are better than the initial by the gap.", share=True
        )
        if table["gain"].null_count < table.num_rows:
            words = "is how much an improved answer scores above its draft, on average."
            yield Remark("pairs", "improverGain", pc.mean(table["gain"]).as_py(), words)


def _of_rows(table: pa.Table) -> pa.Table:
    return table.filter(pc.equal(table["_status"], "rows"))


RECIPE = Recipe(
    name="synpo",
    paper="arXiv 2410.06961",
    data={"demonstrations": True, "corpus": True},
    defaults_for=defaults_for,
    variables={
        "writePrompt": frozenset({"keywords"}),
        "respond": frozenset({"prompt"}),
        "improve": frozenset({"prompt", "draft"}),
        "judge": JUDGE_VARIABLES,
    },
    required={
        "writePrompt": frozenset({"keywords"}),
        "respond": frozenset({"prompt"}),
        "improve": frozenset({"prompt", "draft"}),
        "judge": frozenset({"prompt", "first", "second"}),
    },
    flows={
        "write-prompt": FlowDef(write_prompt, PROMPTS, {"prompt_seed": "written"}),
        "answer-seed": FlowDef(answer_seed, SEED_ANSWERS),
        "score-seed": FlowDef(score_seed, SCORED_SEEDS, {"gap": "scored"}),
        "draft": FlowDef(draft, DRAFTS),
        "draft-and-answer": FlowDef(draft_and_answer, ANSWERED),
        "answer-initially": FlowDef(answer_initially, ANSWERED),
        "improve": FlowDef(improve, IMPROVED, {"improved": "improved"}),
        "score-pair": FlowDef(score_pair, PAIRS, {"gain": "scored"}),
        "answer": ANSWER,
        "compare": COMPARE,
        "embed": EMBED,
    },
    prepares={
        "seeds": PrepareDef(seeds, most=most_drawn, takes_rows=True, looks=True),
        "words-to-prompts": PrepareDef(words_to_prompts, most=most_drawn, takes_rows=True, looks=True),
        "word-lists": PrepareDef(word_lists, most=most_drawn, takes_rows=True, looks=True),
        "improvements": PrepareDef(improvements, reads=("prompt", "gap", "prompt_ids", "target_ids")),
        "as-made": AS_MADE,
        "questions": QUESTIONS,
        "apart-questions": APART_QUESTIONS,
        "training-pairs": PrepareDef(training_pairs, reads=(*TRAINED, "vector")),
        "joined-answers": JOINED_ANSWERS,
    },
    plan=plan,
    longest=longest,
    scored=True,
    remarks=remarks,
)

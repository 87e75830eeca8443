"""Cases of the rules of win rates: parts of a run that are accepted, parts that are refused, and the line for these."""

MODELS = (
    "auxiliaryModels: [{name: big, url: 'hf://o/n'}, {name: r, url: 'hf://o/r', kind: RewardModel}, "
    "{name: e, url: 'hf://o/e', kind: Embedder}]"
)


def check(inner: str, beside: str = "", recipe: str = "") -> str:
    """A run with one win rate."""
    more = f", {beside}" if beside else ""
    return f"spec: {{{recipe}{MODELS}, evaluation: {{checks: [{{name: w, type: SelfWinRate, {inner}}}]{more}}}}}"


def against(what: str, beside: str = "") -> str:
    """The same, against somebody's answers."""
    return check(f"selfWinRate: {{against: {what}}}", beside)


def answers(url: str, more: str = "", recipe: str = "") -> str:
    """The same, against those of a file."""
    return check(f"selfWinRate: {{answers: {{url: '{url}'}}{more}}}", recipe=recipe)


SPEC = "spec.evaluation.checks: "
FSPO = "recipe: fspo, data: {preferences: {url: 's3://b/p', columns: {user: u}}}, "
PLACES = (
    "write hf://datasets/ORG/NAME, s3://BUCKET/PATH, gs://BUCKET/PATH, pvc://CLAIM/PATH, or file:///PATH for a folder inside the "
    "image; a relative path works only with selfalign run"
)

EXPORTED = "checks: [{name: x, type: Export, export: {format: AlpacaEval}}, {name: w, type: SelfWinRate}]"
NO_FIGURE = "an Export gives no figure; write the name of a check of another type"
FORMAT = (
    "spec.evaluation.checks[x].export: is the file that type: Export writes; write type: Export and export: {format: AlpacaEval} "
    "together"
)
ARENA = (
    "spec.evaluation.checks: ArenaHard finds answers by the ids of its questions; write evaluation.prompts: {url: ..., columns: "
    "{id: uid}}, or format: AlpacaEval"
)


def exported(more: str) -> str:
    """A run with an Export and a win rate."""
    return f"spec: {{evaluation: {{{EXPORTED}, {more}}}}}"


BOARD = "benchmark: {tasks: [arc_easy]}"
WHICH = (
    "spec.evaluation.checks[x].benchmark: says which tasks type: Benchmark asks; write type: Benchmark and "
    "benchmark: {tasks: [...]} together"
)

ASKED = "questions: {url: 's3://b/q.jsonl'}"
TWO_TURNS = (
    "spec.evaluation.checks[x].export.questions: are MT-Bench's own, of two turns each; write format: MTBench and "
    "questions: {url: ...} together"
)

CASES_OF_WIN_RATES = (
    *(
        (
            f"spec: {{evaluation: {{checks: [{{name: x, type: Export, export: {{format: MTBench, {ASKED}}}}}]}}}}",
            f"spec: {{evaluation: {{checks: [{{name: x, type: Export, export: {{{wrong}}}}}]}}}}",
            TWO_TURNS,
        )
        for wrong in ("format: MTBench", f"format: AlpacaEval, {ASKED}")
    ),
    *(
        (
            f"spec: {{evaluation: {{checks: [{{name: x, type: Benchmark, {BOARD}}}]}}}}",
            f"spec: {{evaluation: {{checks: [{{name: x, {wrong}}}]}}}}",
            WHICH,
        )
        for wrong in ("type: Benchmark", f"type: SelfWinRate, {BOARD}")
    ),
    (
        "spec: {evaluation: {checks: [{name: x, type: Export, export: {format: AlpacaEval}}]}}",
        "spec: {evaluation: {checks: [{name: x, type: Export}]}}",
        FORMAT,
    ),
    (
        "spec: {evaluation: {checks: [{name: x, type: Export, export: {format: AlpacaEval}}]}}",
        "spec: {evaluation: {checks: [{name: x, type: SelfWinRate, export: {format: AlpacaEval}}]}}",
        FORMAT,
    ),
    (
        "spec: {evaluation: {prompts: {columns: {id: uid}}, checks: [{name: x, type: Export, export: {format: ArenaHard}}]}}",
        "spec: {evaluation: {prompts: {columns: {reference: r}}, checks: [{name: x, type: Export, export: {format: ArenaHard}}]}}",
        ARENA,
    ),
    (
        "spec: {evaluation: {checks: [{name: x, type: Export, export: {format: AlpacaEval}}]}}",
        "spec: {evaluation: {checks: [{name: x, type: Export, export: {format: ArenaHard}}]}}",
        ARENA,
    ),
    *(
        (
            exported(f"gates: [{{check: w, figure: value, atLeast: {least}}}]"),
            exported(f"gates: [{{check: x, figure: {figure}, atLeast: {least}}}]"),
            f"spec.evaluation.gates: {NO_FIGURE}",
        )
        for figure, least in (("value", 0.5), ("gain", 0.1), ("low", 0.4))
    ),
    (
        exported("selectBy: w"),
        exported("selectBy: x"),
        f"spec.evaluation.selectBy: x: {NO_FIGURE}",
    ),
    (
        check("judge: {modelName: big}"),
        "spec: {evaluation: {prompts: {url: 's3://b/p', columns: {reference: r}}, "
        "checks: [{name: w, type: ExactMatch, judge: {modelName: initial}}]}}",
        "spec.evaluation.checks[w].judge: nobody judges this type of check; write type: SelfWinRate, or remove judge",
    ),
    (
        check("judge: {modelName: initial}"),
        check("judge: {modelName: e}"),
        SPEC
        + "the judge of a check is no model that writes or scores; write judge.modelName: initial, or the name of such an "
        "entry of auxiliaryModels",
    ),
    (
        check("judge: {modelName: r}"),
        check("judge: {modelName: self}"),
        SPEC
        + "the judge of a check is no model that writes or scores; write judge.modelName: initial, or the name of such an "
        "entry of auxiliaryModels",
    ),
    (
        check("judge: {modelName: r, method: score}"),
        check("judge: {modelName: r, method: generate}"),
        SPEC
        + "method score needs a judge that scores and the other methods one that writes; remove judge.method: it follows "
        "the model",
    ),
    (
        check("judge: {modelName: big, method: generate}"),
        check("judge: {modelName: initial, method: score}"),
        SPEC
        + "method score needs a judge that scores and the other methods one that writes; remove judge.method: it follows "
        "the model",
    ),
    (
        check("judge: {modelName: big, tieMargin: 0.1}"),
        check("judge: {modelName: r, tieMargin: 0.1}"),
        SPEC + "tieMargin is a probability that a judge which writes gives; remove it from the judge that scores",
    ),
    (
        answers("s3://b/a"),
        answers("s3://b/a", ", against: initial"),
        "spec.evaluation.checks[w].selfWinRate.answers: are compared with instead of the run's own; remove against, or answers",
    ),
    (
        answers("hf://datasets/o/n"),
        answers("hf://o/n"),
        "spec.evaluation.checks[w].selfWinRate.answers.url: hf://o/n: this is a model; for data write hf://datasets/ORG/NAME or "
        "hf://datasets/ORG/NAME/FILE",
    ),
    (
        answers("gs://b/a"),
        answers("ftp://b/a"),
        f"spec.evaluation.checks[w].selfWinRate.answers.url: ftp://b/a: {PLACES}",
    ),
    (
        check("judge: {modelName: big}", recipe=FSPO),
        answers("s3://b/a", recipe=FSPO),
        SPEC + "fspo asks behind a user's pairs, which nobody else has seen; remove selfWinRate.answers",
    ),
    (
        against("previous", "when: EachIteration"),
        against("previous", "when: Last"),
        SPEC
        + "against: previous needs the answers of the iteration before; write when: EachIteration, or against: initial",
    ),
    (
        against("initial", "selectBy: w"),
        against("previous", "selectBy: w"),
        "spec.evaluation.selectBy: w: compares the rounds, and this check compares each with another model; write the name of a "
        "check against one and the same",
    ),
)

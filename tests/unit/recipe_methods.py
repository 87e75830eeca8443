"""Valid methods of any recipe, drawn: what a run file may say, as far as the rules and the recipe's own values allow it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from selfalign_api.errors import ConfigError
from selfalign_api.load import parse
from selfalign_api.plan import Plan, models_of
from selfalign_api.rules import check_rules
from selfalign_api.run import SelfAlignmentRun
from selfalign_api.sources import DataSource, ModelSource
from selfalign_jobs.accept.resolve import method_of, method_values
from selfalign_jobs.recipes.base import Recipe
from selfalign_jobs.recipes.evaluation import OF_FILE
from selfalign_jobs.recipes.method import Method

CHECKS = (
    {"name": "win", "type": "SelfWinRate"},
    {"name": "accuracy", "type": "ExactMatch", "exactMatch": {"temperatures": [0, 1]}},
    {"name": "cool", "type": "ExactMatch", "exactMatch": {"temperatures": [0.7]}},
    {"name": "outside", "type": "SelfWinRate", "judge": {"modelName": "initial", "method": "generate"}},
    {"name": "step", "type": "SelfWinRate", "selfWinRate": {"against": "previous"}},
    {"name": "mine", "type": "Export", "export": {"format": "AlpacaEval"}},
    {"name": "rival", "type": "SelfWinRate", "selfWinRate": {"answers": {"url": "file:///data/rival.jsonl"}}},
)
HELPER = {"name": "judge-70b", "url": "file:///judge"}
STRONG = {"name": "strong", "url": "file:///strong"}
RANKER = {"name": "ranker", "kind": "PairRanker", "url": "file:///ranker"}
OPTIONS = {  # of a recipe alone
    "sao": {"promptMode": ["Persona", "Free"]},
    "selm": {"firstIteration": ["Online", "Offline"]},
    "fspo": {"shots": [1, 4], "shuffles": [1, 3], "describeUser": ["Never", "BeforeAnswer"]},
    "pit": {"gapModel": ["Joint", "Difference"], "draftModel": ["Trained", "Initial"], "candidates": [2, 8]},
}
TEACHER = {"name": "teacher", "url": "file:///teacher"}
LABELLED = {"name": "guard", "kind": "Classifier", "label": "unsafe", "url": "file:///guard"}
REWARD = {"name": "reward", "kind": "RewardModel", "url": "file:///reward"}
ORACLES: tuple[dict[str, Any], ...] = (
    {"type": "ExactMatch"},
    {"type": "ExactMatch", "exactMatch": {"after": "####"}},
    {"type": "Classifier", "classifier": {"modelName": "guard"}},
    {"type": "Reward", "reward": {"modelName": "reward", "threshold": -1.5}},
    {"type": "Verdict", "verdict": {"modelName": "teacher", "fail": "bad"}},
    {"type": "Entropy"},
)
LOSSES = ("simpo", "dpo", "ipo", "orpo", "hinge")
HELD_OUT = {"url": "file:///data/heldout.jsonl", "columns": {"reference": "answer"}}


NEAR = ({"method": "Exact"}, {"method": "MinHash", "threshold": 0.9}, {"ngram": 2})


def maybe(value: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), value)


@st.composite
def specs(draw: st.DrawFn, found: Recipe) -> dict[str, Any]:
    """What a person may write: every part left out, or some of it written."""
    parts: dict[str, Any] = {
        "iterations": draw(maybe(st.integers(1, 1 if found.name == "almost" else 5))),
        "seed": draw(maybe(st.integers(0, 2**63 - 1))),
        "data": draw(data(found)) or None,
        "evaluation": {
            "when": draw(maybe(st.sampled_from(["EachIteration", "Last", "Never"]))),
            "prompts": draw(maybe(st.just(HELD_OUT))),
            "checks": draw(
                maybe(st.lists(st.sampled_from(CHECKS), min_size=1, max_size=3, unique_by=lambda c: str(c["name"])))
            ),
        },
        "iteration": {
            "start": draw(maybe(st.sampled_from(["initial", "previous"]))),
            "reference": draw(maybe(st.sampled_from(["initial", "previous"]))),
            "dataWindow": draw(maybe(st.sampled_from(["Current", "LastTwo", "All"]))),
            "maxNewPairs": draw(maybe(st.integers(1, 1000))),
        },
        "training": {
            "loss": draw(
                maybe(st.fixed_dictionaries({"type": st.sampled_from([*LOSSES, *(["selm"] * (found.name == "selm"))])}))
            ),
            "learningRate": draw(maybe(st.floats(1e-8, 1e-3))),
            "epochs": draw(maybe(st.integers(1, 3))),
        },
        "judge": draw(st.one_of(st.just({"method": "score", "modelName": RANKER["name"]}), writing_judges())),
        found.name: {
            name: draw(maybe(st.sampled_from(values))) for name, values in OPTIONS.get(found.name, {}).items()
        },
    }
    if found.name == "fspo":  # one round, and users of its own that are held out
        parts["iterations"], parts["iteration"] = draw(maybe(st.just(1))), {}
        parts["evaluation"]["prompts"] = None
        parts["data"] = draw(labelled_or_asked())
        if "prompts" in parts["data"]:
            parts["judge"]["method"] = draw(st.sampled_from([None, "logprobs", "generate", "random"]))
            parts["judge"]["modelName"] = draw(st.sampled_from([None, "self", "initial", HELPER["name"]]))
            parts["fspo"]["questionsPerUser"] = draw(maybe(st.integers(10, 60)))
    if found.name in ("synpo", "reversegen") or ("personas" in found.data and "prompts" not in (parts["data"] or {})):
        parts["generation"] = {"filters": {"nearDuplicates": draw(maybe(st.sampled_from(NEAR)))}}
    written = {"recipe": found.name, "model": {"url": "file:///model"}} | _written(parts)
    if found.scored:
        gap = draw(maybe(st.floats(0, 2)))
        judge = {"method": "score", "modelName": RANKER["name"]} | ({} if gap is None else {"minScoreGap": gap})
        return written | {"judge": judge, "auxiliaryModels": [RANKER]}
    if found.name == "almost":
        return almost_of(draw, written)
    helpers = [helper for helper in (HELPER, RANKER) if helper["name"] == parts["judge"]["modelName"]]
    if found.name == "reversegen":
        written |= {"reversegen": _written(draw(proposing()))}
        helpers += [TEACHER, LABELLED, REWARD]
    return written | ({"auxiliaryModels": helpers} if helpers else {})


def labelled_or_asked() -> st.SearchStrategy[dict[str, Any]]:
    """FSPO's data: preferences that say whose they are, or what users, built in or given, are asked."""
    asked = {"prompts": st.just({"url": "file:///data/prompts.jsonl"})}
    users = st.sampled_from([{"count": 9}, {"url": "file:///data/users.jsonl"}])
    return st.one_of(
        st.just({"preferences": {"url": "file:///data/preferences.jsonl"}}),
        st.fixed_dictionaries(asked),
        st.fixed_dictionaries(asked | {"users": users}),
    )


def almost_of(draw: st.DrawFn, written: dict[str, Any]) -> dict[str, Any]:
    """A run of ALMoST: with two responders or three, and what its finish goes with."""
    shown = "demonstrations" in written["data"]
    responders = [{"modelName": "initial", "shots": 2}] * shown + [
        {"modelName": STRONG["name"]},
        {"modelName": "initial"},
    ]
    finish = draw(maybe(st.sampled_from(["BestOfN", "SampleRankDPO"])))
    options = {"pairs": draw(maybe(st.sampled_from(["All", "Neighbours"]))), "finish": finish}
    if finish != "SampleRankDPO":
        written.get("training", {}).pop("loss", None)
    judges = [helper for helper in (HELPER, RANKER) if helper["name"] == written.get("judge", {}).get("modelName")]
    return written | {"almost": _written(options) | {"responders": responders}, "auxiliaryModels": [STRONG, *judges]}


@st.composite
def proposing(draw: st.DrawFn) -> dict[str, Any]:
    """ReverseGen's options, with any oracle and any verifier."""
    return {
        "proposerModelName": draw(st.sampled_from(["initial", TEACHER["name"]])),
        "teacherModelName": TEACHER["name"],
        "verifierModelName": draw(maybe(st.sampled_from(["initial", TEACHER["name"], LABELLED["name"]]))),
        "oracle": draw(st.sampled_from(ORACLES)),
        "contextShots": draw(maybe(st.integers(1, 5))),
        "proposalsPerIteration": draw(maybe(st.integers(1, 50))),
        "handledPercent": draw(maybe(st.integers(0, 100))),
    }


def writing_judges() -> st.SearchStrategy[dict[str, Any]]:
    """Judges that write, or none that is named."""
    methods = st.sampled_from(["logprobs", "generate", "paper", "random"])
    return st.fixed_dictionaries(
        {"method": maybe(methods), "modelName": maybe(st.sampled_from(["self", "initial", HELPER["name"]]))}
    )


@st.composite
def data(draw: st.DrawFn, found: Recipe) -> dict[str, Any]:
    """What it needs, and at most one of the kinds that may be left out."""
    optional = [kind for kind, needed in found.data.items() if not needed]
    chosen = [kind for kind, needed in found.data.items() if needed]
    chosen += [kind] if optional and (kind := draw(maybe(st.sampled_from(optional)))) else []
    return {
        kind: _written(
            {
                "url": f"file:///data/{kind}.jsonl",
                "count": draw(maybe(st.integers(1, 10_000))),
                "draw": draw(maybe(st.sampled_from(["Same", "Fresh"]))),
            }
        )
        for kind in chosen
    }


def _written(values: dict[str, Any]) -> dict[str, Any]:
    """Without what is left out."""
    inner = {key: _written(value) if isinstance(value, dict) else value for key, value in values.items()}
    return {key: value for key, value in inner.items() if value is not None and value != {}}


@st.composite
def values_of(draw: st.DrawFn, found: Recipe) -> dict[str, Any]:
    """The values of a valid run of the recipe, with nothing left out."""
    document = {"apiVersion": "selfalign.dev/v1alpha1", "kind": "SelfAlignmentRun", "metadata": {"name": "a-run"}}
    try:
        run = parse(SelfAlignmentRun, document | {"spec": draw(specs(found))}, "")
        check_rules(run)
        values = method_values(run, "GPU", {}, Path())
        found.plan(method_of(values))
    except ConfigError:
        assume(False)
    return values


def methods(found: Recipe) -> st.SearchStrategy[Method]:
    """The same, typed."""
    return values_of(found).map(method_of)


def planned(found: Recipe, method: Method) -> Plan:
    """The plan of a method, its models and tables given under the names that it has for them."""
    steps = found.plan(method)
    trained = {step.result.lineage for step in steps if step.kind == "train"}
    lineages = {ref.lineage for step in steps for ref in models_of(step)} - trained
    return Plan(
        version="0",
        name="a-run",
        recipe=found.name,
        seed=method.seed,
        digest="sha256:0",
        models={name: ModelSource(url=f"file:///{name}", digest=name) for name in {"policy", *lineages}},
        sources={name: DataSource(digest=name) for name in (*method.data, "evaluation", f"{OF_FILE}rival")},
        steps=steps,
    )

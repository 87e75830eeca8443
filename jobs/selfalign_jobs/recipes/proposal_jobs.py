"""What the engines of ReverseGen are asked for in an iteration, and how its plan names models and tables."""

from __future__ import annotations

from typing import Any

from selfalign_api.plan import ArtifactRef, EngineLoad, FlowJob, ModelRef, Prepare, SourceRef, TableRef
from selfalign_api.plan_values import Json
from selfalign_jobs.recipes.embedding import prompt_tables
from selfalign_jobs.recipes.method import Method
from selfalign_jobs.recipes.own_tables import HELD, draw_options, held_out_table

SEEDS, TARGET = SourceRef(name="prompts"), ModelRef()
INITIAL_ANSWERS = ArtifactRef(step="i1-generate", name="initial-answers")
WARM = ModelRef(lineage="warmProposer", iteration=1)


def proposing(method: Method, k: int) -> FlowJob:
    """Contexts of iteration k into proposals. Of seeds that are drawn anew every context is new."""
    rows = method.options["proposals_per_iteration"]
    first = 0 if method.data["prompts"].draw == "Fresh" else (k - 1) * rows
    return FlowJob(
        flow="propose",
        rows=Prepare(
            fn="contexts",
            inputs=seed_tables(method),
            options=seed_options(method, k) | {"first": first, "rows": rows},
        ),
        out="proposals",
        roles={"propose": method.roles["propose"]},
        options={"truncated": method.filters.truncated},
    )


def distinct_proposals(method: Method, k: int) -> Prepare:
    """The proposals of iteration k that are near no earlier one."""
    near = method.filters.near_duplicates
    assert near is not None  # the recipe's own, where a run names none
    names = prompt_tables(method, "proposals")
    inputs = tuple(ArtifactRef(step=f"i{i}-generate", name=name) for name in names for i in range(1, k + 1))
    options: dict[str, Json] = {"near_duplicates": near.model_dump(exclude_none=True), "earlier": k - 1}
    if len(names) > 1:
        options["vectors"] = k
    return Prepare(fn="distinct", inputs=inputs, options=options)


def verifying(method: Method, verifier: str, rows: Prepare) -> EngineLoad:
    """Which proposals are valid: by a classifier, or by a model that writes one of two verdicts."""
    writes = method.helpers.get(verifier, "Causal") == "Causal"
    verdicts = method.options["verifier_verdicts"] if writes else None
    roles = {"verify": method.roles["verify"]} if writes else {}
    job = FlowJob(flow="verify", rows=rows, out="verified", roles=roles, options={"verdicts": verdicts})
    return EngineLoad(model=named(verifier), task="text" if writes else "score", jobs=(job,))


def answer_job(method: Method, rows: Prepare) -> FlowJob:
    """The target's answers; of several to each their entropy says already which have failed."""
    roles = {"respond": method.roles["respond"]}
    if oracle_type(method) != "Entropy":
        return FlowJob(flow="respond", rows=rows, out="answers", roles=roles)
    options = {"answers": method.options["answers_per_proposal"]} | method.options["oracle"]["entropy"]
    return FlowJob(flow="by-entropy", rows=rows, out="found", roles=roles, options=options)


def oracle_loads(method: Method, step: str) -> list[EngineLoad]:
    """Who says of an answer that it has failed, where answers do not say it themselves."""
    oracle, answers = method.options["oracle"], made(step, "answers")

    def load(model: str, flow: str, role: str | None, options: dict[str, Json]) -> list[EngineLoad]:
        roles = {} if role is None else {role: method.roles[role]}
        job = FlowJob(flow=flow, rows=answers, out="found", roles=roles, options=options)
        return [EngineLoad(model=named(model), task="score" if role is None else "text", jobs=(job,))]

    match type_ := oracle_type(method):
        case "Entropy":
            return []
        case "ExactMatch":
            options = {"after": oracle.get("exact_match", {}).get("after")}
            return load(method.options["teacher_model_name"], "by-match", "teach", options)
        case "Verdict":
            part = oracle["verdict"]
            return load(part["model_name"], "by-verdict", "guard", {name: part[name] for name in ("fail", "pass")})
        case _:
            part = oracle[type_.lower()]
            return load(part["model_name"], "by-score", None, {"oracle": type_, "threshold": part["threshold"]})


def teaching(method: Method) -> FlowJob:
    """The teacher's answers to what all iterations have found."""
    held = held_out_table(method, INITIAL_ANSWERS)
    rows = Prepare(fn="to-teach", inputs=found_tables(method, held), options=taught_options(method, held))
    return FlowJob(flow="teach", rows=rows, out="lessons", roles={"teach": method.roles["teach"]})


# --- names ----------------------------------------------------------------------------------------------------------------


def named(model: str) -> ModelRef:
    """A model by the name that a run has for it."""
    return TARGET if model == "initial" else ModelRef(lineage=model)


def proposer(k: int) -> ModelRef:
    """The proposer after iteration k; after none it is warmed up."""
    return WARM if k == 0 else ModelRef(lineage="proposer", iteration=k)


def oracle_type(method: Method) -> str:
    """Which oracle."""
    return str(method.options["oracle"]["type"])


def compares(method: Method) -> bool:
    """Whether the oracle has the teacher's answers already."""
    return oracle_type(method) == "ExactMatch"


def made(step: str, name: str) -> Prepare:
    """A table as an earlier load of the step has made it."""
    return Prepare(fn="as-made", inputs=(ArtifactRef(step=step, name=name),))


def found_tables(method: Method, held: TableRef | None) -> tuple[TableRef, ...]:
    """What all iterations have found, and where there are any the prompts that are held out."""
    found = (ArtifactRef(step=f"i{k}-generate", name="found") for k in range(1, method.iterations + 1))
    return (*found, *(() if held is None else (held,)))


def taught_options(method: Method, held: TableRef | None) -> dict[str, Json]:
    """Which of what was found is taught."""
    return {"held_out": held is not None, "handled_percent": method.options["handled_percent"], "seed": method.seed}


def seed_tables(method: Method) -> tuple[TableRef, ...]:
    """The seeds, and where the user gives them the prompts that are held out."""
    return (SEEDS, HELD) if held_out_table(method, INITIAL_ANSWERS) == HELD else (SEEDS,)


def seed_options(method: Method, k: int) -> dict[str, Any]:
    """The seeds that iteration k draws."""
    held = held_out_table(method, INITIAL_ANSWERS) == HELD
    return draw_options(method, "prompts", k) | {"held_out": held, "shots": method.options["context_shots"]}

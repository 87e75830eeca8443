"""The plans of the eight recipes, written in the plan's types: that is how we know that the types hold.

Only SAO's is made by its recipe file; the others follow their papers, in the shortest form that names every step,
model and table of one or two iterations.
"""

from __future__ import annotations

from collections.abc import Callable

from selfalign_api.plan import ArtifactRef, EngineLoad, FlowJob, Generate, ModelRef, Plan, Prepare, SourceRef, Train
from selfalign_api.sources import DataSource, ModelSource
from selfalign_api.training_values import Loss, TrainSettings
from selfalign_jobs.recipes.base import Step

SETTINGS = TrainSettings(learning_rate=5e-7)
DPO = Loss(type="dpo", beta=0.1)


def rows(fn: str, *inputs: ArtifactRef | SourceRef) -> Prepare:
    return Prepare(fn=fn, inputs=inputs)


def made(step: str, name: str) -> ArtifactRef:
    return ArtifactRef(step=step, name=name)


def given(name: str) -> SourceRef:
    return SourceRef(name=name)


def generate(name: str, k: int, model: ModelRef, *jobs: tuple[str, Prepare, str], score: bool = False) -> Generate:
    flows = tuple(FlowJob(flow=flow, rows=table, out=out) for flow, table, out in jobs)
    return Generate(name=name, iteration=k, load=EngineLoad(model=model, task="score" if score else "text", jobs=flows))


def train(
    name: str,
    k: int,
    data: Prepare,
    start: ModelRef,
    result: ModelRef,
    loss: Loss = DPO,
    reference: ModelRef | None = None,
    objective: str = "preference",
) -> Train:
    return Train(
        name=name,
        iteration=k,
        objective=objective,  # type: ignore[arg-type]
        loss=loss,
        data=data,
        start=start,
        reference=reference,
        result=result,
        settings=SETTINGS,
    )


def policy(k: int) -> ModelRef:
    return ModelRef(iteration=k)


def spin() -> tuple[Step, ...]:
    """Chosen = the demonstration, rejected = the model's own answer; this and the last iteration's pairs."""
    steps: list[Step] = []
    for k in (1, 2):
        pairs = [made(f"i{i}-generate", "pairs") for i in range(max(1, k - 1), k + 1)]
        steps.append(
            generate(f"i{k}-generate", k, policy(k - 1), ("own-answer", rows("all", given("demonstrations")), "pairs"))
        )
        steps.append(train(f"i{k}-train", k, rows("window", *pairs), policy(k - 1), policy(k), reference=policy(k - 1)))
    return tuple(steps)


def selm() -> tuple[Step, ...]:
    """A ranker scores {new, chosen, rejected} in a load of its own; the new answer is kept for the optimism term."""
    steps: list[Step] = []
    for k in (1, 2):
        steps += [
            generate(f"i{k}-generate", k, policy(k - 1), ("answer", rows("part", given("preferences")), "answers")),
            generate(
                f"i{k}-rank",
                k,
                ModelRef(lineage="pairrm"),
                ("rank", rows("candidates", given("preferences"), made(f"i{k}-generate", "answers")), "pairs"),
                score=True,
            ),
            train(
                f"i{k}-train",
                k,
                rows("window", made(f"i{k}-rank", "pairs")),
                policy(k - 1),
                policy(k),
                loss=Loss(type="selm", beta=0.01, alpha=1e-3),
                reference=policy(k - 1),
            ),
        ]
    return tuple(steps)


def synpo() -> tuple[Step, ...]:
    """A prompt generator trained once; each iteration an improver from θ0; SimPO from θ0 on all pairs so far."""
    writer = ModelRef(lineage="promptGenerator", iteration=1)
    steps: list[Step] = [
        train(
            "i1-train-prompt-generator",
            1,
            rows("words-to-prompt", given("demonstrations")),
            policy(0),
            writer,
            loss=Loss(type="sft"),
            objective="sft",
        )
    ]
    for k in (1, 2):
        improver = ModelRef(lineage="improver", iteration=k)
        steps += [
            generate(f"i{k}-prompts", k, writer, ("write-prompt", rows("word-lists", given("corpus")), "prompts")),
            generate(
                f"i{k}-answers",
                k,
                policy(k - 1),
                ("answer", rows("seeds", given("demonstrations")), "seed-answers"),
                ("answer", rows("all", made(f"i{k}-prompts", "prompts")), "answers"),
            ),
            train(
                f"i{k}-train-improver",
                k,
                rows("improvements", given("demonstrations"), made(f"i{k}-answers", "seed-answers")),
                policy(0),
                improver,
                loss=Loss(type="sft"),
                objective="sft",
            ),
            generate(
                f"i{k}-improve", k, improver, ("improve", rows("all", made(f"i{k}-answers", "answers")), "improved")
            ),
            generate(
                f"i{k}-initial", k, policy(0), ("answer", rows("all", made(f"i{k}-prompts", "prompts")), "initial")
            ),
            generate(
                f"i{k}-score",
                k,
                ModelRef(lineage="pairrm"),
                ("score", rows("join", made(f"i{k}-improve", "improved"), made(f"i{k}-initial", "initial")), "pairs"),
                score=True,
            ),
            train(
                f"i{k}-train",
                k,
                rows("cumulative", *(made(f"i{i}-score", "pairs") for i in range(1, k + 1))),
                policy(0),
                policy(k),
                loss=Loss(type="simpo", beta=2, gamma=1.6),
            ),
        ]
    return tuple(steps)


def reversegen() -> tuple[Step, ...]:
    """The proposer learns what makes the target fail; at the end the target is hardened on it."""

    def proposer(k: int) -> ModelRef:
        return ModelRef(lineage="proposer", iteration=k)

    warm = ModelRef(lineage="warmProposer", iteration=1)
    steps: list[Step] = [
        train(
            "i1-warm-up", 1, rows("shots", given("prompts")), proposer(0), warm, loss=Loss(type="sft"), objective="sft"
        )
    ]
    for k in (1, 2):
        start = warm if k == 1 else proposer(k - 1)
        steps += [
            generate(f"i{k}-propose", k, start, ("propose", rows("contexts", given("prompts")), "proposals")),
            generate(
                f"i{k}-target",
                k,
                policy(0),
                ("answer", rows("distinct", made(f"i{k}-propose", "proposals")), "answers"),
            ),
            generate(
                f"i{k}-oracle",
                k,
                ModelRef(lineage="guard"),
                ("classify", rows("all", made(f"i{k}-target", "answers")), "failures"),
                score=True,
            ),
            train(
                f"i{k}-train", k, rows("pair", made(f"i{k}-oracle", "failures")), start, proposer(k), reference=start
            ),
        ]
    failures = [made(f"i{k}-oracle", "failures") for k in (1, 2)]
    steps += [
        generate("i2-teach", 2, policy(0), ("good-answer", rows("all", *failures), "lessons")),
        train(
            "i2-harden",
            2,
            rows("all", made("i2-teach", "lessons")),
            policy(0),
            policy(1),
            loss=Loss(type="sft"),
            objective="sft",
        ),
    ]
    return tuple(steps)


def fspo() -> tuple[Step, ...]:
    """Views and answers by several models, labels by a big one (a row is a user), SFT, then IPO against the SFT model."""
    big, fitted = ModelRef(lineage="big"), ModelRef(lineage="sft", iteration=1)
    return (
        generate(
            "i1-answers",
            1,
            policy(0),
            ("views", rows("users-by-questions", given("users"), given("prompts")), "answers"),
        ),
        generate(
            "i1-answers-big", 1, big, ("views", rows("users-by-questions", given("users"), given("prompts")), "answers")
        ),
        generate(
            "i1-label",
            1,
            big,
            ("label-user", rows("by-user", made("i1-answers", "answers"), made("i1-answers-big", "answers")), "labels"),
        ),
        train(
            "i1-sft",
            1,
            rows("few-shot", made("i1-label", "labels")),
            policy(0),
            fitted,
            loss=Loss(type="sft"),
            objective="sft",
        ),
        train(
            "i1-train",
            1,
            rows("few-shot", made("i1-label", "labels")),
            fitted,
            policy(1),
            loss=Loss(type="ipo", beta=0.01),
            reference=fitted,
        ),
    )


def pit() -> tuple[Step, ...]:
    """Improver by SFT, gap reward, then sample-rank-DPO on improver outputs (a stand-in for the paper's unnamed RL)."""
    improver, reward = ModelRef(lineage="improver", iteration=1), ModelRef(lineage="reward", iteration=1)
    return (
        train(
            "i1-improver",
            1,
            rows("fold-1", given("preferences")),
            policy(0),
            improver,
            loss=Loss(type="sft"),
            objective="sft",
        ),
        train(
            "i1-reward-model",
            1,
            rows("fold-2", given("preferences")),
            policy(0),
            reward,
            loss=Loss(type="bradley-terry"),
            objective="reward",
        ),
        generate("i1-improve", 1, improver, ("improve", rows("fold-3", given("preferences")), "candidates")),
        generate("i1-score", 1, reward, ("score", rows("all", made("i1-improve", "candidates")), "pairs"), score=True),
        train("i1-train", 1, rows("all", made("i1-score", "pairs")), improver, policy(1), reference=improver),
    )


def almost() -> tuple[Step, ...]:
    """Provenance is the label: larger with more shots beats smaller with fewer; reward model; best of n."""
    reward = ModelRef(lineage="reward", iteration=1)
    shots = (given("prompts"), given("demonstrations"))
    return (
        generate("i1-b30", 1, ModelRef(lineage="b30"), ("answer", rows("five-shot", *shots), "answers")),
        generate("i1-b13", 1, ModelRef(lineage="b13"), ("answer", rows("three-shot", *shots), "answers")),
        generate(
            "i1-own",
            1,
            policy(0),
            ("answer", rows("one-shot", *shots), "answers"),
            ("best-of", rows("all", given("prompts")), "pool"),
        ),
        train(
            "i1-reward-model",
            1,
            rows("by-provenance", *(made(f"i1-{who}", "answers") for who in ("b30", "b13", "own"))),
            policy(0),
            reward,
            loss=Loss(type="bradley-terry"),
            objective="reward",
        ),
        generate("i1-score", 1, reward, ("score", rows("all", made("i1-own", "pool")), "scores"), score=True),
        train(
            "i1-train",
            1,
            rows("best", made("i1-score", "scores")),
            policy(0),
            policy(1),
            loss=Loss(type="sft"),
            objective="sft",
        ),
    )


GIVEN_SOURCES = ("demonstrations", "preferences", "corpus", "prompts", "users", "evaluation")
GIVEN_MODELS = ("policy", "pairrm", "proposer", "guard", "big", "b30", "b13")
RECIPES: dict[str, Callable[[], tuple[Step, ...]]] = {
    "spin": spin,
    "selm": selm,
    "synpo": synpo,
    "reversegen": reversegen,
    "fspo": fspo,
    "pit": pit,
    "almost": almost,
}


def plan_of(recipe: str, steps: tuple[Step, ...]) -> Plan:
    return Plan(
        version="0",
        name="test",
        recipe=recipe,
        seed=0,
        digest="sha256:0",
        models={name: ModelSource(url=f"file:///{name}", digest=name) for name in GIVEN_MODELS},
        sources={name: DataSource(digest=name) for name in GIVEN_SOURCES},
        steps=steps,
    )

"""Failures: the message begins with what is wrong, in the run file's own spelling, and says what to write."""

from __future__ import annotations

from cases.case import PEOPLE, Case, with_spec

TWICE = [{"prompt": f"What is {n}?"} for n in range(300)]  # fmt: skip

CASES = [
    Case(
        "the prompts of training, held out too",
        lambda room: room.run(
            {
                "data": {"prompts": {"url": room.lines("asked.jsonl", TWICE), "count": 40}},
                "evaluation": {"when": "Last", "prompts": {"url": room.url("asked.jsonl")}},
            }
        ),
        code=64,
        says=("spec.evaluation.prompts.url", "holds all 40 prompts that i1-train draws from data.prompts"),
    ),
    Case("a field that is no field", with_spec({"trainning": {}}), code=64, says=("spec.trainning",)),
    Case("a field in snake case", with_spec({"training.learning_rate": 1e-5}), code=64, says=("learningRate",)),
    Case("no epochs", with_spec({"training.epochs": 0}), code=64, says=("spec.training.epochs",)),
    Case("a rate below 0", with_spec({"training.learningRate": -1}), code=64, says=("spec.training.learningRate",)),
    Case("a share above 1", with_spec({"training.warmupRatio": 2}), code=64, says=("spec.training.warmupRatio",)),
    Case("a word for a switch", with_spec({"suspend": "maybe"}), code=64, says=("spec.suspend",)),
    Case("a probability of 0", with_spec({"generation.roles[respond].topP": 0}), code=64, says=("topP",)),
    Case("an override beyond unwritten iterations",
         with_spec({"training.iterationOverrides": [{"fromIteration": 3, "beta": 1}]}),
         code=64, says=("spec.training.iterationOverrides[3]", "write iterations: 3, or lower fromIteration")),
    Case("more than there is", with_spec({"data.personas.count": 100_000}), code=64, says=("write a smaller count",)),
    Case(
        "a small table, and an evaluation that nobody asked for",
        lambda room: room.run(
            {
                "data.personas": {"url": room.data("people.txt", "\n".join(PEOPLE[:30])), "count": 30},
                "evaluation": None,
            }
        ),
        code=64,
        says=("set apart for evaluation",),
    ),
]  # fmt: skip

"""Rules of the recipe reversegen: kinds of the models that it names, oracles and what belongs to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from selfalign_api.reversegen import Oracle, ReversegenOptions, VerdictOracle
from selfalign_api.rule_table.recipes import listed
from selfalign_api.rule_table.rule import Rule, given
from selfalign_api.run import Spec

OF_TYPES = {  # the part of an oracle that belongs to a type; those without which it says nothing
    "classifier": "Classifier",
    "reward": "Reward",
    "verdict": "Verdict",
    "entropy": "Entropy",
    "exactMatch": "ExactMatch",
}
NEEDED = {"classifier": "NAME}", "reward": "NAME, threshold: 0}", "verdict": "NAME}"}

Named = Callable[[ReversegenOptions], str | None]


def _kinds(spec: Spec) -> dict[str, str]:
    return {model.name: model.kind or "Causal" for model in spec.auxiliary_models or ()}


def _names(path: str, name: Named, kinds: tuple[str, ...]) -> Rule[Spec]:
    """A model that is named must be there and of one of these kinds; the run's own, `initial`, writes."""
    field = f"reversegen.{path}"
    own = f"self.{field} == 'initial' || " if "Causal" in kinds else ""
    there = (
        f"(has(self.auxiliaryModels) && self.auxiliaryModels.exists(m, m.name == self.{field} && "
        f"(has(m.kind) ? m.kind : 'Causal') in {listed(kinds)}))"
    )
    write = "initial, or " if own else ""

    def holds(spec: Spec) -> bool:
        named = name(spec.reversegen) if spec.reversegen is not None else None
        if named is None or (own and named == "initial"):
            return True
        return _kinds(spec).get(named) in kinds

    def meant(spec: Spec) -> str | None:
        return " or ".join(each for each, kind in _kinds(spec).items() if kind in kinds) or None

    message = f"names no model of kind {' or '.join(kinds)}; write {write}the name of such an entry of auxiliaryModels"
    return Rule(Spec, field, given(field) + own + there, message, holds, meant=meant)


def _belongs(part: str, type_: str) -> Rule[Oracle]:
    """A part of an oracle stands with its type, and with no other."""
    needed = part in NEEDED
    has, is_ = f"has(self.{part})", f"self.type == '{type_}'"
    attribute = "exact_match" if part == "exactMatch" else part
    write = f"{part}: {{modelName: {NEEDED[part]}" if needed else f"{part}: {{}}"
    return Rule(
        Oracle,
        part,
        f"{has} == ({is_})" if needed else f"!{has} || {is_}",
        f"{part} and type: {type_} belong together; write oracle: {{type: {type_}, {write}}}, or remove {part}",
        lambda oracle: (
            (getattr(oracle, attribute) is not None) == (oracle.type == type_)
            if needed
            else getattr(oracle, attribute) is None or oracle.type == type_
        ),
    )


def _is_greedy(spec: Spec) -> bool:
    roles = spec.generation.roles if spec.generation is not None else None
    return any(role.name == "respond" and role.temperature == 0 for role in roles or ())


REVERSEGEN_RULES: tuple[Rule[Any], ...] = (
    Rule(
        Spec,
        "reversegen",
        "self.recipe != 'reversegen' || has(self.reversegen)",
        "recipe reversegen needs a proposer, an oracle and a teacher; write reversegen: {proposerModelName: initial, oracle: "
        "{type: ExactMatch}, teacherModelName: NAME}",
        lambda spec: spec.recipe != "reversegen" or spec.reversegen is not None,
    ),
    _names("proposerModelName", lambda options: options.proposer_model_name, ("Causal",)),
    _names("teacherModelName", lambda options: options.teacher_model_name, ("Causal",)),
    _names("verifierModelName", lambda options: options.verifier_model_name, ("Causal", "Classifier")),
    _names(
        "oracle.classifier.modelName",
        lambda options: options.oracle.classifier.model_name if options.oracle.classifier else None,
        ("Classifier",),
    ),
    _names(
        "oracle.reward.modelName",
        lambda options: options.oracle.reward.model_name if options.oracle.reward else None,
        ("RewardModel",),
    ),
    _names(
        "oracle.verdict.modelName",
        lambda options: options.oracle.verdict.model_name if options.oracle.verdict else None,
        ("Causal",),
    ),
    *(_belongs(part, type_) for part, type_ in OF_TYPES.items()),
    Rule(
        ReversegenOptions,
        "answersPerProposal",
        given("answersPerProposal") + "(self.oracle.type == 'Entropy') == (self.answersPerProposal > 1)",
        "the entropy of one answer is zero, and the other oracles look at one; write answersPerProposal: 10 with oracle "
        "Entropy, or remove it",
        lambda options: (
            options.answers_per_proposal is None
            or (options.oracle.type == "Entropy") == (options.answers_per_proposal > 1)
        ),
    ),
    Rule(
        Spec,
        "generation.roles",
        "!has(self.reversegen) || self.reversegen.oracle.type != 'Entropy' || "
        + given("generation.roles")
        + "self.generation.roles.all(r, r.name != 'respond' || !has(r.temperature) || r.temperature > 0.0)",
        "answers at temperature 0 are all the same and have no entropy; write a temperature above 0 for respond",
        lambda spec: spec.reversegen is None or spec.reversegen.oracle.type != "Entropy" or not _is_greedy(spec),
    ),
    Rule(
        ReversegenOptions,
        "teacherModelName",
        "self.oracle.type != 'ExactMatch' || self.teacherModelName != 'initial'",
        "the target's answers are compared with the teacher's, and initial is the target itself; write the name of an entry "
        "of auxiliaryModels",
        lambda options: options.oracle.type != "ExactMatch" or options.teacher_model_name != "initial",
    ),
    Rule(
        Spec,
        "reversegen.verifierVerdicts",
        given("reversegen.verifierVerdicts")
        + "(has(self.reversegen.verifierModelName) && (!has(self.auxiliaryModels) || !self.auxiliaryModels.exists(m, "
        + "m.name == self.reversegen.verifierModelName && has(m.kind) && m.kind != 'Causal')))",
        "verdicts are those of a verifier that writes; write verifierModelName with the name of one, or remove verifierVerdicts",
        lambda spec: (
            spec.reversegen is None
            or spec.reversegen.verifier_verdicts is None
            or (
                spec.reversegen.verifier_model_name is not None
                and _kinds(spec).get(spec.reversegen.verifier_model_name, "Causal") == "Causal"
            )
        ),
    ),
    Rule(
        ReversegenOptions,
        "verifierVerdicts",
        given("verifierVerdicts") + "self.verifierVerdicts[0] != self.verifierVerdicts[1]",
        "the two verdicts are equal, so nothing could be invalid; write two that differ",
        lambda options: (
            options.verifier_verdicts is None or options.verifier_verdicts[0] != options.verifier_verdicts[1]
        ),
    ),
    Rule(
        VerdictOracle,
        "fail",
        "(has(self.fail) ? self.fail : 'unsafe') != (has(self.pass) ? self.pass : 'safe')",
        "the two verdicts are equal, so nothing could fail; write fail and pass that differ",
        lambda verdict: (verdict.fail or "unsafe") != (verdict.pass_ or "safe"),
    ),
    Rule(
        Spec,
        "generation.filters.identical",
        "self.recipe != 'reversegen' || " + given("generation.filters.identical") + "false",
        "reversegen pairs two proposals that differ already; remove identical",
        lambda spec: (
            spec.recipe != "reversegen"
            or spec.generation is None
            or spec.generation.filters is None
            or spec.generation.filters.identical is None
        ),
    ),
    Rule(
        Spec,
        "evaluation.selectBy",
        "self.recipe != 'reversegen' || " + given("evaluation.selectBy") + "false",
        "reversegen makes one model, after the last round, so there is nothing to select; remove selectBy",
        lambda spec: spec.recipe != "reversegen" or spec.evaluation is None or spec.evaluation.select_by is None,
    ),
)

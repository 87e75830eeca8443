"""Cases of the rules of recipe reversegen: parts of a run that are accepted, parts that are refused, and the line for these."""

MODELS = (
    "auxiliaryModels: [{name: t, url: 'hf://o/n'}, {name: c, url: 'hf://o/n', kind: Classifier, label: bad}, "
    "{name: w, url: 'hf://o/n', kind: RewardModel}]"
)
RUN = f"recipe: reversegen, data: {{prompts: {{url: 's3://b/p'}}}}, {MODELS}"
MATCH = "oracle: {type: ExactMatch}"
LABEL = "oracle: {type: Classifier, classifier: {modelName: c}}"
SCORE = "oracle: {type: Reward, reward: {modelName: w, threshold: -1}}"


def options(oracle: str = MATCH, proposer: str = "initial", teacher: str = "t", more: str = "") -> str:
    """A run with these options."""
    named = f"proposerModelName: {proposer}, teacherModelName: {teacher}, {oracle}"
    return f"spec: {{{RUN}, reversegen: {{{named}{', ' if more else ''}{more}}}}}"


CLASSIFIER = "{name: c, url: 'hf://o/n', kind: Classifier, label: bad}"
REWARDS = "{name: w, url: 'hf://o/n', kind: RewardModel}"


def alone(model: str, oracle: str, **named: str) -> str:
    """The same where that is the only further model, so that there is none to mean."""
    return options(oracle, **{"teacher": "initial"} | named).replace(MODELS, f"auxiliaryModels: [{model}]")


def beside(rest: str, oracle: str = MATCH) -> str:
    """A run that says something beside its options."""
    return options(oracle).removesuffix("}") + f", {rest}}}"


FIELD = "spec.reversegen"
NO_MODEL = "names no model of kind {}; write {}the name of such an entry of auxiliaryModels"

CASES_OF_REVERSEGEN = (
    (
        options(),
        f"spec: {{reversegen: {{proposerModelName: initial, teacherModelName: initial, {LABEL}}}, {MODELS}}}",
        "spec.reversegen: spec.reversegen belongs to recipe reversegen; write recipe: reversegen, or remove spec.reversegen",
    ),
    (
        options(),
        f"spec: {{{RUN}}}",
        "spec.reversegen: recipe reversegen needs a proposer, an oracle and a teacher; write reversegen: {proposerModelName: "
        "initial, oracle: {type: ExactMatch}, teacherModelName: NAME}",
    ),
    (
        options(),
        options().replace(", data: {prompts: {url: 's3://b/p'}}", ""),
        "spec.data: recipe reversegen needs data.prompts.url; write data: {prompts: {url: hf://datasets/ORG/NAME}}",
    ),
    (
        beside("generation: {roles: [{name: propose, topK: 3}, {name: teach, topK: 3}]}"),
        beside("generation: {roles: [{name: writePrompt, topK: 3}]}"),
        "spec.generation.roles: recipe reversegen has the roles propose, verify, respond, guard, teach, judge; use one of these "
        "names in generation.roles",
    ),
    (
        beside("training: {stages: [{name: warmUp, epochs: 2}, {name: harden, epochs: 2}]}"),
        beside("training: {stages: [{name: improver, epochs: 2}]}"),
        "spec.training.stages: recipe reversegen has the further trainings warmUp, harden; use one of these names in "
        "training.stages",
    ),
    (
        options(proposer="t"),
        alone(CLASSIFIER, LABEL, proposer="c"),
        f"{FIELD}.proposerModelName: c {NO_MODEL.format('Causal', 'initial, or ')}",
    ),
    (
        options(LABEL, teacher="initial"),
        alone(CLASSIFIER, LABEL, teacher="nobody"),
        f"{FIELD}.teacherModelName: nobody {NO_MODEL.format('Causal', 'initial, or ')}",
    ),
    (
        options(more="verifierModelName: c"),
        alone(REWARDS, SCORE, more="verifierModelName: w"),
        f"{FIELD}.verifierModelName: w {NO_MODEL.format('Causal or Classifier', 'initial, or ')}",
    ),
    (
        options("oracle: {type: Classifier, classifier: {modelName: c, threshold: 2}}"),
        alone(REWARDS, "oracle: {type: Classifier, classifier: {modelName: initial}}"),
        f"{FIELD}.oracle.classifier.modelName: initial {NO_MODEL.format('Classifier', '')}",
    ),
    (
        options(SCORE),
        alone(CLASSIFIER, "oracle: {type: Reward, reward: {modelName: c, threshold: -1}}"),
        f"{FIELD}.oracle.reward.modelName: c {NO_MODEL.format('RewardModel', '')}",
    ),
    (
        options("oracle: {type: Verdict, verdict: {modelName: initial}}"),
        alone(REWARDS, "oracle: {type: Verdict, verdict: {modelName: w}}"),
        f"{FIELD}.oracle.verdict.modelName: w {NO_MODEL.format('Causal', 'initial, or ')}",
    ),
    (
        options(LABEL),
        options("oracle: {type: Classifier}"),
        f"{FIELD}.oracle.classifier: classifier and type: Classifier belong together; write oracle: {{type: Classifier, "
        "classifier: {modelName: NAME}}, or remove classifier",
    ),
    (
        options("oracle: {type: Reward, reward: {modelName: w, threshold: -1}}"),
        options("oracle: {type: ExactMatch, reward: {modelName: w, threshold: -1}}"),
        f"{FIELD}.oracle.reward: reward and type: Reward belong together; write oracle: "
        "{type: Reward, reward: {modelName: NAME, threshold: 0}}, or remove reward",
    ),
    (
        options("oracle: {type: Verdict, verdict: {modelName: t}}"),
        options("oracle: {type: Verdict}"),
        f"{FIELD}.oracle.verdict: verdict and type: Verdict belong together; write oracle: {{type: Verdict, verdict: "
        "{modelName: NAME}}, or remove verdict",
    ),
    (
        options("oracle: {type: Entropy, entropy: {minEntropy: 0.5}}"),
        options("oracle: {type: ExactMatch, entropy: {minEntropy: 0.5}}"),
        f"{FIELD}.oracle.entropy: entropy and type: Entropy belong together; write oracle: {{type: "
        "Entropy, entropy: {}}, or remove entropy",
    ),
    (
        options("oracle: {type: ExactMatch, exactMatch: {after: '####'}}"),
        options("oracle: {type: Entropy, exactMatch: {after: '####'}}"),
        f"{FIELD}.oracle.exactMatch: exactMatch and type: ExactMatch belong together; write oracle: {{type: "
        "ExactMatch, exactMatch: {}}, or remove exactMatch",
    ),
    (
        options("oracle: {type: Entropy}", more="answersPerProposal: 4"),
        options("oracle: {type: Entropy}", more="answersPerProposal: 1"),
        f"{FIELD}.answersPerProposal: 1: the entropy of one answer is zero, and the other oracles look at one; write "
        "answersPerProposal: 10 with oracle Entropy, or remove it",
    ),
    (
        options(more="answersPerProposal: 1"),
        options(more="answersPerProposal: 4"),
        f"{FIELD}.answersPerProposal: 4: the entropy of one answer is zero, and the other oracles look at one; write "
        "answersPerProposal: 10 with oracle Entropy, or remove it",
    ),
    (
        beside("generation: {roles: [{name: respond, temperature: 0}]}"),
        beside("generation: {roles: [{name: respond, temperature: 0}]}", "oracle: {type: Entropy}"),
        "spec.generation.roles: answers at temperature 0 are all the same and have no entropy; write a temperature above 0 for "
        "respond",
    ),
    (
        options(),
        options(teacher="initial"),
        f"{FIELD}.teacherModelName: initial: the target's answers are compared with the teacher's, and initial is the target "
        "itself; write the name of an entry of auxiliaryModels",
    ),
    (
        options(more="verifierModelName: initial, verifierVerdicts: [Good, Bad]"),
        options(more="verifierModelName: c, verifierVerdicts: [Good, Bad]"),
        f"{FIELD}.verifierVerdicts: verdicts are those of a verifier that writes; write verifierModelName with "
        "the name of one, or remove verifierVerdicts",
    ),
    (
        options(more="verifierModelName: t, verifierVerdicts: [Good, Bad]"),
        options(more="verifierModelName: t, verifierVerdicts: [Good, Good]"),
        f"{FIELD}.verifierVerdicts: the two verdicts are equal, so nothing could be invalid; write two that differ",
    ),
    (
        options("oracle: {type: Verdict, verdict: {modelName: t, pass: fine}}"),
        options("oracle: {type: Verdict, verdict: {modelName: t, fail: safe}}"),
        f"{FIELD}.oracle.verdict.fail: safe: the two verdicts are equal, so nothing could fail; write fail and pass that differ",
    ),
    (
        beside("generation: {filters: {truncated: Keep, nearDuplicates: {method: Exact}}}"),
        beside("generation: {filters: {identical: Drop}}"),
        "spec.generation.filters.identical: Drop: reversegen pairs two proposals that differ already; remove identical",
    ),
    (
        beside("evaluation: {checks: [{name: win, type: SelfWinRate}]}"),
        beside("evaluation: {selectBy: win}"),
        "spec.evaluation.selectBy: win: reversegen makes one model, after the last round, so there is nothing to select; "
        "remove selectBy",
    ),
)

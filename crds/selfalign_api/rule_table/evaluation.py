"""Rules of evaluation and publishing by it, of means and of what becomes of failures."""

from __future__ import annotations

from typing import Any

from selfalign_api.evaluation import Check, CheckJudge, Evaluation, Export, Gate, SelfWinRate
from selfalign_api.life import FailurePolicy
from selfalign_api.means import Compute, GenerationCompute, TrainingCompute
from selfalign_api.method import Columns
from selfalign_api.rule_table.generation import SCORING
from selfalign_api.rule_table.recipes import listed
from selfalign_api.rule_table.rule import Rule, given
from selfalign_api.run import Spec


def _columns(evaluation: Evaluation) -> Columns:
    """The columns of the held-out prompts that are named."""
    named = evaluation.prompts.columns if evaluation.prompts is not None else None
    return named or Columns()


def _checks_of(spec: Spec) -> tuple[Check, ...]:
    return (spec.evaluation.checks or ()) if spec.evaluation is not None else ()


def _against_previous(check: Check) -> bool:
    return check.self_win_rate is not None and check.self_win_rate.against == "previous"


def _kind_of(spec: Spec, judge: CheckJudge) -> str | None:
    """What the judge of a check is; None where its name is nobody's."""
    kinds = {model.name: model.kind or "Causal" for model in spec.auxiliary_models or ()} | {"initial": "Causal"}
    return kinds.get(judge.model_name)


def _judges(spec: Spec) -> list[CheckJudge]:
    return [check.judge for check in _checks_of(spec) if check.judge is not None]


def _fits(spec: Spec, judge: CheckJudge) -> bool:
    """Whether its method is one that its model can do."""
    return judge.method is None or (judge.method == "score") == (_kind_of(spec, judge) in SCORING)


_PREVIOUS = "has(c.selfWinRate) && has(c.selfWinRate.against) && c.selfWinRate.against == 'previous'"
_JUDGED = given("evaluation.checks") + "self.evaluation.checks.all(c, !has(c.judge) || "
_SCORES = (
    "has(self.auxiliaryModels) && self.auxiliaryModels.exists(m, "
    f"m.name == c.judge.modelName && has(m.kind) && m.kind in {listed(SCORING)})"
)


def _types_of(evaluation: Evaluation) -> dict[str, str]:
    """The types of its checks by name."""
    return {check.name: check.type for check in evaluation.checks} if evaluation.checks else {"win": "SelfWinRate"}


OTHER_RULES: tuple[Rule[Any], ...] = (
    Rule(
        Check,
        "selfWinRate",
        given("selfWinRate") + "self.type == 'SelfWinRate'",
        "selfWinRate belongs to another type; write type: SelfWinRate, or remove selfWinRate",
        lambda check: check.self_win_rate is None or check.type == "SelfWinRate",
    ),
    Rule(
        Check,
        "exactMatch",
        given("exactMatch") + "self.type == 'ExactMatch'",
        "exactMatch belongs to another type; write type: ExactMatch, or remove exactMatch",
        lambda check: check.exact_match is None or check.type == "ExactMatch",
    ),
    Rule(
        Check,
        "benchmark",
        "(self.type == 'Benchmark') == has(self.benchmark)",
        "says which tasks type: Benchmark asks; write type: Benchmark and benchmark: {tasks: [...]} together",
        lambda check: (check.type == "Benchmark") == (check.benchmark is not None),
    ),
    Rule(
        Check,
        "export",
        "(self.type == 'Export') == has(self.export)",
        "is the file that type: Export writes; write type: Export and export: {format: AlpacaEval} together",
        lambda check: (check.type == "Export") == (check.export is not None),
    ),
    Rule(
        Export,
        "questions",
        "(self.format == 'MTBench') == has(self.questions)",
        "are MT-Bench's own, of two turns each; write format: MTBench and questions: {url: ...} together",
        lambda export: (export.format == "MTBench") == (export.questions is not None),
    ),
    Rule(
        Evaluation,
        "checks",
        given("checks")
        + "!self.checks.exists(c, has(c.export) && c.export.format == 'ArenaHard') || (has(self.prompts) && "
        "has(self.prompts.columns) && has(self.prompts.columns.id))",
        "ArenaHard finds answers by the ids of its questions; write evaluation.prompts: {url: ..., columns: {id: uid}}, or "
        "format: AlpacaEval",
        lambda evaluation: (
            not any(check.export and check.export.format == "ArenaHard" for check in evaluation.checks or ())
            or _columns(evaluation).id is not None
        ),
    ),
    Rule(
        Evaluation,
        "gates",
        given("gates", "checks") + "self.gates.all(g, !self.checks.exists(c, c.name == g.check && c.type == 'Export'))",
        "an Export gives no figure; write the name of a check of another type",
        lambda evaluation: all(_types_of(evaluation).get(gate.check) != "Export" for gate in evaluation.gates or ()),
    ),
    Rule(
        Evaluation,
        "selectBy",
        given("selectBy", "checks") + "!self.checks.exists(c, c.name == self.selectBy && c.type == 'Export')",
        "an Export gives no figure; write the name of a check of another type",
        lambda evaluation: _types_of(evaluation).get(evaluation.select_by or "") != "Export",
    ),
    Rule(
        Check,
        "judge",
        given("judge") + "self.type == 'SelfWinRate'",
        "nobody judges this type of check; write type: SelfWinRate, or remove judge",
        lambda check: check.judge is None or check.type == "SelfWinRate",
    ),
    Rule(
        SelfWinRate,
        "answers",
        given("answers", "against") + "false",
        "are compared with instead of the run's own; remove against, or answers",
        lambda rate: rate.answers is None or rate.against is None,
    ),
    Rule(
        Spec,
        "evaluation.checks",
        _JUDGED
        + "c.judge.modelName == 'initial' || (has(self.auxiliaryModels) && self.auxiliaryModels.exists(m, "
        + "m.name == c.judge.modelName && (!has(m.kind) || m.kind != 'Embedder'))))",
        "the judge of a check is no model that writes or scores; write judge.modelName: initial, or the name of such an entry "
        "of auxiliaryModels",
        lambda spec: all(_kind_of(spec, judge) not in (None, "Embedder") for judge in _judges(spec)),
    ),
    Rule(
        Spec,
        "evaluation.checks",
        _JUDGED + f"!has(c.judge.method) || (c.judge.method == 'score') == ({_SCORES}))",
        "method score needs a judge that scores and the other methods one that writes; remove judge.method: it follows the model",
        lambda spec: all(_fits(spec, judge) for judge in _judges(spec)),
    ),
    Rule(
        Spec,
        "evaluation.checks",
        _JUDGED + f"!has(c.judge.tieMargin) || !({_SCORES}))",
        "tieMargin is a probability that a judge which writes gives; remove it from the judge that scores",
        lambda spec: all(judge.tie_margin is None or _kind_of(spec, judge) not in SCORING for judge in _judges(spec)),
    ),
    Rule(
        Spec,
        "evaluation.checks",
        "self.recipe != 'fspo' || "
        + given("evaluation.checks")
        + "self.evaluation.checks.all(c, !has(c.selfWinRate) || !has(c.selfWinRate.answers))",
        "fspo asks behind a user's pairs, which nobody else has seen; remove selfWinRate.answers",
        lambda spec: (
            spec.recipe != "fspo"
            or all(check.self_win_rate is None or check.self_win_rate.answers is None for check in _checks_of(spec))
        ),
    ),
    Rule(
        Evaluation,
        "checks",
        given("checks", "when") + f"self.when == 'EachIteration' || !self.checks.exists(c, {_PREVIOUS})",
        "against: previous needs the answers of the iteration before; write when: EachIteration, or against: initial",
        lambda evaluation: (
            evaluation.when in (None, "EachIteration")
            or not any(_against_previous(check) for check in evaluation.checks or ())
        ),
    ),
    Rule(
        Evaluation,
        "selectBy",
        given("selectBy", "checks") + f"!self.checks.exists(c, c.name == self.selectBy && {_PREVIOUS})",
        "compares the rounds, and this check compares each with another model; write the name of a check against one and the "
        "same",
        lambda evaluation: (
            not any(
                check.name == evaluation.select_by and _against_previous(check) for check in evaluation.checks or ()
            )
        ),
    ),
    Rule(
        Spec,
        "evaluation.checks",
        "self.recipe == 'fspo' || "
        + given("evaluation.checks")
        + "!self.evaluation.checks.exists(c, c.type == 'ExactMatch') || (has(self.evaluation.prompts) && "
        "has(self.evaluation.prompts.columns) && has(self.evaluation.prompts.columns.reference))",
        "ExactMatch compares with reference answers; write evaluation.prompts: {url: ..., "
        "columns: {reference: COLUMN}}",
        lambda spec: (
            spec.recipe == "fspo"  # a user's own preferred answers
            or spec.evaluation is None
            or not any(check.type == "ExactMatch" for check in spec.evaluation.checks or ())
            or _columns(spec.evaluation).reference is not None
        ),
    ),
    Rule(
        Evaluation,
        "gates",
        given("gates")
        + "self.gates.all(g, has(self.checks) ? self.checks.exists(c, c.name == g.check) : g.check == 'win')",
        "a gate names no check; write the name of an entry of evaluation.checks (win, where none is written)",
        lambda evaluation: all(gate.check in _types_of(evaluation) for gate in evaluation.gates or ()),
    ),
    Rule(
        Evaluation,
        "gates",
        given("gates")
        + "self.gates.all(g, g.figure != 'gain' || "
        + "(has(self.checks) && self.checks.exists(c, c.name == g.check && c.type != 'SelfWinRate')))",
        "a win rate has no gain: it compares with the model as given; write figure: value or low",
        lambda evaluation: all(
            gate.figure != "gain" or _types_of(evaluation).get(gate.check) != "SelfWinRate"
            for gate in evaluation.gates or ()
        ),
    ),
    Rule(
        Gate,
        "atLeast",
        "self.figure != 'value' || self.atLeast >= 0.0",
        "a value is a share, from 0 to 1, so this says nothing; write a number above 0, or figure: gain, which may be below 0",
        lambda gate: gate.figure != "value" or gate.at_least >= 0,
    ),
    Rule(
        Evaluation,
        "gates",
        given("gates")
        + "self.gates.all(g, g.figure != 'low' || g.atLeast >= 0.0 || "
        + "(has(self.checks) && self.checks.exists(c, c.name == g.check && c.type != 'SelfWinRate')))",
        "low of a win rate is a share, from 0 to 1, and 0.5 is no difference; write atLeast: 0.5",
        lambda evaluation: all(
            gate.figure != "low" or gate.at_least >= 0 or _types_of(evaluation).get(gate.check) != "SelfWinRate"
            for gate in evaluation.gates or ()
        ),
    ),
    Rule(
        Evaluation,
        "gates",
        given("gates") + "self.gates.all(g, self.gates.exists_one(h, h.check == g.check && h.figure == g.figure))",
        "two gates ask for the same figure of a check; keep the one with the higher atLeast",
        lambda evaluation: (
            len({(gate.check, gate.figure) for gate in evaluation.gates or ()}) == len(evaluation.gates or ())
        ),
    ),
    Rule(
        Evaluation,
        "selectBy",
        given("selectBy")
        + "(has(self.checks) ? self.checks.exists(c, c.name == self.selectBy) : self.selectBy == 'win')",
        "names no check; write the name of an entry of evaluation.checks (win, where none is written)",
        lambda evaluation: evaluation.select_by in (None, *_types_of(evaluation)),
    ),
    Rule(
        Evaluation,
        "selectBy",
        given("selectBy", "when") + "self.when == 'EachIteration'",
        "selectBy compares the rounds, so each of them is evaluated; write when: EachIteration, or remove selectBy",
        lambda evaluation: evaluation.select_by is None or evaluation.when in (None, "EachIteration"),
    ),
    Rule(
        Evaluation,
        "stopAfterWorse",
        given("stopAfterWorse") + "has(self.selectBy)",
        "the loop ends by the values of a check; write selectBy: NAME OF A CHECK beside it, or remove stopAfterWorse",
        lambda evaluation: evaluation.stop_after_worse is None or evaluation.select_by is not None,
    ),
    Rule(
        Spec,
        "evaluation.stopAfterWorse",
        given("iterations", "evaluation.stopAfterWorse") + "self.iterations >= self.evaluation.stopAfterWorse + 2",
        "with so few iterations the loop is over before it could end early; write iterations at least 2 above "
        "stopAfterWorse, or remove stopAfterWorse",
        lambda spec: (
            spec.iterations is None
            or spec.evaluation is None
            or spec.evaluation.stop_after_worse is None
            or spec.iterations >= spec.evaluation.stop_after_worse + 2
        ),
    ),
    Rule(
        Evaluation,
        "gates",
        given("gates", "when") + "self.when != 'Never' || size(self.gates) == 0",
        "gates need an evaluation; write when: Last or EachIteration, or remove gates",
        lambda evaluation: evaluation.when != "Never" or not evaluation.gates,
    ),
    Rule(
        TrainingCompute,
        "offload",
        given("offload", "zeroStage") + "self.offload != 'OptimizerAndParameters' || self.zeroStage == 3",
        "parameters can be offloaded only with zeroStage: 3; write that, or offload: Optimizer",
        lambda training: training.offload != "OptimizerAndParameters" or training.zero_stage in (None, 3),
    ),
    Rule(
        TrainingCompute,
        "offload",
        given("offload", "zeroStage") + "self.offload == 'None' || self.zeroStage != 0",
        "zeroStage: 0 offloads nothing; write zeroStage: 1, 2 or 3, or offload: None",
        lambda training: training.offload in (None, "None") or training.zero_stage != 0,
    ),
    Rule(
        GenerationCompute,
        "headPodTemplate",
        given("headPodTemplate") + "(has(self.runtime) && self.runtime == 'RayJob')",
        "the pods of a gang are all alike, and only a RayJob's head may differ; write runtime: RayJob beside it, or "
        "podTemplate for all",
        lambda generation: generation.head_pod_template is None or generation.runtime == "RayJob",
    ),
    Rule(
        Compute,
        "training.gpusPerNode",
        given("device", "training.gpusPerNode") + "self.device != 'CPU' || self.training.gpusPerNode == 0",
        "device: CPU has no GPUs; write compute.training.gpusPerNode: 0 or remove it",
        lambda compute: compute.device != "CPU" or compute.training is None or not compute.training.gpus_per_node,
    ),
    Rule(
        FailurePolicy,
        "backoffSeconds",
        "self.backoffSeconds <= self.maxBackoffSeconds",
        "the first wait is longer than the longest; write backoffSeconds at or below maxBackoffSeconds",
        lambda policy: policy.backoff_seconds <= policy.max_backoff_seconds,
    ),
)

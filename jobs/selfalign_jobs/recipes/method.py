"""The resolved method: what a run computes, with no field left out. Recipes plan from this and from nothing else."""

from __future__ import annotations

from typing import Literal

from selfalign_api.plan import EngineLoad, EngineSettings, FlowJob, Gate, Judge, ModelRef, Role
from selfalign_api.plan_values import Frozen, Json
from selfalign_api.sources import Kind
from selfalign_api.training_values import Loss, TrainSettings


class Draw(Frozen):
    """How a table of the user's (or a built-in one) is drawn from: `count` rows an iteration (None: all, or a part)."""

    given: bool  # whether the spec names a source; else the built-in generator
    count: int | None
    draw: Literal["Same", "Fresh"]


class NearDuplicates(Frozen):
    """When a prompt is too like an earlier one (near_duplicates.py)."""

    method: Literal["Exact", "MinHash", "Embedding"]
    threshold: float | None = None
    ngram: int | None = None
    model_name: str | None = None


class Filters(Frozen):
    """Pairs that do not count."""

    identical: Literal["Drop", "Keep"]
    truncated: Literal["Drop", "Keep"]
    near_duplicates: NearDuplicates | None = None
    max_repetition_percent: int | None = None


class IterationPolicy(Frozen):
    """Where the training of an iteration starts, what it is compared with, and whose pairs it sees."""

    start: Literal["initial", "previous"]
    reference: Literal["initial", "previous"]
    data_window: Literal["Current", "LastTwo", "All"]
    max_new_pairs: int | None

    def start_of(self, iteration: int) -> ModelRef:
        """The policy that iteration k (from 1) starts from."""
        return ModelRef(iteration=0 if self.start == "initial" else iteration - 1)

    def reference_of(self, iteration: int) -> ModelRef:
        """The reference model of iteration k."""
        return ModelRef(iteration=0 if self.reference == "initial" else iteration - 1)

    def window_of(self, iteration: int) -> range:
        """The iterations whose pairs iteration k is trained on."""
        first = {"Current": iteration, "LastTwo": max(1, iteration - 1), "All": 1}[self.data_window]
        return range(first, iteration + 1)


class Override(Frozen):
    """Training values from an iteration on."""

    from_iteration: int
    learning_rate: float | None = None
    beta: float | None = None
    alpha: float | None = None
    epochs: float | None = None


class Training(Frozen):
    """The main training, what changes with the iterations, and the recipe's further trainings."""

    loss: Loss
    settings: TrainSettings
    overrides: tuple[Override, ...] = ()
    stages: dict[str, TrainSettings] = {}

    def loss_of(self, iteration: int) -> Loss:
        """The loss of iteration k: the latest override that sets a field wins."""
        return self.loss.model_copy(update=self._set_by(iteration, ("beta", "alpha")))

    def settings_of(self, iteration: int) -> TrainSettings:
        """The settings of iteration k."""
        return self.settings.model_copy(update=self._set_by(iteration, ("learning_rate", "epochs")))

    def stage(self, name: str) -> TrainSettings:
        """The settings of a further training, one that the recipe's values name in training.stages."""
        return self.stages[name]

    def _set_by(self, iteration: int, fields: tuple[str, ...]) -> dict[str, float]:
        changed: dict[str, float] = {}
        for override in sorted(self.overrides, key=lambda o: o.from_iteration):
            if override.from_iteration <= iteration:
                changed |= {f: getattr(override, f) for f in fields if getattr(override, f) is not None}
        return changed


class Judging(Frozen):
    """Who judges, and how."""

    model_name: str  # self, initial, or a helper
    judge: Judge

    def model(self, own: ModelRef) -> ModelRef:
        """The model that judges, where `own` does for `self`. The control asks none, so it needs no other."""
        if self.model_name == "self" or self.judge.method == "random":
            return own
        return ModelRef() if self.model_name == "initial" else ModelRef(lineage=self.model_name)

    def load(self, own: ModelRef, *jobs: FlowJob) -> EngineLoad:
        """The judge's engine load, which judges or scores."""
        return EngineLoad(model=self.model(own), task="text" if self.judge.scorer is None else "score", jobs=jobs)


class EvaluationCheck(Frozen):
    """One check as the spec names it."""

    name: str
    type: Literal["ExactMatch", "SelfWinRate", "Export", "Benchmark"]
    temperatures: tuple[float, ...] = ()
    against: Literal["initial", "previous", "answers"] = "initial"  # answers: of a file
    judging: Judging | None = None  # None: as the run judges
    format: Literal["AlpacaEval", "ArenaHard", "MTBench"] | None = None  # of an Export

    @property
    def has_questions(self) -> bool:
        """Whether it asks its own, and not the held-out prompts of the run."""
        return self.type == "Benchmark" or self.format == "MTBench"


class Evaluation(Frozen):
    """When and by what the models are compared."""

    when: Literal["EachIteration", "Last", "Never"]
    prompts_given: bool
    checks: tuple[EvaluationCheck, ...]
    select_by: str | None = None
    stop_after_worse: int | None = None
    gates: tuple[Gate, ...] = ()

    def after(self, iteration: int, iterations: int) -> bool:
        """Whether iteration k of n ends with an evaluation."""
        return self.when == "EachIteration" or (self.when == "Last" and iteration == iterations)


class Method(Frozen):
    """A run's method, resolved. Helpers are models of the plan by their names."""

    recipe: str
    iterations: int
    seed: int
    data: dict[str, Draw]
    roles: dict[str, Role]
    filters: Filters
    engine: EngineSettings
    judge: Judge
    judge_model: str  # self, initial, or a helper
    helpers: dict[str, Kind] = {}  # by name
    iteration: IterationPolicy
    training: Training
    evaluation: Evaluation
    options: dict[str, Json]

    @property
    def judging(self) -> Judging:
        """Who judges, and how."""
        return Judging(model_name=self.judge_model, judge=self.judge)

    def judge_of(self, own: ModelRef) -> ModelRef:
        """The model that judges, where `own` does for `self`."""
        return self.judging.model(own)

    def judge_load(self, own: ModelRef, job: FlowJob) -> EngineLoad:
        """The judge's engine load, which judges or scores."""
        return self.judging.load(own, job)

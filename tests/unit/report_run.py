"""A run's folder as a real run leaves it, without a model: the recipe's own flows answered by a table of chances.

Prepared tables, parts and manifests are written by the programs that write them in a run (generate and evaluate find
every record durable and start no engine), so what the report reads here is what a run makes.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from selfalign_api.digest import method_of as digested_method
from selfalign_api.plan import Evaluate, Generate, Plan, Train, digest_of
from selfalign_api.run_file import GenerationMeans, Means, StepConfig, TrainingMeans
from selfalign_api.sources import DataSource, ModelSource
from selfalign_jobs.accept.owner import claim
from selfalign_jobs.accept.resolve import method_of
from selfalign_jobs.evaluate.program import evaluate
from selfalign_jobs.flow import Ask, Compare, Comparison, Completion, Ended, Reply, Request, SetAside, Write
from selfalign_jobs.generate.parts import PartWriter, read_ledger
from selfalign_jobs.generate.program import generate
from selfalign_jobs.generate.records import Batch, PreparedRows, Record
from selfalign_jobs.places.models import model_field
from selfalign_jobs.places.sources import field_of
from selfalign_jobs.places.store import Folder, Manifest, TableEntry, read_manifest, step_folder, write_manifest
from selfalign_jobs.recipes.base import recipe
from selfalign_jobs.recipes.personas import persona
from selfalign_jobs.step.context import StepContext
from selfalign_jobs.step.prepared import prepare_table
from selfalign_jobs.step.progress import Progress
from selfalign_jobs.template import render_template

HOSTILE = 'What does </script><script>window.hit=1</script> do? <img src="http://example.invalid/x" onerror="hit=1"> & {{ 7*7 }}'
WORDS = re.findall(
    r"\w+",
    """the a of and to in it for with on as by from at this that one you can may first then next keep use water light
    time plan cost year small large map boat bread train garden letter note start check measure compare explain list
    two three before after because so while each other more less about between under over simple common local best""",
)


@dataclass(frozen=True)
class Chances:
    """What the make-believe model does. `bias` is what the judge adds, in nats, for the answer that is shown first."""

    personas: int = 1500
    held_out: int = 400
    iterations: int = 1
    method: str = "logprobs"
    bias: float = 0.5
    no_prefix: float = 0.006
    identical: float = 0.12
    unparsed: float = 0.0
    repeated: float = 0.03
    right: tuple[float, ...] = (0.46, 0.81, 0.84)  # at T=1, by iteration
    greedy: tuple[float, ...] = (0.72, 0.89, 0.90)
    hostile: bool = False
    checks: tuple[str, ...] = ("accuracy", "win")
    near: dict[str, Any] | None = None  # generation.filters.nearDuplicates
    until: str | None = None  # the step in which the run stands, with this share of its records done
    share: float = 0.4


@dataclass
class MadeRun:
    """The run: its folder and its plan."""

    folder: Folder
    plan: Plan


def make_run(path: Path, chances: Chances | None = None, seed: int = 0) -> MadeRun:
    """Write a run below `path`, up to the step `until` (all of it without one)."""
    chances = chances or Chances()
    values = _values(chances, seed)
    plan = _plan(path, values, chances, seed)
    folder = Folder.open((path / "out" / "default" / plan.name).as_uri())
    claim(folder, plan, digested_method(values, contents(plan)))
    folder.write("plan.json", plan.model_dump_json().encode())
    clock = datetime.fromisoformat("2026-11-23T09:00:00+00:00")
    for step in plan.steps:
        config = StepConfig(plan=plan, step=step.name, attempt=1, storage=_url(folder), means=MEANS)
        place = step_folder(folder, step.iteration, step.name)
        context = StepContext(config, folder, place, Progress(step.name), threading.Event())
        model = 0 if isinstance(step, Generate) else step.iteration  # a generate step answers held-out prompts as θ0
        world = World(chances, np.random.default_rng([seed, len(step.name), step.iteration]), model)
        unfinished = step.name == chances.until
        if not isinstance(step, Train):
            _generate(context, step, world, chances.share if unfinished else 1.0)
        if unfinished:
            break
        if isinstance(step, Train):
            _train(context, step, world, clock)
        elif isinstance(step, Generate):
            generate(context, step)
        else:
            evaluate(context, step)
        clock = _set_times(place, step, clock)
    return MadeRun(folder, plan)


def contents(plan: Plan) -> dict[str, str]:
    """Digests of what the method's URLs name, by path, as `resolve` makes them."""
    models = {model_field(name).removeprefix("spec."): model.digest for name, model in plan.models.items()}
    return models | {f"{field_of(name)}.url".removeprefix("spec."): s.digest for name, s in plan.sources.items()}


MEANS = Means(
    generation=GenerationMeans(device="CPU"),
    training=TrainingMeans(device="CPU"),
    evaluation=GenerationMeans(device="CPU"),
)


def _url(folder: Folder) -> str:
    return f"file://{folder.path}"


def _values(chances: Chances, seed: int) -> dict[str, Any]:
    """The method in the spec's own shape, as `resolve.method_values` makes it."""
    checks = [
        {"name": "accuracy", "type": "ExactMatch", "exactMatch": {"temperatures": [0, 1]}},
        {"name": "win", "type": "SelfWinRate"},
        {"name": "step", "type": "SelfWinRate", "selfWinRate": {"against": "previous"}},
        {"name": "rival", "type": "SelfWinRate", "selfWinRate": {"answers": {"url": "pvc://selfalign/rival.jsonl"}}},
        {"name": "mine", "type": "Export", "export": {"format": "AlpacaEval"}},
        {"name": "arena", "type": "Export", "export": {"format": "ArenaHard"}},
        {"name": "outside", "type": "SelfWinRate", "judge": {"modelName": "strong"}},
    ]
    checks = [check for check in checks if check["name"] in chances.checks]
    values = recipe("sao").defaults_for({}) | {
        "recipe": "sao",
        "iterations": chances.iterations,
        "seed": seed,
        "model": {"url": "pvc://selfalign/tiny-model"},
        "data": {"personas": {"count": chances.personas, "draw": "Fresh", "url": "pvc://selfalign/personas.txt"}},
        "evaluation": {
            "when": "EachIteration",
            "prompts": {"url": "pvc://selfalign/heldout.jsonl", "columns": {"reference": "reference"}},
            "checks": checks,
        },
    }
    if "outside" in chances.checks:
        values["auxiliaryModels"] = [{"name": "strong", "kind": "Causal", "url": "pvc://selfalign/strong"}]
    values["generation"] |= {"precision": "float32", "maxSetAsidePercent": 5}
    if chances.near is not None:
        values["generation"]["filters"] |= {"nearDuplicates": chances.near}
    values["training"] |= {
        "precision": "float32",
        "overlong": "Drop",
        "adapter": "none",
        "loss": {"type": "simpo", "beta": 2, "gamma": 1},
        "learningRate": 6e-4,
        "epochs": 3,
        "globalBatchSize": 32,
    }
    values["judge"] |= {"method": chances.method, "tieMargin": 0.02 if chances.method == "logprobs" else 0}
    return values


def _plan(path: Path, values: dict[str, Any], chances: Chances, seed: int) -> Plan:
    data = path / "data"
    data.mkdir(parents=True)
    lines = [persona(number) for number in range(chances.personas * chances.iterations)]
    (data / "personas.txt").write_text("\n".join(lines))
    held = pa.table(
        {
            "prompt": [f"Held out question {number}?" for number in range(chances.held_out)],
            "reference": [str(number) for number in range(chances.held_out)],
            "id": [f"q{number}" for number in range(chances.held_out)],
        }
    )
    Folder.open(data.as_uri()).write_table("heldout.parquet", held)
    return Plan(
        version="0.1.0",
        name="sao-tiny",
        recipe="sao",
        seed=seed,
        digest=digest_of(values),
        models={"policy": ModelSource(url="pvc://selfalign/tiny-model", digest=digest_of("tiny"))}
        | {
            each["name"]: ModelSource(url=each["url"], digest=each["name"])
            for each in values.get("auxiliaryModels", ())
        },
        sources={
            "personas": DataSource(url=(data / "personas.txt").as_uri(), digest=digest_of("personas")),
            "evaluation": DataSource(
                url=(data / "heldout.parquet").as_uri(),
                columns={"reference": "reference", "id": "id"},
                digest=digest_of("held out"),
            ),
        }
        | ({"answers-rival": _rival(data, chances)} if "rival" in chances.checks else {}),
        steps=recipe("sao").plan(method_of(values)),
    )


def _rival(data: Path, chances: Chances) -> DataSource:
    """Somebody else's answers to the held-out prompts, but for one in ten."""
    answers = pa.table(
        {
            "prompt": [f"Held out question {number}?" for number in range(chances.held_out)],
            "response": [
                None if number % 10 == 0 else "An answer. " * (number % 7) for number in range(chances.held_out)
            ],
        }
    )
    Folder.open(data.as_uri()).write_table("rival.parquet", answers)
    return DataSource(url=(data / "rival.parquet").as_uri(), digest=digest_of("rival"))


# --- generation: the recipe's flows, answered by chance -------------------------------------------------------------------


@dataclass
class World:
    """Answers requests as a model might."""

    chances: Chances
    rng: np.random.Generator
    model: int  # the iteration of the model that answers
    asked: int = 0
    compared: int = 0
    quality: float = 0.0  # by how much the first of the answers under comparison is the better, nats

    def reply(self, request: Request, row: Mapping[str, Any]) -> Reply:
        """The reply to one request; raises SetAside where the model misses the prefix."""
        if isinstance(request, Compare):
            return self._compared(row)
        if request.role == "writePrompt":
            return [self._completion(self._prompt(row), request)]
        if request.role == "judge":
            return [self._completion(self._judged(), request)]
        if "reference" in row:
            return [self._completion(self._held_out(row, request.role), request)]
        first = self._text()
        same = self.rng.random() < self.chances.identical
        second = first if same else self._text()
        return [self._completion(text, request, offset) for offset, text in enumerate((first, second))]

    def _prompt(self, row: Mapping[str, Any]) -> str:
        if self.rng.random() < self.chances.no_prefix:
            raise SetAside("no prefix", "the output does not begin with User prompt:", row={"persona": row["persona"]})
        self.asked += 1
        if self.chances.hostile and self.asked % 2:
            return f"{HOSTILE} \x1b[31m\u202e {self.asked}"
        if self.rng.random() < self.chances.repeated:
            return "What should I know before I begin?"
        subject = row["persona"].split(" who ")[1].rstrip(".")
        return f"My neighbour {subject}. How would you go about it in {2 + self.asked} hours, and what does it cost?"

    def _text(self) -> str:
        size = int(np.clip(self.rng.lognormal(3.6, 0.7), 2, 250))
        return " ".join(self.rng.choice(WORDS, size)).capitalize() + "."

    def _held_out(self, row: Mapping[str, Any], role: str) -> str:
        # The same draw for a prompt at every iteration: what was right mostly stays right.
        ease = np.random.default_rng([int(row["reference"]), 1]).random() * 0.8 + self.rng.random() * 0.2
        scale = self.chances.greedy if role == "greedy" else self.chances.right
        return f" {row['reference']}\n" if ease < scale[self.model] else "something else"

    def _compared(self, row: Mapping[str, Any]) -> Comparison:
        forward = self.compared % 2 == 0  # requests come in pairs, the first sample shown first and then second
        self.compared += 1
        if forward:
            self.quality = float(self.rng.normal(0.7 if "before" in row else 0.0, 1.6))
        shown_first = self.quality if forward else -self.quality
        margin = shown_first + self.chances.bias + float(self.rng.normal(0, 0.5))
        return Comparison(-math.log1p(math.exp(-margin)), -math.log1p(math.exp(margin)))

    def _judged(self) -> str:
        if self.rng.random() < self.chances.unparsed:
            return "Both answers have their merits."
        return "ranking: A > B" if self.rng.normal(self.chances.bias, 1.6) > 0 else "ranking: B > A"

    def _completion(self, text: str, request: Write, offset: int = 0) -> Completion:
        ids = tuple(int(value) for value in self.rng.integers(10, 700, 1 + round(1.3 * len(text.split()))))
        finish = "length" if len(ids) > 300 else "stop"
        return Completion(text, ids, tuple(range(20)), finish, request.seed + offset)


def _generate(context: StepContext, step: Generate | Evaluate, world: World, share: float) -> None:
    """Run every record of a step, or a share of them, and commit their parts."""
    plan = context.config.plan
    for load in step.loads:
        for job in load.jobs:
            flow = recipe(plan.recipe).flows[job.flow]
            table = prepare_table(context, job.rows, job.out)
            rows = PreparedRows(table, job.out, plan.step_digest(step.name))
            writer = PartWriter(context.folder, job.out, flow.schema, 1, read_ledger(context.folder, rows, 1))
            for source in range(int(len(rows) * share)):
                (row,) = rows.rows([source])
                ask = Ask(job, plan.seed, rows.id(source, row), render_template)
                record = Record(ask.record, source, 0, "rows")
                _run(flow.run(row, ask), record, world, row)
                writer.add(Batch.of([record], flow.schema))
                if writer.due:
                    writer.commit(0.9)
            writer.commit(0.9)
            context.tables[job.out] = writer.ledger.entry


def _run(flow: Generator[Any, Any, Any], record: Record, world: World, row: Mapping[str, Any]) -> None:
    reply: Any = None
    try:
        while True:
            asked = flow.throw(reply) if isinstance(reply, Ended) else flow.send(reply)
            try:
                several = asked if isinstance(asked, list) else [asked]
                replies = [world.reply(request, row) for request in several]
                for request, found in zip(several, replies, strict=True):
                    counts = record.tokens.setdefault(request.role, [0, 0])
                    counts[0] += 24
                    counts[1] += sum(len(c.ids) for c in found) if isinstance(found, list) else 0
                reply = replies if isinstance(asked, list) else replies[0]
            except SetAside as aside:
                reply = aside
    except StopIteration as stop:
        record.rows = stop.value
    except Ended as ended:
        record.status = "set-aside" if isinstance(ended, SetAside) else "dropped"
        record.reason, record.detail = ended.reason, ended.detail or None
        record.rows = () if ended.row is None else (ended.row,)


# --- training: what its program leaves ------------------------------------------------------------------------------------


def _train(context: StepContext, step: Train, world: World, clock: datetime) -> None:
    plan = context.config.plan
    pairs = prepare_table(context, step.data, "pairs")
    steps = max(2, math.ceil(pairs.num_rows * step.settings.epochs / step.settings.global_batch_size))
    done = np.linspace(0, 1, steps)
    margin = 3.2 * (1 - np.exp(-4 * done)) + world.rng.normal(0, 0.18, steps)
    log = pa.table(
        {
            "step": np.arange(1, steps + 1),
            "loss": np.log1p(np.exp(1 - margin)) + world.rng.normal(0, 0.03, steps),
            "learning_rate": step.settings.learning_rate * np.minimum(10 * done, (1 + np.cos(np.pi * done)) / 2),
            "margin": margin,
            "accuracy": np.clip(0.5 + 0.46 * (1 - np.exp(-6 * done)) + world.rng.normal(0, 0.04, steps), 0, 1),
            "tokens_per_second": world.rng.normal(21_000, 900, steps),
            "seconds": 18.2 * done,
        }
    )
    context.folder.write_table("parts/log.parquet", log)
    manifest = Manifest(
        step=step.name,
        kind=step.kind,
        digest=plan.step_digest(step.name),
        recipe=plan.recipe,
        version=plan.version,
        attempt=1,
        started=clock.isoformat(),
        finished=clock.isoformat(),
        active_seconds=24.8,
        tables={"log": TableEntry(parts=("parts/log.parquet",), rows=log.num_rows)},
        model="model",
        versions={"transformers": "5.19.0", "deepspeed": "0.19.8", "torch": "2.13.0"},
        seed=plan.seed,
        tokens={"train": 512_000},
        result={
            "droppedOverlong": 3,
            "attention": "packed varlen bfloat16",
            "microBatchTokens": 21_334,
            "zeroStage": 2,
            "tokensPerSecond": 21_040.2,
            "computedTokensPerSecond": 15_480.9,
            "mfu": 0.4123,
            "seconds": {"start": 4.1, "load": 2.1, "train": 18.2, "export": 0.4},
        },
    )
    write_manifest(context.folder, manifest)


def _set_times(place: Folder, step: Any, clock: datetime) -> datetime:
    """Give a step the times and versions that a run with engines has."""
    manifest = read_manifest(place)
    assert manifest is not None
    changed: dict[str, Any] = {"started": clock.isoformat()}
    seconds = dict(manifest.result["seconds"])
    if not isinstance(step, Train):
        seconds |= {"engineStart": 14.2, "generate": 31.7 if isinstance(step, Generate) else 6.4}
        made = sum(count for name, count in manifest.tokens.items() if name.endswith(".out"))
        active = seconds["generate"]
        changed |= {"active_seconds": active, "versions": {"vllm": "0.32.0", "ray": "2.60.0", "torch": "2.13.0"}}
        changed["result"] = manifest.result | {"seconds": seconds, "tokensPerSecond": made / active}
    finished = clock + timedelta(seconds=sum(seconds.values()) + 1.3)
    write_manifest(place, manifest.model_copy(update=changed | {"finished": finished.isoformat()}))
    return finished

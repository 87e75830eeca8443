"""A run played without its models: its flows, templates, tokenizers and tables, with answers as long as they may be."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from selfalign_api.errors import ConfigError
from selfalign_api.plan import ArtifactRef, EngineLoad, Evaluate, FlowJob, Generate, Plan, Prepare, TableRef, Train
from selfalign_jobs.flow import Comparison, Likely, Ranking, Scores, Vector
from selfalign_jobs.generate.chat import ModelChat
from selfalign_jobs.generate.classifier import reading_of
from selfalign_jobs.generate.embed_render import EmbedRenderer
from selfalign_jobs.generate.engine import (
    Answer,
    EngineFacts,
    EngineRequest,
    EngineResult,
    Head,
    KvUse,
    Labels,
    Pairs,
    Sample,
    Sampling,
    Tail,
)
from selfalign_jobs.generate.loop import FlowLoop, JobSetup, Task
from selfalign_jobs.generate.pair_ranker import RankerConfig, read_ranker_tokens
from selfalign_jobs.generate.records import Batch
from selfalign_jobs.generate.render import Renderer
from selfalign_jobs.generate.score_render import AsTrained, Conversations, PairRenderer, ScoreRenderer
from selfalign_jobs.generate.tokenizer import read_tokenizer
from selfalign_jobs.local.measured import Key, Measured, Table, share_made, tokens_of_row
from selfalign_jobs.places.sources import open_source
from selfalign_jobs.recipes.base import recipe
from selfalign_jobs.step.prepared import rows_of
from selfalign_jobs.train.settings import Reads
from selfalign_jobs.train.written import ids_by

RECORDS = 20  # of each table
SEQUENCES = 64
CONTEXT = 1 << 20  # what does not fit is set aside by a real run, and takes no tokens


class Verbose:
    """An engine that answers at once, in words of what it is asked, and as many as it may. Its judgements are random."""

    def __init__(self, chat: ModelChat | None, seed: str) -> None:
        """Without `chat` it writes nothing, and only scores."""
        self.facts = EngineFacts(CONTEXT, SEQUENCES, start_seconds=0.0)
        self._chat = chat
        self._words: dict[int, None] = {}  # tokens of all prompts so far
        self._open: dict[str, EngineRequest] = {}
        self._random = random.Random(seed)
        self._compared = 0

    def submit(self, request: EngineRequest) -> None:
        """It is answered at the next step."""
        self._open[request.id] = request
        if self._chat is not None:
            self._words |= {id: None for id in request.prompt_ids if id not in self._chat.tokenizer.added}

    def step(self) -> list[EngineResult]:
        """All that is open."""
        answered = [EngineResult(id, self._answer(request)) for id, request in self._open.items()]
        self._open.clear()
        return answered

    def kv_use(self) -> KvUse:
        """It has no cache."""
        return KvUse(0.0, 0)

    def abort(self, id: str) -> None:
        """Forget a request."""
        self._open.pop(id, None)

    def _answer(self, request: EngineRequest) -> Answer:
        task, drawn = request.task, self._random
        if isinstance(task, Sampling):
            return tuple(self._sample(task.max_tokens) for _ in range(task.n))
        if isinstance(task, Labels):  # both orders, one after the other: the same answer is better in both
            self._compared += 1
            return Comparison(-0.1, -2.3) if self._compared % 2 else Comparison(-2.3, -0.1)
        if isinstance(task, Tail):
            return Likely(-float(task.tokens), greedy=False)
        if isinstance(task, Head):
            return Scores((drawn.uniform(-10, 10),))
        if isinstance(task, Pairs):
            every = range(task.answers)
            return Ranking(tuple(tuple(0.0 if i == j else drawn.uniform(-10, 10) for j in every) for i in every))
        return Vector(tuple(drawn.gauss(0, 0.25) for _ in range(16)))

    def _sample(self, tokens: int) -> Sample:
        assert self._chat is not None
        return Sample((*self._random.choices([*self._words], k=tokens - 1), self._chat.end_id), "stop")


@dataclass
class Play:
    """A few records of each table, as far as they come. `models` are folders with what a tokenizer needs, by lineage."""

    plan: Plan
    models: Mapping[str, Path]
    mounts: Mapping[str, str]
    first: Mapping[Key, pa.Table]  # of tables that are prepared already
    tables: dict[Key, Table] = field(default_factory=dict)
    row_tokens: dict[str, float] = field(default_factory=dict)
    made: dict[Key, float] = field(default_factory=dict)  # of tables whose rows become several records

    def run(self) -> Measured:
        """What the records took, of those tables that can be made without a model."""
        for step in self.plan.steps:
            if isinstance(step, Generate | Evaluate):
                for load in step.loads:
                    for job in load.jobs:
                        if (rows := self._prepared((step.name, job.out), job.rows)) is not None and rows.num_rows:
                            self.tables[step.name, job.out] = self._played(step.name, load, job, rows)
            elif isinstance(step, Train):
                self._look_at(step)
        return Measured(self.tables, self.made, self.row_tokens)

    def _look_at(self, step: Train) -> None:
        """How long its rows are, or, where none could be made, may be."""
        rows = self._prepared((step.name, ""), step.data)
        if rows is not None and rows.num_rows:
            if "prompt_ids" not in rows.column_names:
                rows = ids_by(self._chat(self.plan.origin(step.start), None), step, rows)
            self.row_tokens[step.name] = tokens_of_row(step, rows)
        else:
            answers = len(Reads.of(step.loss.type).columns) - 1
            self.row_tokens[step.name] = answers * step.settings.max_length_tokens

    def _prepared(self, key: Key, prepare: Prepare) -> pa.Table | None:
        """The first rows of a prepared table; None where it needs what no model has written, or made sense of."""
        if key in self.first:
            return self.first[key].slice(0, RECORDS)
        if any(isinstance(ref, ArtifactRef) and (ref.step, ref.name) not in self.tables for ref in prepare.inputs):
            return None
        made = recipe(self.plan.recipe).prepares[prepare.fn]
        try:
            rows = made.run(tuple(map(self._input, prepare.inputs)), prepare.options)
        except ConfigError:  # too few rows, as the recipe has it: of words that mean nothing
            return None
        share = share_made(self.plan, prepare, rows.num_rows, self.tables)
        if share is not None and share > 1:
            self.made[key] = share
        return rows.slice(0, RECORDS)

    def _input(self, ref: TableRef) -> pa.Table:
        if isinstance(ref, ArtifactRef):
            rows = self.tables[ref.step, ref.name].rows
            assert rows is not None
            return rows_of(rows)
        return open_source(ref.name, self.plan.sources[ref.name], self.mounts).read()

    def _played(self, step: str, load: EngineLoad, job: FlowJob, rows: pa.Table) -> Table:
        """What these rows take. No record is counted as dropped: a model would decide that."""
        flow = recipe(self.plan.recipe).flows[job.flow]
        roles = {name: role.model_copy(update={"output_prefix": None}) for name, role in job.roles.items()}
        job = job.model_copy(update={"roles": roles})
        origin, kind = self.plan.origin(load.model), self.plan.kind_of(load.model)
        chat = self._chat(origin, load.chat_template) if kind == "Causal" else None
        reader = Renderer(chat, roles, CONTEXT) if chat is not None else self._scorer(load)
        loop = FlowLoop(
            Verbose(chat, f"{step} {job.out}"), {job.out: JobSetup(job, flow.run, reader, self.plan.seed)}, SEQUENCES
        )
        loop.add([Task(job.out, number, str(number), 0, row) for number, row in enumerate(rows.to_pylist())])
        while loop.unfinished:
            loop.advance()
        batch = Batch.of(loop.take_finished()[job.out], flow.schema)
        tokens = {role: (read, written) for role, (read, written) in batch.tokens.items()}
        return Table(job.flow, rows.num_rows, rows.num_rows, tokens, kind != "Causal", batch.lines)

    def _scorer(self, load: EngineLoad) -> ScoreRenderer | PairRenderer | EmbedRenderer:
        """What a model that scores reads."""
        origin, kind = self.plan.origin(load.model), self.plan.kind_of(load.model)
        folder, given = self.models[origin], self.plan.models[origin]
        if kind == "PairRanker":
            return PairRenderer(read_ranker_tokens(folder, RankerConfig.of(folder)))
        if kind == "Embedder":
            return EmbedRenderer.of(folder, CONTEXT)
        if kind == "Classifier":
            return ScoreRenderer(reading_of(folder, given), CONTEXT)
        trained = self.plan.trainer_of(load.model) is not None
        return ScoreRenderer((AsTrained if trained else Conversations)(self._chat(origin, load.chat_template)), CONTEXT)

    def _chat(self, origin: str, fallback: str | None) -> ModelChat:
        return ModelChat.of(self.models[origin], self.plan.models[origin], fallback, read_tokenizer)

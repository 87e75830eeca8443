"""Prompts as vectors of a helper model, where near duplicates are found by them (nearDuplicates: Embedding)."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pyarrow as pa

from selfalign_api.plan import ArtifactRef, EngineLoad, FlowJob, ModelRef, Prepare
from selfalign_jobs.flow import Ask, Request, Row
from selfalign_jobs.recipes.base import FlowDef
from selfalign_jobs.recipes.method import Method

VECTORS = pa.schema([("prompt", pa.string()), ("vector", pa.list_(pa.float32()))])
TABLE = "prompt-vectors"


def embed_prompt(row: Row, ask: Ask) -> Generator[Request, Any, list[Row]]:
    """The vector of a prompt."""
    vector = yield ask.embed(row["prompt"])
    return [{"prompt": row["prompt"], "vector": vector.values}]


EMBED = FlowDef(embed_prompt, VECTORS)


def embedder(method: Method) -> ModelRef | None:
    """Whose vectors tell near duplicates; None where they are not told by vectors."""
    near = method.filters.near_duplicates
    return None if near is None or near.model_name is None else ModelRef(lineage=near.model_name)


def prompt_tables(method: Method, name: str) -> tuple[str, ...]:
    """The names of a step's tables with prompts, and, where they are compared, with the vectors of these."""
    return (name,) if embedder(method) is None else (name, TABLE)


def embedding_loads(method: Method, step: str, table: str = "pairs") -> tuple[EngineLoad, ...]:
    """The load that embeds the prompts of a step's table; none where nobody compares vectors."""
    model = embedder(method)
    if model is None:
        return ()
    prompts = Prepare(fn="questions", inputs=(ArtifactRef(step=step, name=table),))
    return (EngineLoad(model=model, task="embed", jobs=(FlowJob(flow="embed", rows=prompts, out=TABLE),)),)

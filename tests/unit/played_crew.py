"""What a crew's processes load in a test: a flow of one request, on an engine without a model."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pyarrow as pa
from fake_engine import FakeEngine, likes_first
from logged_engine import LettersChat

from selfalign_api.errors import ConfigError
from selfalign_api.plan import FlowJob, Prepare, Role
from selfalign_api.run_file import GenerationMeans
from selfalign_jobs.flow import Ask, Row
from selfalign_jobs.generate.host import HostSetup
from selfalign_jobs.generate.loop import Task
from selfalign_jobs.recipes.base import FlowDef

GPU = GenerationMeans(device="GPU")
SCHEMA = pa.schema([("topic", pa.string())])
SEQUENCES = 8  # of a GPU


def flow(row: Row, ask: Ask) -> Generator[Any, Any, list[Row]]:
    yield ask.write("ask", prompt=row["topic"])
    return [{"topic": row["topic"]}]


def folder() -> Path:
    return Path("/nowhere")


def environment() -> dict[str, str]:
    return {}


def make_chat(model: Path) -> LettersChat:
    return LettersChat()


def make_engine(model: Path, engines: int) -> FakeEngine:
    if model.name == "refused":
        raise ConfigError.one("spec.generation.maxModelTokens", "is more than the engine has room for", 7)
    return FakeEngine(likes_first, sequences=SEQUENCES // engines)


def setup() -> HostSetup:
    job = FlowJob(flow="f", rows=Prepare(fn="draw"), out="out", roles={"ask": Role(max_tokens=8)})
    return HostSetup(GPU, folder, make_chat, make_engine, {"out": job}, {"out": FlowDef(flow, SCHEMA)}, 0, environment)


def tasks(count: int) -> list[Task]:
    return [Task("out", number, f"r{number}", 1, {"topic": f"t{number}"}) for number in range(count)]

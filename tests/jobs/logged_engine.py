"""A fake model for real Ray: every request that any engine gets is a line in a log, written before it is taken.

While the log's folder has a file `hold`, no request is finished: a test can wait for a state in the middle of the work.
"""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from selfalign_jobs.flow import Comparison
from selfalign_jobs.generate.chat import History
from selfalign_jobs.generate.engine import (
    EngineFacts,
    EngineRequest,
    EngineResult,
    KvUse,
    Labels,
    Sample,
)

STEP_SECONDS = 0.02  # slow enough to be killed in the middle
HOLD = "hold"


class LettersChat:
    """A chat whose tokens are characters."""

    end_id = 2
    reasoning = None

    def text(self, user: str, history: History = ()) -> str:
        return f"{user}\n"

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def given(self, user: str, answer: str, history: History = ()) -> tuple[list[int], list[int]]:
        return self.encode(self.text(user, history)), [*self.encode(answer), self.end_id]

    def decode(self, ids: tuple[int, ...]) -> str:
        return "".join(chr(id) for id in ids if id != self.end_id)


@dataclass(frozen=True)
class LogLine:
    """One request as an engine got it."""

    nanoseconds: int  # wall clock
    pid: int
    record: str


class LoggedEngine:
    """Answers by a hash of prompt and seed, each request after as many steps as its hash says."""

    def __init__(self, folder: Path) -> None:
        self.facts = EngineFacts(context_tokens=4096, max_sequences=16, start_seconds=0.0, versions={"fake": "1"})
        self._hold = folder / HOLD
        # Unbuffered and appending: a killed process has written all that it got.
        self._log = os.open(folder / f"{os.getpid()}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._open: dict[str, tuple[EngineRequest, int]] = {}
        self._steps = 0

    def submit(self, request: EngineRequest) -> None:
        record = request.id.split("-")[0]
        os.write(self._log, f"{time.time_ns()} {os.getpid()} {record}\n".encode())
        self._open[request.id] = (request, self._steps + 1 + digest(request) % 7)

    def step(self) -> list[EngineResult]:
        time.sleep(STEP_SECONDS)
        if self._hold.exists():
            return []
        self._steps += 1
        done = [id for id, (_, due) in self._open.items() if due <= self._steps]
        return [EngineResult(id, answer(self._open.pop(id)[0])) for id in done]

    def kv_use(self) -> KvUse:
        return KvUse(0.0, 0)

    def abort(self, id: str) -> None:
        self._open.pop(id, None)


def digest(request: EngineRequest) -> int:
    text = f"{list(request.prompt_ids)} {request.task}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "big")


def answer(request: EngineRequest) -> tuple[Sample, ...] | Comparison:
    number = digest(request)
    if isinstance(request.task, Labels):
        return Comparison(-0.1 - number % 5, -0.1 - number // 5 % 5)
    start = "no prefix" if number % 50 == 0 else "User prompt:"  # some miss it, as real models do
    texts = [f"{start} {number + sample}" for sample in range(request.task.n)]
    return tuple(Sample((*map(ord, text), LettersChat.end_id), "stop") for text in texts)


def read_logs(folder: Path) -> list[LogLine]:
    """All requests that all engines got; a line that is just being written counts at the next look."""
    whole = (file.read_text().rpartition("\n")[0] for file in folder.glob("*.log"))
    lines = (line.split() for text in whole for line in text.splitlines())
    return [LogLine(int(when), int(pid), record) for when, pid, record in lines]

"""A crew: several engines of a small model on one GPU, each in a process of its own, all ended with whoever holds them.

A step of a small model takes the GPU less time than vLLM's scheduler and our loop take for it on the host, where both
share one thread: one such engine leaves the GPU idle (benchmarks/README.md, Generation). Two take turns: while one's step
runs, the other's host works.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

import pyarrow as pa
from ray import cloudpickle

from selfalign_api.run_file import GenerationMeans
from selfalign_jobs.generate.engine import EngineFacts, KvUse
from selfalign_jobs.generate.host import EngineHost, HostSetup, Word
from selfalign_jobs.generate.loop import Task
from selfalign_jobs.generate.records import Batch, add_tokens
from selfalign_jobs.step.parent import end_with_parent
from selfalign_jobs.step.words import ended_by

SMALL_BYTES = 5 << 30  # of weights: some 2.5 billion parameters of 16 bits
# A smaller card is slower too, and the KV cache that two engines leave it would be what they wait for.
LARGE_CARD_BYTES = 60 << 30
ENGINES = 2  # with three the host's processes do the same and the KV cache of each is smaller
MEMORY_ARGUMENTS = {"gpu_memory_utilization", "kv_cache_memory_bytes", "num_gpu_blocks_override"}


def engines_of(model: Path, means: GenerationMeans, card_bytes: Callable[[], int] | None = None) -> int:
    """How many engines a GPU takes: by the weights in the model's folder and the card's memory.

    It is one where `engineArgs` speak of that memory. `card_bytes` is asked only where it matters.
    """
    arguments = {name.replace("-", "_") for name in means.engine_args}
    if means.device == "CPU" or means.tensor_parallel_size > 1 or arguments & MEMORY_ARGUMENTS:
        return 1
    weights = sum(file.stat().st_size for pattern in ("*.safetensors", "*.bin") for file in model.glob(pattern))
    if not 0 < weights < SMALL_BYTES:
        return 1
    return ENGINES if (card_bytes or _card_bytes)() >= LARGE_CARD_BYTES else 1


def _card_bytes() -> int:
    """Memory of this process' GPU, asked of the driver: no context on it, which would keep some."""
    from vllm.platforms import current_platform

    return int(current_platform.get_device_total_memory(0))


class Crew:
    """The engines of one GPU as one worker: rows go to the one with the fewest, words are put together."""

    def __init__(self, setup: HostSetup, model: Path, engines: int) -> None:
        """Start one after another: vLLM takes the memory that it finds free, and none must take it meanwhile."""
        self._members: list[_Member] = []
        for _ in range(engines):
            self._members.append(_Member(setup, model, engines))
        self.facts = together([member.facts for member in self._members])

    def exchange(self, tasks: list[Task], back: int) -> Word:
        """As `EngineHost.exchange`, of all of them at once."""
        shares: dict[int, list[Task]] = {number: [] for number in range(len(self._members))}
        held = [member.held for member in self._members]
        for task in tasks:
            fewest = held.index(min(held))
            shares[fewest].append(task)
            held[fewest] += 1
        for number, member in enumerate(self._members):
            member.ask(shares[number], -(-back // len(self._members)))
        words = [member.word() for member in self._members]
        return Word(
            {
                out: joined([word.batches[out] for word in words if out in word.batches])
                for word in words
                for out in word.batches
            },
            KvUse(
                sum(word.kv_use.share for word in words) / len(words), sum(word.kv_use.preemptions for word in words)
            ),
            [row for word in words for row in word.given_back],
        )


class _Member:
    """One engine's process."""

    def __init__(self, setup: HostSetup, model: Path, engines: int) -> None:
        self._pipe, theirs = Pipe()
        command = [sys.executable, "-m", "selfalign_jobs.generate.crew", str(theirs.fileno()), str(os.getpid())]
        path = os.pathsep.join(entry for entry in sys.path if entry)
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=os.environ | {"PYTHONPATH": path})
        theirs.close()
        with suppress(OSError):
            self._pipe.send_bytes(cloudpickle.dumps((setup, model, engines)))
        self.facts: EngineFacts = self._answer()
        self.held = 0

    def ask(self, tasks: list[Task], back: int) -> None:
        self.held += len(tasks)
        with suppress(OSError):  # it has ended: the answer says how
            self._pipe.send((tasks, back))

    def word(self) -> Word:
        word: Word = self._answer()
        self.held -= sum(len(batch.sources) for batch in word.batches.values()) + len(word.given_back)
        return word

    def _answer(self) -> Any:
        try:
            answer = cloudpickle.loads(self._pipe.recv_bytes())
        except (EOFError, OSError):
            code = self._process.wait()
            how = f"was {ended_by(-code)}" if code < 0 else f"ended with exit code {code}"
            raise RuntimeError(f"an engine's process {how}") from None
        if isinstance(answer, Exception):
            raise answer
        return answer


def together(facts: Sequence[EngineFacts]) -> EngineFacts:
    """The facts of several engines as one worker's."""
    first = facts[0]
    cache = [each.kv_tokens for each in facts if each.kv_tokens is not None]
    return EngineFacts(
        context_tokens=first.context_tokens,
        max_sequences=sum(each.max_sequences for each in facts),
        start_seconds=sum(each.start_seconds for each in facts),
        kv_tokens=sum(cache) if cache else None,
        queues_steps=first.queues_steps,
        versions=first.versions,
    )


def joined(batches: Sequence[Batch]) -> Batch:
    """Batches of one table as one."""
    tokens: dict[str, list[int]] = {}
    for batch in batches:
        add_tokens(tokens, batch.tokens)
    return Batch(
        pa.concat_tables([batch.lines for batch in batches]),
        [lease for batch in batches for lease in batch.leases],
        [source for batch in batches for source in batch.sources],
        [outcome for batch in batches for outcome in batch.outcomes],
        tokens,
        sum((batch.verdicts for batch in batches), Counter()),
        sum((batch.preferred for batch in batches), Counter()),
    )


def serve(pipe: Connection) -> None:
    """An engine's process: its setup, then exchanges, until whoever asks is gone."""
    setup, model, engines = cloudpickle.loads(pipe.recv_bytes())
    try:
        host = EngineHost(setup, model, engines)
        pipe.send_bytes(cloudpickle.dumps(host.facts))
        while True:
            pipe.send_bytes(cloudpickle.dumps(host.exchange(*pipe.recv())))
    except EOFError:
        return
    except Exception as error:  # raised again by the holder
        pipe.send_bytes(cloudpickle.dumps(error))


if __name__ == "__main__":
    end_with_parent(signal.SIGKILL, parent=int(sys.argv[2]))  # no process is left on its GPU
    serve(Connection(int(sys.argv[1])))

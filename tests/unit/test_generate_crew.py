"""A crew: engines of one GPU in processes of their own; here their model is played."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from played_crew import GPU, SEQUENCES, folder, setup, tasks

from selfalign_api.errors import ConfigError
from selfalign_api.run_file import GenerationMeans
from selfalign_jobs.generate.crew import SMALL_BYTES, Crew, engines_of

PATIENCE_SECONDS = 60
H100, A10 = 79 << 30, 22 << 30


def processes() -> list[psutil.Process]:
    return [each for each in psutil.Process().children() if "selfalign_jobs.generate.crew" in each.cmdline()]


@pytest.fixture(name="crew", scope="module")
def _crew() -> Crew:
    return Crew(setup(), folder(), 2)


def test_a_crew_works_as_one_engine_would(crew: Crew) -> None:
    assert crew.facts.max_sequences == SEQUENCES
    rows = tasks(50)
    done: list[int] = []
    while len(done) < 50:
        word = crew.exchange(rows, 0)
        rows = []
        for out, batch in word.batches.items():
            assert out == "out"
            assert sorted(set(batch.lines["_source"].to_pylist())) == sorted(batch.sources)
            done += batch.sources
    assert sorted(done) == list(range(50))


def test_rows_that_no_engine_has_begun_are_given_back(crew: Crew) -> None:
    word = crew.exchange(tasks(40), 10)
    assert len(word.given_back) == 10
    finished = [source for batch in word.batches.values() for source in batch.sources]
    assert sorted([row for _, row in word.given_back] + finished) == list(range(40))


def test_an_engine_that_is_killed_ends_the_crew(crew: Crew) -> None:
    killed = processes()[-1]
    killed.kill()
    with pytest.raises(RuntimeError, match="an engine's process was ended by SIGKILL"):
        crew.exchange(tasks(4), 0)


def test_what_refuses_an_engine_is_raised_where_the_crew_is_held() -> None:
    with pytest.raises(ConfigError, match="maxModelTokens"):
        Crew(setup(), folder().with_name("refused"), 2)


def test_a_holder_that_is_killed_leaves_no_engine() -> None:
    """Whenever it dies: once all are there, and while they start."""
    program = (
        "import played_crew, time; from selfalign_jobs.generate.crew import Crew; "
        "crew = Crew(played_crew.setup(), played_crew.folder(), 2); "
        "print('ready', flush=True); time.sleep(600)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    for wait_for in ("one", "all"):
        holder = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment)
        assert holder.stdout is not None
        if wait_for == "all":
            assert holder.stdout.readline() == b"ready\n"
        while not (family := psutil.Process(holder.pid).children()):
            assert holder.poll() is None
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
        _, alive = psutil.wait_procs(family, timeout=PATIENCE_SECONDS)
        assert not alive, f"killed when {wait_for} was there, it leaves an engine"


@pytest.mark.parametrize(
    ("means", "weights", "card", "engines"),
    [
        (GPU, {"model.safetensors": 2 << 30}, H100, 2),
        (GPU, {"model.safetensors": 2 << 30}, A10, 1),
        (GPU, {"model-1.safetensors": 3 << 30, "model-2.safetensors": 3 << 30}, H100, 1),
        (GPU, {"pytorch_model.bin": 1 << 30}, H100, 2),
        (GPU, {"model.safetensors": SMALL_BYTES}, H100, 1),
        (GPU, {}, H100, 1),
        (GenerationMeans(device="CPU"), {"model.safetensors": 1 << 20}, H100, 1),
        (GenerationMeans(device="GPU", tensor_parallel_size=2), {"model.safetensors": 1 << 20}, H100, 1),
        (
            GenerationMeans(device="GPU", engine_args={"gpu-memory-utilization": 0.5}),
            {"model.safetensors": 1 << 20},
            H100,
            1,
        ),
        (GenerationMeans(device="GPU", engine_args={"max_num_seqs": 64}), {"model.safetensors": 1 << 20}, H100, 2),
    ],
)
def test_a_large_gpu_takes_two_engines_of_a_small_model(
    means: GenerationMeans, weights: dict[str, int], card: int, engines: int, tmp_path: Path
) -> None:
    for name, size in weights.items():
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
    assert engines_of(tmp_path, means, lambda: card) == engines

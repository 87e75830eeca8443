"""A failure speaks first: its type and words, then what to do about it; its kind decides the exit code."""

from __future__ import annotations

import errno
import json
import traceback
import zipfile
from collections.abc import Callable

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.exceptions import ActorUnavailableError, OutOfDiskError, RayTaskError
from safetensors import SafetensorError

from selfalign_api.errors import ConfigError
from selfalign_api.outcome import TERMINATION_MESSAGE_BYTES, termination_message
from selfalign_jobs.step.ending import ending
from selfalign_jobs.step.failure import KINDS, Failed, kind_of
from selfalign_jobs.step.words import plain, words_of


class OutOfMemoryError(RuntimeError):
    """As torch's."""


FAILURES: dict[str, list[BaseException]] = {
    "full storage": [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded", "/mnt/claim/x"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        SafetensorError('Error while serializing: IoError(Os { code: 28, kind: StorageFull, message: "…" })'),
        OSError("Error writing bytes to file. Detail: [errno 28] No space left on device"),  # pyarrow, without a number
        zipfile.BadZipFile("could not write: [Errno 28] No space left on device"),
        RuntimeError("PytorchStreamWriter failed writing file data/12: file write failed"),
        RuntimeError("[enforce fail at inline_container.cc:603] . unexpected pos 320 vs 210"),
        RuntimeError("basic_ios::clear: iostream error"),
        OutOfDiskError("Local disk is full"),
        OSError("When completing multiple part upload: AWS Error UNKNOWN: XMinioStorageFull: no free drive"),
        Failed("training", "OSError: [Errno 122] Disk quota exceeded"),
    ],
    "memory of the GPU": [
        OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.1 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("NCCL error: Cuda failure 2 'out of memory'"),
        ValueError("No available memory for the cache blocks. Try increasing `gpu_memory_utilization`"),
        ValueError("Free memory on device (3/79 GiB) on startup is less than desired GPU memory utilization (0.9)"),
    ],
    "main memory": [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory: you tried to"),
        pa.ArrowMemoryError("malloc of size 4294967296 failed"),
        Failed("training", "rank 1 of 2 died without a word (killed, or out of memory)"),
        RuntimeError("Task was killed due to the node running low on memory."),
    ],
    "shared memory": [
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. You might be out of shared memory"),
        RuntimeError("unable to write to file </torch_12_34_5>: No space left on device (28)"),
        RuntimeError("Error while creating shared memory segment /dev/shm/nccl-x (size 5767520), error: No space left on device"),
        RuntimeError("This might be caused by insufficient shared memory (shm)."),
        Failed("generation", "the program was ended by SIGBUS"),
    ],
    "lost node": [
        ActorUnavailableError("The actor is temporarily unavailable: RpcError", None),
        RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.0.0.2]:2345"),
        RuntimeError("NCCL error: ncclRemoteError: A call failed possibly due to a network error"),
        RuntimeError("the 2 nodes of this training lost one another"),
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        Failed("generation", "The actor died because its node has died."),
    ],
    "architecture": [
        ValueError("Model architectures ['XForCausalLM'] are not supported for now."),
        ValueError("The checkpoint has model type `x` but Transformers does not recognize this architecture."),
    ],
    "code of the model's": [
        ValueError("The repository x contains custom code which must be executed to correctly load the model."),
        ValueError("Please pass the argument `trust_remote_code=True` to allow custom code to be run."),
    ],
    "broken weights": [SafetensorError("Error while deserializing header: incomplete metadata, file not fully covered")],
    "a place out of reach": [ConnectionError("spec.model.url: the hub cannot be reached now: Connection refused")],
}  # fmt: skip
CASES = [(kind, error) for kind, errors in FAILURES.items() for error in errors]


def ended(error: BaseException) -> tuple[int, str]:
    def work() -> dict[str, object]:
        raise error

    code, message = ending(work)
    return code, str(message.get("error") or message.get("stopped"))


@pytest.mark.parametrize(("kind", "error"), CASES, ids=[f"{kind}: {error}"[:60] for kind, error in CASES])
def test_its_kind_decides_the_code_and_says_what_to_do(kind: str, error: BaseException) -> None:
    wanted = next(found for found in KINDS if found.name == kind)
    code, words = ended(error)
    assert code == wanted.code
    section = error.section if isinstance(error, Failed) else None
    assert words.startswith(words_of(error).rstrip(" .") if not isinstance(error, Failed) else str(error).rstrip(" ."))
    assert words.endswith(wanted.advises(section))


def test_every_kind_is_tried() -> None:
    assert set(FAILURES) == {kind.name for kind in KINDS}


@pytest.mark.parametrize(
    "error",
    [
        ValueError("the model is 28 layers deep"),
        KeyError("errno"),
        OSError(errno.EIO, "Input/output error"),
        RuntimeError("full"),
        OSError(errno.EACCES, "Permission denied", "/mnt/space left on device"),
    ],
)
def test_what_is_of_no_kind_is_a_failure_in_its_own_words(error: Exception) -> None:
    assert ended(error) == (1, f"{type(error).__name__}: {error}")


Wrap = Callable[[BaseException], BaseException]


def from_it(error: BaseException) -> BaseException:
    try:
        raise RuntimeError("the step could not go on") from error
    except RuntimeError as outer:
        return outer


def beside_it(error: BaseException) -> BaseException:
    try:
        try:
            raise error
        except BaseException:
            raise ValueError("while tidying up")  # noqa: B904
    except ValueError as outer:
        return outer


def in_a_group(error: BaseException) -> BaseException:
    return BaseExceptionGroup("several", [ValueError("another"), error])


def of_ray(error: BaseException) -> BaseException:
    text = f"\x1b[36mray::EngineActor.start()\x1b[39m (pid=7, ip=10.0.0.1)\n{frames(error)}"
    return RayTaskError("start", text, error)


def of_ray_as_text(error: BaseException) -> BaseException:
    """A cause that could not be sent."""
    return RuntimeError(str(of_ray(error)))


def frames(error: BaseException) -> str:
    """As Python prints it; the frames of an error that was never raised made up."""
    text = "".join(traceback.format_exception(error))
    if 'File "' in text:
        return text
    frame = '  File "/usr/lib/python3.11/site-packages/vllm/engine.py", line 12, in start\n    return self._start()\n'
    return f"Traceback (most recent call last):\n{frame}           ^^^^^^^^^^^^^\n{text}"


@given(
    st.sampled_from(CASES),
    st.lists(st.sampled_from([from_it, beside_it, in_a_group, of_ray, of_ray_as_text]), max_size=4),
)
def test_a_kind_is_recognised_through_whatever_wraps_it(case: tuple[str, BaseException], wraps: list[Wrap]) -> None:
    kind, error = case
    for wrap in wraps:
        error = wrap(error)
    found = kind_of(error)
    assert found is not None
    assert found.name == kind


@given(st.sampled_from(CASES), st.lists(st.sampled_from([from_it, of_ray, of_ray_as_text]), min_size=1, max_size=3))
def test_frames_and_colours_are_left_out(case: tuple[str, BaseException], wraps: list[Wrap]) -> None:
    _, error = case
    for wrap in wraps:
        error = wrap(error)
    words = words_of(error)
    assert "\x1b" not in words
    assert "ray::" not in words
    assert 'File "' not in words
    assert "^^^" not in words


def test_a_wrong_configuration_is_told_through_whatever_wraps_it() -> None:
    config = ConfigError.one("spec.model.url", "has no tokenizer")
    assert ended(of_ray(from_it(config))) == (64, str(config))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("(EngineActor pid=12, ip=10.0.0.1) ValueError: no", "ValueError: no"),
        ("\x1b[36m(EngineActor pid=12)\x1b[0m ValueError: no", "ValueError: no"),
        ("(Worker_TP0 pid=7) ERROR 11-28 10:00:00 [core.py:700] ValueError: no", "ValueError: no"),
        ("ERROR 11-28 10:00:00 [core.py:700] ValueError: no", "ValueError: no"),
        ("[rank0]: Traceback (most recent call last):\n"
         "[rank0]:   File \"a.py\", line 1, in f\n[rank0]:     g()\n[rank0]: ValueError: no", "ValueError: no"),
        ("[rank1]:[E1128 10:00:00.123456789 ProcessGroupNCCL.cpp:607] Watchdog", "Watchdog"),
        ("bad\nException raised from f at /a.cpp:3 (most recent call first):\nframe #0: c10::Error (0x7f in libc10.so)\n", "bad"),
        ("The actor died.\n\tclass_name: EngineActor\n\tpid: 7\nIts worker has died.", "The actor died.\nIts worker has died."),
        ("ERROR is the word that the judge wrote", "ERROR is the word that the judge wrote"),
        ("two\n  lines", "two\n  lines"),
    ],
)  # fmt: skip
def test_prefixes_of_logs_and_foreign_stacks_are_left_out(text: str, said: str) -> None:
    assert plain(text) == said


@given(st.sampled_from(CASES), st.text(st.characters(codec="ascii"), max_size=5000))
def test_what_to_do_stays_in_a_message_of_any_length(case: tuple[str, BaseException], more: str) -> None:
    kind, error = case
    wanted = next(found for found in KINDS if found.name == kind)
    _, words = ended(Failed("training", f"{words_of(error)} {more}"))
    body = termination_message({"error": words})
    assert len(body) <= TERMINATION_MESSAGE_BYTES
    assert json.loads(body)["error"].endswith(wanted.advises("training"))

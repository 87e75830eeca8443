"""What an attempt writes is in the run's folder when it has ended, however that was: bounded, and without secrets."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from selfalign_jobs.step.bounded_log import BoundedLog
from selfalign_jobs.step.redaction import Redaction
from testbed.waiting import until

PROGRAM = Path(__file__).with_name("kept_program.py")
BEGINNING = "first\nfrom below\nof a child\n"
ENDS = {
    "well": ("print('last', flush=True); finish(); os._exit(0)", 0, "last\n"),
    "with a failure": ("sys.stderr.write('last\\n'); sys.stderr.flush(); finish(); os._exit(3)", 3, "last\n"),
    "killed": ("print('last', flush=True); os.kill(os.getpid(), signal.SIGKILL)", -9, "last\n"),
    "killed with its group": ("print('last', flush=True); os.killpg(0, signal.SIGKILL)", -9, "last\n"),
    "terminated": ("print('last', flush=True); os.kill(os.getpid(), signal.SIGTERM)", -15, "last\n"),
    "by a crash": ("os.write(2, b'last'); os.abort()", -6, "last\n"),
    "in a line of a child": ("subprocess.run(['printf', 'last']); finish(); os._exit(0)", 0, "last\n"),
    "while a child goes on": ("subprocess.Popen(['sleep', '30']); finish(); os._exit(0)", 0, ""),
}


def kept(folder: Path) -> str:
    """The one log, once the keeper is done with it."""
    (file,) = until(lambda: list((folder / "logs/i1-train/3").glob("0-*.txt")), "a kept log")
    return file.read_text()


def run(folder: Path, how: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROGRAM), str(folder), how]
    return subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | environment,
        process_group=0,
    )


@pytest.mark.parametrize(("how", "code", "last"), ENDS.values(), ids=ENDS.keys())
def test_a_log_is_whole_however_its_program_ends(tmp_path: Path, how: str, code: int, last: str) -> None:
    done = run(tmp_path, how)
    assert done.returncode == code
    until(lambda: kept(tmp_path) == BEGINNING + last, f"the whole log, not {kept(tmp_path)!r}")
    assert sorted(done.stdout.split()) == sorted(kept(tmp_path).split())  # and where it went before


def test_a_log_is_there_while_the_program_goes_on(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, str(PROGRAM), str(tmp_path), "sys.stdin.read(); finish()"], stdin=subprocess.PIPE
    ) as going:
        until(lambda: (tmp_path / "logs").exists() and kept(tmp_path) == BEGINNING, "the log so far")
        assert going.poll() is None


def test_a_storage_that_takes_nothing_fails_no_program_and_is_told(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("in the way")
    done = run(tmp_path, "print('last', flush=True); finish(); os._exit(0)")
    assert done.returncode == 0
    told = [line for line in done.stdout.splitlines() if line.startswith("the log cannot be kept: ")]
    assert len(told) == 1
    assert done.stdout.replace(f"{told[0]}\n", "") == BEGINNING + "last\n"  # told by a thread: at any place


def test_secrets_of_the_environment_are_in_no_kept_log(tmp_path: Path) -> None:
    how = "print(dict(os.environ)); print('Bearer', os.environ['HF_TOKEN'], flush=True); finish(); os._exit(0)"
    done = run(tmp_path, how, HF_TOKEN="hf_abcdefgh", https_proxy="http://me:sesame-9@proxy:1")
    assert "hf_abcdefgh" in done.stdout  # what goes to the pod is as it was
    assert "hf_abcdefgh" not in kept(tmp_path)
    assert "sesame-9" not in kept(tmp_path)
    assert "Bearer [HF_TOKEN]" in kept(tmp_path)
    assert "proxy:1" in kept(tmp_path)


# --- bounds and secrets: any text, in pieces of any size --------------------------------------------------------------

SECRETS = {
    "HF_TOKEN": "hf_zzzzzzzz",
    "AWS_SECRET_ACCESS_KEY": "a/b+c=d e%",
    "DB_PASSWORD": "line-one-1\nline-two-2",
    "PLAIN": "plain words",
}
WORDS = st.sampled_from([*SECRETS.values(), "hf_", "zzzz", "line-one-1", "\n", "\r", " ", "word ", "x" * 40, "é"])


def add_in_pieces(log: BoundedLog, data: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for begin, end in pairwise(places):
        log.add(data[begin:end])


@given(st.lists(WORDS, max_size=60).map("".join), st.lists(st.integers(0, 10**6), max_size=8))
@example("x" * 63 + "hf_zzzzzzzz" * 3, [70])
def test_no_secret_is_kept_however_text_is_cut_and_what_is_kept_is_bounded(text: str, cuts: list[int]) -> None:
    log = BoundedLog(Redaction(SECRETS), head=200, tail=300, line=64)
    add_in_pieces(log, text.encode(), cuts)
    for content in (log.content, (log.end(), log.content)[1]):
        assert len(content) <= 200 + 300 + 64
        for secret in ("hf_zzzzzzzz", "a/b+c=d e%", "line-one-1", "line-two-2"):
            assert secret.encode() not in content
            if text.count(secret):  # nor much of one at the end of a line that was cut
                assert not any(
                    line.rstrip("…".encode()).endswith(secret.encode()[:-1]) for line in content.split(b"\n")
                )


@given(st.lists(st.text("ab \u00e9", max_size=12), max_size=80), st.lists(st.integers(0, 10**6), max_size=8))
def test_what_is_kept_is_the_beginning_and_the_end_and_says_what_it_lacks(lines: list[str], cuts: list[int]) -> None:
    data = "".join(f"{line}\n" for line in lines).encode()
    log = BoundedLog(Redaction({}), head=100, tail=150)
    add_in_pieces(log, data, cuts)
    if b"left out here" not in log.content:
        assert log.content == data
        return
    head, rest = log.content.split("… ".encode(), 1)
    number, tail = rest.split(b" bytes are left out here \xe2\x80\xa6\n")
    assert data.startswith(head)
    assert data.endswith(tail)
    assert len(head) + int(number) + len(tail) == len(data)


def test_a_bar_of_progress_is_kept_as_it_was_last() -> None:
    log = BoundedLog(Redaction({}))
    for piece in (b"\r 0 %", b"\r50 %\r", b"99 %", b"\r100 %\nnext\r\n"):
        log.add(piece)
    assert log.content == b"100 %\nnext\n"


VALUE = "Ab1+/ cd=ef&9"


@pytest.mark.parametrize(
    "form",
    [VALUE, json.dumps(VALUE), quote(VALUE), quote(VALUE, safe=""), base64.b64encode(VALUE.encode()).decode()],
    ids=["plain", "JSON", "URL", "query", "base64"],
)
def test_a_secret_is_taken_out_in_every_form_that_programs_write(form: str) -> None:
    assert form not in Redaction({"MY_SECRET": VALUE}).of(f"before {form} after".encode()).decode()


@pytest.mark.parametrize(
    "name",
    ["HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD",
     "SSH_KEY", "db_pass", "APIKEY", "X_AUTH", "AZURE_STORAGE_CONNECTION_STRING"],
)  # fmt: skip
def test_a_name_says_what_is_secret(name: str) -> None:
    assert Redaction({name: "opensesame"}).of(b"opensesame") == f"[{name}]".encode()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HOME", "/home/selfalign"), ("HOSTNAME", "Run-1a2B3c4d-i1-train-1-0"), ("TOKENIZERS_PARALLELISM", "false"),
        ("PWD", "/home/user/project"),
        ("RAY_AUTH_MODE", "token"), ("AWS_ENDPOINT_URL", "http://127.0.0.1:9000"),
        ("AWS_REGION", "eu-central-1"), ("HF_TOKEN_PATH", "/home/x/token"),
    ],
)  # fmt: skip
def test_what_is_no_secret_stays_readable(name: str, value: str) -> None:
    assert Redaction({name: value}).of(value.encode()) == value.encode()


def test_a_value_that_looks_like_a_key_is_one_whatever_its_name() -> None:
    assert Redaction({"OTHER": "sk4Jd93kLmPq02xYzWv7"}).of(b"sk4Jd93kLmPq02xYzWv7") == b"[OTHER]"

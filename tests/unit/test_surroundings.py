"""What a program puts right first of all, part by part (each command under all of it: test_machines.py)."""

from __future__ import annotations

import errno
import os
import pwd
import signal
import socket
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign_jobs import surroundings
from selfalign_jobs.surroundings import give_home, spare_loopback, take_stops

HOSTS = st.sampled_from(["internal", ".corp", "10.0.0.0/8", "localhost", "*", " spaced ", ""])
LISTS = st.lists(HOSTS, max_size=4).map(",".join)


@given(st.dictionaries(st.sampled_from(["no_proxy", "NO_PROXY", "http_proxy"]), LISTS))
def test_loopback_needs_no_proxy_and_what_was_spared_stays_so(environment: dict[str, str]) -> None:
    before = dict(environment)
    spare_loopback(environment)
    for name in ("no_proxy", "NO_PROXY"):
        spared = environment[name]
        for host in ("localhost", "127.0.0.1"):
            assert urllib.request.proxy_bypass_environment(host, {"no": spared})
        assert all(host.strip() in spared for host in before.get(name, "").split(","))
    again = dict(environment)
    spare_loopback(environment)
    assert environment == again


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A user that no passwd entry knows, with temporary files here."""

    def unknown(user: int) -> object:
        raise KeyError(f"getpwuid(): uid not found: {user}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("home", [None, "", "/", "/proc", "/nonexistent", "{tmp}/file"])
def test_a_home_that_cannot_be_written_is_replaced(
    home: str | None, nobody: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (nobody / "file").write_text("")
    monkeypatch.setattr(surroundings.os, "access", lambda path, mode: str(path) not in ("/", "/proc"))
    environment = {} if home is None else {"HOME": home.format(tmp=nobody)}
    give_home(environment)
    assert Path(environment["HOME"]).parent == nobody
    assert Path(environment["HOME"]).stat().st_mode & 0o777 == 0o700
    assert environment["USER"] == environment["LOGNAME"] == f"user-{os.getuid()}"
    again: dict[str, str] = {}
    give_home(again)
    assert again["HOME"] == environment["HOME"]


def test_a_home_that_somebody_else_made_is_not_taken(nobody: Path) -> None:
    (nobody / "elsewhere").mkdir()
    (nobody / f"selfalign-home-{os.getuid()}").symlink_to(nobody / "elsewhere")
    environment: dict[str, str] = {}
    give_home(environment)
    assert Path(environment["HOME"]).parent == nobody
    assert not Path(environment["HOME"]).is_symlink()


def test_a_home_that_can_be_written_stays(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "USER": "me", "LOGNAME": "me"}
    give_home(environment)
    assert environment == {"HOME": str(tmp_path), "USER": "me", "LOGNAME": "me"}


def test_a_stream_whose_reader_has_gone_takes_all() -> None:
    reader, writer = socket.socketpair()
    reader.close()
    stream = surroundings._patient(None, writer.fileno())
    print("what nobody reads", file=stream, flush=True)
    stream.close()


def test_a_stream_on_a_full_disk_fails_once() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    stream = surroundings._patient(None, full)
    with pytest.raises(OSError, match="No space left") as failed:
        print("what has no room", file=stream, flush=True)
    assert failed.value.errno == errno.ENOSPC
    stream.close()
    os.close(full)


@pytest.fixture
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stops_are_taken_and_given_back(number: signal.Signals) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    seen: list[int] = []
    before = take_stops(lambda received, _: seen.append(received))
    signal.raise_signal(number)
    assert seen == [number]
    assert before.keys() == {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


@pytest.mark.usefixtures("handlers")
def test_a_hangup_that_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert signal.SIGHUP not in take_stops(lambda *_: None)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN

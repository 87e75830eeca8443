"""The log of an attempt kept in the run's folder, so that it outlives its pod: logs/STEP/ATTEMPT/INDEX-TIME.txt.

A process beside the program, forked from it before anything is loaded, copies what it and all its children write to where it went
before, and commits what a bounded log holds of it: every few seconds, and when the program has ended, however that was.
Nothing of it ever fails or slows a step. Both streams go to stdout, by one pipe: what two pipes have written has no order.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import threading
import time
from collections.abc import Callable
from pathlib import Path

from selfalign_jobs.places.committed import committed_here
from selfalign_jobs.step.bounded_log import BoundedLog
from selfalign_jobs.step.redaction import Redaction
from selfalign_jobs.surroundings import open_descriptors

LOGS = "logs"  # in a run's folder
COMMIT_SECONDS = 5.0  # what a container that is killed whole may lose
FINISH_SECONDS = 15.0  # that the end of a step waits for the last commit
CHUNK = 1 << 16
OUT, ERR = 1, 2

Write = Callable[[bytes], object]


class KeptLog:
    """The keeper as the program has it."""

    def __init__(self, control: int, done: int) -> None:
        self._control = control
        self._done = done  # at its end when the keeper is

    def keep_in(self, url: str, local: Path | None, step: str, attempt: int) -> None:
        """Commit the log, all of it, from now on: in a run's folder, its URL, and where it lies if on this machine."""
        started = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        name = f"{LOGS}/{step}/{attempt}/{os.environ.get('JOB_COMPLETION_INDEX', '0')}-{started}.txt"
        self._tell({"local": None if local is None else str(local), "url": url, "name": name})

    def finish(self) -> None:
        """The program is over: returns when all that was written is committed, or after a while."""
        self._tell({})
        select.select([self._done], [], [], FINISH_SECONDS)

    def _tell(self, message: dict[str, str | None]) -> None:
        with contextlib.suppress(OSError):
            os.write(self._control, json.dumps(message).encode() + b"\n")


def keep_log() -> KeptLog:
    """Begin: from here on the streams of this process, and of all that it starts, are the keeper's to copy."""
    open_descriptors()
    written, control, done = os.pipe(), os.pipe(), os.pipe()
    program = os.pidfd_open(os.getpid())
    between = os.fork()
    if between == 0:
        with contextlib.suppress(OSError):
            os.setsid()  # before the program goes on: what ends its group by force leaves its last words to be committed
        if os.fork() == 0:  # no child of the program's: it waits for its own, and looks whether any is left
            for descriptor in (written[1], control[1], done[0]):
                os.close(descriptor)
            _Keeper(written[0], control[0], program).work()
        os._exit(0)
    os.waitpid(between, 0)
    os.dup2(written[1], OUT)
    os.dup2(written[1], ERR)
    for descriptor in (*written, control[0], done[1], program):
        os.close(descriptor)
    return KeptLog(control[1], done[0])


class _Keeper:
    """Reads what is `written`, and what it is told by `control`, until `program` (a pidfd) is over."""

    def __init__(self, written: int, control: int, program: int) -> None:
        self._written = written
        self._control = control
        self._program = program
        self._told = b""
        self._log = BoundedLog(Redaction(os.environ))
        self._lock = threading.Lock()  # of the log
        self._committer: _Committer | None = None
        self._over = False

    def work(self) -> None:
        """Until the program is over."""
        while not self._over:
            ready, _, _ = select.select([self._written, self._control, self._program], [], [])
            self._over = self._program in ready
            if self._written in ready:
                self._copy()
            if self._control in ready:
                self._listen()
        while select.select([self._written], [], [], 0)[0] and self._copy():
            pass
        self._log.end()
        if self._committer is not None:
            self._committer.finish()

    def _copy(self) -> bool:
        """What can be read; False when nobody can write any more."""
        data = os.read(self._written, CHUNK)
        _pass_on(OUT, data)
        with self._lock:
            self._log.add(data)
        if self._committer is not None:
            self._committer.some.set()
        return bool(data)

    def _listen(self) -> None:
        data = os.read(self._control, CHUNK)
        *lines, self._told = (self._told + data).split(b"\n")
        for line in map(json.loads, lines):
            if line and self._committer is None:
                self._committer = _Committer(self._content, _writer(line["local"], line["url"], line["name"]))
            self._over |= not line
        self._over |= not data

    def _content(self) -> bytes:
        with self._lock:
            return self._log.content


def _pass_on(stream: int, data: bytes) -> None:
    """To where it went before; whoever read there may have gone, or have no room."""
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(stream, data) :]


def _writer(local: str | None, url: str, name: str) -> Write:
    """How a file of the run's folder is committed. Of a bucket by pyarrow, which a folder of this machine need not load."""

    def here(content: bytes) -> None:
        with committed_here(Path(str(local)) / name) as file:
            file.write(content)

    def there(content: bytes) -> None:
        from selfalign_jobs.places.store import Folder

        Folder.open(url).write(name, content)

    return there if local is None else here


class _Committer:
    """Commits the log in a thread of its own, at most every few seconds: a slow storage keeps no stream waiting."""

    def __init__(self, content: Callable[[], bytes], write: Write) -> None:
        self.some = threading.Event()  # something was written since
        self.some.set()
        self._content, self._write = content, write
        self._last = threading.Event()
        self._told = ""
        self._thread = threading.Thread(target=self._work, name="kept log")
        self._thread.start()

    def finish(self) -> None:
        """Returns when all is committed."""
        self._last.set()
        self.some.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._last.is_set():
            self.some.wait()
            self.some.clear()
            self._commit()
            self._last.wait(COMMIT_SECONDS)
        self._commit()

    def _commit(self) -> None:
        """Whatever a storage says: the step goes on, and its log goes where it went before."""
        try:
            self._write(self._content())
        except Exception as error:
            if (words := f"the log cannot be kept: {type(error).__name__}: {error}") != self._told:
                self._told = words
                _pass_on(ERR, f"{words}\n".encode())

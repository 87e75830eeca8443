"""One program of the testbed: its log file, its readiness, its end by its own pid."""

from __future__ import annotations

import os
import random
import signal
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from testbed.waiting import until

# Below the range that the kernel takes for outgoing connections (32768 and up), so that none of them takes a port between
# our look and the server's bind.
PORTS = range(20000, 32000)
_given: set[int] = set()  # some are bound long after they were found


class Process:
    """A running program. Raises RuntimeError with the end of its log when it does not come up."""

    def __init__(
        self, command: Sequence[str | Path], log: Path, *, name: str | None = None, outlives_us: bool = False
    ) -> None:
        self.name = name or Path(command[0]).name
        self.log = log
        # setpriv asks the kernel for SIGKILL when we die, also by SIGKILL, and then becomes the program: the pid is the same.
        wrapper = [] if outlives_us else ["setpriv", "--pdeathsig", "KILL", "--"]
        self._command = [*wrapper, *map(str, command)]
        self._ready: tuple[Callable[[], bool], str] = (lambda: True, "nothing")
        self._child = self._start()

    @property
    def pid(self) -> int:
        """The program's process id."""
        return self._child.pid

    def wait_for(self, url: str, seconds: float = 60) -> None:
        """Returns when a GET of `url` answers 200."""
        self.wait_until(lambda: _answers(url), f"answer at {url}", seconds)

    def wait_until(self, ready: Callable[[], bool], wanted: str, seconds: float = 60) -> None:
        """Returns when `ready` says so."""
        self._ready = (ready, wanted)

        def is_ready() -> bool:
            if self._child.poll() is not None:
                raise RuntimeError(f"{self.name} ended with {self._child.returncode}:\n{self._log_end()}")
            return ready()

        try:
            until(is_ready, f"{wanted} from {self.name}", seconds)
        except TimeoutError as late:
            raise RuntimeError(f"{late}; its log ends with:\n{self._log_end()}") from None

    def stop(self) -> None:
        """Ends it at once, by SIGKILL: what it keeps is thrown away."""
        self._child.kill()
        self._child.wait()

    def send(self, number: int) -> None:
        """Sends it a signal."""
        self._child.send_signal(number)

    def end(self, seconds: float = 10) -> int:
        """Asks it to end, by SIGTERM, and returns its exit code. Raises TimeoutExpired after `seconds`."""
        self._child.terminate()
        return self._child.wait(seconds)

    def cpu_seconds(self) -> float:
        """Processor time that it has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def restart(self) -> None:
        """SIGKILL, and the same command again; returns when it answers as it did after its first start."""
        self.stop()
        self._child = self._start()
        self.wait_until(*self._ready)

    def resident_bytes(self) -> int:
        """Its memory: RSS now, bytes."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as output:
            return subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the terminal is ours to handle
            )

    def _log_end(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])


def stop_by_pid(pid: int, mark: str, how: signal.Signals = signal.SIGKILL) -> None:
    """Ends a process of an earlier command, if its command line still has `mark` (pids are used again); waits for it."""
    command_line = Path(f"/proc/{pid}/cmdline")

    def ours() -> bool:
        try:
            return mark in command_line.read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return False

    if ours():
        os.kill(pid, how)
        until(lambda: not ours(), f"end of process {pid}")


def free_port() -> int:
    """A loopback port that nobody listens on."""
    while True:
        port = random.choice(PORTS)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            _given.add(port)
            return port


def _answers(url: str) -> bool:
    context = ssl._create_unverified_context()  # controllers sign for themselves, in memory; this is loopback
    try:
        with urllib.request.urlopen(url, timeout=2, context=context) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False

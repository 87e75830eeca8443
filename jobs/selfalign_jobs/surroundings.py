"""What a program finds on its machine, put right first of all: signals, streams, proxies, the user's home and name.

Libraries read these when they are imported, and imports take seconds: only light modules are used here.
"""

from __future__ import annotations

import errno
import io
import os
import pwd
import signal
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, TextIO

LOOPBACK = ("localhost", "127.0.0.1", "::1")
NO_READER = (errno.EPIPE, errno.EIO, errno.EBADF)  # whoever read has gone: `| head`, a closed terminal


def settle() -> None:
    """Put right what this process and its children find."""
    open_descriptors()
    sys.stdout, sys.stderr = _patient(sys.stdout, 1), _patient(sys.stderr, 2)
    # Logs and files of our children are UTF-8, whatever the terminal is.
    os.environ["PYTHONUTF8"] = "1"
    os.environ.pop("PYTHONIOENCODING", None)
    # A random.py or a datasets/ of the user's, in the folder that they work in, is none of our modules.
    os.environ["PYTHONSAFEPATH"] = "1"
    spare_loopback(os.environ)
    give_home(os.environ)


def take_stops(handler: signal._HANDLER) -> dict[int, signal._HANDLER]:
    """Have Ctrl-C, SIGTERM and a closed terminal handled, and return what was there; `nohup` keeps its meaning."""
    wanted = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        wanted.append(signal.SIGHUP)
    return {number: signal.signal(number, handler) for number in wanted}


def spare_loopback(environment: MutableMapping[str, str]) -> None:
    """No proxy is asked for this machine itself."""
    given = {name: environment.get(name, "") for name in ("no_proxy", "NO_PROXY")}
    for name, other in (("no_proxy", "NO_PROXY"), ("NO_PROXY", "no_proxy")):
        hosts = [host.strip() for host in (given[name] or given[other]).split(",") if host.strip()]
        environment[name] = "*" if hosts == ["*"] else ",".join(dict.fromkeys((*hosts, *LOOPBACK)))


def give_home(environment: MutableMapping[str, str]) -> None:
    """A home that can be written, and a user's name: libraries keep caches there, and ask who it is.

    A pod may run as a number that no passwd entry knows. A home that is not ours to write is still read for profiles.
    """
    user = os.getuid()
    try:
        entry = pwd.getpwuid(user)
        home, name = environment.get("HOME") or entry.pw_dir, entry.pw_name
    except KeyError:
        home, name = environment.get("HOME", ""), f"user-{user}"
    for variable in ("USER", "LOGNAME"):
        environment.setdefault(variable, name)
    if home and Path(home).is_dir() and os.access(home, os.W_OK | os.X_OK):
        environment["HOME"] = home
        return
    if home:
        environment.setdefault("XDG_CONFIG_HOME", str(Path(home) / ".config"))
    environment["HOME"] = _own_folder(f"selfalign-home-{user}")


def _own_folder(name: str) -> str:
    """A folder of ours among the temporary ones, the same each time unless somebody else has taken its name."""
    import tempfile  # heavy for what is mostly not needed

    folder = Path(tempfile.gettempdir()) / name
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    ours = status.st_uid == os.getuid() and not folder.is_symlink()
    return str(folder) if ours else tempfile.mkdtemp(prefix=name)


def open_descriptors() -> None:
    """A closed stream would be the next file that is opened."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one


def _patient(stream: TextIO | None, descriptor: int) -> TextIO:
    """The stream for any text and any reader: what its encoding lacks is replaced, and nobody need read it."""
    encoding = stream.encoding if stream is not None else "utf-8"
    buffer = io.BufferedWriter(_Patient(descriptor))
    return io.TextIOWrapper(buffer, encoding, errors="replace", line_buffering=descriptor == 2 or os.isatty(descriptor))


class _Patient(io.RawIOBase):
    """A file that goes on when its reader has gone, and fails once, not at each flush, when its disk is full."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._failed = False

    def write(self, content: Any) -> int:
        """Write, or act as if. OSError for a full disk, the first time."""
        try:
            return os.write(self._descriptor, content)
        except OSError as error:
            if error.errno in NO_READER or self._failed:
                return len(content)
            self._failed = True
            raise

    def writable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._descriptor)

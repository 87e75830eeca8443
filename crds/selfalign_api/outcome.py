"""What a step program tells whoever runs it: its exit code, and a summary for the termination message."""

from __future__ import annotations

from enum import IntEnum

TERMINATION_MESSAGE_BYTES = 4096  # what a kubelet keeps of /dev/termination-log


class Exit(IntEnum):
    """Exit codes of a step program (design §3). Anything else is a failure, and retried."""

    DONE = 0
    CONFIG = 64  # the user's configuration is wrong; never retried
    STOPPED = 75  # stopped on request, or out of room: resumable

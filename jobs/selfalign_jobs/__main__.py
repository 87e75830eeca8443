"""`python -m selfalign_jobs RUN.json --step NAME --attempt N`: the entry point of every pod (entry.py)."""

import os
import sys
from contextlib import suppress

from selfalign_jobs.step.init import supervise

if os.getpid() == 1:
    supervise()

from selfalign_jobs.entry import main  # seconds of imports: only now that process 1 has its handlers

code = main()
for stream in (sys.stdout, sys.stderr):
    with suppress(OSError):  # a log without room changes no ending
        stream.flush()
# An engine's threads must not hold a finished program: everything that counts is durable by now.
os._exit(code)

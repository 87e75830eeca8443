"""`python -m selfalign_jobs RUN.json --step NAME --attempt N`: the entry point of every pod (entry.py)."""

import os
import sys
from contextlib import suppress

from selfalign_jobs.step.init import hold_signals, supervise
from selfalign_jobs.step.kept_log import keep_log
from selfalign_jobs.surroundings import settle

hold_signals()
log = keep_log()
if supervised := os.getpid() == 1:
    supervise(log.finish)
settle()

# Seconds of imports: only now that the signals are held, or process 1 has its handlers.
from selfalign_jobs.entry import main  # noqa: E402

code = main(log=log)
for stream in (sys.stdout, sys.stderr):
    with suppress(OSError):  # a log without room changes no ending
        stream.flush()
if not supervised:
    log.finish()
# An engine's threads must not hold a finished program: everything that counts is durable by now.
os._exit(code)

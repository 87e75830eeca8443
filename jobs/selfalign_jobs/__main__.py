"""`python -m selfalign_jobs RUN.json --step NAME --attempt N`: the entry point of every pod (entry.py)."""

import os
import sys

from selfalign_jobs.entry import main

code = main()
sys.stdout.flush()
sys.stderr.flush()
# An engine's threads must not hold a finished program: everything that counts is durable by now.
os._exit(code)

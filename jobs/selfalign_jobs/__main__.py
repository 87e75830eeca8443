"""`python -m selfalign_jobs CONFIG.json`: the entry point of every pod.

A module of its own: run as `__main__`, step.py would raise and catch two different classes named Stopped.
"""

import os
import sys

from selfalign_jobs.step import main

code = main()
sys.stdout.flush()
sys.stderr.flush()
# An engine's threads must not hold a finished program: everything that counts is durable by now.
os._exit(code)

"""A program whose log is kept: `kept_program.py FOLDER HOW`, where HOW is a line of Python that ends it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from selfalign_jobs.step.kept_log import keep_log

log = keep_log()
log.keep_in("", Path(sys.argv[1]), "i1-train", 3)
print("first", flush=True)
os.write(2, b"from below\n")
subprocess.run(["echo", "of a child"], check=True)
known = {"os": os, "signal": signal, "subprocess": subprocess, "sys": sys, "log": log, "finish": log.finish}
exec(sys.argv[2], known)

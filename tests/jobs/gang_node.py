"""The entry point for a node of a training gang whose rendezvous has a port of this test.

python gang_node.py PORT ARGUMENTS OF THE ENTRY POINT
"""

from __future__ import annotations

import os
import sys

from selfalign_jobs import entry
from selfalign_jobs.train import program

if __name__ == "__main__":
    program.GANG_PORT = int(sys.argv[1])
    os._exit(entry.main(sys.argv[2:]))

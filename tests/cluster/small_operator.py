"""An operator whose middle is tests/unit/one_job.py, with the options of the real one: for the process's tests."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "unit"))

from one_job import OneJob

from selfalign_operator.cli import options_of, parser
from selfalign_operator.logs import log_to_stderr
from selfalign_operator.process import OperatorProcess


async def main() -> None:
    """Run until SIGTERM."""
    await OperatorProcess(options_of(parser().parse_args()), OneJob()).run()


if __name__ == "__main__":
    log_to_stderr("text")
    asyncio.run(main())

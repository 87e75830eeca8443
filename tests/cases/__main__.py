"""`python -m cases [NAME …]`: every case (or those whose name holds NAME) tried by the command line, and how many are right."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

from cases.case import Case, Room
from cases.kinds import KINDS
from cases.trial import by_shell, try_case


def main(names: list[str]) -> int:
    """Prints a line for each case that is not right, and at last the count; 1 when one is not."""
    chosen = [
        (kind, case)
        for kind, cases in KINDS.items()
        for case in cases
        if not names or any(name in f"{kind}/{case.name}" for name in names)
    ]
    right: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="selfalign-cases-") as folder, ThreadPoolExecutor(2) as pool:

        def attempt(kind: str, case: Case) -> list[str]:
            return try_case(case, Room(Path(folder) / kind / case.name.replace(" ", "-")), by_shell)

        cheap = [(kind, case, pool.submit(attempt, kind, case)) for kind, case in chosen if not case.engine]
        one_by_one = ((kind, case, attempt(kind, case)) for kind, case in chosen if case.engine)
        for kind, case, wrong in chain(((kind, case, tried.result()) for kind, case, tried in cheap), one_by_one):
            right[kind] += not wrong
            for line in wrong:
                print(f"{kind}/{case.name}: {line}", flush=True)
    for kind, cases in KINDS.items():
        if tried_here := sum(of == kind for of, _ in chosen):
            print(f"{kind}: {right[kind]} of {tried_here}" + ("" if not names else f" ({len(cases)} there are)"))
    print(f"cases: {right.total()} right of {len(chosen)}")
    return 0 if right.total() == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

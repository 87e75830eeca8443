"""`python -m selfalign_dashboards FOLDER`: writes the dashboards' JSON there."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from selfalign_dashboards.run import run
from selfalign_dashboards.runs import runs


def dashboards() -> Iterator[tuple[str, str]]:
    """File names and contents."""
    for name, builder in (("runs", runs()), ("run", run())):
        board = builder.build()
        for number, panel in enumerate(board.panels or (), start=1):
            panel.id_val = number  # by which Grafana links to a panel
        yield f"{name}.json", json.dumps(board, cls=JSONEncoder, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write them all."""
    for name, content in dashboards():
        (Path(sys.argv[1]) / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()

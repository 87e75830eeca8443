"""In a container: import all that the rooms of the jobs import, also late, but those that ELSEWHERE names."""

import ast
import importlib
import json
import os
from pathlib import Path

import selfalign_jobs

ELSEWHERE = os.environ["ELSEWHERE"].split(",")  # rooms whose steps another image does
JOBS = Path(selfalign_jobs.__file__).parent


def is_elsewhere(module: str) -> bool:
    package, _, rest = module.partition(".")
    return package == "selfalign_jobs" and rest.partition(".")[0] in ELSEWHERE


def wanted() -> dict[tuple[str, str | None], str]:
    """Module and name, and who wants it."""
    found: dict[tuple[str, str | None], str] = {}
    for file in sorted(JOBS.rglob("*.py")):
        who = str(file.relative_to(JOBS))
        if Path(who).parts[0] in ELSEWHERE:
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {(each.name, None): who for each in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not is_elsewhere(node.module):
                found |= {(node.module, each.name): who for each in node.names}
    return found


def problem(module: str, name: str | None) -> str | None:
    try:
        found = importlib.import_module(module)
        if name is not None and not hasattr(found, name):
            importlib.import_module(f"{module}.{name}")
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return None


failed = {
    f"{module}.{name} of {who}": said for (module, name), who in wanted().items() if (said := problem(module, name))
}
print(json.dumps({"imports": len(wanted()), "failed": failed}))

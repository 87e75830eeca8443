"""A real Prometheus, and promtool: Debian's, unpacked beside the testbed's own programs and never installed.

python -m testbed prometheus
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from testbed.processes import Process, free_port

MISSING = "there is no {} here: `make prometheus` fetches Debian's, or put it into PATH"


def find_program(name: str) -> Path | None:
    """`prometheus` or `promtool`; None where there is none."""
    unpacked = _folder() / "usr" / "bin" / name
    found = str(unpacked) if unpacked.exists() else shutil.which(name)
    return Path(found) if found else None


def program(name: str) -> Path:
    """The same. Raises RuntimeError, saying what to do, where there is none."""
    found = find_program(name)
    if found is None:
        raise RuntimeError(MISSING.format(name))
    return found


def fetch() -> None:
    """Unpack Debian's package into the cache, unless the programs are there. Raises RuntimeError where apt cannot."""
    if find_program("prometheus") and find_program("promtool"):
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            # apt drops root's rights to fetch, and such a user may not write here
            options = ["-q", "-o", "APT::Sandbox::User=root"]
            subprocess.run(["apt-get", *options, "download", "prometheus"], cwd=folder, check=True)
            (package,) = Path(folder).glob("prometheus_*.deb")
            _folder().mkdir(parents=True, exist_ok=True)
            subprocess.run(["dpkg-deb", "-x", package, _folder()], check=True)
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            raise RuntimeError(
                f"Prometheus cannot be fetched: {error}; put prometheus and promtool into PATH"
            ) from error


def _folder() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "selfalign" / "testbed" / "prometheus"


class Prometheus:
    """A server in `folder`, scraping as `jobs` (scrape_configs) say; gone with this process.

    Args:
        folder: an empty folder.
        jobs: its scrape_configs.
        rules: files of rules that it evaluates.
        seconds: time between scrapes, and between evaluations.
    """

    def __init__(self, folder: Path, jobs: Sequence[dict[str, Any]], rules: Sequence[Path], seconds: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        pace = {"scrape_interval": f"{seconds}s", "evaluation_interval": f"{seconds}s"}
        configuration = {"global": pace, "rule_files": [str(rule) for rule in rules], "scrape_configs": list(jobs)}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration, sort_keys=False))
        self.url = f"http://127.0.0.1:{free_port()}"
        options = [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
        options += [f"--web.listen-address={self.url.removeprefix('http://')}", "--log.level=warn"]
        self.process = Process([program("prometheus"), *options], folder / "prometheus.log")
        self.process.wait_for(f"{self.url}/-/ready")

    def ask(self, path: str, **parameters: str | float) -> Any:
        """The `data` of an answer of /api/v1. Raises RuntimeError with what Prometheus complains of."""
        query = urllib.parse.urlencode(parameters, doseq=True)
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=30) as answer:
                body = json.load(answer)
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{path} {parameters}: {error.read().decode()}") from None
        if body.get("warnings"):
            raise RuntimeError(f"{path} {parameters}: {body['warnings']}")
        return body["data"]

    def value(self, expression: str) -> float | None:
        """The value of an expression that gives one series now; None for none. Raises ValueError for more."""
        found = self.ask("query", query=expression)["result"]
        if len(found) > 1:
            raise ValueError(f"{expression} gives {len(found)} series")
        return float(found[0]["value"][1]) if found else None

    def stop(self) -> None:
        """End it."""
        self.process.stop()


def required() -> str | None:
    """Why a test that needs Prometheus skips; None where it need not. Raises RuntimeError on CI, where it must not."""
    missing = [name for name in ("prometheus", "promtool") if find_program(name) is None]
    if not missing:
        return None
    words = f"NO PROMETHEUS, SO METRICS, DASHBOARDS AND ALERTS ARE NOT TESTED: {MISSING.format(missing[0])}"
    if os.environ.get("CI") == "true":
        raise RuntimeError(words)
    return words

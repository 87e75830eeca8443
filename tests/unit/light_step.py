"""A step program that starts in no time: its artefacts were played before, in `played/STEP` of the run's folder.

What it does besides stands in `played/STEP.word`: `done`, `wait` (for SIGTERM, the first time) or `serve` (until somebody has
asked how far it is).
"""

import json
import shutil
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

PROGRESS = {
    "phase": "played",
    "done": 1,
    "total": 2,
    "unit": "records",
    "perSecond": 0,
    "etaSeconds": None,
    "figures": {},
}


class Progress(BaseHTTPRequestHandler):
    asked = threading.Event()

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(PROGRESS).encode())
        self.asked.set()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


def serve(address: Path) -> None:
    server = HTTPServer(("127.0.0.1", 0), Progress)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address.write_text(f"127.0.0.1:{server.server_port}")
    Progress.asked.wait()


def main() -> None:
    file, options = Path(sys.argv[1]), dict(zip(sys.argv[2::2], sys.argv[3::2], strict=False))
    run = Path(unquote(urlsplit(json.loads(file.read_bytes())["storage"]).path))
    step = options["--step"]
    word = (run / "played" / f"{step}.word").read_text()
    if word == "wait" and options["--attempt"] == "1":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
        (run / f"waiting-{step}").touch()
        signal.pause()
    if word == "serve":
        serve(Path(options["--address-file"]))
    shutil.copytree(run / "played" / step, run / "iter-1" / step)


main()

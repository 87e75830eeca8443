"""A small Hugging Face hub over a folder: the requests that huggingface_hub and datasets make to read a repository, and to
write one (by LFS: HF_HUB_DISABLE_XET).

    <root>/models/ORG/NAME/…   <root>/datasets/ORG/NAME/…

Each repository has one commit, the digest of its content, and one branch, main. `token`: repositories under ORG
`private` are shown to who has it only, and it writes under ORG `tiny`. What is uploaded lies in <root>/lfs until a commit
names it; those of commits are in <root>/commits.jsonl.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


class _Refused(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


class _Repository:
    """A repository's files, and the commit that they are."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.files = sorted(file for file in folder.rglob("*") if file.is_file())
        content = b"".join(str(f.relative_to(folder)).encode() + b"\0" + f.read_bytes() for f in self.files)
        self.commit = hashlib.sha1(content).hexdigest()

    def info(self) -> object:
        siblings = [
            {"rfilename": file.relative_to(self.folder).as_posix(), "size": file.stat().st_size} for file in self.files
        ]
        return {"id": self.name, "sha": self.commit, "siblings": siblings, "private": False, "tags": []}

    def tree(self, below: str, *, recursive: bool) -> list[object]:
        top = self.folder / below
        found = sorted(top.rglob("*") if recursive else top.glob("*"))
        if not found:
            raise _Refused(404, "EntryNotFound")
        return [self.entry(path) for path in found]

    def entry(self, path: Path) -> object:
        name = path.relative_to(self.folder).as_posix()
        if path.is_dir():
            return {"type": "directory", "path": name, "oid": "0" * 40, "size": 0}
        return {"type": "file", "path": name, "oid": _etag(path), "size": path.stat().st_size}


def _etag(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()


@contextmanager
def hub(root: Path, token: str = "hf_secret", sent: dict[str, int] | None = None) -> Iterator[str]:
    """Serve the folder while the context lasts; yields the endpoint (HF_ENDPOINT). `sent` gets the bytes sent by path."""

    class Handler(_Handler):
        pass

    Handler.root, Handler.token, Handler.sent = root, token, {} if sent is None else sent
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, name="hub", daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    root: Path
    token: str
    sent: dict[str, int]  # bytes of content, by path
    read_only = False
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer(self._body())

    def do_PUT(self) -> None:
        self._answer(self._body())

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def log_message(self, *_: object) -> None:
        """Silent."""

    def _answer(self, body: bytes = b"") -> None:
        url = urlsplit(self.path)
        try:
            parts = [unquote(part) for part in url.path.strip("/").split("/")]
            if self._written(parts, body):
                return
            if parts[0] == "api":
                self._api(parts[1:], url.query, body)
            else:
                self._resolve(parts)
        except _Refused as refused:
            self._send(refused.status, b"", {"X-Error-Code": refused.code})

    def _api(self, parts: list[str], query: str, body: bytes) -> None:
        kind, org, name, *rest = [*parts, "", ""][: max(3, len(parts))]
        repository = self._repository(kind, org, name)
        match rest:
            case [] | ["revision", _]:
                self._check_revision(repository, rest[1] if rest else "main")
                self._send_json(repository.info())
            case ["tree", revision, *below]:
                self._check_revision(repository, revision)
                self._send_json(repository.tree("/".join(below), recursive="recursive=" in query.lower()))
            case ["paths-info", revision]:
                self._check_revision(repository, revision)
                wanted = json.loads(body)["paths"]
                found = [repository.folder / path for path in wanted]
                self._send_json([repository.entry(path) for path in found if path.exists()])
            case _:
                raise _Refused(404, "EntryNotFound")

    # --- writing ----------------------------------------------------------------------------------------------------------

    def _written(self, parts: list[str], body: bytes) -> bool:
        """Whether it was a request of one that writes."""
        match parts:
            case ["api", "whoami-v2"]:
                self._check_token()
                role = {"auth": {"accessToken": {"role": "read" if self.read_only else "write"}}}
                self._send_json({"type": "user", "name": "ann", "orgs": [{"name": "tiny"}, {"name": "full"}]} | role)
            case ["api", "validate-yaml"]:
                self._send_json({"errors": [], "warnings": []})
            case ["api", "repos", "create"]:
                self._check_token()
                self._create(json.loads(body))
            case ["api", kind, org, name, "preupload", "main"]:
                self._check_writer(org)
                files = json.loads(body)["files"]
                found = [self._mode(self.root / kind / org / name, file["path"], file["size"]) for file in files]
                self._send_json({"files": found})
            case [*_, org, _, "info", "lfs", "objects", "batch"]:
                self._check_writer(org)
                self._send_json(
                    {"transfer": "basic", "objects": [self._object(o) for o in json.loads(body)["objects"]]}
                )
            case ["lfs", oid]:
                target = self.root / "lfs" / oid
                target.parent.mkdir(exist_ok=True)
                target.write_bytes(body)
                self._send(200, b"", {})
            case ["api", kind, org, name, "commit", "main"]:
                self._check_writer(org)
                self._commit(self.root / kind / org / name, [json.loads(line) for line in body.splitlines()])
            case _:
                return False
        return True

    def _check_token(self) -> None:
        if self.headers.get("Authorization") != f"Bearer {self.token}":
            raise _Refused(401, "Unauthorized")

    def _check_writer(self, org: str) -> None:
        self._check_token()
        if org != "tiny":
            raise _Refused(403, "Forbidden")

    def _create(self, asked: dict[str, Any]) -> None:
        org = asked.get("organization") or "ann"
        self._check_writer(org)
        folder = self.root / f"{asked.get('type', 'model')}s" / org / asked["name"]
        made = json.dumps({"url": f"http://{self.headers['Host']}/{org}/{asked['name']}"}).encode()
        if folder.exists():
            self._send(409, made, {"Content-Type": "application/json"})
            return
        folder.mkdir(parents=True)
        (folder / ".gitattributes").write_text("*.safetensors filter=lfs\n")
        visibility = "private" if asked.get("private") or asked.get("visibility") == "private" else "public"
        self._log({"made": f"{org}/{asked['name']}", "visibility": visibility})
        self._send(200, made, {"Content-Type": "application/json"})

    @staticmethod
    def _mode(folder: Path, path: str, size: int) -> object:
        large = size > 100_000 or path.endswith((".safetensors", ".parquet"))
        there = folder / path
        oid = hashlib.sha1(f"blob {there.stat().st_size}\0".encode() + there.read_bytes()) if there.is_file() else None
        if large and there.is_file():
            oid = hashlib.sha256(there.read_bytes())
        found = None if oid is None else oid.hexdigest()
        return {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": found}

    def _object(self, asked: dict[str, Any]) -> object:
        if (self.root / "lfs" / asked["oid"]).exists():
            return asked
        href = f"http://{self.headers['Host']}/lfs/{asked['oid']}"
        return asked | {"actions": {"upload": {"href": href}}}

    def _commit(self, folder: Path, lines: list[dict[str, Any]]) -> None:
        names = []
        for line in lines[1:]:
            value = line["value"]
            target = folder / value["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            lfs = line["key"] == "lfsFile"
            target.write_bytes((self.root / "lfs" / value["oid"]).read_bytes() if lfs else b64decode(value["content"]))
            names.append(value["path"])
        self._log({"commit": lines[0]["value"]["summary"], "files": sorted(names)})
        said = {"commitUrl": f"http://{self.headers['Host']}/x/y/commit/1", "commitOid": "1" * 40}
        self._send_json(said | {"success": True, "hookOutput": ""})

    def _log(self, line: object) -> None:
        with (self.root / "commits.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")

    # --- reading ----------------------------------------------------------------------------------------------------------

    def _resolve(self, parts: list[str]) -> None:
        kind = "datasets" if parts[0] == "datasets" else "models"
        org, name, resolve, revision, *file = parts[1:] if kind == "datasets" else parts
        repository = self._repository(kind, org, name)
        self._check_revision(repository, revision)
        path = repository.folder / "/".join(file)
        if resolve != "resolve" or not path.is_file():
            raise _Refused(404, "EntryNotFound")
        headers = {"ETag": f'"{_etag(path)}"', "X-Repo-Commit": repository.commit}
        content = path.read_bytes()
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
            part = content[int(wanted[1]) : int(wanted[2]) + 1]
            self._send(206, part, headers | {"Content-Range": f"bytes {wanted[1]}-{wanted[2]}/{len(content)}"})
        else:
            self._send(200, content, headers)

    def _repository(self, kind: str, org: str, name: str) -> _Repository:
        folder = self.root / kind / org / name
        if not folder.is_dir() or kind not in ("models", "datasets"):
            raise _Refused(404, "RepoNotFound")
        if org == "private" and self.headers.get("Authorization") != f"Bearer {self.token}":
            raise _Refused(401, "RepoNotFound")  # as the hub does: it does not say that there is one
        if org == "gated" and self.headers.get("Authorization") != f"Bearer {self.token}":
            raise _Refused(403, "GatedRepo")
        return _Repository(folder, f"{org}/{name}")

    def _check_revision(self, repository: _Repository, revision: str) -> None:
        if revision not in ("main", repository.commit):
            raise _Refused(404, "RevisionNotFound")

    def _send_json(self, document: object) -> None:
        self._send(200, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
            self.sent[self.path] = self.sent.get(self.path, 0) + len(body)

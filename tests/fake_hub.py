"""A Hub on this machine: as much of its HTTP interface as huggingface_hub uses to make, fill, list and read a repository."""

import base64
import hashlib
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TOKEN = "hf_right"


@dataclass
class FakeHub:
    """What it holds, and what it was asked."""

    commits: dict[str, list[tuple[str, dict[str, bytes]]]] = field(default_factory=dict)
    """By repository, oldest first: hash and files."""
    gated: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    """Method and path of every request."""
    endpoint: str = ""

    def commit(self, repository: str, files: dict[str, bytes]) -> str:
        """Adds files to those of the newest commit."""
        commits = self.commits.setdefault(repository, [])
        whole = {**(commits[-1][1] if commits else {}), **files}
        digest = hashlib.sha1(f"{repository}{len(commits)}".encode(), usedforsecurity=False).hexdigest()
        commits.append((digest, whole))
        return digest

    def add_folder(self, repository: str, folder: Path) -> str:
        """A commit with all files of a folder."""
        found = [path for path in folder.rglob("*") if path.is_file()]
        return self.commit(repository, {path.relative_to(folder).as_posix(): path.read_bytes() for path in found})

    def at(self, repository: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit of `main`, or of a hash."""
        commits = self.commits.get(repository, [])
        return next((one for one in reversed(commits) if revision in ("main", one[0])), None)


@contextmanager
def running(hub: FakeHub) -> Iterator[None]:
    """Serves it meanwhile."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """It keeps its own list."""

    def do_HEAD(self) -> None:
        self._route()

    def do_GET(self) -> None:
        self._route()

    def do_POST(self) -> None:
        self._route()

    def _route(self) -> None:
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.asked.append(f"{self.command} {path}")
        if self.command == "POST":
            return self._write(path, body)
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            if files := self._found(found[1], found[2] or "main"):
                names = [{"rfilename": name} for name in files[1]]
                self._json(200, {"id": found[1], "modelId": found[1], "sha": files[0], "siblings": names, "tags": []})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            if files := self._found(found[1], found[2]):
                self._json(
                    200,
                    [
                        {"type": "file", "path": name, "size": len(content), "oid": _etag(content)}
                        for name, content in files[1].items()
                    ],
                )
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            if files := self._found(found[1], found[2]):
                if found[3] not in files[1]:
                    return self._error(404, "EntryNotFound")
                content = files[1][found[3]]
                self._send(200, content, {"ETag": f'"{_etag(content)}"', "X-Repo-Commit": files[0]})
        else:
            self._error(404, "Unknown")
        return None

    def _write(self, path: str, body: bytes) -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._error(401, "")
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            self.hub.commits.setdefault(name, [])
            return self._json(200, {"url": f"{self.hub.endpoint}/{name}", "name": name})
        if path == "/api/validate-yaml":
            return self._json(200, {"warnings": [], "errors": []})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", path):
            modes = [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                for one in json.loads(body)["files"]
            ]
            return self._json(200, {"files": modes})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
            lines = [json.loads(line) for line in body.splitlines()]
            files = {
                one["value"]["path"]: base64.b64decode(one["value"]["content"]) for one in lines if one["key"] == "file"
            }
            digest = self.hub.commit(found[1], files)
            address = f"{self.hub.endpoint}/{found[1]}/commit/{digest}"
            return self._json(200, {"success": True, "commitOid": digest, "commitUrl": address})
        return self._error(404, "Unknown")

    def _found(self, repository: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """A commit; what is refused is answered."""
        if repository in self.hub.gated:
            self._error(403, "GatedRepo")
        elif repository not in self.hub.commits:
            self._error(404, "RepoNotFound")
        elif not (found := self.hub.at(repository, revision)):
            self._error(404, "RevisionNotFound")
        else:
            return found
        return None

    def _error(self, status: int, code: str) -> None:
        self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code})

    def _json(self, status: int, content: object) -> None:
        self._send(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _etag(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()

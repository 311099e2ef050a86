"""A registry of the tests' own: files and repositories of Git, behind one user and password."""

import base64
import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .process import clean_environment


class Registry:
    """Serves a folder: files with ranges, and what ends in `.git` by `git http-backend`."""

    USER, SECRET = "robot", "the account's own secret"

    def __init__(self, folder):
        self.folder = folder
        self.refused = 0
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def stop(self):
        self.http.shutdown()
        self.http.server_close()

    def _handler(registry):  # noqa: N805
        expected = "Basic " + base64.b64encode(f"{registry.USER}:{registry.SECRET}".encode()).decode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                if self.headers["Authorization"] != expected:
                    registry.refused += 1
                    self.send_error(401)
                elif ".git/" in self.path:
                    self._git(b"")
                else:
                    self._file()

            def do_POST(self):
                if self.headers["Authorization"] != expected:
                    registry.refused += 1
                    self.send_error(401)
                else:
                    self._git(self.rfile.read(int(self.headers["Content-Length"])))

            def _file(self):
                content = (registry.folder / self.path.lstrip("/")).read_bytes()
                first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
                self.send_response(206 if first else 200)
                if first:
                    self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
                self.send_header("Content-Length", str(len(content) - first))
                self.end_headers()
                self.wfile.write(content[first:])

            def _git(self, body):
                path, _, query = self.path.partition("?")
                environment = clean_environment(
                    GIT_PROJECT_ROOT=registry.folder, GIT_HTTP_EXPORT_ALL=1, REQUEST_METHOD=self.command,
                    PATH_INFO=path, QUERY_STRING=query, CONTENT_TYPE=self.headers.get("Content-Type", ""),
                    HTTP_CONTENT_ENCODING=self.headers.get("Content-Encoding", ""), CONTENT_LENGTH=len(body),
                    GIT_PROTOCOL=self.headers.get("Git-Protocol", ""), HOME=os.environ.get("HOME", "/"),
                )  # fmt: skip
                done = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True, check=True)
                head, content = done.stdout.split(b"\r\n\r\n", 1)
                lines = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
                self.send_response(int(lines.pop("Status", "200 OK").split()[0]))
                for name, value in lines.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        return Handler

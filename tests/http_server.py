"""A real HTTP server on this machine that serves bytes, with parts of them or without, and cuts connections."""

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Files:
    """Serves what it is given until it is stopped.

    Attributes:
        content: Bytes by name.
        status: Answers by name, for what is refused.
        cut_after: Bytes after which each answer is cut off; None for never.
        gives_parts: Whether it answers requests for a part with that part.
        requests: What was asked: (method, name, range).
    """

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.status: dict[str, int] = {}
        self.cut_after: int | None = None
        self.gives_parts = True
        self.requests: list[tuple[str, str, str | None]] = []
        files = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                files._answer(self, body=False)

            def do_GET(self) -> None:
                files._answer(self, body=True)

            def log_message(self, *args: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()  # it stops soon

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/{name}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler, *, body: bool) -> None:
        name, part = request.path.partition("?")[0][1:], request.headers.get("Range")
        self.requests.append((request.command, name, part))
        data = self.content.get(name)
        status = self.status.get(name, 200 if data is not None else 404)
        if status != 200 or data is None:
            request.send_response(status)
            request.end_headers()
            return
        start = int(re.findall(r"\d+", part)[0]) if part and self.gives_parts else 0
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(data) - start))
        request.send_header("ETag", f'"{hash(data)}"')
        request.end_headers()
        if body and self.cut_after is not None and len(data) - start > self.cut_after:
            request.wfile.write(data[start : start + self.cut_after])
            request.close_connection = True
        elif body:
            request.wfile.write(data[start:])

"""A real S3 server on this machine, moto's, between whose requests faults can be put."""

import io
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

_SKEWED = (
    b"<Error><Code>RequestTimeTooSkewed</Code><Message>The difference between the request time and the current time is "
    b"too large.</Message></Error>"
)
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Server:
    """Serves buckets until it is stopped.

    Attributes:
        bucket: One that there is.
        fault: What happens to requests; None for nothing.
    """

    def __init__(self, port: int = 0):
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Quiet(WSGIRequestHandler):
            def log(self, *args: Any) -> None: ...

        self._moto = DomainDispatcherApplication(create_backend_app)
        self.fault: Callable[[dict[str, Any], Callable[..., Any], Application], Iterable[bytes]] | None = None
        self.bucket = ""
        self._server = make_server("127.0.0.1", port, self._answer, threaded=True, request_handler=Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def environment(self) -> dict[str, str]:
        """What leads s3:// here."""
        address = f"http://127.0.0.1:{self._server.server_port}"
        keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
        return {"AWS_ENDPOINT_URL": address, "AWS_MAX_ATTEMPTS": "1", **keys}

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        return self.fault(environ, start, self._moto) if self.fault else self._moto(environ, start)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def refused(environ, start, moto):
    start("503 Service Unavailable", [("Content-Type", "application/xml")])
    return [b"<Error><Code>ServiceUnavailable</Code><Message>Reduce your request rate.</Message></Error>"]


def forbidden_to_write(environ, start, moto):
    if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
        return moto(environ, start)
    start("403 Forbidden", [("Content-Type", "application/xml")])
    return [b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"]


def slow(environ, start, moto):
    time.sleep(0.3)
    return moto(environ, start)


def clock_wrong(environ, start, moto):
    start("403 Forbidden", [("Content-Type", "application/xml")])
    return [_SKEWED]


def cut(environ, start, moto):
    """Take half of what is written, and keep it: the answer says that all is well."""
    if environ["REQUEST_METHOD"] == "PUT" and "HTTP_X_AMZ_COPY_SOURCE" not in environ:
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        environ["wsgi.input"] = io.BytesIO(body[: len(body) // 2])
        environ["CONTENT_LENGTH"] = str(len(body) // 2)
        for name in [name for name in environ if "CHECKSUM" in name or "CONTENT_MD5" in name]:
            del environ[name]
    return moto(environ, start)


def hung_up(environ, start, moto):
    """End the connection in the middle of a write."""
    if environ["REQUEST_METHOD"] == "PUT":
        environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]) // 2)
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        raise ConnectionAbortedError
    return moto(environ, start)

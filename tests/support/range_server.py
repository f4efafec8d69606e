"""A small server of files on this machine that answers requests for ranges, and may die in the middle."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class RangeServer:
    """A server of the files below a folder.

    Attributes:
        asked: the paths and ranges that were asked for.
        dies_after: number of requests for bytes that are answered; later ones lose their connection.
        busy: number of requests that are first answered with 503.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[tuple[str, str | None]] = []
        self.dies_after: int | None = None
        self.busy = 0
        self.address = ""
        self.sent = 0

    def answer(self, request: BaseHTTPRequestHandler, body: bool) -> None:
        path, span = self.root / request.path.lstrip("/"), request.headers.get("Range")
        self.asked.append((request.path, span))
        if self.dies_after is not None and len(self.asked) > self.dies_after:
            request.connection.close()
            return
        if self.busy:
            self.busy -= 1
            request.send_error(503)
            return
        if not path.is_file():
            request.send_error(404)
            return
        content = path.read_bytes()
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", span or "")
        first = int(found[1]) if found else 0
        last = min(int(found[2] or len(content) - 1) if found else len(content) - 1, len(content) - 1)
        part = content[first : last + 1]
        request.send_response(206 if found else 200)
        if found:
            request.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        request.send_header("Accept-Ranges", "bytes")
        request.send_header("Content-Length", str(len(part)))
        request.end_headers()
        if body:
            self.sent += len(part)
            request.wfile.write(part)


@contextmanager
def serving(root: Path) -> Iterator[RangeServer]:
    """Serve the files below a folder."""
    server = RangeServer(root)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.answer(self, body=True)

        def do_HEAD(self) -> None:
            server.answer(self, body=False)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:  # the connection was closed on purpose
                self.close_connection = True

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A connection that was closed on purpose is no news."""

    http = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    server.address = f"http://127.0.0.1:{http.server_port}"
    yield server
    http.shutdown()
    http.server_close()
    thread.join()

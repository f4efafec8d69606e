"""A server of object storage as S3 has it, which a test can take away in the middle of a download."""

import subprocess
import threading
import urllib.request
from collections.abc import Iterable
from typing import Any

import pytest
from moto.moto_server import threaded_moto_server
from moto.server import ThreadedMotoServer

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
BUCKET = "bucket"
SMALL = """
data: {root: images, size: 16}
pretrain:
  backbone: test_resnet
  anchor: raw
  source: raw
  epochs: 3
  batch: 4
  optimizer: {name: adamw, learning_rate: 1e-3}
  method: {projector: [16, 16]}
  probe_every: 3
compare: {seeds: [0], arms: [gcl, supervised]}
hardware: {precision: fp32, accelerator: cpu, checkpoint_minutes: 1e-9}
"""
"""A recipe that trains on tiles as they are, in a second."""


class ObjectStore:
    """moto's server. What is in it outlives a stop.

    Attributes:
        variables: what the environment of a client needs.
        fetched: number of requests for shards.
        asked: set at the request of the number ``breaks_at``; its connection is then cut.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        make = threaded_moto_server.make_server

        def counting(host: str, port: int, app: Any, *rest: Any, **options: Any) -> Any:
            def counted(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
                if environ["REQUEST_METHOD"] == self._method and "/shards/" in environ["PATH_INFO"]:
                    self.fetched += 1
                    if self.fetched == self.breaks_at:
                        self.asked.set()
                        environ["werkzeug.socket"].shutdown(2)
                        return []
                return app(environ, start)

            return make(host, port, counted, *rest, **options)

        patch.setattr(threaded_moto_server, "make_server", counting)
        self.fetched, self.breaks_at, self.asked, self._port = 0, 0, threading.Event(), 0
        self._method = "GET"
        self.start()
        address = f"http://127.0.0.1:{self._port}"
        self.variables = {**KEYS, "AWS_ENDPOINT_URL": address}
        urllib.request.urlopen(f"{address}/moto-api/reset", data=b"").close()  # what another test of this process left

    def start(self) -> None:
        self._server = ThreadedMotoServer("127.0.0.1", self._port, verbose=False)
        self._server.start()
        self._port = self._server.get_host_and_port()[1]

    def stop(self) -> None:
        self._server.stop()

    def stop_when_asked(self, client: subprocess.Popen[bytes]) -> None:
        """Wait until the client has asked for the shard, and stop."""
        while not self.asked.wait(0.1):
            assert client.poll() is None, client.args
        self.stop()

    def break_at(self, fetch: int, method: str = "GET") -> None:
        """Cut the connection at a shard that is fetched, or put there with PUT, counted from now."""
        self.asked.clear()
        self._method = method
        self.fetched, self.breaks_at = 0, fetch

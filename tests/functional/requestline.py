# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Placement behind a server that takes no request line above a size, as real ones do."""

import threading
from typing import Any
from wsgiref import simple_server

import fixtures
from placement import deploy

#: uWSGI's default ``buffer-size``, which is for the line and all headers.
LIMIT = 4_096


class _Server(simple_server.WSGIServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing: the client sees it."""


class LimitedPlacement(fixtures.Fixture):
    """Serves the placement of a test on a socket, and has Nova's client ask there.

    :param placement: Nova's PlacementApiClient, of the fixture that has the database
    :ivar longest: bytes of the longest request line that came
    :ivar refused: how many were answered with 414
    """

    def __init__(self, placement: Any) -> None:
        super().__init__()
        self._fixture = placement.fixture

    def _setUp(self) -> None:
        self.longest = self.refused = 0
        limited = self

        class Handler(simple_server.WSGIRequestHandler):
            def handle(self) -> None:
                line = self.raw_requestline = self.rfile.readline(65_537)
                limited.longest = max(limited.longest, len(line))
                if len(line) > LIMIT:
                    limited.refused += 1
                    self.requestline = self.request_version = self.command = ""
                    self.send_error(414)
                    return
                if self.parse_request():
                    handler = simple_server.ServerHandler(
                        self.rfile, self.wfile, self.get_stderr(), self.get_environ()
                    )
                    handler.request_handler = self  # type: ignore[attr-defined]
                    handler.run(self.server.get_app())  # type: ignore[attr-defined]

            def log_message(self, format: str, *args: Any) -> None:
                """Log nothing."""

        server = simple_server.make_server(
            "127.0.0.1",
            0,
            deploy.loadapp(self._fixture.conf_fixture.conf),
            server_class=_Server,
            handler_class=Handler,
        )
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        self.addCleanup(thread.join, 10)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        self.useFixture(
            fixtures.MockPatchObject(
                self._fixture, "endpoint", f"http://127.0.0.1:{server.server_port}"
            )
        )

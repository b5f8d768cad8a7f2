# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""How much Nova's databases and placement are asked, where both are in this process."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Iterator
from typing import Any

import sqlalchemy
from placement import deploy


class Counted:
    """Counts queries to Nova's databases, and requests to placement.

    :ivar counts: of ``queries``, of ``requests``, and how many of these are ``writes``
    :ivar app: placement's WSGI application, the last that was loaded
    """

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.app: Any = None
        self._in_placement = 0

    @contextlib.contextmanager
    def counting(self) -> Iterator[Counted]:
        """Count while this lasts; placement must be loaded within."""
        loaded = deploy.loadapp
        engine = sqlalchemy.engine.Engine

        def loadapp(*args: Any, **kwargs: Any) -> Any:
            self.app = self._counted(loaded(*args, **kwargs))
            return self.app

        deploy.loadapp = loadapp
        sqlalchemy.event.listen(engine, "before_cursor_execute", self._query)
        try:
            yield self
        finally:
            sqlalchemy.event.remove(engine, "before_cursor_execute", self._query)
            deploy.loadapp = loaded

    def _query(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        # Placement's database is in this process, too, and SQLite is told to begin.
        if not self._in_placement and not statement.startswith("BEGIN"):
            self.counts["queries"] += 1

    def _counted(self, app: Any) -> Any:
        def call(environ: Any, start_response: Any) -> Any:
            self.counts["requests"] += 1
            self.counts["writes"] += environ["REQUEST_METHOD"] != "GET"
            self._in_placement += 1
            try:
                return list(app(environ, start_response))
            finally:
                self._in_placement -= 1

        return call

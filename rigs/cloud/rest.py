# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The little that is asked of OpenStack's APIs to set a cloud up."""

from __future__ import annotations

import http.client
import json
import threading
import urllib.error
import urllib.request
from typing import Any

from rigs.cloud.layout import Cloud, CloudError


class Client:
    """Talks to the APIs as the administrator.

    :param cloud: whose APIs
    """

    _tokens: dict[str, str] = {}
    _lock = threading.Lock()

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def call(
        self,
        service: str,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """Ask an API.

        :param body: to be sent as JSON, or bytes
        :returns: its answer read as JSON, None for an empty one
        :raises CloudError: it did not do it
        """
        try:
            status, text = self.answer(service, method, path, body, headers or {})
        except (OSError, http.client.HTTPException) as error:
            raise CloudError(f"{method} {self._cloud.url(service)}{path}: {error}") from error
        if status >= 400:
            raise CloudError(
                f"{method} {self._cloud.url(service)}{path} was answered with {status}: "
                f"{text.decode(errors='replace')[:500]}"
            )
        return json.loads(text) if text else None

    def succeeds(self, service: str, path: str) -> bool:
        """Whether GET does."""
        try:
            self.call(service, "GET", path)
        except CloudError:
            return False
        return True

    def answer(
        self, service: str, method: str, path: str, body: Any, headers: dict[str, str]
    ) -> tuple[int, bytes]:
        """Ask an API.

        :returns: the answer's status, and what it says
        :raises OSError, http.client.HTTPException: there is no answer
        """
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._cloud.url(service) + path,
            data=data,
            method=method,
            headers={"Content-Type": "application/json", "Accept": "application/json", **headers},
        )
        if path != "/v3/auth/tokens":
            request.add_header("X-Auth-Token", self._token())
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                if path == "/v3/auth/tokens":
                    return answer.status, json.dumps(answer.headers["X-Subject-Token"]).encode()
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def _token(self) -> str:
        with self._lock:
            key = self._cloud.url("keystone")
            if key not in self._tokens:
                user = {
                    "name": "admin",
                    "domain": {"id": "default"},
                    "password": self._cloud.settings.passwords["admin"],
                }
                body = {
                    "auth": {
                        "identity": {"methods": ["password"], "password": {"user": user}},
                        "scope": {"project": {"name": "admin", "domain": {"id": "default"}}},
                    }
                }
                self._tokens[key] = self.call("keystone", "POST", "/v3/auth/tokens", body)
            return self._tokens[key]

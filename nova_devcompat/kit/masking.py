# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Texts for others, without the secrets that may stand in them."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterable

#: What stands for a secret.
MASK = "***"

# Shorter ones are masked where a name tells what they are, and not wherever such a word stands.
_SHORTEST = 6
_NO_SECRETS = re.compile(r"(?i)[\d.]+|true|false|none|null|<none>")

_NAMES = (
    r"(?:pass(?:word|wd|phrase)|(?<![a-z])pass(?![a-z])|secret|token|credential"
    r"|private[_-]?key|api[_-]?key|auth[_-]?key)"
)
# A setting of a file whose name tells that its value is one: all of the line. Others such
# as "password_length" are masked with it, which costs nothing.
_SETTING = re.compile(rf"(?im)^(?P<name>[^\n=:#]*{_NAMES}[^\n=:]*[=:][ \t]*)(?P<value>\S[^\n]*)$")
# The same within a line of a log, JSON in it or not: a word, or what is between quotes.
_INSIDE = re.compile(
    rf"(?i)(?P<name>[\w.-]*{_NAMES}[\w.-]*[\"']*[ \t]*[=:][ \t]*)"
    r"(?P<value>\"[^\"\n]*\"|'[^'\n]*'|\\*[^\s,;\"'}\]]+)"
)
# Whatever a URL has before the last "@": user and password, of all servers that it names.
_IN_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<who>[^\s'\"<>]*)@")


def secrets_in(text: str) -> set[str]:
    """The values that are secrets in a configuration file, by their names and in URLs."""
    found = {match["value"].strip().strip("'\"") for match in _SETTING.finditer(text)}
    for match in _IN_URL.finditer(text):
        for who in re.split(r"[,@]", match["who"]):
            password = who.partition(":")[2]
            found |= {password, urllib.parse.unquote(password)}
    return {
        secret
        for secret in found
        if len(secret) >= _SHORTEST and not _NO_SECRETS.fullmatch(secret)
    }


def masked(text: str, secrets: Iterable[str] = ()) -> str:
    """A text without secrets.

    :param secrets: those that are known, wherever they stand
    """
    # The longest first: one may be a part of another.
    for secret in sorted(secrets, key=lambda one: (-len(one), one)):
        text = text.replace(secret, MASK)
    text = _IN_URL.sub(rf"\g<scheme>{MASK}@", text)
    text = _SETTING.sub(rf"\g<name>{MASK}", text)
    return _INSIDE.sub(rf"\g<name>{MASK}", text)

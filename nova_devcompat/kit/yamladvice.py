# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What to do about a file that is no YAML: libyaml says what it stumbled over, often too late."""

from __future__ import annotations

import re

_NO_BREAK = "\u00a0"
_TYPOGRAPHIC = re.compile("[\u2018\u2019\u201c\u201d\u201e]")
_KEY_WITHOUT_COLON = re.compile(r"\s*(?:- )?[A-Za-z_][\w-]*\s*")
# What may stand before a quote that opens one.
_OPENED = re.compile(r"(?:^|[\s:,\[{])(['\"])")


def advice(text: str, line: int) -> tuple[int, str]:
    """Where the mistake most likely is, and what to write.

    :param text: the whole file
    :param line: where libyaml stopped, from 1
    :returns: a line, and a remedy; '' where none is known
    """
    lines = text.splitlines()
    for number in range(min(line, len(lines)), max(line - 3, 0), -1):
        found = _remedy(lines[number - 1])
        if found:
            return number, found
    return line, "; see that the indentation is that of the lines around it" if lines else ""


def _remedy(line: str) -> str:
    indent = line[: len(line) - len(line.lstrip())]
    if "\t" in indent:
        return "; it is indented with a tab: use blanks"
    if _NO_BREAK in line:
        return "; it has a no-break space (U+00A0) in it: write a blank"
    if line.lstrip().startswith("#"):
        return ""
    quote = _OPENED.search(line)
    if quote and line.count(quote[1]) % 2:
        return f"; a quote ({quote[1]}) that begins here does not end"
    if _TYPOGRAPHIC.search(line):
        return "; it has typographic quotes in it: write ' or \""
    if line.strip() and ":" not in line and _KEY_WITHOUT_COLON.match(line):
        return "; a colon is missing behind the key"
    if re.match(r"\s*[A-Za-z_][\w-]*:[^\s:]", line):
        return "; a blank is missing behind the colon"
    return ""

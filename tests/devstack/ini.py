# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Stand-ins for devstack's ini functions, written from what its comments promise.

``ini.py FUNCTION FILE SECTION OPTION [VALUE...]``. Where DEVSTACK_DIR names a checkout of devstack
the tests run with the real ``inc/ini-config`` as well, which tells whether these are like them:

* a value that is set replaces the option's lines in place; one that was not there comes after
  the header of its section, and a section that was not there at the end, after an empty line;
* what is set in several lines is removed and comes anew after the header, in order;
* what is got from several lines is joined with spaces.
"""

from __future__ import annotations

import pathlib
import re
import sys
from collections.abc import Sequence


class Ini:
    """The lines of a file, changed one option at a time."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._lines = path.read_text().splitlines() if path.exists() else []

    def get(self, section: str, option: str) -> list[str]:
        return [
            self._lines[number].split("=", 1)[1].strip() for number in self._of(section, option)
        ]

    def set(self, section: str, option: str, value: str) -> None:
        if places := self._of(section, option):
            for number in places:
                before = re.match(r"[^=]*=[ \t]*", self._lines[number])
                assert before
                self._lines[number] = before.group() + value
        else:
            self._insert(section, option, [value])
        self._save()

    def set_lines(self, section: str, option: str, values: Sequence[str]) -> None:
        for number in reversed(self._of(section, option)):
            del self._lines[number]
        self._insert(section, option, values)
        self._save()

    def delete(self, section: str, option: str) -> None:
        for number in reversed(self._of(section, option)):
            del self._lines[number]
        self._save()

    def _of(self, section: str, option: str) -> list[int]:
        """The numbers of the lines that give the option."""
        here, found = False, []
        for number, line in enumerate(self._lines):
            if line.startswith("["):
                here = line.startswith(f"[{section}]")
            elif here and re.match(rf"{re.escape(option)}[ \t]*=", line):
                found.append(number)
        return found

    def _insert(self, section: str, option: str, values: Sequence[str]) -> None:
        header = f"[{section}]"
        if header not in self._lines:
            self._lines += ["", header]
        after = self._lines.index(header) + 1
        self._lines[after:after] = [f"{option} = {value}" for value in values]

    def _save(self) -> None:
        self._path.write_text("".join(f"{line}\n" for line in self._lines))


def main(argv: Sequence[str]) -> None:
    function, path, section, option, *values = argv
    ini = Ini(pathlib.Path(path))
    match function:
        case "iniget" | "iniget_multiline":
            print(" ".join(ini.get(section, option)))
        case "iniset":
            ini.set(section, option, " ".join(values[0].split()))
        case "iniset_multiline":
            ini.set_lines(section, option, values)
        case "iniadd":
            ini.set_lines(section, option, [*ini.get(section, option), *values])
        case "inidelete":
            ini.delete(section, option)
        case _:
            raise SystemExit(f"{function} is none of the functions that the plugin uses")


if __name__ == "__main__":
    main(sys.argv[1:])

# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Inputs that are wrong in one or several places: valid ones, changed."""

from __future__ import annotations

import json
import random
import re
import zlib
from collections.abc import Sequence
from typing import Any

from nova_devcompat.wire import record_packing

Path = tuple[str | int, ...]

LINE = "\n2026-11-26 12:00:00.000 1 CRITICAL nova.compute forged"

#: What a hostile, careless or later writer might put in place of anything.
TEXTS = (
    "",
    " ",
    "gpu!",
    "GPU",
    "__proto__",
    "gpu\n",
    "a" * 256,
    "a" * 5_000,
    f"1.2{LINE}",
    "\x1b]0;title\x07\x1b[2J",
    "\x00",
    "\u202egpu\u2066",
    "\u200b\ufeff",
    "\ud800",
    "電\U0001f600",
    "=cmd|' /C calc'!A0",
    "{0}%s%(x)s",
    "../../traits",
    "e5a2e1f0-6a53-4f3c-8d57-6d3e6c8a2b10?x=",
    "E5A2E1F0-6A53-4F3C-8D57-6D3E6C8A2B10",
    "minor-too-old host",
    "Minor_Too_Old nobody",
    "pci:8d1b0ef4-5b0b-4a3e-a1e9-7c2f6a9a2d11",
    "host:qemu",
    "9" * 4_500,
    "1e999",
)
NUMBERS = (0, 1, 2, -1, 9, 10**18, 10**30, 1.5, 1e300, float("inf"), float("nan"))
WORDS = ("gpu", "nic", "qemu", "version", "caps", "1.2", "1.4", "p2p", "semver", "x", "rc:VGPU")


def anything(rng: random.Random, depth: int = 0) -> Any:
    """A value of any type that JSON has."""
    kind = rng.randrange(8 if depth < 3 else 6)
    if kind < 2:
        return rng.choice(TEXTS)
    if kind == 2:
        return rng.choice(WORDS)
    if kind == 3:
        return rng.choice(NUMBERS)
    if kind == 4:
        return rng.choice((None, True, False))
    if kind == 5:
        return nested(rng.choice((3, 40)))
    many = range(rng.choice((0, 1, 2, 3, 300 if depth == 0 else 1)))
    if kind == 6:
        return [anything(rng, depth + 1) for _ in many]
    return {rng.choice(TEXTS + WORDS) + str(index): anything(rng, depth + 1) for index in many}


def nested(depth: int) -> list[Any]:
    """Lists in lists."""
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


def dumps(content: Any) -> str:
    """JSON as our writers write it, so that what readers look for in a text is where it was."""
    return json.dumps(content, separators=(",", ":"))


def paths(content: Any) -> list[Path]:
    """All places of a JSON value, each before those in it."""
    found: list[Path] = []

    def look(value: Any, path: Path) -> None:
        found.append(path)
        if isinstance(value, dict):
            for key, one in value.items():
                look(one, (*path, key))
        elif isinstance(value, list):
            for index, one in enumerate(value):
                look(one, (*path, index))

    look(content, ())
    return found


def spoil(rng: random.Random, content: Any, within: Path = ()) -> Any:
    """Change one place of a JSON value, in place.

    :param within: nowhere but there, that itself included
    :returns: the value, since the place may be all of it
    """
    found = [path for path in paths(content) if path[: len(within)] == within]
    path = rng.choice(found)
    if not path:
        return anything(rng)
    holder = content
    for key in path[:-1]:
        holder = holder[key]
    last = path[-1]
    what = rng.randrange(5)
    if what == 0:
        holder[last] = anything(rng)
    elif what == 1 and path != within:
        del holder[last]
    elif what == 2 and isinstance(holder, dict) and path != within:
        holder[rng.choice(TEXTS + WORDS)] = holder.pop(last)
    elif what == 3 and isinstance(holder[last], str):
        holder[last] = spoil_text(rng, holder[last])
    elif what == 4 and isinstance(holder[last], list):
        holder[last] = holder[last] * rng.choice((2, 100)) + [anything(rng)]
    else:
        holder[last] = rng.choice(TEXTS)
    return content


def spoil_text(rng: random.Random, text: str) -> str:
    """Change a text: flip, drop, repeat, insert, cut."""
    if not text:
        return rng.choice(TEXTS)
    at, until = sorted((rng.randrange(len(text)), rng.randrange(len(text))))
    what = rng.randrange(6)
    if what == 0:
        return text[:at] + chr(ord(text[at]) ^ (1 << rng.randrange(7))) + text[at + 1 :]
    if what == 1:
        return text[:at] + text[until:]
    if what == 2:
        return text[:until] + text[at:]
    if what == 3:
        return text[:at] + rng.choice(TEXTS) + text[at:]
    if what == 4:
        return text[:at]
    return text[:at] + chr(rng.choice((0, 7, 10, 13, 27, 0x85, 0x9B, 0x202E, 0xD800))) + text[at:]


def twice(rng: random.Random, text: str) -> str:
    """A JSON text in which a key is given twice."""
    keys = [match.start() for match in re.finditer('":', text)]
    if not keys:
        return text
    end = rng.choice(keys)
    begin = text.rindex('"', 0, end)
    return f"{text[:begin]}{text[begin : end + 2]}{json.dumps(anything(rng))},{text[begin:]}"


def stats_text(rng: random.Random, base: str) -> str:
    """A stats document, wrong somewhere."""
    what = rng.randrange(10)
    if what < 6:
        content = json.loads(base)
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            content = spoil(rng, content)
        text = dumps(content)
        return twice(rng, text) if what == 5 else text
    if what == 6:
        return base.replace(
            '"v":1', f'"v":{rng.choice(("0", "2", "3", "9" * 30, "-1", "1.0", "true"))}'
        )
    if what == 7:
        return rng.choice(("[" * 3_000, '{"v":1,"g":' * 2_000, "", "null", '"x"', "\x00", "{}"))
    text = base
    for _ in range(rng.choice((1, 1, 2, 8))):
        text = spoil_text(rng, text)
    return text


def record(rng: random.Random, base: dict[str, str]) -> dict[str, str | None]:
    """A guest's record, wrong somewhere: inside with its checksum right, or outside."""
    metadata: dict[str, str | None] = dict(base)
    what = rng.randrange(6)
    if what < 4:
        text = "".join(base.values()).split(" ", 3)[3]
        content = spoil(rng, json.loads(text))
        payload = dumps(content)
        if what == 3:
            payload = twice(rng, payload)
        version = rng.choice((1, 1, 2)) if payload.isascii() else 1
        if version == 2:
            payload = record_packing.pack(payload)
            if rng.randrange(3) == 0:
                payload = spoil_text(rng, payload)
        checksum = format(zlib.crc32(payload.encode(errors="surrogatepass")), "08x")
        return {"devcompat:need": f"{version} 1 {checksum} {payload}"}
    key = rng.choice(list(base))
    if what == 4:
        metadata[key] = spoil_text(rng, base[key])
    else:
        metadata[key] = rng.choice((None, *TEXTS, "1 1", "1 99999999999 0 {}", "2 x", "٣ 1 0 {}"))
    return metadata


def trait_names(rng: random.Random, base: Sequence[str]) -> list[str]:
    """Names of traits under our prefix that somebody made."""
    made = []
    for _ in range(rng.choice((1, 3))):
        name = rng.choice(base)
        if rng.randrange(3):
            name += "".join(rng.choice(("__A_", "__1B_", "__202E_", "__D800_", "_", "9", "__0_")))
        made.append(spoil_text(rng, name) if rng.randrange(3) else name)
    return made


def extra_specs(rng: random.Random) -> dict[str, str]:
    """Extra specs of a flavor, ours among them."""
    keys = ("devcompat:gpu.version", "devcompat:gpu.caps", "devcompat:nic.mode", "devcompat:", "x")
    specs = {}
    for _ in range(rng.choice((1, 2))):
        key, value = rng.choice(keys), rng.choice(TEXTS + WORDS)
        specs[spoil_text(rng, key) if not rng.randrange(3) else key] = value
    return specs


def inventory(rng: random.Random, base: str) -> bytes:
    """The bytes of a static inventory, wrong somewhere."""
    text = base
    for _ in range(rng.choice((1, 1, 2))):
        if rng.randrange(2):
            text = spoil_text(rng, text)
        else:
            old = rng.choice(("cmp1", "0000:81:00.0", "gpu", "1.2.3", "version", "p2p"))
            text = text.replace(old, json.dumps(rng.choice(TEXTS)).strip('"'))
    return text.encode(errors="surrogatepass")

# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The page as a text; what browsers make of it is in ``tests/page``.

To write the documented sample anew, run this module: ``python -m tests.unit.cli.test_page``.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import html.parser
import io
import json
import os
import pathlib
import re

import pytest
import yaml

from nova_devcompat.cli import page
from nova_devcompat.cli.main import main
from rigs.demo import story
from tests.page import fleets

ROOT = pathlib.Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "doc" / "source" / "_examples"
SAMPLE = ROOT / "doc" / "source" / "_extra" / "fleet.html"
CATALOG = EXAMPLES / "fleet.yaml"
INVENTORY = EXAMPLES / "fleet-inventory.yaml"
#: What differs from run to run.
PASSING = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC|nova-devcompat \d[\w.+]*")


def write(path, *options):
    arguments = ["page", "-o", str(path), "--catalog", str(CATALOG), *options]
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        return main(arguments), said.getvalue()


class Elements(html.parser.HTMLParser):
    """The elements of a page, and the texts of style and scripts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.raw = [], set(), []
        self._in = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.update(name for name, _ in attrs)
        self._in = tag
        if tag in ("style", "script"):
            self.raw.append("")

    def handle_endtag(self, tag):
        self._in = ""

    def handle_data(self, data):
        if self._in in ("style", "script"):
            self.raw[-1] += data


# --- the sample ----------------------------------------------------------------------------------


def test_the_sample_is_what_the_command_writes(tmp_path):
    path = tmp_path / "fleet.html"
    assert write(path, "--inventory", str(INVENTORY))[0] == 0
    assert PASSING.sub("", path.read_text("utf-8")) == PASSING.sub("", SAMPLE.read_text("utf-8"))


def test_the_sample_is_of_the_demonstration():
    assert yaml.safe_load(CATALOG.read_text())["families"] == story.FAMILIES
    hosts = yaml.safe_load(INVENTORY.read_text())["hosts"]
    versions = {
        name: device["attributes"]["fw_version"]
        for name, host in hosts.items()
        for device in host["devices"]
    }
    assert versions == story.VERSIONS


# --- the file ------------------------------------------------------------------------------------


def test_nothing_of_others_becomes_markup():
    """However hosts, guests and aggregates are called, the elements are the same."""
    aggregates = {name: frozenset(fleets.HOSTILE) for name in fleets.HOSTILE}
    told = Elements(
        fleets.page(
            fleets.hostile(),
            aggregates=aggregates,
            title=fleets.HOSTILE[0],
            incomplete=fleets.HOSTILE,
        )
    )
    assert told.tags.count("script") == 2 and told.tags.count("style") == 1
    assert not {"img", "iframe", "link", "object", "base"} & set(told.tags)
    assert not {name for name in told.attributes if name.startswith("on") or name == "style"}
    _, data, _ = told.raw
    assert "<" not in data
    names = json.loads(data)["cells"][0]["hosts"]
    assert fleets.HOSTILE[0] in names
    assert "\\u202eevil\\u2066\\u200f" in names
    assert all(name.isprintable() for name in names)


def test_no_guest_is_no_guest_that_can_go(tmp_path):
    """As of an inventory whose devices no family matches."""
    inventory = tmp_path / "inventory.yaml"
    devices = "[{address: a, attributes: {model: x}}]"
    text = f"meta: {{schema_version: '1.0'}}\nhosts: {{a: {{devices: {devices}}}}}\n"
    inventory.write_text(text)
    path = tmp_path / "page.html"
    assert write(path, "--inventory", str(inventory))[0] == 0
    text = path.read_text("utf-8")
    assert "There are no guests to tell of." in text
    assert "Nothing: each guest has two" not in text
    assert "1 devices of the inventory are of no family" in text


def test_only_its_own_script_and_style_may_run():
    text = fleets.page(fleets.small())
    style, _, script = Elements(text).raw
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
    for kind, own in (("style", style), ("script", script)):
        digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script)
    assert "url(" not in style and "@import" not in style


def test_a_file_is_replaced_in_one_step(tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    page.write(path, "before")
    assert path.stat().st_mode & 0o777 == 0o640
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        page.write(path, "after")
    assert path.read_text() == "before"
    assert [one.name for one in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--inventory", "nowhere.yaml"], "nowhere.yaml"),
        (["--inventory", str(INVENTORY), "--with-room"], "an inventory has none"),
        (["--pack", "qemu"], "--pack and --known-bad are for --inventory"),
    ],
)
def test_bad_input(tmp_path, options, told):
    status, said = write(tmp_path / "page.html", *options)
    assert status == 2 and told in said
    assert not list(tmp_path.iterdir())


def test_where_it_cannot_be_written(tmp_path):
    status, said = write(tmp_path / "none" / "page.html", "--inventory", str(INVENTORY))
    assert status == 2 and "cannot be written" in said


if __name__ == "__main__":
    SAMPLE.parent.mkdir(exist_ok=True)
    write(SAMPLE, "--inventory", str(INVENTORY))

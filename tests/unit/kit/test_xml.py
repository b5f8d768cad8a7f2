# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

from __future__ import annotations

import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_devcompat.kit import xml


def parse(text):
    return xml.parse(text, "a", 1000)


def test_a_document():
    root = parse("<a><b c='d'>e &amp; f</b></a>")
    assert root.find("b").get("c") == "d" and root.findtext("b") == "e & f"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<a>", "is not XML: "),
        ("", "is not XML: "),
        ("\0", "is not XML: "),
        ("\ud800", "is not XML: "),
        ("<b/>", "has <b> for <a>"),
        ("<a>" + "x" * 1000 + "</a>", "has 1007 characters, and 1000 are read"),
        ("<!DOCTYPE a><a/>", "declares a document type"),
    ],
)
def test_what_is_refused(text, why):
    with pytest.raises(ValueError, match=f"^{why}") as caught:
        parse(text)
    assert str(caught.value).isprintable()


def test_no_file_is_read(tmp_path):
    secret = pathlib.Path(tmp_path / "secret")
    secret.write_text("secret")
    text = f"<!DOCTYPE a [<!ENTITY x SYSTEM 'file://{secret}'>]><a>&x;</a>"
    with pytest.raises(ValueError, match="declares a document type"):
        parse(text)


def test_no_bomb_goes_off():
    levels = "".join(f"<!ENTITY x{n} '{f'&x{n - 1};' * 9}'>" for n in range(1, 9))
    with pytest.raises(ValueError):
        parse(f"<!DOCTYPE a [<!ENTITY x0 'ha'>{levels}]><a>&x8;</a>")


@given(st.text())
def test_anything(text):
    try:
        parse(text)
    except ValueError as error:
        assert str(error).isprintable()

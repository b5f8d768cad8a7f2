# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Files that are no YAML: the line that is wrong, and what to write there."""

import re

import pytest

from nova_devcompat.kit.problems import DocumentError
from nova_devcompat.kit.yamlfile import parse

GOOD = """\
meta: {schema_version: '1.0'}
families:
  fam:
    match:
      vendor_id: '15b3'
      product_id: '101e'
    source: devlink
    rules:
      fw: semver
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "remedy"),
    [
        ("      fw: semver", "\tfw: semver", 9, "it is indented with a tab: use blanks"),
        ("vendor_id: '15b3'", "vendor_id: '15b3", 5, "a quote (') that begins here does not end"),
        ("product_id: '101e'", 'product_id: "101e', 6, "the quote that begins here does not end"),
        ("    rules:\n", "    rules\n", 8, "a colon is missing behind the key"),
        ("source: devlink", "source devlink", 7, "a colon is missing behind the key"),
        ("    source", "\u00a0   source", 7, "a no-break space (U+00A0) in it: write a blank"),
        ("    source: devlink", "   source: devlink", 7, "the indentation is that of the lines"),
    ],
)
def test_what_is_wrong_is_named_where_it_is(old, new, line, remedy):
    assert old in GOOD
    with pytest.raises(DocumentError) as caught:
        parse(GOOD.replace(old, new, 1).encode(), "c.yaml")
    (problem,) = caught.value.problems
    assert str(problem).startswith(f"c.yaml:{line}: is not YAML: ")
    assert remedy in problem.message


def test_what_is_not_utf_8_says_what_to_do():
    with pytest.raises(DocumentError, match="save the file as UTF-8"):
        parse("a: \u00fc".encode("latin-1"), "c.yaml")


@pytest.mark.parametrize("text", ["]", "a: [1", "'", "{", "a: b: c", "\t", "- a\nb: c", "%"])
def test_whatever_is_wrong_there_is_a_line(text):
    with pytest.raises(DocumentError) as caught:
        parse(text.encode(), "c.yaml")
    assert all(re.match(r"c\.yaml:\d+: ", str(one)) for one in caught.value.problems)

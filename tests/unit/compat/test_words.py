# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What a project's owner reads is fixed: there is no place in it for what only operators know."""

import re

import pytest

from nova_devcompat.compat import words

TEXTS = {name: text for name, text in vars(words).items() if name.isupper()}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_text_names_no_version_host_or_address(text):
    """Words alone: nothing that could be one, and nothing that could be filled in."""
    assert re.fullmatch(r"[a-z]+( [a-z]+)+", text)


def test_each_says_something_else():
    assert len(set(TEXTS.values())) == len(TEXTS) > 1

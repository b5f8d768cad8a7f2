# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Placement is asked the same question once; on real Nova in tests/functional/test_drain.py."""

from __future__ import annotations

import types

from nova_devcompat.fleet.destinations import Candidates


class _Placement:
    """Answers with what it was asked, and counts."""

    def __init__(self):
        self.asked, self.silent = [], False

    def get_allocation_candidates(self, context, resources):
        self.asked.append(resources.to_querystring())
        return (None, None, None) if self.silent else ([self.asked[-1]], {}, "1.36")


def ask(candidates, query):
    resources = types.SimpleNamespace(to_querystring=lambda: query)
    return candidates.get_allocation_candidates(None, resources)[0]


def test_the_same_is_asked_once():
    placement = _Placement()
    candidates = Candidates(placement, most=2)
    for query in "aabab":
        assert ask(candidates, query) == [query]
    assert placement.asked == ["a", "b"]
    # The one that was not needed for longest is forgotten.
    ask(candidates, "a")
    ask(candidates, "c")
    assert ask(candidates, "a") == ["a"]
    assert ask(candidates, "b") == ["b"]
    assert placement.asked == ["a", "b", "c", "b"]


def test_no_answer_is_none():
    placement = _Placement()
    placement.silent = True
    candidates = Candidates(placement)
    assert ask(candidates, "a") is None
    placement.silent = False
    assert ask(candidates, "a") == ["a"]

# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What one host says changes nothing for another, whichever of them is asked about first."""

import itertools
import json

import pytest

from nova_devcompat import wire
from nova_devcompat.scheduler.judge import RequestJudge
from nova_devcompat.scheduler.mobility import Mobility
from tests.fuzz.consumers import CANDIDATES, FIRST, GOOD, REQUESTS, STRICT
from tests.unit.providers import uuid_of

# A host whose devices are all alike, and one that says the same of other providers than it has.
RIGHT = GOOD[1]
WRONG = RIGHT.replace(FIRST, uuid_of("elsewhere"))


def test_both_have_the_same_shape():
    assert wire.load_stats(RIGHT).shape == wire.load_stats(WRONG).shape is not None
    assert FIRST in json.dumps(RIGHT)
    assert FIRST not in WRONG


@pytest.mark.parametrize("guest", REQUESTS)
@pytest.mark.parametrize("candidates", CANDIDATES)
def test_a_host_that_names_other_providers_than_it_has(guest, candidates):
    def judged(*texts):
        reader = wire.StatsReader()
        judge = RequestJudge(guest, STRICT)
        return {text: judge.judge(reader.read(text), candidates) for text in texts}

    def weighed(*texts):
        reader = wire.StatsReader()
        request = Mobility(guest, STRICT)
        groups = {text: request.group(reader.read(text), candidates) for text in texts}
        for group in groups.values():
            group.hosts += 1
        request.weigh()
        return {text: group.why for text, group in groups.items()}

    for ask in (judged, weighed):
        alone = ask(RIGHT)[RIGHT]
        for texts in itertools.permutations([RIGHT, WRONG]):
            assert ask(*texts)[RIGHT] == alone

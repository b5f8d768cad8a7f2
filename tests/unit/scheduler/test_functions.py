# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The filter where one provider has functions that are devices of their own and not alike."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from nova_devcompat import wire
from nova_devcompat.host.devices import HostDevice
from nova_devcompat.stores.assigned import Assigned
from tests.budget import scaled
from tests.unit.providers import uuid_of
from tests.unit.scheduler import test_judge as judging

PF = "0000:80:00.0"
VERSIONS = ["1.0", "1.2", "1.4", "2.0"]


def published(offers, reader, known, providers=("p0",)):
    """A host one provider of which has a function of each of these offers."""
    document = wire.HostDocument(
        catalog="",
        whole=True,
        devices=tuple(
            wire.PublishedDevice(
                address=PF,
                accepts=offer.accept_set(known),
                providers=tuple(map(uuid_of, providers)),
                functions=(f"0000:80:00.{index + 1}",),
            )
            for index, offer in enumerate(offers)
        ),
    )
    return reader.read(wire.dump_stats(document))


def left(need, offers, *, reader=None, request=None):
    known = judging.atoms_of(*offers) | need.atoms
    document = published(offers, reader or wire.StatsReader(), known)
    request = request or judging.asking(need, judging.ENFORCE)
    judged = request.judge(document, [judging.pci_candidate("p0")])
    return judged.candidates is None or bool(judged.candidates)


def test_a_provider_of_unlike_functions_is_left_while_one_will_do():
    need = judging.need_of(judging.gpu("1.2"), slot=judging.PCI)
    assert left(need, [judging.gpu("1.0"), judging.gpu("1.2")])
    assert left(need, [judging.gpu("2.0"), judging.gpu("1.4"), judging.gpu("1.0")])
    assert not left(need, [judging.gpu("1.0"), judging.gpu("2.0")])
    assert not left(need, [judging.gpu("1.0")])


def test_what_was_found_for_one_host_is_not_used_for_another():
    need = judging.need_of(judging.gpu("1.2"), slot=judging.PCI)
    reader, request = wire.StatsReader(), judging.asking(need, judging.ENFORCE)
    good, bad = judging.gpu("1.4"), judging.gpu("1.0")
    worse = judging.gpu("2.0")
    for offers, expected in (
        ([bad, worse], False),
        ([bad, good], True),
        ([good, worse], True),
        ([bad, worse], False),
        ([good], True),
        ([bad], False),
    ):
        assert left(need, offers, reader=reader, request=request) is expected


@settings(max_examples=scaled(200))
@given(
    st.sampled_from(VERSIONS),
    st.lists(st.sampled_from(VERSIONS), min_size=1, max_size=4, unique=True),
    st.data(),
)
def test_what_admission_accepts_the_filter_accepts(version, offered, data):
    """Whichever function Nova claims."""
    offers = [judging.gpu(one) for one in offered]
    need = judging.need_of(judging.gpu(version), slot=judging.PCI)
    claimed = data.draw(st.sampled_from(offers))
    device = HostDevice("0000:80:00.1", claimed, parent=PF)
    ruling = judging.rule_on_claim(
        need,
        {"s0": judging.PCI},
        {"s0": device.address},
        [Assigned(judging.PCI, device.address, device)],
        judging.every(judging.ENFORCE),
    )
    if ruling.accepts:
        assert left(need, offers)

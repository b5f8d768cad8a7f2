# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_devcompat.compat.runs import addresses_in, check_run, is_in, runs_of


def test_runs():
    assert runs_of([]) == ()
    assert runs_of(["0000:81:00.4"]) == ("0000:81:00.4",)
    # Eight functions to a slot, 32 slots to a bus.
    functions = [f"0000:81:{slot:02x}.{number}" for slot in (30, 31) for number in range(8)]
    functions.append("0000:82:00.0")
    assert runs_of(reversed(functions)) == ("0000:81:1e.0-0000:82:00.0",)
    assert runs_of(["0000:81:00.1", "0000:81:00.3", "0001:81:00.2", "0000:81:00.2"]) == (
        "0000:81:00.1-0000:81:00.3",
        "0001:81:00.2",
    )
    assert runs_of(["mtty_mtty", "0000:81:00.1"]) == ("0000:81:00.1", "mtty_mtty")


def test_what_is_no_run_is_one_address():
    assert list(addresses_in("mtty_mtty")) == ["mtty_mtty"]
    assert is_in("mtty_mtty", "mtty_mtty")
    assert not is_in("mtty_mtty", "0000:81:00.1")
    assert not is_in("0000:81:00.1-0000:81:00.3", "mtty_mtty")


@pytest.mark.parametrize(
    "run", ["0000:81:00.1-0001:81:00.2", "0000:81:00.1-0000:81:00.0", "0000:81:00.1-0000:80:00.2"]
)
def test_no_runs(run):
    with pytest.raises(ValueError, match="does not run from one address to a later one"):
        check_run(run)


def test_what_is_in_a_run():
    """It goes on in the next slot, and knows its domain."""
    run = "0000:81:00.6-0000:81:01.1"
    within = ["0000:81:00.6", "0000:81:00.7", "0000:81:01.0", "0000:81:01.1"]
    assert check_run(run) == run
    assert list(addresses_in(run)) == within
    assert all(is_in(run, address) for address in within)
    for other in ("0000:81:00.5", "0000:81:01.2", "0001:81:00.7", "0000:82:00.7"):
        assert not is_in(run, other)


def test_a_run_of_one_in_a_domain_with_a_letter():
    """Domains are hexadecimal, and a run may end where it begins."""
    run = "00a1:81:00.1-00a1:81:00.1"
    assert check_run(run) == run
    assert list(addresses_in(run)) == ["00a1:81:00.1"]
    assert is_in("0010:81:00.1-0010:81:00.2", "0010:81:00.2")


addresses = st.builds(
    "{:04x}:{:02x}:{:02x}.{}".format,
    st.sampled_from([0, 1, 0x10000]),
    st.integers(0, 2),
    st.integers(0, 31),
    st.integers(0, 7),
)


@given(st.lists(addresses, max_size=40), addresses)
def test_a_run_is_its_addresses(listed, other):
    runs = runs_of(listed)
    found = [address for run in runs for address in addresses_in(check_run(run))]
    assert len(found) == len(set(found)) and set(found) == set(listed)
    assert any(is_in(run, other) for run in runs) is (other in listed)
    assert runs_of(found) == runs

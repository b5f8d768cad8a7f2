# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Nova's client asks for many traits in lines that servers take."""

import types

import pytest
from nova import exception
from nova.scheduler.client import report

from nova_devcompat.compute import asking


class Client(report.SchedulerReportClient):
    """Nova's client as far as traits go, where some exist."""

    def __init__(self, names):
        self.names = names
        self.asked, self.made = [], []

    def get(self, url, version, global_request_id=None):
        self.asked.append(url)
        wanted = url.partition("in:")[2].split(",")
        found = sorted(self.names.intersection(wanted))
        return types.SimpleNamespace(status_code=200, json=lambda: {"traits": found})

    def put(self, url, data, version, global_request_id=None):
        self.made.append(url.removeprefix("/traits/"))
        return True


def driver(client):
    """As nova-compute makes one."""
    compute = types.SimpleNamespace(reportclient=client)
    return types.SimpleNamespace(virtapi=types.SimpleNamespace(_compute=compute))


CONTEXT = types.SimpleNamespace(global_id=None)
MANY = {f"CUSTOM_DEVCOMPAT_GPU__CAPS__{number:0100d}" for number in range(300)}


def ensure(client, names):
    client._ensure_traits(CONTEXT, names)
    return client


@pytest.mark.parametrize("times", [1, 2])
def test_many_are_asked_for_in_pieces(times):
    there = set(sorted(MANY)[::2])
    client = Client(there)
    assert all(asking.install(driver(client)) for _ in range(times))
    ensure(client, MANY)
    assert sorted(client.made) == sorted(MANY - there)
    assert 10 < len(client.asked) < 30
    assert max(map(len, client.asked)) < 2_100
    # What Nova does by itself, and what it does of few.
    plain = ensure(Client(there), MANY)
    assert (len(plain.asked), sorted(plain.made)) == (1, sorted(client.made))
    client.asked.clear()
    assert len(ensure(client, {"HW_CPU_X86_VMX", "COMPUTE_NODE"}).asked) == 1
    for none in ((), None):
        assert len(ensure(client, none).asked) == 1


def test_the_first_that_fails_ends_it():
    client = Client(set())
    assert asking.install(driver(client))
    client.put = lambda *args, **kwargs: Refused()
    with pytest.raises(exception.TraitCreationFailed):
        ensure(client, MANY)
    assert len(client.asked) == 1


class Refused:
    """An answer of requests that is none."""

    text = "busy"

    def __bool__(self):
        return False


class Changed:
    """As of a Nova that nobody knows yet."""

    def _ensure_traits(self, context, traits, more):
        return 7


@pytest.mark.parametrize("driver", [driver(Changed()), driver(object()), object()])
def test_a_client_that_is_another(driver, caplog):
    assert not asking.install(driver)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    if hasattr(driver, "virtapi"):
        assert "_ensure_traits" not in getattr(
            driver.virtapi._compute.reportclient, "__dict__", {}
        )

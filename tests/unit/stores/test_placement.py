# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Nothing that a host wrote gets into a request to placement unchecked."""

import json
import types

import pytest

from nova_devcompat.compat.traits import Atom
from nova_devcompat.stores.placement import Placement, PlacementError

UUID = "e5a2e1f0-6a53-4f3c-8d57-6d3e6c8a2b10"


class Client:
    """Nova's report client as far as HTTP goes: remembers what is asked, answers one thing."""

    def __init__(self, answer=None, status=200, text=""):
        self.asked = []
        self.answer = types.SimpleNamespace(
            status_code=status, json=lambda: json.loads(json.dumps(answer)), text=text
        )

    def get(self, url, version):
        self.asked.append(url)
        return self.answer

    def put(self, url, payload, version, global_request_id=None):
        self.asked.append(url)
        return self.answer


@pytest.mark.parametrize(
    "provider",
    [
        f"{UUID}?x=",
        f"{UUID}/../{UUID}",
        f"{UUID}\n",
        f"{UUID}#",
        f" {UUID}",
        UUID[:-1],
        UUID.replace("-", ""),
        "",
        "../allocations",
        UUID.replace("e5", "\u0665\u0665"),
    ],
)
def test_what_is_no_uuid_is_not_asked_of(provider, caplog):
    client = Client({"allocations": {UUID: {}}})
    placement = Placement(client)
    assert placement.allocations_from(provider) is None
    assert placement.allocations_of(provider) == {}
    assert client.asked == []
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert all(record.getMessage().isprintable() for record in caplog.records)


def test_a_uuid_is():
    client = Client({"allocations": {UUID: {"resources": {"VGPU": 1}}}})
    placement = Placement(client)
    for provider in (UUID, UUID.upper()):
        assert placement.allocations_from(provider) == {UUID: {"resources": {"VGPU": 1}}}
        assert placement.allocations_of(provider) == {UUID: {"resources": {"VGPU": 1}}}
    assert client.asked == [
        f"/resource_providers/{UUID}/allocations",
        f"/allocations/{UUID}",
        f"/resource_providers/{UUID.upper()}/allocations",
        f"/allocations/{UUID.upper()}",
    ]


def test_a_node_is_quoted():
    client = Client({"resource_providers": []})
    assert Placement(client).providers_of("cmp 1&in_tree=x") == {}
    assert client.asked == ["/resource_providers?name=cmp%201%26in_tree%3Dx"]


def test_traits_that_no_need_has_are_ignored():
    """Anybody with the right to may have made them."""
    client = Client(
        {
            "traits": [
                "CUSTOM_DEVCOMPAT_GPU__VERSION__1_2",
                "CUSTOM_DEVCOMPAT_GPU__VERSION__1__A_",
                "CUSTOM_DEVCOMPAT_GPU__VERSION____1B_",
                "CUSTOM_DEVCOMPAT_GPU__VERSION____202E_",
                "CUSTOM_DEVCOMPAT_GPU",
            ]
        }
    )
    assert Placement(client).known_atoms() == {Atom("gpu", "version", "1.2")}


class Shelf:
    """Placement as far as traits go, in memory."""

    def __init__(self, *names):
        self.names = set(names)
        self.gets, self.puts = [], []

    def get(self, url, version):
        self.gets.append(url)
        how, _, what = url.partition("?name=")[2].partition(":")
        listed = what.split(",")
        found = [
            name
            for name in sorted(self.names)
            if (name in listed if how == "in" else name.startswith(what))
        ]
        return types.SimpleNamespace(status_code=200, json=lambda: {"traits": found})

    def put(self, url, payload, version, global_request_id=None):
        name = url.removeprefix("/traits/")
        self.puts.append(name)
        self.names.add(name)
        return types.SimpleNamespace(status_code=201, text="")


def names_of(*values, attribute="VERSION"):
    return [f"CUSTOM_DEVCOMPAT_GPU__{attribute}__{value}" for value in values]


def test_what_exists_is_not_made_again():
    shelf = Shelf(*names_of("1_0", "1_1"))
    assert Placement(shelf).make_traits(names_of("1_0", "1_1", "1_2")) == set()
    assert (len(shelf.gets), shelf.puts) == (1, names_of("1_2"))


def test_many_are_asked_for_in_lines_that_servers_take():
    wanted = names_of(*("X" * 100 + str(number) for number in range(100, 200)))
    shelf = Shelf(*wanted[::2])
    Placement(shelf).make_traits(wanted)
    assert shelf.puts == sorted(wanted[1::2])
    assert max(map(len, shelf.gets)) < 2_100
    assert len(shelf.gets) < 10


def test_no_more_of_an_attribute_than_allowed():
    shelf = Shelf(*names_of("1_0", "1_1", "1_2"), *names_of("A", attribute="VERSION_OLD"))
    wanted = names_of("1_2", "1_3", "1_4", "1_5") + names_of("A", "B", attribute="CAPS")
    left_out = Placement(shelf).make_traits(wanted, most=4)
    assert left_out == set(names_of("1_4", "1_5"))
    assert shelf.puts == names_of("A", "B", attribute="CAPS") + names_of("1_3")
    # Those that are there stay.
    assert Placement(shelf).make_traits(names_of("1_0"), most=1) == set()


def test_how_many_there_are_is_not_known():
    client = Client(status=503, text="busy")
    with pytest.raises(PlacementError, match="it is not known how many there are"):
        Placement(client).make_traits(names_of("1_0"), most=4)


def test_only_atoms_that_some_host_accepts():
    client = Client({"traits": []})
    Placement(client).known_atoms(associated=True)
    assert client.asked == ["/traits?name=startswith:CUSTOM_DEVCOMPAT_&associated=true"]


@pytest.mark.parametrize("name", ["CUSTOM_OTHER", "CUSTOM_DEVCOMPAT_GPU__A__B/../X", "", "\n"])
def test_only_traits_of_ours_are_made(name):
    client = Client(status=201)
    with pytest.raises(PlacementError, match="is no trait of ours") as caught:
        Placement(client).make_traits([name])
    assert str(caught.value).isprintable()
    assert client.asked == []


def test_what_placement_answers_is_quoted_on_one_line(caplog):
    client = Client(status=500, text="<html>\n\x1b[31m" + "x" * 500)
    placement = Placement(client)
    assert placement.known_atoms() is None
    (record,) = caplog.records
    assert record.getMessage().isprintable()
    with pytest.raises(PlacementError) as caught:
        placement.make_traits(["CUSTOM_DEVCOMPAT_GPU__VERSION__1_2"])
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


NO_ANSWERS = [
    None,
    7,
    [],
    {},
    "traits",
    {"traits": None, "resource_providers": {}, "allocations": []},
    {"traits": 7, "resource_providers": [7], "allocations": {UUID: None}},
    {"resource_providers": [{"uuid": UUID}], "allocations": {UUID: {"resources": []}}},
    {"allocations": {UUID: {"resources": {"VGPU": "1"}}}},
    {"allocations": {UUID: {"resources": {"VGPU": True}}}},
    {"allocations": {UUID: {"resources": {"VGPU": [1]}}}},
]


@pytest.mark.parametrize("answer", NO_ANSWERS)
def test_an_answer_that_is_none_of_placement(answer, caplog):
    """As of a proxy before it, with status 200: nothing is known then."""
    placement = Placement(Client(answer))
    assert placement.known_atoms() is None
    assert placement.providers_of("cmp1") == {}
    assert placement.allocations_of(UUID) == {}
    assert placement.allocations_from(UUID) is None
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    assert all(record.getMessage().isprintable() for record in caplog.records)


def test_an_answer_that_is_no_json(caplog):
    client = Client()
    client.answer.json = lambda: json.loads("<html>\n")
    assert Placement(client).known_atoms() is None
    assert Placement(client).missing(["CUSTOM_DEVCOMPAT_A__B__C"]) == {"CUSTOM_DEVCOMPAT_A__B__C"}
    assert len(caplog.records) == 2


def test_providers_and_consumers_of_others_are_left_alone():
    providers = [
        {"uuid": UUID.replace("-", ""), "name": "cmp1"},
        {"uuid": UUID, "name": "cmp1_0000:81:00.0"},
        {"uuid": UUID.replace("e5", "e6"), "name": "forged\n"},
    ]
    assert Placement(Client({"resource_providers": providers})).providers_of("cmp1") == {
        UUID: "cmp1_0000:81:00.0"
    }
    allocations = {"-" * 36: {"resources": {"VGPU": 1}}, UUID: {"resources": {"VGPU": 2}}}
    found = Placement(Client({"allocations": allocations})).allocations_from(UUID)
    assert found == allocations


def test_providers_are_found_by_trait_and_by_room():
    client = Client({"resource_providers": [{"uuid": UUID, "name": "a"}]})
    placement = Placement(client)
    trait = "CUSTOM_DEVCOMPAT_GPU__VERSION__1_2"
    assert placement.providers_with(trait) == {UUID}
    assert placement.providers_with_room("VGPU", 2) == {UUID}
    assert client.asked == [
        f"/resource_providers?required={trait}",
        "/resource_providers?resources=VGPU:2",
    ]
    for odd in ("HW_CPU_X86_VMX", f"{trait}&x=", ""):
        assert placement.providers_with(odd) is None
    assert placement.providers_with_room("V&x=", 1) == {UUID}
    assert client.asked[2:] == ["/resource_providers?resources=V%26x%3D:1"]
    for down in (Client({}, status=500), Client({"resource_providers": 1})):
        assert Placement(down).providers_with(trait) is None
        assert Placement(down).providers_with_room("VGPU", 2) is None

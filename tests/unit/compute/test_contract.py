# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The driver contract: its table, the comparison, and Nova's releases.

``python -m tests.unit.compute.test_contract`` writes the documented tables anew.
"""

from __future__ import annotations

import ast
import csv
import io
import pathlib

import pytest

from nova_devcompat.compute import contract
from nova_devcompat.compute.contract import Called, Deviation, Hook, compare, hooks_off, relied_on
from tests.unit.compute import nova_drivers

ROOT = pathlib.Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "doc" / "source" / "_examples"
#: The modules of the driver, as one.
DRIVER = ast.Module(
    body=[
        node
        for name in ("driver", "recording", "admission", "refusals", "shared")
        for node in ast.parse(
            (ROOT / "nova_devcompat" / "compute" / f"{name}.py").read_text()
        ).body
    ],
    type_ignores=[],
)
#: The classes that the driver is made of.
CLASSES = ("DeviceCompatDriver", "Recording", "Admission", "Shared")

TABLE = (*contract.HOOKS, *contract.CALLED)


# --- Nova's releases -----------------------------------------------------------------------------


def test_the_releases_that_we_support_are_recorded():
    versions = {series: one["version"] for series, one in nova_drivers.RELEASES.items()}
    assert list(versions) == ["31", "32", "33", "34"]
    assert all(version.startswith(f"{series}.") for series, version in versions.items())


@pytest.mark.parametrize("series", nova_drivers.RELEASES)
def test_a_release_is_as_the_table_says(series):
    interface, *drivers = nova_drivers.classes_of(nova_drivers.RELEASES[series]).values()
    assert [each.__name__ for each in drivers][:2] == ["LibvirtDriver", "FakeDriver"]
    assert compare(TABLE, interface) == []
    for driver in drivers:
        assert compare(TABLE, driver, catch_alls=True) == []
        assert compare(TABLE, driver) == []


@pytest.mark.parametrize("series", nova_drivers.RELEASES)
def test_a_release_that_lost_something(series):
    release = nova_drivers.RELEASES[series]
    methods = release["classes"]["ComputeDriver"]
    for hook in contract.HOOKS:
        doctored = {name: text for name, text in methods.items() if name != hook.method}
        (interface,) = nova_drivers.classes_of({"classes": {"ComputeDriver": doctored}}).values()
        (found,) = compare(TABLE, interface)
        assert str(found) == f"ComputeDriver.{hook.method} is missing"
        for lost in hook.relies_on:
            names = [part.strip() for part in methods[hook.method].split(",")]
            left = ", ".join(name for name in names if name.split("=")[0] != lost)
            (interface,) = nova_drivers.classes_of(
                {"classes": {"ComputeDriver": {**methods, hook.method: left}}}
            ).values()
            (found,) = compare(TABLE, interface)
            assert found.method == hook.method
            assert f" has no parameter {lost}; it has " in str(found)


# --- the table -----------------------------------------------------------------------------------


def classes_of_driver() -> list[ast.ClassDef]:
    """The classes that our driver is made of."""
    found = [
        node for node in DRIVER.body if isinstance(node, ast.ClassDef) and node.name in CLASSES
    ]
    assert len(found) == len(CLASSES)
    return found


def hooks_of_driver() -> dict[str, list[str]]:
    """What the hooks of the driver take, by method, without looking at what they do."""
    found: dict[str, list[str]] = {}
    for node in (node for each in classes_of_driver() for node in each.body):
        match node:
            case ast.FunctionDef(name=name, args=arguments):
                found[name] = [one.arg for one in arguments.args]
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Name(id=same)):
                found[name] = found[same]
    prefix = "_around_"
    return {
        name.removeprefix(prefix): taken
        for name, taken in found.items()
        if name.startswith(prefix)
    }


def test_each_hook_is_in_the_table_and_takes_what_it_says():
    assert hooks_of_driver() == {
        hook.method: ["self", "call", *hook.relies_on] for hook in contract.HOOKS
    }


def test_nothing_else_of_nova_is_overridden_or_called():
    methods = set(nova_drivers.RELEASES["34"]["classes"]["ComputeDriver"])
    classes = classes_of_driver()
    defined = {
        node.name for each in classes for node in each.body if isinstance(node, ast.FunctionDef)
    }
    assert defined & methods == set()
    called = {
        node.func.attr
        for each in classes
        for node in ast.walk(each)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "self"
    }
    assert called & methods == {entry.method for entry in contract.CALLED}


def test_the_exceptions_that_the_driver_raises_are_in_the_table():
    raised = {
        node.exc.func.attr
        for node in ast.walk(DRIVER)
        if isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and isinstance(node.exc.func, ast.Attribute)
    }
    assert raised == {name for hook in contract.HOOKS for name in hook.raises}


def test_hooks_name_what_they_call():
    names = {entry.method for entry in contract.CALLED}
    assert {name for hook in contract.HOOKS for name in hook.calls} == names


# --- compare -------------------------------------------------------------------------------------


class Interface:
    def move(self, context, instance, allocs, network_info=None):
        """As the tests' table says."""

    def nodes(self, refresh=False):
        """Called by us."""

    def info(self, instance, use_cache=True):
        """Called by us, with parameters."""


MOVE = Hook(
    method="move", relies_on=("instance", "allocs"), lost="moves are unseen", calls=("nodes",)
)
CALLS = (Called(method="nodes"), Called(method="info", passes=("instance", "use_cache")))


def differences(driver: type, **kwargs: bool) -> list[str]:
    return [str(one) for one in compare((MOVE, *CALLS), driver, **kwargs)]


def test_what_is_as_it_should_be():
    assert differences(Interface) == []


def test_a_parameter_is_gained():
    class Driver(Interface):
        def move(self, context, new, instance, newer, allocs, *, newest):
            """Whatever is between them."""

    assert differences(Driver) == []


def test_a_parameter_is_lost():
    class Driver(Interface):
        def move(self, context, instance, claims):
            """Renamed, which may mean anything."""

    expected = ["Driver.move has no parameter allocs; it has context, instance, claims"]
    assert differences(Driver) == expected
    assert differences(Driver, catch_alls=True) == expected


def test_all_parameters_are_lost():
    class Driver(Interface):
        def move(self):
            """Nothing is left."""

    (told,) = differences(Driver)
    assert told == "Driver.move has no parameter instance and no allocs; it has none"


def test_a_catch_all_stands_for_what_it_does_not_name():
    class Driver(Interface):
        def move(self, context, *args, **kwargs):
            """As drivers do that hand calls on."""

    assert differences(Driver, catch_alls=True) == []
    (told,) = differences(Driver)
    assert told == "Driver.move has no parameter instance and no allocs; it has context"


def test_parameters_in_another_order():
    class Driver(Interface):
        def move(self, context, allocs, instance, network_info=None):
            """Who is called by place gets the wrong ones."""

    (told,) = differences(Driver)
    assert told == "Driver.move has instance, allocs in another order: " + (
        "context, allocs, instance, network_info"
    )


@pytest.mark.parametrize("what", ["nodes", "info"])
def test_a_method_that_we_call_wants_more(what):
    class Driver(Interface):
        pass

    setattr(Driver, what, lambda self, required, *args, **kwargs: None)
    (told,) = differences(Driver)
    assert told.startswith(f"Driver.{what} cannot be called with (")
    assert "'required'" in told


def test_a_method_that_we_call_takes_less():
    class Driver(Interface):
        def info(self, instance):
            """No use_cache."""

    (told,) = differences(Driver)
    assert told.startswith("Driver.info cannot be called with (instance, use_cache): ")


@pytest.mark.parametrize("attribute", [None, 3, dict.fromkeys])
def test_what_is_no_method(attribute):
    class Driver(Interface):
        move = attribute

    (told,) = differences(Driver)
    assert told.startswith("Driver.move has no ")


def test_a_method_is_missing():
    class Driver:
        nodes = Interface.nodes
        info = Interface.info

    assert differences(Driver) == ["Driver.move is missing"]


def test_a_decorated_method_is_read_through():
    import functools

    def decorator(function):
        @functools.wraps(function)
        def inner(*args, **kwargs):
            return function(*args, **kwargs)

        return inner

    class Driver(Interface):
        move = decorator(Interface.move)

    assert differences(Driver) == []


def test_a_hook_is_off_for_its_method_and_for_what_it_calls():
    other = Hook(method="other", relies_on=(), lost="")
    why = [Deviation("move", "1"), Deviation("nodes", "2"), Deviation("info", "3")]
    assert hooks_off([MOVE, other], why) == {"move": why[:2]}
    assert hooks_off([MOVE, other], why[2:]) == {}


def test_what_is_lost_names_wrong_accepts():
    assert MOVE.off == "moves are unseen"
    risky = Hook(method="move", relies_on=(), lost="moves are unseen", wrong_accept=True)
    assert risky.off.startswith("moves are unseen; a live migration may be accepted")


# --- what a call passes --------------------------------------------------------------------------


def relied(driver: type, *args: object, **kwargs: object) -> object:
    signatures = [contract.signature_of(each, "move") for each in (driver, Interface)]
    found = relied_on(MOVE, [one for one in signatures if one], [None, *args], kwargs)
    return found and (found["instance"], found["allocs"])


def test_a_call_by_place_or_by_name():
    assert relied(Interface, "c", "i", "a") == ("i", "a")
    assert relied(Interface, "c", "i", "a", "n") == ("i", "a")
    assert relied(Interface, "c", allocs="a", instance="i") == ("i", "a")


def test_a_parameter_that_became_optional():
    class Driver(Interface):
        def move(self, context, instance, allocs=None):
            """Nova may leave it out."""

    assert relied(Driver, "c", "i") == ("i", None)


def test_a_driver_that_hands_calls_on():
    class Driver(Interface):
        def move(self, *args, **kwargs):
            """The interface says which is which."""

    assert relied(Driver, "c", "i", allocs="a") == ("i", "a")
    assert relied(Driver, "c", "i") is None


def test_a_driver_that_calls_itself_with_more():
    class Driver(Interface):
        def move(self, context, instance, allocs, network_info=None, deep=False):
            """A parameter of its own."""

    assert relied(Driver, "c", "i", "a", "n", deep=True) == ("i", "a")


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), {}), (("c", "i"), {}), (("c", "i", "a", "n", "more"), {}), (("c", "i", "a"), {"x": 1})],
)
def test_unexpected_arguments(args, kwargs):
    assert relied(Interface, *args, **kwargs) is None


# --- the page ------------------------------------------------------------------------------------


def _cells(values: tuple[str, ...]) -> str:
    return ", ".join(f"``{value}``" for value in values)


def hooks_table() -> str:
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(["Method", "Relies on", "May raise", "What is lost without it", "Unsafe"])
    for hook in contract.HOOKS:
        writer.writerow(
            [
                f"``{hook.method}``",
                _cells(hook.relies_on),
                _cells(hook.raises),
                hook.lost,
                "yes" if hook.wrong_accept else "",
            ]
        )
    return output.getvalue()


def called_table() -> str:
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(["Method", "Is passed", "Without it, these hooks are off"])
    for entry in contract.CALLED:
        users = [hook.method for hook in contract.HOOKS if entry.method in hook.calls]
        writer.writerow([f"``{entry.method}``", _cells(entry.passes), _cells(tuple(users))])
    return output.getvalue()


TABLES = {"hooks.csv": hooks_table, "called.csv": called_table}


@pytest.mark.parametrize("name", TABLES)
def test_the_page_shows_the_table(name):
    assert (EXAMPLES / name).read_text() == TABLES[name]()
    assert f":file: _examples/{name}" in (EXAMPLES.parent / "contract.rst").read_text()


if __name__ == "__main__":
    for target, text in TABLES.items():
        (EXAMPLES / target).write_text(text())

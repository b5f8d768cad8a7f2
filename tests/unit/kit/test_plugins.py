# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

from __future__ import annotations

import pathlib
import sys

import pytest

from nova_devcompat import sources
from nova_devcompat.compat.kinds import Semver
from nova_devcompat.compat.rules import API_VERSION, Rule
from nova_devcompat.kit import plugins
from nova_devcompat.kit.plugins import PluginError, Plugins
from nova_devcompat.sources.base import Source
from tests.unit.distributions import install

GROUP = "nova_devcompat_tests.rules"

RULE = """
from nova_devcompat.compat.kinds import Semver

class Ours(Semver):
    {body}
"""


@pytest.fixture
def put(monkeypatch, tmp_path):
    count = iter(range(100))

    def _put(name: str, entry_points: dict[str, str], modules: dict[str, str] | None = None):
        folder: pathlib.Path = tmp_path / str(next(count))
        install(monkeypatch, folder, name, GROUP, entry_points, modules)

    return _put


def of_tests() -> Plugins[Rule]:
    return Plugins(GROUP, Rule, (2, 1))


def refusal(name: str) -> str:
    with pytest.raises(PluginError) as caught:
        of_tests().load(name)
    return str(caught.value)


def test_own_rules_are_installed():
    rules = Plugins(plugins.RULES, Rule, API_VERSION)
    assert set(rules.names) >= {
        "accepts", "at_least", "equal", "one_of", "ordered", "range", "semver", "superset",
    }  # fmt: skip
    assert rules.load("semver") is Semver
    assert [rules.load(name).kind for name in rules.names] == rules.names


def test_unknown_name_lists_what_exists(put):
    put("acme", {"stepwise": "acme_a:Ours", "leaps": "acme_a:Ours"})
    message = refusal("stepwize")
    assert f"'stepwize' is not registered in {GROUP}" in message
    assert "registered: leaps, stepwise" in message
    assert "did you mean 'stepwise'?" in message


def test_unknown_name_where_nothing_exists():
    assert "registered: none" in refusal("x")


@pytest.mark.parametrize("second", ["other_mod:Ours", "twice_mod:Ours"])
def test_one_name_from_two_distributions(put, second):
    """Also where both name the same object: nobody can tell which one is upgraded."""
    put("acme-rules", {"twice": "twice_mod:Ours"})
    put("bolt-rules", {"twice": second, "once": "x:Y"})
    message = refusal("twice")
    assert "by acme-rules 1.5 and bolt-rules 1.5" in message
    assert "registered: once, twice" in message
    with pytest.raises(PluginError, match="acme-rules"):
        of_tests().check("twice")


@pytest.mark.parametrize(
    ("module", "cause"),
    [
        ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such"),
        ("raise AssertionError('not here')", "AssertionError: not here"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("x = 1", "AttributeError"),
    ],
)
def test_import_failure_names_plugin_and_cause(put, request, module, cause):
    name = f"broken_{abs(hash(module))}"
    put("acme", {"broken": f"{name}:Ours"}, {name: module})
    message = refusal("broken")
    assert f"'broken' of {GROUP}, from acme 1.5, cannot be imported" in message
    assert cause in message


def test_only_the_plugin_asked_for_is_imported(put, monkeypatch):
    name = "fine_neighbour"
    put(
        "acme",
        {"fine": f"{name}:Ours", "broken": "broken_neighbour:Ours"},
        {name: RULE.format(body="api_version = (2, 0)"), "broken_neighbour": "1 / 0"},
    )
    of_tests().check("broken")  # which imports nothing
    assert of_tests().load("fine").__name__ == "Ours"


@pytest.mark.parametrize("major", [1, 2])
def test_current_and_previous_major_load(put, major):
    name = f"major_{major}"
    put("acme", {name: f"{name}:Ours"}, {name: RULE.format(body=f"api_version = ({major}, 9)")})
    assert of_tests().load(name).api_version == (major, 9)


@pytest.mark.parametrize("stated", ["(0, 9)", "(3, 0)", "'2.0'", "(2,)", "None", "('2', '0')"])
def test_other_versions_of_the_interface_are_refused(put, stated):
    name = f"version_{abs(hash(stated))}"
    put("acme", {"odd": f"{name}:Ours"}, {name: RULE.format(body=f"api_version = {stated}")})
    message = refusal("odd")
    assert "'odd'" in message and "acme 1.5" in message
    assert f"version {eval(stated)!r} of the interface; this is 2.1" in message  # noqa: S307
    assert "major 1 and 2" in message


def test_there_was_no_major_before_the_first(put):
    name = "major_0"
    put("acme", {name: f"{name}:Ours"}, {name: RULE.format(body="api_version = (0, 9)")})
    with pytest.raises(PluginError, match=r"\(0, 9\) of the interface; this is 1\.2.* major 1:"):
        Plugins(GROUP, Rule, (1, 2)).load(name)


def test_a_method_beside_the_old_one(put):
    """A plugin of an earlier minor gets what came since, made of what it has."""
    name = "earlier_minor"
    put("acme", {name: f"{name}:Ours"}, {name: RULE.format(body="api_version = (1, 0)")})
    rule = Plugins(GROUP, Rule, API_VERSION).load(name)()
    assert rule.parse_pin("02.4") == {"2.4"}  # since 1.1
    assert rule.capabilities == frozenset()  # since 1.2


# --- a plugin of the previous major --------------------------------------------------------------

OLD = """
from next_major import Reader

class Old(Reader):
    api_version = ({major}, 0)

    def read(self, host):
        return ["device of " + host]
"""


@pytest.fixture
def next_major(monkeypatch):
    """The documented interface, which has replaced a method."""
    folder = pathlib.Path(__file__).resolve().parents[3] / "doc" / "source" / "_examples"
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    import next_major

    yield next_major
    sys.modules.pop("next_major", None)


def test_a_plugin_of_the_previous_major_is_adapted(put, next_major):
    put("acme", {"old": "of_major_1:Old"}, {"of_major_1": OLD.format(major=1)})
    base, version = next_major.Reader, next_major.Reader.api_version
    with pytest.raises(TypeError, match="abstract"):
        Plugins(GROUP, base, version).load("old")()
    reader = Plugins(GROUP, base, version, next_major.adapt).load("old")()
    assert reader.read_all(["a", "b"]) == {"a": ["device of a"], "b": ["device of b"]}
    assert type(reader).__name__ == "Old"


def test_a_plugin_of_an_earlier_major_is_refused(put, next_major):
    put("acme", {"old": "of_major_0:Old"}, {"of_major_0": OLD.format(major=0)})
    plugins_of_2 = Plugins(GROUP, next_major.Reader, (2, 0), next_major.adapt)
    with pytest.raises(PluginError, match=r"'old' .*, from acme 1\.5, is for version \(0, 0\)"):
        plugins_of_2.load("old")


def test_a_plugin_of_the_current_major_is_not_adapted(put, next_major):
    text = OLD.format(major=2) + "\n    read_all = dict.fromkeys\n"
    put("acme", {"new": "of_major_2:Old"}, {"of_major_2": text})
    plugin = Plugins(GROUP, next_major.Reader, (2, 0), next_major.adapt).load("new")
    assert plugin.__mro__[1] is next_major.Reader


# --- capability flags ----------------------------------------------------------------------------


def with_flags(put, name, flags, version="(1, 2)", body=""):
    text = f"api_version = {version}\n    capabilities = {flags}\n    {body}"
    put("acme", {name: f"{name}:Ours"}, {name: RULE.format(body=text)})
    return Plugins(GROUP, Rule, (1, 2)).load(name)


def test_a_capability_is_stated(put):
    body = "def parse_pin(self, text): return frozenset()"
    plugin = with_flags(put, "capable", "frozenset(['parse_pin'])", body=body)
    assert plugin.capabilities == {"parse_pin"}


def test_a_capability_that_does_not_exist(put):
    with pytest.raises(PluginError) as caught:
        with_flags(put, "capable_of_much", "frozenset(['parse_pins'])")
    message = str(caught.value)
    assert "'capable_of_much' of" in message and "from acme 1.5, states capability" in message
    assert "'parse_pins', which the interface does not have; it has: " in message
    assert "from_options, parse_pin, values" in message
    assert "did you mean 'parse_pin'?" in message


def test_an_abstract_method_is_no_capability(put):
    with pytest.raises(PluginError, match="'check', which the interface does not have"):
        with_flags(put, "capable_of_all", "frozenset(['check'])")


def test_a_capability_without_its_method(put):
    with pytest.raises(PluginError, match="'values', but has no method values of its own"):
        with_flags(put, "incapable", "frozenset(['values'])")


def test_capabilities_of_another_type(put):
    with pytest.raises(PluginError, match=r"capabilities \['values'\], which is no frozenset"):
        with_flags(put, "listed", "['values']")


def test_a_capability_of_a_later_minor(put):
    """It is not asked for here."""
    plugin = with_flags(put, "later", "frozenset(['foresee'])", version="(1, 3)")
    assert plugin.capabilities == {"foresee"}


@pytest.mark.parametrize(
    ("group", "base"), [(plugins.RULES, Rule), (plugins.SOURCES, Source)], ids=["rules", "sources"]
)
def test_own_plugins_load_with_their_capabilities(group, base):
    for plugin in Plugins(group, base, base.api_version).load_all():
        assert plugin.capabilities <= set(dir(base))


def test_own_rules_state_what_they_bring():
    for rule in Plugins(plugins.RULES, Rule, API_VERSION).load_all():
        assert rule.capabilities == {"parse_pin", "values"} & vars(rule).keys()


def test_the_page_names_the_versions():
    page = pathlib.Path(__file__).resolve().parents[3] / "doc" / "source" / "contract.rst"
    text = " ".join(page.read_text().split())
    assert f"``{API_VERSION}`` for rules" in text
    assert f"``{sources.base.API_VERSION}`` for sources" in text


@pytest.mark.parametrize("target", ["json:loads", "decimal:Decimal"])
def test_something_else_than_our_class_is_refused(put, target):
    put("acme", {"odd": target})
    assert "is no subclass of nova_devcompat.compat.rules.Rule" in refusal("odd")

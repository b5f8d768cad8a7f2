#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.


from __future__ import annotations

import pathlib

import pytest

from nova_devcompat import plugins
from nova_devcompat.compat.rules import API_VERSION, Rule, Semver
from nova_devcompat.plugins import PluginError, Plugins
from tests.unit.distributions import install

GROUP = "nova_devcompat_tests.rules"

RULE = """
from nova_devcompat.compat.rules import Semver

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


@pytest.mark.parametrize("target", ["json:loads", "decimal:Decimal"])
def test_something_else_than_our_class_is_refused(put, target):
    put("acme", {"odd": target})
    assert "is no subclass of nova_devcompat.compat.rules.Rule" in refusal("odd")

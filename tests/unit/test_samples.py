# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The samples as they are shipped, together with the packs and with the Nova that is installed.

Whoever installs a sample or pastes a snippet must lose nothing by it: no family of a pack, and
none of the filters that Nova enables by itself.
"""

from __future__ import annotations

import ast
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest
import yaml
from nova.conf import scheduler
from nova.scheduler import filters
from oslo_config import cfg, generator

import nova_devcompat.conf
from nova_devcompat.catalog import packs, stages
from nova_devcompat.compat.policy import Mode, OnUnknown, Policy
from nova_devcompat.fleet import upgrade
from nova_devcompat.service import load_catalog
from nova_devcompat.sources.static import load_inventory

ROOT = pathlib.Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "etc" / "nova-devcompat"
EXAMPLES = ROOT / "doc" / "source" / "_examples"
CATALOG = SAMPLES / "devcompat.yaml"
PLUGIN = ROOT / "devstack"
OURS = "DeviceCompatFilter"

#: The families that an example replaces because that is what it shows.
REPLACED = {"own-rules.yaml": {"mlx5_vf", "qat_4xxx_vf", "xe_vf"}}

Sections = dict[str, dict[str, list[str]]]


def parsed(text: str) -> Sections:
    """The options of a nova.conf by section, each with all of its lines."""
    sections: Sections = {}
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write(text)
        file.flush()
        cfg.ConfigParser(file.name, sections).parse()
    return sections


@pytest.fixture(scope="module")
def sample() -> Sections:
    return parsed((SAMPLES / "nova.conf").read_text())


def readme_snippet() -> str:
    readme = (ROOT / "README.rst").read_text()
    (block,) = re.findall(r"code-block:: ini\n\n((?:    .*\n|\n)+)", readme)
    return re.sub("(?m)^    ", "", block)


# --- the catalog and the inventory --------------------------------------------------------------


def named_in(sample: Sections) -> list[str]:
    (stated,) = sample["devcompat"]["packs"]
    return stated.split(",")


@pytest.fixture(params=["of nova.conf", "all"])
def enabled(request: pytest.FixtureRequest, sample: Sections) -> list[str]:
    """Names of packs: those of the sample nova.conf, and all that there are."""
    return packs.names() if request.param == "all" else named_in(sample)


def test_the_sample_replaces_no_family_of_a_pack(enabled):
    alone = load_catalog(packs.catalog_paths(enabled))
    own = load_catalog([CATALOG])
    together = load_catalog(packs.catalog_paths(enabled, [CATALOG]))

    assert own.families.keys() & alone.families.keys() == set()
    assert together.families.keys() == own.families.keys() | alone.families.keys()
    for name, family in alone.families.items():
        assert together.families[name] == family


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("on_unknown", OnUnknown)
def test_nova_conf_decides_the_policy_of_every_family(enabled, mode, on_unknown):
    together = load_catalog(packs.catalog_paths(enabled, [CATALOG]))
    stated = Policy(mode=mode, on_unknown=on_unknown)
    for name in together.families:
        policy = together.policy(name, stated, stages.now())
        assert (policy.mode, policy.on_unknown) == (mode, on_unknown)
        assert (policy.attributes, policy.unknowns) == ((), ())


def test_every_device_of_the_sample_inventory_has_its_family(enabled):
    catalog = load_catalog(packs.catalog_paths(enabled, [CATALOG]))
    inventory = load_inventory(SAMPLES / "devcompat-inventory.yaml", catalog)
    found = {
        (host, device.address): catalog.classify(device).name
        for host, devices in inventory.hosts.items()
        for device in devices
    }
    assert found == {
        ("cmp1", "0000:81:00.0"): "acme_nic_vf",
        ("cmp2", "0000:81:00.0"): "acme_nic_vf",
        ("cmp2", "0000:41:00.0"): "acme_accelerator",
        ("cmp3", "0000:81:00.0"): "acme_nic_vf",
        ("cmp3", "0000:41:00.0"): "acme_accelerator",
    }


def catalogs() -> Iterator[pathlib.Path]:
    """All YAML files on pages and among the samples that have families."""
    for path in sorted((*SAMPLES.rglob("*.yaml"), *EXAMPLES.rglob("*.yaml"))):
        if "families" in yaml.safe_load(path.read_text()):
            yield path


@pytest.mark.parametrize("path", catalogs(), ids=lambda path: path.name)
def test_families_of_examples_have_names_of_their_own(path):
    taken = load_catalog(packs.catalog_paths(packs.names())).families.keys()
    families = yaml.safe_load(path.read_text())["families"]
    assert families.keys() & taken == REPLACED.get(path.name, set())


# --- the filters that Nova enables by itself ----------------------------------------------------


@pytest.fixture(scope="module")
def defaults() -> list[str]:
    """The default of [filter_scheduler] enabled_filters of the Nova that is installed."""
    options = {option.name: option for option in scheduler.filter_scheduler_opts}
    return list(options["enabled_filters"].default)


def documents() -> Iterator[pathlib.Path]:
    """What an operator may copy from: README, pages, samples, the devstack plugin."""
    yield ROOT / "README.rst"
    for folder in (ROOT / "doc" / "source", ROOT / "etc", PLUGIN):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path


def stated_filters() -> dict[pathlib.Path, list[str]]:
    """By document, the values that it states for the option ``enabled_filters``."""
    found: dict[pathlib.Path, list[str]] = {}
    for path in documents():
        if values := re.findall(r"(?m)^\s*enabled_filters\s*[=:][ \t]*(.*)$", path.read_text()):
            found[path.relative_to(ROOT)] = values
    return found


def test_the_snippet_drops_no_filter_of_nova(sample, defaults):
    (value,) = sample["filter_scheduler"]["enabled_filters"]
    stated = value.split(",")
    others = [name for name in stated if name != OURS]
    assert len(stated) == len(others) + 1
    # Before those that try each candidate, and after those of Nova that are cheap.
    assert stated[stated.index(OURS) + 1 :] == list(upgrade.SLOW_FILTERS)
    assert [name for name in others if name in defaults] == defaults
    known = {one.__name__ for one in filters.all_filters()}
    assert set(others) <= known


def test_every_document_has_the_snippet_of_the_sample(sample):
    stated = stated_filters()
    assert {path.name for path in stated} >= {"README.rst", "nova.conf", "nova-scheduler.conf"}
    assert {value for values in stated.values() for value in values} == set(
        sample["filter_scheduler"]["enabled_filters"]
    )


def test_openstack_ansible_appends_to_what_its_role_enables():
    variables = yaml.safe_load((EXAMPLES / "osa" / "user_variables.yml").read_text())
    assert variables["nova_scheduler_extra_filters"] == [OURS]
    # Either would replace the role's own list.
    assert "nova_scheduler_default_filters" not in variables
    assert "enabled_filters" not in variables["nova_nova_conf_overrides"]["filter_scheduler"]


def test_devstack_appends_to_what_nova_enables(tmp_path, defaults):
    conf = tmp_path / "nova.conf"
    conf.touch()
    script = "\n".join(
        [
            f"source {ROOT}/tests/devstack/stand-ins.sh",
            f"source {PLUGIN}/lib/devcompat",
            "_devcompat_add_filter",
        ]
    )
    environ = {
        "PATH": os.environ["PATH"],
        "TEST_PYTHON": sys.executable,
        "TEST_DIR": str(ROOT / "tests" / "devstack"),
        "NOVA_CONF": str(conf),
        "NOVA_FILTERS": ",".join(defaults),
    }
    subprocess.run(["bash", "-ec", script], env=environ, check=True)
    written = parsed(conf.read_text())["filter_scheduler"]
    assert written["enabled_filters"] == [",".join([*defaults, OURS])]


# --- the rest of nova.conf ----------------------------------------------------------------------


def test_the_readme_shows_the_sample(sample):
    assert parsed(readme_snippet()) == sample


def test_sample_states_options_that_exist(sample):
    conf = cfg.ConfigOpts()
    nova_devcompat.conf.register_opts(conf)
    conf([], default_config_files=[str(SAMPLES / "nova.conf")], default_config_dirs=[])
    assert sample["devcompat"].keys() <= {option.name for option in nova_devcompat.conf.OPTS}
    assert conf.devcompat.mode == "report"
    assert conf.devcompat.catalog == ["/etc/nova/devcompat.yaml"]


def test_sample_names_functions_that_exist(sample):
    functions = [
        *sample["filter_scheduler"]["available_filters"],
        *sample["filter_scheduler"]["weight_classes"][0].split(","),
    ]
    ours = [name for name in functions if name.startswith("nova_devcompat.")]
    assert len(ours) == 2
    for name in ours:
        module, _, function = name.rpartition(".")
        tree = ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text())
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_config_generator_knows_the_options(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    conf = cfg.ConfigOpts()
    generator.register_cli_opts(conf)
    output = tmp_path / "sample.conf"
    files = ["--config-file", str(SAMPLES / "config-generator.conf")]
    conf([*files, "--output-file", str(output)], default_config_files=[])
    assert conf.namespace == ["nova_devcompat"]
    generator.generate(conf)
    for option in nova_devcompat.conf.OPTS:
        assert f"#{option.name} =" in output.read_text()

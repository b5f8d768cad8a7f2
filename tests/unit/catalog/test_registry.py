# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What sources say of themselves decides, whatever they are called."""

from __future__ import annotations

import pytest

from nova_devcompat.catalog import CatalogError, CatalogKeeper, loader
from nova_devcompat.catalog.registry import NamedSources
from nova_devcompat.host.inventory import HostReader
from nova_devcompat.kit import plugins
from nova_devcompat.service import load_catalog
from nova_devcompat.sources import SourceError, SourceOptions, load_source, registered
from tests.unit.distributions import install

MODULE = """
import os
from nova_devcompat.sources import Device, Source, SourceError

class Ledger(Source):
    name = "ledger"
    api_version = (1, 2)
    stands_in = True

    def check(self):
        raise SourceError("the ledger is torn")

    def read(self, host):
        return [Device("x", {"vendor_id": "15b3", "fw": "1.2"})]

class Flash(Source):
    name = "flash"
    api_version = (1, 2)
    capabilities = frozenset({"check_file"})

    @classmethod
    def check_file(cls, attribute, pattern):
        if "*" in pattern:
            raise ValueError(f"{pattern!r}: no stars in flash")
        if "?" in pattern:
            raise KeyError(pattern)

    def read(self, host):
        return [Device("x", {"vendor_id": "15b3", **self.options.attributes})]

class Old(Source):
    name = "old"
    api_version = (1, 0)

    def read(self, host):
        return [Device("x", {"vendor_id": "15b3", "fw": "1.3"})]
"""

CATALOG = """\
meta: {{schema_version: '1.0'}}
families:
  fam:
    match: {{vendor_id: '15b3'}}
    source: {source}
    attributes: {attributes}
    rules: {{fw: equal}}
"""


@pytest.fixture
def third_parties(monkeypatch, tmp_path):
    install(
        monkeypatch, tmp_path / "dist", "acme", plugins.SOURCES,
        {
            "ledger": "acme_sources:Ledger", "flash": "acme_sources:Flash",
            "old": "acme_sources:Old", "broken": "acme_broken:Source",
        },
        {"acme_sources": MODULE, "acme_broken": "import nothing_of_that_name"},
    )  # fmt: skip


@pytest.fixture
def write(tmp_path):
    def _write(source, attributes):
        path = tmp_path / "catalog.yaml"
        path.write_text(CATALOG.format(source=source, attributes=attributes))
        return path

    return _write


def problem_of(path):
    with pytest.raises(CatalogError) as caught:
        load_catalog([path])
    (problem,) = caught.value.problems
    return problem


def test_one_that_stands_in(third_parties, write):
    catalog = load_catalog([write("ledger", "{fw: nvml}")])
    assert catalog.sources == catalog.stand_ins == {"ledger"}
    family = catalog.families["fam"]
    assert family.stands_in and family.source_of("fw").source == "ledger"
    # A mistake in what an operator wrote stops the service.
    keeper = CatalogKeeper([write("ledger", "{fw: nvml}")], registered=registered())
    inventory = HostReader(keeper, SourceOptions(), load=load_source)
    with pytest.raises(SourceError, match="the ledger is torn"):
        inventory.check()
    (device,) = inventory.read("cmp1")
    assert device.offer.parsed == {"fw": "1.2"}


def test_one_that_stands_in_for_none(third_parties, write):
    catalog = load_catalog([write("old", "{fw: devlink}")])
    assert catalog.sources == {"devlink", "old"} and not catalog.stand_ins
    assert catalog.families["fam"].source_of("fw").source == "devlink"


def test_a_stand_in_beside_others(third_parties, write):
    catalog = load_catalog([write("old", "{fw: ledger}")])
    assert not catalog.families["fam"].stands_in and catalog.stand_ins == {"ledger"}


def test_one_that_reads_files(third_parties, write):
    path = write("old", "{fw: {source: flash, path: a/b}}")
    catalog = load_catalog([path])
    ((source, files),) = catalog.paths.items()
    assert source == "flash" and list(files.values()) == ["a/b"]
    inventory = HostReader(
        CatalogKeeper([path], registered=registered()), SourceOptions(), load=load_source
    )
    (device,) = inventory.read("cmp1")
    assert device.offer.parsed == {"fw": "a/b"}


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ("{source: flash, path: 'a/*'}", "'a/*': no stars in flash"),
        ("{source: flash, path: 'a?'}", "'a?'"),
        ("{source: old, path: a}", "only sources 'flash', 'sysfs' read files; leave 'path' out"),
    ],
)
def test_a_file_that_cannot_be_read(third_parties, write, stated, message):
    problem = problem_of(write("old", f"{{fw: {stated}}}"))
    assert (problem.path, problem.message) == ("families.fam.attributes.fw.path", message)


def test_where_none_reads_files(write):
    class NoneReads:
        names = ["old"]

        def check(self, name):
            pass

        def load(self, name):
            return type("Old", (), {"capabilities": frozenset(), "stands_in": False})

    with pytest.raises(CatalogError, match="no source reads files; leave 'path' out"):
        loader.load_catalog([write("old", "{fw: {source: old, path: a}}")], NoneReads())


def test_one_that_cannot_be_imported_here(third_parties, write):
    catalog = load_catalog([write("broken", "{fw: {source: broken, path: a}}")])
    assert not catalog.stand_ins and catalog.paths.keys() == {"broken"}


def test_one_that_is_not_installed_here(write):
    path = write("old", "{fw: {source: flash, path: a}}")
    with pytest.raises(CatalogError, match="source 'flash' is not registered"):
        load_catalog([path])
    # On a controller, for the hosts of which it is.
    catalog = load_catalog([path], check_sources=False)
    assert catalog.sources == {"old", "flash"} and catalog.paths.keys() == {"flash"}


def test_each_is_loaded_once(write):
    class Counting:
        names = ["a"]
        loaded: list[str] = []

        def check(self, name):
            pass

        def load(self, name):
            self.loaded.append(name)
            return registered().load("sysfs")

    sources = NamedSources(Counting())
    for _ in range(3):
        assert sources.problem_of_file("a", "caps", "x/y") == ""
        assert "not a path relative" in sources.problem_of_file("a", "caps", "../y")
        assert not sources.stands_in("a")
    assert Counting.loaded == ["a"]

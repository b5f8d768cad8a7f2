# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

from __future__ import annotations

import pathlib

import pytest
from oslo_config import cfg

from nova_devcompat import sources
from nova_devcompat.compat import device
from nova_devcompat.conf import register_opts
from nova_devcompat.kit import plugins
from nova_devcompat.kit.plugins import PluginError
from nova_devcompat.sources import Device, Source, SourceError, SourceOptions, base, load_source
from nova_devcompat.sources.static import StaticSource
from tests.unit.distributions import install


def test_plugins_find_the_device_where_they_always_did():
    assert sources.Device is base.Device is device.Device
    assert sources.normalise_address is base.normalise_address is device.normalise_address


def test_load_source(tmp_path):
    options = SourceOptions(inventory=tmp_path / "inv.yaml")
    source = load_source("static", options)
    assert isinstance(source, StaticSource)
    assert source.name == "static" and source.options is options


def test_the_time_is_that_of_the_option_by_default():
    conf = cfg.ConfigOpts()
    register_opts(conf)
    assert SourceOptions().seconds == conf.devcompat.source_timeout


def test_load_source_of_a_name_that_is_none():
    with pytest.raises(PluginError, match=r"'statik' is not registered .* did you mean 'static'"):
        load_source("statik", SourceOptions())


def test_load_source_of_a_third_party(monkeypatch, tmp_path):
    module = """
from nova_devcompat.sources import Device, Source

class Ours(Source):
    name = "ours"

    def read(self, host):
        return [Device("a", {"x": host})]
"""
    install(
        monkeypatch,
        tmp_path,
        "acme",
        plugins.SOURCES,
        {"ours": "third_source:Ours"},
        {"third_source": module},
    )
    source = load_source("ours", SourceOptions(inventory=pathlib.Path("x")))
    assert source.read("cmp1") == [Device("a", {"x": "cmp1"})]
    assert "ours" in sources.registered().names


def test_a_source_must_read():
    class Silent(Source):
        name = "silent"

    with pytest.raises(TypeError, match="read"):
        Silent(SourceOptions())


def test_static_source_needs_an_inventory():
    with pytest.raises(SourceError, match=r"name it with \[devcompat\] inventory"):
        load_source("static", SourceOptions())

# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

from __future__ import annotations

import logging

import pytest

from nova_devcompat.catalog import CatalogError, CatalogKeeper
from nova_devcompat.sources import registered

GOOD = """\
meta: {schema_version: '1.0'}
families:
  fam: {match: {a: b}, source: static, rules: {x: semver}}
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(GOOD)
    return path


def test_first_load_raises(tmp_path):
    keeper = CatalogKeeper([tmp_path / "c.yaml"], registered=registered())
    with pytest.raises(CatalogError, match="there is no such file; write one"):
        keeper.current()


def test_follows_its_files_and_keeps_the_last_good(path, tmp_path, caplog):
    other = tmp_path / "d.yaml"
    other.write_text(GOOD.replace("fam:", "other:").replace("a: b", "a: c"))
    keeper = CatalogKeeper([path, str(other)], min_interval=0, registered=registered())
    first = keeper.current()
    assert list(first.families) == ["fam", "other"]
    assert keeper.current() is first

    other.write_text(GOOD.replace("fam:", "fourth:").replace("a: b", "a: d"))
    second = keeper.current()
    assert list(second.families) == ["fam", "fourth"]
    assert second.digest != first.digest

    caplog.set_level(logging.WARNING)
    path.write_text(GOOD.replace("semver", "semvr").replace("static", "statik"))
    for _ in range(3):
        assert keeper.current() is second
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "The changed catalog is wrong and not used" in record.getMessage()
    assert "rule kind 'semvr'" in record.getMessage()
    assert "source 'statik'" in record.getMessage()

    path.write_text(GOOD)
    assert keeper.current().digest == second.digest
    assert len(caplog.records) == 1


def test_does_not_look_at_its_files_at_each_call(path):
    keeper = CatalogKeeper(iter([path]), min_interval=3600, registered=registered())
    first = keeper.current()
    path.unlink()
    assert keeper.current() is first

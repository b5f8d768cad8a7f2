# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What does not need a running nova-api: tests/functional/test_pins.py has the rest."""

import concurrent.futures
import re
import subprocess
import sys

import pytest
import yaml
from nova import exception

from nova_devcompat.api import extra_specs
from nova_devcompat.stores.placement import Placement

CATALOG = {
    "meta": {"schema_version": "1.0"},
    "families": {
        "gpu": {"match": {"model": "x"}, "source": "static", "rules": {"version": "semver"}}
    },
}


@pytest.fixture
def validator(tmp_path, monkeypatch):
    """The registered validator, with a catalog; ``made`` has the traits that it wanted."""
    path = tmp_path / "devcompat.yaml"
    path.write_text(yaml.safe_dump(CATALOG))
    (found,) = extra_specs.register()
    found.path, found.made = path, []
    extra_specs.CONF.set_override("catalog", [str(path)], group="devcompat")
    monkeypatch.setattr(extra_specs.report, "report_client_singleton", lambda: None)
    monkeypatch.setattr(Placement, "make_traits", lambda client, names: found.made.extend(names))
    yield found
    extra_specs.CONF.clear_override("catalog", group="devcompat")


def test_importing_needs_neither_configuration_nor_placement():
    """nova-api loads it when it starts, and an error there would be its own."""
    program = "from nova_devcompat.api import extra_specs; print(len(extra_specs.register()))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "1"


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("devcompat:gpu.version", True),
        ("devcompat:", True),
        ("devcompat:a:b.c", True),
        ("devcompat", False),
        ("hw:devcompat:gpu", False),
    ],
)
def test_names_that_nova_gives_it(validator, name, ours):
    """As nova/api/validation/extra_specs/validators.py matches them."""
    assert bool(re.fullmatch(validator.name_regex, name)) is ours


def test_a_trait_for_each_value(validator):
    validator.validate("devcompat:gpu.version", "v2.03")
    assert validator.made == ["CUSTOM_DEVCOMPAT_GPU__VERSION__2_3"]


def test_what_is_bad_makes_no_trait(validator):
    with pytest.raises(exception.ValidationError, match="families: gpu"):
        validator.validate("devcompat:tpu.version", "1.0")
    assert validator.made == []


def test_a_catalog_that_goes_bad_stays_in_use(validator):
    validator.validate("devcompat:gpu.version", "2.3")
    validator.path.write_text("families: []")
    validator.validate("devcompat:gpu.version", "2.4")
    assert len(validator.made) == 2


def test_a_catalog_that_comes_later(validator):
    text = validator.path.read_text()
    validator.path.unlink()
    with pytest.raises(exception.ValidationError, match="catalog on nova-api's host cannot be"):
        validator.validate("devcompat:gpu.version", "2.3")
    validator.path.write_text(text)
    validator.validate("devcompat:gpu.version", "2.3")


def test_several_threads(validator):
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        list(
            threads.map(lambda n: validator.validate("devcompat:gpu.version", f"2.{n}"), range(40))
        )
    assert len(set(validator.made)) == 40


def test_a_client_that_cannot_be_made(validator, monkeypatch, caplog):
    def broken():
        raise RuntimeError("no configuration")

    monkeypatch.setattr(extra_specs.report, "report_client_singleton", broken)
    validator.validate("devcompat:gpu.version", "2.3")
    assert "Placement was not told of extra spec devcompat:gpu.version" in caplog.text

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
from nova.api.validation.extra_specs import validators

from nova_devcompat.api import extra_specs, flavors
from nova_devcompat.compat.traits import Atom
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
    found, _ = extra_specs.register()
    found.path, found.made = path, []
    extra_specs.CONF.set_override("catalog", [str(path)], group="devcompat")
    monkeypatch.setattr(flavors.report, "report_client_singleton", lambda: None)

    def make_traits(client, names, *, most):
        found.made.extend(names)
        return set()

    monkeypatch.setattr(Placement, "make_traits", make_traits)
    monkeypatch.setattr(Placement, "known_atoms", lambda client, **only: None)
    yield found
    extra_specs.CONF.clear_override("catalog", group="devcompat")


def test_importing_needs_neither_configuration_nor_placement():
    """nova-api loads it when it starts, and an error there would be its own."""
    program = "from nova_devcompat.api import extra_specs; print(len(extra_specs.register()))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "2"


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


@pytest.fixture
def asked(validator, monkeypatch):
    """nova-api's own look-up, with our validators alone."""
    monkeypatch.setattr(validators, "VALIDATORS", {})
    monkeypatch.setattr(validators, "NAMESPACES", set())
    for one in (validator, extra_specs.MisspeltPinValidator()):
        validators.VALIDATORS[one.name] = one
        if ":" in one.name_regex:
            validators.NAMESPACES.add(one.name_regex.split(":", 1)[0])
    return validators.validate


@pytest.mark.parametrize(
    "name",
    [
        "Devcompat:gpu.version",
        "DEVCOMPAT:GPU.VERSION",
        "devCompat:",
        "devcompat",
        "Devcompat",
        "devcompat.gpu.version",
        "devcompat gpu",
    ],
)
def test_what_was_meant_as_a_pin(asked, name):
    with pytest.raises(exception.ValidationError) as refused:
        asked(name, "2.3")
    assert refused.value.message == (
        f"Validation failed; {name!r} is no pin, which is named "
        "devcompat:<family>.<attribute>, in lower case"
    )


@pytest.mark.parametrize(
    "name", ["devcompat:gpu.version", "devcompatible", "my_devcompat:x", "trait:X", "x"]
)
def test_what_was_not(asked, name):
    asked(name, "2.3")


def test_a_value_that_hosts_have_in_another_case_is_refused(validator, monkeypatch):
    rules = {"version": "semver", "caps": "superset", "board": "equal"}
    families = {"gpu": {**CATALOG["families"]["gpu"], "rules": rules}}
    validator.path.write_text(yaml.safe_dump({**CATALOG, "families": families}))
    known = [("gpu", "caps", "p2p"), ("gpu", "board", "MT_1"), ("other", "caps", "DMA")]
    monkeypatch.setattr(
        Placement, "known_atoms", lambda client, **only: {Atom(*one) for one in known}
    )
    with pytest.raises(exception.ValidationError, match="no host has 'P2P'; write 'p2p', which"):
        validator.validate("devcompat:gpu.caps", "P2P")
    for name, value in (
        ("caps", "p2p"),
        ("caps", "dma"),  # nothing is known that is like it
        ("board", "mt_1"),  # case does not count
    ):
        validator.validate(f"devcompat:gpu.{name}", value)
    monkeypatch.setattr(Placement, "known_atoms", lambda client, **only: None)
    validator.validate("devcompat:gpu.caps", "P2P")


def test_one_key_alone_makes_no_trait(validator):
    """Nova may refuse another key of the request."""
    validator.validate("devcompat:gpu.version", "v2.03")
    with pytest.raises(exception.ValidationError, match="families: gpu"):
        validator.validate("devcompat:tpu.version", "1.0")
    assert validator.made == []


class Flavor:
    """What of Nova's flavor is asked."""

    def __init__(self, extra_specs, changed=("extra_specs",)):
        self.extra_specs = extra_specs
        self.changed = set(changed)
        self.fails = False

    def obj_what_changed(self):
        return self.changed

    def save(self):
        if self.fails:
            raise exception.FlavorNotFound(flavor_id="x")
        self.changed = set()


@pytest.fixture
def saved(validator, monkeypatch):
    """Stores flavors as nova-api does."""
    monkeypatch.setattr(flavors.nova_flavor, "Flavor", Flavor)
    monkeypatch.setattr(Flavor, "save", Flavor.save)
    flavors.install(validator.catalog)
    flavors.install(validator.catalog)
    return Flavor


def test_a_trait_for_each_value_of_a_stored_flavor(validator, saved):
    saved({"devcompat:gpu.version": "v2.03", "hw:cpu_policy": "shared"}).save()
    assert validator.made == ["CUSTOM_DEVCOMPAT_GPU__VERSION__2_3"]


@pytest.mark.parametrize(
    ("extra_specs", "changed"),
    [
        ({"devcompat:gpu.version": "2.3"}, ["projects"]),
        ({"hw:cpu_policy": "shared"}, ["extra_specs"]),
        # Of a request that nobody validated.
        ({"devcompat:tpu.version": "1.0", "devcompat:gpu.version": "x"}, ["extra_specs"]),
    ],
)
def test_nothing_that_would_be_a_trait(validator, saved, extra_specs, changed):
    saved(extra_specs, changed).save()
    assert validator.made == []


def test_a_flavor_that_is_not_stored(validator, saved):
    flavor = saved({"devcompat:gpu.version": "2.3"})
    flavor.fails = True
    with pytest.raises(exception.FlavorNotFound):
        flavor.save()
    assert validator.made == []


def test_a_value_too_long_for_a_trait_spoils_no_other(validator, saved, caplog):
    """Stored by a request that nobody validated."""
    validator.path.write_text(validator.path.read_text().replace("semver", "equal"))
    long = {"devcompat:gpu.version": "x" * 250}
    saved(long).save()
    assert validator.made == []
    assert "Placement is not told: gpu.version=xxx" in caplog.text


def test_values_for_which_there_is_no_room(validator, saved, monkeypatch, caplog):
    monkeypatch.setattr(Placement, "make_traits", lambda client, names, *, most: set(names))
    saved({"devcompat:gpu.version": "2.3"}).save()
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "CUSTOM_DEVCOMPAT_GPU__VERSION__2_3" in record.getMessage()


def test_a_catalog_that_goes_bad_stays_in_use(validator):
    validator.validate("devcompat:gpu.version", "2.3")
    validator.path.write_text("families: []")
    validator.validate("devcompat:gpu.version", "2.4")


def test_a_catalog_that_comes_later(validator):
    text = validator.path.read_text()
    validator.path.unlink()
    with pytest.raises(exception.ValidationError, match="catalog on nova-api's host cannot be"):
        validator.validate("devcompat:gpu.version", "2.3")
    validator.path.write_text(text)
    validator.validate("devcompat:gpu.version", "2.3")


def test_a_pack_that_is_none(validator, caplog):
    extra_specs.CONF.set_override("packs", ["mlx5"], group="devcompat")
    try:
        with pytest.raises(exception.ValidationError, match="'mlx5' is no pack; packs: gvtg, "):
            validator.validate("devcompat:gpu.version", "2.3")
    finally:
        extra_specs.CONF.clear_override("packs", group="devcompat")
    assert "Pins cannot be validated, the catalog cannot be used: [devcompat] packs" in caplog.text


def test_several_threads(validator):
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        tasks = threads.map(
            lambda n: validator.validate("devcompat:gpu.version", f"2.{n}"), range(40)
        )
        assert list(tasks) == [None] * 40


@pytest.mark.parametrize("broken", ["client", "catalog"])
def test_what_is_broken_in_nova_api(validator, saved, broken, monkeypatch, caplog):
    def fail():
        raise RuntimeError("no configuration")

    if broken == "client":
        monkeypatch.setattr(flavors.report, "report_client_singleton", fail)
    else:
        flavors.install(fail)
    saved({"devcompat:gpu.version": "2.3"}).save()
    assert "Placement was not told of extra specs devcompat:gpu.version" in caplog.text

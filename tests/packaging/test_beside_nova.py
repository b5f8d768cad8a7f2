# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The wheel beside Nova, enabled by the nova.conf that README.rst shows."""

from tests.packaging.conftest import RELEASE

# Nova 31 patches when nova.monkey_patch is imported, and has no function for it.
PARSE = """
import json, sys
import nova.monkey_patch
if hasattr(nova.monkey_patch, "patch"):
    nova.monkey_patch.patch()
from nova import config
from nova import objects
import nova.conf
config.parse_args(["nova-test", "--config-file", sys.argv[1]])
objects.register_all()
CONF = nova.conf.CONF
"""


def test_nova_is_the_one_that_was_asked_for(beside_nova):
    assert (
        beside_nova.run(
            """
            import importlib.metadata, json
            print(json.dumps(importlib.metadata.version("nova")))
            """
        )
        == RELEASE.nova
    )


def test_dependencies_are_consistent(beside_nova):
    beside_nova.command("python", "-m", "pip", "check")


def test_every_entry_point_resolves(beside_nova):
    assert beside_nova.run(
        """
        import importlib.metadata, json
        points = importlib.metadata.distribution("nova-devcompat").entry_points
        print(json.dumps([point.load() is not None for point in points]))
        """
    )


def test_shim_stands_beside_novas_drivers(beside_nova):
    path = beside_nova.run(
        """
        import json
        import nova.virt.devcompat
        print(json.dumps(nova.virt.devcompat.__file__))
        """
    )
    assert path == str(beside_nova.site_packages / "nova/virt/devcompat/__init__.py")


def test_nova_loads_the_driver(beside_nova, nova_conf):
    loaded = beside_nova.run(
        PARSE
        + """
from nova.virt import driver
loaded = driver.load_compute_driver(None)
loaded.init_host("cmp1")
print(json.dumps([type(loaded).__module__, type(loaded).__name__, loaded.get_available_nodes()]))
""",
        nova_conf,
    )
    assert loaded[:2] == ["nova_devcompat.compute.driver", "DeviceCompatDriver"]
    assert loaded[2]


def test_nova_loads_the_filter(beside_nova, nova_conf):
    enabled = beside_nova.run(
        PARSE
        + """
from nova.scheduler import filters
handler = filters.HostFilterHandler()
found = handler.get_matching_classes(CONF.filter_scheduler.available_filters)
classes = {found_class.__name__: found_class for found_class in found}
enabled = {name: classes[name]() for name in CONF.filter_scheduler.enabled_filters}
print(json.dumps({name: type(loaded).__module__ for name, loaded in enabled.items()}))
""",
        nova_conf,
    )
    assert enabled["DeviceCompatFilter"] == "nova_devcompat.scheduler.filters"
    assert len(enabled) > 1


def test_nova_loads_the_extra_spec_validator(beside_nova, nova_conf):
    told = beside_nova.run(
        PARSE
        + """
from nova import exception
from nova.api.validation.extra_specs import validators
try:
    validators.validate("devcompat:no_such_family.x", "1")
except exception.ValidationError as error:
    print(json.dumps(str(error)))
""",
        nova_conf,
    )
    assert "the catalog has no family 'no_such_family'; families: " in told


def test_nova_loads_the_weighers(beside_nova, nova_conf):
    assert beside_nova.run(
        PARSE
        + """
from nova.scheduler import weights
found = weights.HostWeightHandler().get_matching_classes(CONF.filter_scheduler.weight_classes)
print(json.dumps([found_class.__name__ for found_class in found]))
""",
        nova_conf,
    )


def test_uninstalling_leaves_nova_intact(beside_nova):
    # The last test of the module: the environment is of no use to others afterwards.
    ask = """
        import importlib.metadata, json
        files = importlib.metadata.distribution("nova").files
        print(json.dumps([str(path) for path in files if not path.locate().exists()]))
    """
    absent_before = beside_nova.run(ask)
    beside_nova.command("python", "-m", "pip", "uninstall", "--yes", "nova-devcompat")
    assert beside_nova.run(ask) == absent_before == []
    assert not (beside_nova.site_packages / "nova/virt/devcompat").exists()
    assert not (beside_nova.site_packages / "nova_devcompat").exists()
    assert (
        beside_nova.run("import json, nova.virt.driver; print(json.dumps('intact'))") == "intact"
    )

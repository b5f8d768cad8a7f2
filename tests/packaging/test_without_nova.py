# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The wheel on a machine that has no Nova."""

import csv
import io

import pytest

GROUPS = ("nova_devcompat.cli", "nova_devcompat.sources", "nova_devcompat.rules")


def test_nova_is_absent(bare):
    assert (
        bare.run(
            """
        import importlib.metadata, json
        print(json.dumps([d.name for d in importlib.metadata.distributions()]))
        """
        ).count("nova")
        == 0
    )


def test_dependencies_are_consistent(bare):
    bare.command("python", "-m", "pip", "check")


def test_entry_points_that_need_no_nova_resolve(bare):
    loaded = bare.run(
        """
        import importlib.metadata, json
        loaded = {}
        for point in importlib.metadata.distribution("nova-devcompat").entry_points:
            if point.group not in (
                "nova.api.extra_spec_validators",
                "nova_devcompat.scheduler_filters",
                "nova_devcompat.scheduler_weighers",
            ):
                point.load()
                loaded.setdefault(point.group, []).append(point.name)
        print(json.dumps(loaded))
        """
    )
    assert set(loaded) == {"console_scripts", "oslo.config.opts", *GROUPS}
    assert sorted(loaded["nova_devcompat.rules"]) == [
        "accepts",
        "at_least",
        "equal",
        "floor",
        "one_of",
        "ordered",
        "origin",
        "range",
        "same",
        "semver",
        "superset",
        "undecided",
    ]


def test_help_names_the_commands(bare):
    text = bare.command("nova-devcompat", "--help").stdout
    assert "matrix" in text
    assert "catalog validate" in text


def test_matrix(bare, files):
    text = bare.command(
        "nova-devcompat",
        "matrix",
        *("--catalog", str(files / "catalog.yaml"), "--inventory", str(files / "inventory.yaml")),
        *("-f", "csv"),
    ).stdout
    verdicts = {
        (row["source_host"], row["destination_host"]): row["verdict"]
        for row in csv.DictReader(io.StringIO(text))
    }
    assert verdicts == {("cmp1", "cmp2"): "accept", ("cmp2", "cmp1"): "reject"}


@pytest.mark.parametrize("form", ["table", "value", "json", "yaml"])
def test_forms(bare, files, form):
    text = bare.command(
        "nova-devcompat",
        "matrix",
        *("--catalog", str(files / "catalog.yaml"), "--inventory", str(files / "inventory.yaml")),
        *("-f", form),
    ).stdout
    assert "mlx5_vf.fw_version: needs 28.41, offered 28.39.1002" in text


def test_page(bare, files, tmp_path):
    """Its templates are in the wheel."""
    page = tmp_path / "fleet.html"
    bare.command(
        "nova-devcompat",
        "page",
        *("--catalog", str(files / "catalog.yaml"), "--inventory", str(files / "inventory.yaml")),
        *("-o", str(page)),
    )
    text = page.read_text("utf-8")
    assert "guests, one on each device" in text
    assert "</style>" in text and "cmp2" in text


def test_catalog_validate(bare, files):
    bare.command("nova-devcompat", "catalog", "validate", str(files / "catalog.yaml"))


def test_catalog_validate_of_no_catalog(bare, files):
    done = bare.command(
        "nova-devcompat", "catalog", "validate", str(files / "inventory.yaml"), check=False
    )
    assert done.returncode
    assert "inventory.yaml" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_options_for_the_sample_generator(bare):
    text = bare.command("oslo-config-generator", "--namespace", "nova_devcompat").stdout
    for option in (
        "virt_driver",
        "strict_driver_contract",
        "catalog",
        "inventory",
        "prefilter",
        "mode",
        "on_unknown",
    ):
        assert f"#{option} = " in text

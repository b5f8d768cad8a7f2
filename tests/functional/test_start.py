# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The real services started as an operator starts them, with something wrong in their files."""

import os
import pathlib
import subprocess
import sys
import unittest

import fixtures
import pytest

CATALOG = """\
meta: {schema_version: '1.0'}
families:
  gpu:
    match: {mdev_type: 'nvidia-*'}
    source: static
    rules: {version: semver}
"""
NOVA_CONF = """\
[DEFAULT]
transport_url = fake://
state_path = {folder}
host = cmp1
[database]
connection = sqlite:///{folder}/cell.db
[api_database]
connection = sqlite:///{folder}/api.db
[oslo_concurrency]
lock_path = {folder}
[filter_scheduler]
available_filters = nova.scheduler.filters.all_filters
available_filters = nova_devcompat.scheduler.filters.all_filters
enabled_filters = ComputeFilter,DeviceCompatFilter
[devcompat]
catalog = {folder}/devcompat.yaml
"""


class SchedulerStartTest(unittest.TestCase):
    """nova-compute waits for a conductor before it looks at its driver, so it takes a broker to
    start one: see tests/functional/test_publish.py for the same in process.
    """

    def setUp(self):
        super().setUp()
        temporary = fixtures.TempDir()
        temporary.setUp()
        self.addCleanup(temporary.cleanUp)
        self.folder = pathlib.Path(temporary.path)
        (self.folder / "nova.conf").write_text(NOVA_CONF.format(folder=self.folder))
        status, output = self.run_service("nova.cmd.manage", "api_db", "sync")
        self.assertEqual(0, status, output)

    def run_service(self, module, *arguments):
        """Run a service until it stops; its exit status and what it printed."""
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                f"import sys, {module} as service; sys.exit(service.main())",
                "--config-file",
                str(self.folder / "nova.conf"),
                *arguments,
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )
        return done.returncode, done.stdout + done.stderr

    def assert_stops(self, *patterns):
        status, output = self.run_service("nova.cmd.scheduler")
        self.assertEqual(1, status, output)
        self.assertNotIn("Traceback", output)
        lines = [line for line in output.splitlines() if "CRITICAL" in line]
        self.assertEqual(1, len(lines), output)
        for pattern in patterns:
            self.assertRegex(lines[0], pattern)

    def test_wrong_catalog(self):
        wrong = CATALOG.replace("semver", "semvar").replace("source: static", "source: statik")
        (self.folder / "devcompat.yaml").write_text(wrong)
        self.assert_stops(
            r"devcompat\.yaml:5: families\.gpu\.source: .*statik.*static",
            r"devcompat\.yaml:6: families\.gpu\.rules\.version: .*semvar.*semver",
        )

    def test_a_value_that_an_option_does_not_take(self):
        (self.folder / "devcompat.yaml").write_text(CATALOG)
        with (self.folder / "nova.conf").open("a") as conf:
            conf.write("mode = enforced\n")
        self.assert_stops(r"option mode .*nova\.conf.*\[enforce, report\], but found 'enforced'$")

    def test_a_pack_that_is_none(self):
        (self.folder / "devcompat.yaml").write_text(CATALOG)
        with (self.folder / "nova.conf").open("a") as conf:
            conf.write("packs = mlx5\n")
        self.assert_stops(r"\[devcompat\] packs: 'mlx5' is no pack; packs: .*mlx5_vf")

    @pytest.mark.threads
    def test_no_catalog(self):
        self.assert_stops(r"devcompat\.yaml.*\[devcompat\] catalog")

# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The alert rules and the metrics, as Prometheus' own promtool reads them.

Where it is not there, it is taken from Debian's package of Prometheus, of which nothing is
installed or started; else the tests are skipped and say why.
"""

from __future__ import annotations

import datetime
import pathlib
import shutil
import subprocess

import pytest
import yaml

from nova_devcompat.compat.policy import Policies, Policy
from nova_devcompat.fleet.metrics import Gauges, write
from nova_devcompat.fleet.tally import Tally
from tests.unit.fleet.test_stranded import SILENT, catalog, document, fleet, part, running

ROOT = pathlib.Path(__file__).resolve().parents[2]
RULES = ROOT / "etc" / "nova-devcompat" / "prometheus-alerts.yaml"
CASES = pathlib.Path(__file__).with_name("prometheus_alerts.yaml")

NOON = datetime.datetime(2026, 11, 27, 12, tzinfo=datetime.UTC)


def rules():
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


@pytest.fixture(scope="session")
def promtool(tmp_path_factory):
    there = shutil.which("promtool")
    if there:
        return there
    folder = tmp_path_factory.mktemp("prometheus")
    # apt-get gives root's files to its own user to write, where it may.
    folder.chmod(0o755)
    try:
        subprocess.run(["apt-get", "-q", "update"], capture_output=True, timeout=300)
        for command in (["apt-get", "-q", "download", "prometheus"], None):
            packages = command or ["dpkg-deb", "-x", *map(str, folder.glob("*.deb")), str(folder)]
            subprocess.run(
                packages, cwd=folder, check=True, capture_output=True, text=True, timeout=300
            )
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", "") or ""
        pytest.skip(f"needs promtool, and Debian's prometheus cannot be had: {error} {said}")
    return str(folder / "usr" / "bin" / "promtool")


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, **options)
    return done.returncode, done.stdout + done.stderr


def test_the_rules_are_rules(promtool):
    assert run(promtool, "check", "rules", str(RULES))[0] == 0


def test_each_alert_comes_when_it_should(promtool, tmp_path):
    stated = rules()
    expected = set()
    for number, cases in enumerate(yaml.safe_load_all(CASES.read_text())):
        for test in [asked for case in cases["tests"] for asked in case["alert_rule_test"]]:
            for alert in test.get("exp_alerts", ()):
                rule = stated[test["alertname"]]
                expected.add(test["alertname"])
                alert["exp_annotations"]["runbook_url"] = rule["annotations"]["runbook_url"]
        file = tmp_path / f"{number}.yaml"
        file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], **cases}))
        status, said = run(promtool, "test", "rules", str(file))
        assert status == 0, said
    assert expected == stated.keys()


def test_what_is_written_is_what_prometheus_reads(promtool, tmp_path):
    cloud = fleet(
        [running(part("gpu", "1.2")), running(part("gpu", "1.2"), on="h1")],
        document(("gpu", "1.2")),
        document(("gpu", "1.0")),
        SILENT,
    )
    tally = Tally(catalog(), Policies(Policy()), NOON)
    tally.judge(tally.outlook([*cloud.hosts, *cloud.guests], {"h1": None}))
    tally.count_risk("host", 'a "name"\nof\\nobody')
    tally.answered = {("cell", 'cell "1"\n'): True}
    file = tmp_path / "devcompat.prom"
    write(str(file), Gauges(tally, catalog(), NOON, NOON))
    status, said = run(promtool, "check", "metrics", input=file.read_text())
    assert (status, said) == (0, ""), said

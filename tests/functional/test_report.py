# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""``nova-devcompat report`` on databases of Nova's, and where there are none."""

import json
import re
import stat
import tarfile

import pytest
import sqlalchemy
from nova.db.main import models
from oslo_utils.fixture import uuidsentinel as uuids

from nova_devcompat.stores import events
from tests.functional import base
from tests.functional.test_need_command import controller, nova_devcompat

CATALOG = base.__file__.replace("functional/base.py", "unit/recorded/catalog-1.0.yaml")
SECRETS = ("m3ssages-s3cret", "placement-s3cret", "shared-s3cret", "d4tabase-s3cret")


@pytest.fixture
def folder(tmp_path):
    """A controller's, one of whose cells is down; secrets are in its configuration and its log."""
    controller(tmp_path)
    path = tmp_path / "nova.conf"
    path.write_text(
        path.read_text().replace("fake:///", "fake://nova:m3ssages-s3cret@mq:5672/")
        + f"[devcompat]\ncatalog = {CATALOG}\ninventory = {tmp_path}/inventory.yaml\n"
        f"known_bad = {tmp_path}/none.yaml\n"
        "[placement]\nauth_type = password\nauth_url = http://127.0.0.1:9/\nusername = nova\n"
        "password = placement-s3cret\n"
        "[neutron]\nmetadata_proxy_shared_secret = shared-s3cret\n"
    )
    (tmp_path / "inventory.yaml").write_text("meta: {}\n# shared-s3cret, who put that here?\n")
    (tmp_path / "nova.log").write_text(
        "2026-11-27 1 INFO nova_devcompat.scheduler.explain [-] No host accepts instance x\n"
        "2026-11-27 1 INFO nova_devcompat.x [-] mysql://nova:d4tabase-s3cret@db/nova failed\n"
        "2026-11-27 1 INFO nova_devcompat.x [-] placement-s3cret is wrong\n"
        "2026-11-27 1 INFO nova.compute.manager [-] of no concern\n"
    )
    return tmp_path


def report(folder, *argv):
    path = folder / "report.tar.gz"
    done = nova_devcompat("report", "-o", str(path), *argv)
    assert "Traceback" not in done.stderr
    if not path.exists():
        return done, {}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with tarfile.open(path) as tar:
        texts = {
            name.partition("/")[2]: tar.extractfile(name).read().decode()
            for name in tar.getnames()
        }
    for secret in SECRETS:
        assert not [name for name, text in texts.items() if secret in text]
        assert secret not in done.stdout + done.stderr
    return done, texts


def test_a_controller(folder):
    cell = sqlalchemy.create_engine(f"sqlite:///{folder}/cell1.sqlite")
    with cell.begin() as connection:
        connection.execute(
            models.InstanceAction.__table__.insert(),
            [{"id": 1, "action": "live-migration", "instance_uuid": uuids.guest, "deleted": 0}],
        )
        connection.execute(
            models.InstanceActionEvent.__table__.insert(),
            [
                {"action_id": 1, "event": event, "host": "cmp2", "details": "too old"}
                for event in (events.REFUSED, "compute_live_migration")
            ],
        )
    done, texts = report(
        folder, "--config-file", f"{folder}/nova.conf", "--server", uuids.guest, "--server", "x"
    )
    assert done.returncode == 1
    assert set(texts) == {
        "versions.json",
        "configuration.txt",
        "files/catalog-0.yaml",
        "files/inventory.yaml",
        "logs/nova.log",
        "services.jsonl",
        "hosts.jsonl",
        "decisions.jsonl",
        f"servers/{uuids.guest}.json",
        "not-collected.txt",
    }
    assert json.loads(texts["versions.json"])["distributions"]["nova"]
    assert "devcompat.catalog" in texts["configuration.txt"]
    assert re.search(r"api_database\.connection +=", texts["configuration.txt"])
    (decision,) = map(json.loads, texts["decisions.jsonl"].splitlines())
    assert (decision["instance"], decision["details"]) == (uuids.guest, "too old")
    recorded = json.loads(texts[f"servers/{uuids.guest}.json"])
    assert "version 1.2" in recorded["read"][0]
    assert recorded["kept"].keys() == {"devcompat:need"}
    assert texts["logs/nova.log"].count("\n") == 3
    # What is missing is said, in the archive and to whoever asked.
    for lack in (
        "files/known-bad-0.yaml: ",
        "atoms.txt: ",
        "servers/x.json: ",
        "Cell down is left",
    ):
        assert lack in texts["not-collected.txt"]
        assert lack in done.stderr
    # No earlier report is lost.
    again = nova_devcompat("report", "-o", f"{folder}/report.tar.gz")
    assert (again.returncode, again.stdout) == (2, "")
    assert "report.tar.gz is there already" in again.stderr


def test_without_a_database(folder):
    """As on a compute host."""
    path = folder / "nova.conf"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line for line in lines if not line.startswith("connection")))
    done, texts = report(folder, "--config-file", str(path))
    assert done.returncode == 1
    assert {"versions.json", "configuration.txt", "files/catalog-0.yaml"} <= texts.keys()
    assert "no connection is configured in [api_database]" in texts["not-collected.txt"]
    assert not any(name.endswith(".jsonl") for name in texts)


def test_without_a_configuration(folder):
    path = folder / "nova.conf"
    path.write_text("garbage\x00[[")
    done, texts = report(folder, "--config-file", str(path))
    assert done.returncode == 1
    assert set(texts) == {"versions.json", "not-collected.txt"}
    assert "configuration.txt: " in done.stderr
    # One reason, and no others that follow from it; nor what libraries say when they are loaded.
    assert "decisions and records, for want of Nova's options" in texts["not-collected.txt"]
    assert all(line.startswith("Not collected: ") for line in done.stderr.splitlines())


def test_where_nothing_can_be_written(folder):
    done, texts = report(folder / "nowhere")
    assert (done.returncode, texts) == (2, {})
    assert "report.tar.gz cannot be written: No such file or directory" in done.stderr

# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""No secret of the cloud is where somebody else can read it, after all other scenarios."""

from __future__ import annotations

import pathlib
import stat
import subprocess
import tarfile
from collections.abc import Iterable, Iterator, Mapping

from tests.e2e.playground import Cloud

#: What services write for people.
_LOGS = ("log", "rabbitmq/log")
#: What is read of a file at a time, a secret's length of it twice.
_PIECE = 1 << 20


def found_in(path: pathlib.Path, secrets: Mapping[str, str]) -> set[str]:
    """The names of secrets that a file has.

    :param secrets: by what they are for
    """
    kept = max(map(len, secrets.values()))
    found: set[str] = set()
    with path.open("rb") as file:
        before = b""
        while piece := file.read(_PIECE):
            text = before + piece
            found |= {name for name, secret in secrets.items() if secret.encode() in text}
            before = text[-kept:]
    return found


def files(folders: Iterable[pathlib.Path]) -> Iterator[pathlib.Path]:
    for folder in folders:
        yield from (path for path in sorted(folder.rglob("*")) if path.is_file())


def test_no_log_has_one(running: Cloud) -> None:
    secrets = running.settings()["passwords"]
    logs = list(files(running.data / name for name in _LOGS))
    assert {"nova-scheduler.log", "nova-api.log"} <= {path.name for path in logs}
    assert {path.name: found for path in logs if (found := found_in(path, secrets))} == {}
    # They would be found.
    assert found_in(running.data / "cloud.json", secrets) == set(secrets)


def test_who_may_read_those_that_are_kept(running: Cloud) -> None:
    secrets = running.settings()["passwords"]
    kept = [running.data / name for name in ("cloud.json", "clouds.yaml", "openrc")]
    kept += files([running.data / "etc"])
    having = [path for path in kept if found_in(path, secrets)]
    assert len(having) > 5
    assert {path.name for path in having if stat.S_IMODE(path.stat().st_mode) & 0o077} == set()


def test_a_report_has_none(running: Cloud, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "report.tar.gz"
    config = [f"--config-file={running.data / 'etc/nova/nova.conf'}"]
    done = subprocess.run(
        [str(running.programs / "nova-devcompat"), "report", "-o", str(path), *config],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert path.exists(), done.stderr
    secrets = running.settings()["passwords"]
    assert not any(secret in done.stdout + done.stderr for secret in secrets.values())
    with tarfile.open(path) as tar:
        tar.extractall(tmp_path / "report", filter="data")
    texts = list(files([tmp_path / "report"]))
    assert {"configuration.txt", "hosts.jsonl", "atoms.txt"} <= {text.name for text in texts}
    assert {text.name: found for text in texts if (found := found_in(text, secrets))} == {}

# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""``nova-devcompat report``: what a bug report needs, in one file, without secrets."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import functools
import importlib.metadata
import io
import json
import logging
import pathlib
import platform
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from cliff.command import Command

from nova_devcompat.cli import controller
from nova_devcompat.kit.archive import Archive, new_archive
from nova_devcompat.kit.masking import masked, secrets_in

LOG = logging.getLogger(__name__)

FOLDER = "nova-devcompat-report"
_INCOMPLETE = 1

_DISTRIBUTIONS = (
    "nova-devcompat",
    "nova",
    "openstack-placement",
    "oslo.config",
    "oslo.db",
    "oslo.log",
    "oslo.messaging",
    "oslo.utils",
    "oslo.versionedobjects",
    "os-traits",
    "os-resource-classes",
    "keystoneauth1",
    "stevedore",
    "cliff",
    "eventlet",
    "SQLAlchemy",
    "PyYAML",
    "jsonschema",
    "libvirt-python",
    "lxml",
    "nvidia-ml-py",
    "pyroute2",
    "univers",
)

# What takes Nova's databases.
_OF_THE_CLOUD = "what hosts published, atoms, decisions and records"

# Of one file that is copied; of the end of a log; lines of ours in it.
_MOST_COPIED = 1 << 20
_MOST_READ = 16 << 20
_MOST_LINES = 5_000
_OURS = ("nova_devcompat", "devcompat")


class Report(Command):
    """Collect what a bug report needs into one archive, which nobody else can read.

    Versions, Nova's configuration without secrets, catalogs and the other files of [devcompat],
    what hosts published, the atoms in placement, the last decisions, and our lines of the logs.
    What cannot be had is named in the archive and on standard error, and the exit status is 1
    then; on a host without Nova's databases that is most of it. Read what is in it before you send
    it: names of hosts and UUIDs of servers are.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "-o",
            "--output",
            metavar="FILE",
            required=True,
            help="the archive (.tar.gz), which must not be there yet",
        )
        parser.add_argument(
            "--server",
            metavar="SERVER",
            action="append",
            default=[],
            help="what is recorded of this server, too, by its UUID; can be repeated",
        )
        controller.add_config_file_option(parser, "Nova's configuration")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        path = pathlib.Path(parsed_args.output)
        with contextlib.ExitStack() as stack:
            try:
                archive = stack.enter_context(new_archive(path, FOLDER))
            except FileExistsError:
                raise ValueError(f"{path} is there already; name another file") from None
            except OSError as error:
                raise ValueError(f"{path} cannot be written: {error.strerror}") from error
            collected = Collection(archive)
            collected.all(parsed_args.config_file, parsed_args.server)
            collected.end()
        self.app.stdout.write(f"{path}: {', '.join(collected.names)}\n")
        for line in collected.missing:
            LOG.warning("Not collected: %s", line)
        return _INCOMPLETE if collected.missing else 0


class Collection:
    """What is collected, and what could not be.

    :param archive: takes it
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._secrets: set[str] = set()
        # Nova's options, once read: they can be read but once.
        self._read: Any = None
        #: Of the texts.
        self.names: list[str] = []
        #: A line for each that could not be had.
        self.missing: list[str] = []

    def all(self, config_files: list[str], servers: list[str]) -> None:
        """Collect everything.

        :param config_files: as of ``--config-file``
        :param servers: UUIDs of those of which the record is wanted
        """
        self.add("versions.json", _versions)
        conf = self._configuration(config_files)
        if conf is not None:
            self.add("configuration.txt", lambda: _options(conf))
            for name, path in _files_of(conf):
                self.add(name, functools.partial(_copy, path))
            self._logs(conf)
        with self._nova(config_files) as works:
            if works:
                self._cloud(servers)

    def add(self, name: str, text: Callable[[], Iterable[str]]) -> None:
        """Add a text without secrets; or note why there is none.

        :param text: makes it
        """
        try:
            content = masked("".join(text()), self._secrets)
        except Exception as error:  # noqa: BLE001 - the rest is of use all the same
            self.lacks(f"{name}: {_brief(error)}")
            return
        self._archive.add(name, [content])
        self.names.append(name)

    def lacks(self, line: str) -> None:
        """Note what could not be had."""
        self.missing.append(masked(" ".join(line.split()), self._secrets))

    def end(self) -> None:
        """Add what could not be had."""
        lines = self.missing or ["nothing"]
        self._archive.add("not-collected.txt", [f"{line}\n" for line in lines])

    def _configuration(self, config_files: list[str]) -> Any:
        """Nova's options; ours alone where there is no Nova; None where they cannot be read."""
        try:
            with controller.quiet_console():
                conf = self._read = controller.read_configuration(config_files)
        except ValueError as error:
            self.lacks(f"Nova's options: {_brief(error)}")
            try:
                conf = _ours_alone(config_files)
            except Exception as failed:  # noqa: BLE001 - of any file that is no configuration
                self.lacks(f"configuration.txt: {_brief(failed)}")
                return None
        for name in [*conf.config_file, *_in_folders(conf)]:
            with contextlib.suppress(OSError):
                self._secrets |= secrets_in(pathlib.Path(name).read_text(errors="replace"))
        return conf

    @contextlib.contextmanager
    def _nova(self, config_files: list[str]) -> Iterator[bool]:
        """Nova, set up; and whether it is."""
        if self._read is None:
            self.lacks(f"{_OF_THE_CLOUD}, for want of Nova's options")
            yield False
            return
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(controller.nova(config_files, self._read))
            except Exception as error:  # noqa: BLE001 - whatever is wrong with it
                self.lacks(f"{_OF_THE_CLOUD}: {_brief(error)}")
                yield False
                return
            yield True

    def _cloud(self, servers: list[str]) -> None:
        from nova import context

        from nova_devcompat.fleet import bundle
        from nova_devcompat.fleet.cloud import Cloud

        cells = bundle.Told(context.get_admin_context(), self.lacks)
        self.add("services.jsonl", lambda: bundle.services(cells))
        self.add("hosts.jsonl", lambda: bundle.hosts(cells))
        self.add("decisions.jsonl", lambda: bundle.decisions(cells))
        self.add("atoms.txt", lambda: bundle.atoms(Cloud(cells)))
        for uuid in servers:
            self.add(f"servers/{uuid}.json", functools.partial(bundle.server, cells, uuid))

    def _logs(self, conf: Any) -> None:
        paths = _log_files(conf)
        if not paths:
            self.lacks(
                "logs: nova.conf names no file; add what the journal has of Nova's services"
            )
        for path in paths:
            self.add(f"logs/{path.name}", functools.partial(_lines_of_ours, path))


def _versions() -> Iterator[str]:
    found: dict[str, str | None] = {}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    try:
        system = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        system = ""
    told = {
        "collected": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "system": system,
        "distributions": found,
    }
    yield json.dumps(told, indent=1) + "\n"


def _ours_alone(config_files: list[str]) -> Any:
    from oslo_config import cfg

    from nova_devcompat.conf import register_opts

    conf = cfg.ConfigOpts()
    register_opts(conf)
    conf([], project="nova", prog="nova", default_config_files=config_files or None)
    return conf


def _in_folders(conf: Any) -> list[pathlib.Path]:
    return [
        path for folder in conf.config_dir or () for path in pathlib.Path(folder).glob("*.conf")
    ]


def _options(conf: Any) -> Iterator[str]:
    """All options as they are in force, those that say that they are secret left out."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    # One of nobody else's, so that it ends with us and goes nowhere.
    logger = logging.getLogger(f"{__name__}.options")
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    try:
        conf.log_opt_values(logger, logging.DEBUG)
    finally:
        logger.removeHandler(handler)
    yield stream.getvalue()


def _files_of(conf: Any) -> Iterator[tuple[str, pathlib.Path]]:
    """The files that [devcompat] names, each with its name in the archive."""
    ours = conf.devcompat
    for index, name in enumerate(ours.catalog):
        yield f"files/catalog-{index}.yaml", pathlib.Path(name)
    for index, name in enumerate(ours.known_bad):
        yield f"files/known-bad-{index}.yaml", pathlib.Path(name)
    # These need not be there.
    for name, path in (("inventory", ours.inventory), ("accepted-risks", ours.accepted_risks)):
        if pathlib.Path(path).exists():
            yield f"files/{name}.yaml", pathlib.Path(path)


def _copy(path: pathlib.Path) -> Iterator[str]:
    with path.open("rb") as file:
        content = file.read(_MOST_COPIED + 1)
    yield content[:_MOST_COPIED].decode(errors="replace")
    if len(content) > _MOST_COPIED:
        yield f"\n# ... {path} goes on; this is its first MiB\n"


def _log_files(conf: Any) -> list[pathlib.Path]:
    folder = pathlib.Path(conf.log_dir) if _has(conf, "log_dir") else None
    if _has(conf, "log_file"):
        return [pathlib.Path(folder or "", conf.log_file)]
    return sorted(folder.glob("*.log")) if folder is not None else []


def _has(conf: Any, name: str) -> bool:
    return bool(getattr(conf, name, None))


def _lines_of_ours(path: pathlib.Path) -> Iterator[str]:
    """The last lines in which we say something, out of the end of a log."""
    with path.open("rb") as file:
        file.seek(0, io.SEEK_END)
        file.seek(max(file.tell() - _MOST_READ, 0))
        text = file.read(_MOST_READ).decode(errors="replace")
    lines = [line for line in text.splitlines() if any(word in line for word in _OURS)]
    return (f"{line}\n" for line in lines[-_MOST_LINES:])


def _brief(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{lines[0][:300]}" if lines else type(error).__name__

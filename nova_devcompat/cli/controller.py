# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What commands that run on a controller share: Nova set up for them, and the catalog there."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from nova_devcompat.catalog import Catalog
from nova_devcompat.catalog.packs import catalog_paths
from nova_devcompat.service import load_catalog

# Whose INFO lines are for the console; those of Nova and its libraries are for the log file.
_TALKING = ("nova_devcompat.cli", "nova_devcompat.fleet.mending.progress")


def add_config_file_option(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--config-file``.

    :param what: whose configuration it is
    """
    parser.add_argument(
        "--config-file",
        metavar="FILE",
        action="append",
        default=[],
        help=f"{what}, where nova-manage would not find it; can be repeated",
    )


def catalog_of(files: Sequence[str] | None) -> Catalog:
    """The catalog of these files, or else that of ``[devcompat]``, inside of :func:`nova`.

    :raises CatalogError: it is wrong
    """
    import nova.conf

    ours = nova.conf.CONF.devcompat
    # The hosts read the devices, so no source need be installed on a controller.
    return load_catalog(
        files or catalog_paths(ours.packs, ours.catalog),
        known_bad=ours.known_bad,
        check_sources=False,
    )


@contextlib.contextmanager
def nova(config_files: Sequence[str], conf: Any = None) -> Iterator[None]:
    """Nova as nova-manage sets it up, for the length of a command.

    :param config_files: none to look where Nova's services look
    :param conf: what :func:`read_configuration` has returned, where it was called already
    :raises ValueError: Nova is not installed, or its configuration cannot be used
    """
    with quiet_console() as console:
        if conf is None:
            conf = read_configuration(config_files)
        rpc = _configured(conf)
        try:
            _log_as_configured(conf, console)
            yield
        finally:
            rpc.cleanup()


def read_configuration(config_files: Sequence[str]) -> Any:
    """Nova's options and ours, read.

    :param config_files: none to look where Nova's services look
    :raises ValueError: Nova is not installed, or its configuration cannot be read
    """
    try:
        with warnings.catch_warnings():
            # Its libraries import it where it is installed; it is not used here.
            warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
            import nova.conf
            from nova import config
    except ImportError as error:
        raise ValueError(
            "this command needs Nova, and there is none here: "
            f"run it on a controller ({' '.join(str(error).split())})"
        ) from error
    from oslo_config import cfg

    from nova_devcompat.conf import register_opts

    conf = nova.conf.CONF
    register_opts(conf)
    arguments = [part for name in config_files for part in ("--config-file", name)]
    try:
        config.parse_args(["nova-devcompat", *arguments])
    except cfg.Error as error:
        raise ValueError(" ".join(str(error).split())) from error
    return conf


def _configured(conf: Any) -> Any:
    """Nova's RPC module, ready for the notifications that a save sends.

    :param conf: Nova's options, read
    :raises ValueError: they name no database
    """
    from nova import objects, rpc

    # Nova wants [database] too, to tell in which dialect to filter (nova/db/main/api.py).
    lacking = [name for name in ("api_database", "database") if not conf[name].connection]
    if lacking:
        read = ", ".join(conf.config_file) or "none"
        raise ValueError(
            f"no connection is configured in [{lacking[0]}] (files read: {read}); "
            "name the nova.conf of a controller's nova-api with --config-file"
        )
    objects.register_all()
    return rpc


@contextlib.contextmanager
def quiet_console() -> Iterator[list[logging.Handler]]:
    """Keep what Nova and its libraries log at INFO off the console.

    :returns: cliff's handlers, that of its own ``--log-file`` too
    """
    handlers = list(logging.getLogger().handlers)
    on_console = [one for one in handlers if getattr(one, "stream", None) in _streams()]
    for handler in on_console:
        handler.addFilter(_is_for_the_console)
    try:
        yield handlers
    finally:
        for handler in on_console:
            handler.removeFilter(_is_for_the_console)


def _log_as_configured(conf: Any, console: list[logging.Handler]) -> None:
    """Let log lines go where nova.conf says too, and leave the console to cliff."""
    from oslo_log import log

    root = logging.getLogger()
    try:
        log.setup(conf, "nova")
    except OSError as error:
        raise RuntimeError(f"the log of nova.conf cannot be written: {error}") from error
    for handler in list(root.handlers):
        # Where nova.conf names no file, oslo.log would write into the output.
        if getattr(handler, "stream", None) in _streams():
            root.removeHandler(handler)
    for handler in console:
        root.addHandler(handler)


def _streams() -> tuple[Any, ...]:
    return (sys.stdout, sys.stderr)


def _is_for_the_console(entry: logging.LogRecord) -> bool:
    return entry.levelno >= logging.WARNING or entry.name in _TALKING

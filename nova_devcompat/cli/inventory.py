# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""``nova-devcompat inventory ...``: static inventories, made without Nova."""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml
from cliff.command import Command

from nova_devcompat.catalog.family import CatalogFamily
from nova_devcompat.catalog.merging import Classified
from nova_devcompat.catalog.nvidia import UnknownRelease, published_range
from nova_devcompat.cli.hosts import add_host_options, survey
from nova_devcompat.compat.runs import runs_of
from nova_devcompat.compat.traits import check_name
from nova_devcompat.host.offers import not_matched
from nova_devcompat.sources.static import VERSIONS

LOG = logging.getLogger(__name__)

PLANNED_FAMILY = "nvidia_vgpu"


class InventoryDump(Command):
    """Print what this host has as a static inventory, to replay the host elsewhere.

    Asks the sources as "device list" does. What cannot be read is null, which is UNKNOWN to every
    rule; sources that could not be asked are named on standard error, and their devices are not
    in the inventory.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        add_host_options(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        found = survey(parsed_args)
        for name, why in sorted(found.failed.items()):
            LOG.warning("Source %s could not be asked: %s", name, why)
        for name, why in sorted(found.partial.items()):
            LOG.warning("Source %s does not tell of all devices: %s", name, why)
        for address, why in found.left_out.items():
            LOG.warning("Device %s is left out: %s", address, why)
        for device in found.devices:
            unknown = {} if device.family else not_matched(found.catalog, device)
            for name, why in unknown.items():
                LOG.warning(
                    "Device %s may be of a family, but for %s: %s", device.where, name, why
                )
        wanted = [device for device in found.devices if device.family or parsed_args.all]
        self.app.stdout.write(dump({parsed_args.hostname: _devices(wanted)}))
        return 0


class InventoryPlan(Command):
    """Print a static inventory of hosts that one does not have, by releases of NVIDIA's driver.

    The vGPU versions that a release supports are those that NVIDIA has published with the open
    kernel modules; on a live host NVML's word counts. What is assumed of a release beside those
    is told on standard error; of one of which nothing is known the range is null: UNKNOWN.
    For "matrix --pack nvidia_vgpu".
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "hosts",
            metavar="HOST=RELEASE",
            nargs="+",
            help="a host, by any name, and its release of the driver, such as new=580.65.06",
        )
        parser.add_argument(
            "--ecc-mode",
            choices=("enabled", "disabled", "none"),
            help="the ECC mode of all GPUs, none for GPUs without ECC; without it, that is not "
            "known, and no verdict is accept",
        )
        parser.add_argument(
            "--product-id",
            metavar="ID",
            type=_product_id,
            help="the PCI product id of all GPUs, such as 26b9; without it, that is not known and "
            "no verdict is accept",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        hosts: dict[str, list[dict[str, Any]]] = {}
        for text in parsed_args.hosts:
            host, _, release = text.partition("=")
            if not host.strip() or not release:
                raise ValueError(f"{text!r} is not HOST=RELEASE, such as new=580.65.06")
            if host in hosts:
                raise ValueError(f"host {host!r} is there twice; give each its own name")
            hosts[host] = [
                {
                    "address": "planned",
                    "family": PLANNED_FAMILY,
                    "attributes": {
                        "driver_version": release,
                        "ecc_mode": parsed_args.ecc_mode,
                        "product_id": parsed_args.product_id,
                        "vgpu_migration": "1",
                        # A guest would look for a function of its type, whatever that is.
                        "vgpu_type": "any",
                        "vgpu_version": _range_of(host, release),
                    },
                }
            ]
        self.app.stdout.write(dump(hosts))
        return 0


def _product_id(text: str) -> str:
    """As sources tell it."""
    if not re.fullmatch("[0-9a-fA-F]{4}", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no PCI product id, which has four hexadecimal digits, such as 26b9"
        )
    return text.lower()


def _range_of(host: str, release: str) -> dict[str, str] | None:
    """The range of a planned host; None where nothing is known of its release."""
    try:
        found = published_range(release)
    except UnknownRelease as error:
        LOG.warning("Host %s: %s", host, error)
        return None
    if found.assumed:
        LOG.warning("Host %s: %s", host, found.assumed)
    return found.attribute


def dump(hosts: Mapping[str, Iterable[Mapping[str, Any]]]) -> str:
    """A static inventory, in ASCII: it is read as UTF-8, whatever terminal it was printed on.

    :param hosts: devices by host, as the format has them
    :raises ValueError: a host's name is no text
    """
    for host in hosts:
        # Bytes that are none in the encoding of this program, which Python has as surrogates.
        if any("\ud800" <= char <= "\udfff" for char in host):
            raise ValueError(f"host {host!r} was typed in another encoding than is set here")
    content = {
        "meta": {"schema_version": VERSIONS[-1]},
        "hosts": {host: {"devices": list(devices)} for host, devices in hosts.items()},
    }
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, default_flow_style=False)


class _Dumper(yaml.SafeDumper):
    """Writes equal values twice, rather than once with an alias."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _devices(found: Iterable[Classified]) -> list[dict[str, Any]]:
    """The entries of devices: functions that are devices of their own are in their parent's."""
    entries: dict[str, dict[str, Any]] = {}
    for device in found:
        family = {"family": device.family.name} if device.family else {}
        if not (device.functions and device.family):
            known = entries.get(device.address, {})
            entry = entries[device.address] = {
                "address": device.address,
                **family,
                "attributes": {**_attributes(device), **known.get("attributes", {})},
            }
            if "functions" in known:
                entry["functions"] = known["functions"]
            continue
        own = {name for name in device.family.attributes if _of_function(device.family, name)}
        own |= device.family.implied.keys()
        attributes = _attributes(device)
        entry = entries.setdefault(device.address, {"address": device.address, "attributes": {}})
        entry["attributes"] |= {name: attributes[name] for name in attributes.keys() - own}
        entry["attributes"] = dict(sorted(entry["attributes"].items()))
        entry.setdefault("functions", []).append(
            {
                "addresses": list(runs_of(device.functions)),
                **family,
                "attributes": {name: attributes[name] for name in sorted(own & attributes.keys())},
            }
        )
    return list(entries.values())


def _of_function(family: CatalogFamily, attribute: str) -> bool:
    return family.source_of(attribute).of_function


def _attributes(device: Classified) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    rules = device.family.family.rules if device.family else ()
    for name in sorted({*device.attributes, *device.problems, *rules}):
        try:
            check_name(name)
            attributes[name] = _value(device.attributes.get(name))
        except ValueError as error:
            LOG.warning("Device %s: %s is left out: %s", device.address, name, error)
    return attributes


def _value(value: object) -> object:
    """A value as an inventory can have it.

    :raises ValueError: it cannot
    """
    if isinstance(value, Mapping):
        return {str(key): _text_or_texts(inner) for key, inner in value.items()}
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    return _text_or_texts(value)


def _text_or_texts(value: object) -> object:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        texts = sorted(value) if isinstance(value, set | frozenset) else list(value)
        if all(isinstance(text, str) for text in texts):
            return texts
    raise ValueError(f"an inventory cannot hold {value!r:.80}")

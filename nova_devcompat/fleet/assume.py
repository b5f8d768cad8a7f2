# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Hosts as they would be: with the devices of an inventory, or another release of a driver."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from nova_devcompat.catalog.model import Catalog
from nova_devcompat.catalog.nvidia import published_range
from nova_devcompat.compat.device import Device
from nova_devcompat.compat.traits import Atom
from nova_devcompat.compat.verdict import Reason
from nova_devcompat.fleet.paper import Paper
from nova_devcompat.kit.text import near
from nova_devcompat.sources.static import Inventory, load_inventory
from nova_devcompat.wire import HostDocument, PublishedDevice, fit_stats

# Hosts of a file that a message names, at most.
_NAMED = 10


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Assumption:
    """What a host would be.

    :param host: which
    :param said: the assumption, for whoever reads an answer
    :param devices: all that it would have; None for those that it has
    :param release: of the driver of those; '' for the one that it has
    """

    host: str
    said: str
    devices: tuple[Device, ...] | None = None
    release: str = ""


class Assumptions:
    """Makes documents of hosts as they would publish them.

    :param catalog: whose rules they would have
    :param assumed: at most one of a host
    """

    def __init__(self, catalog: Catalog, assumed: Iterable[Assumption] = ()) -> None:
        self._catalog = catalog
        self._by_host = {one.host: one for one in assumed}

    def __contains__(self, host: str) -> bool:
        return host in self._by_host

    @property
    def hosts(self) -> list[str]:
        """The hosts of which something is assumed."""
        return list(self._by_host)

    @property
    def said(self) -> list[str]:
        """All that is assumed."""
        return [one.said for one in self._by_host.values()]

    def document(
        self, host: str, now: HostDocument | Reason, atoms: Iterable[Atom]
    ) -> HostDocument:
        """What a host would publish.

        :param now: what it does publish, or why nothing is known of that
        :param atoms: what is evaluated: all that guests need who are asked about
        :raises ValueError: it publishes nothing that the assumption is about
        """
        assumed = self._by_host[host]
        if assumed.devices is not None:
            return self._with_devices(assumed.host, assumed.devices, now, frozenset(atoms))
        return self._with_release(assumed, now, frozenset(atoms))

    def text(self, host: str, now: HostDocument | Reason, atoms: Iterable[Atom]) -> str:
        """The same as it stands in ``compute_nodes.stats``."""
        useful = sorted(atoms)
        return fit_stats(self.document(host, now, useful), useful).text

    def _with_devices(
        self,
        host: str,
        devices: tuple[Device, ...],
        now: HostDocument | Reason,
        atoms: frozenset[Atom],
    ) -> HostDocument:
        paper = Paper(self._catalog, Inventory(hosts={host: devices}), atoms)
        document = paper.fleet.hosts[0].document
        assert document is not None
        if isinstance(now, Reason):
            return document
        # A device that is where one is now has the same resource provider.
        providers: dict[str, set[str]] = {}
        for device in now.devices:
            providers.setdefault(device.address, set()).update(device.providers)
        return dataclasses.replace(
            document,
            devices=tuple(
                dataclasses.replace(
                    device, providers=tuple(sorted(providers.get(device.address, ())))
                )
                for device in document.devices
            ),
            policies=now.policies,
        )

    def _with_release(
        self, assumed: Assumption, now: HostDocument | Reason, atoms: frozenset[Atom]
    ) -> HostDocument:
        families = [name for name in RELEASES if name in self._catalog.families]
        devices = [] if isinstance(now, Reason) else now.devices
        if not any(device.family in families for device in devices):
            raise ValueError(
                f"{assumed.said}: the host publishes no device of {' or '.join(families)}"
            )
        assert isinstance(now, HostDocument)
        told = {name: RELEASES[name](assumed.release).attributes for name in families}
        return dataclasses.replace(
            now,
            catalog=self._catalog.digest,
            devices=tuple(
                self._released(device, told[device.family], atoms)
                if device.family in told
                else device
                for device in now.devices
            ),
            shape=None,
            context=None,
            kin=None,
        )

    def _released(
        self, device: PublishedDevice, told: Mapping[str, Any], atoms: frozenset[Atom]
    ) -> PublishedDevice:
        """A device with another driver: what the release does not tell stays as it is."""
        family = self._catalog.families[device.family].family
        found = family.offer(told).accept_set(atoms)
        changed = {name: found.attributes[name] for name in family.rules if name in told}
        accepts = dataclasses.replace(
            device.accepts, attributes={**device.accepts.attributes, **changed}
        )
        return dataclasses.replace(device, accepts=accepts)


# --- releases ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Released:
    """What is published of a release of a driver.

    :param attributes: of devices that it drives
    :param assumed: why these are taken to be its, where nothing is published for just that release
    """

    attributes: Mapping[str, Any]
    assumed: str = ""


def _nvidia(release: str) -> Released:
    found = published_range(release)
    return Released(
        attributes={"vgpu_version": found.attribute, "driver_version": release},
        assumed=found.assumed,
    )


#: By family, what is published of releases; each raises ValueError for one that it does not know.
RELEASES: Mapping[str, Callable[[str], Released]] = {"nvidia_vgpu": _nvidia}


# --- what an operator writes ---------------------------------------------------------------------


def assumptions(catalog: Catalog, files: Sequence[str], releases: Sequence[str]) -> Assumptions:
    """What an operator wants to be assumed.

    :param files: ``HOST=FILE``, each file a static inventory
    :param releases: ``HOST=RELEASE``
    :raises ValueError: one cannot be read, with its place and what is allowed
    """
    found: dict[str, Assumption] = {}
    for text in files:
        host, path = _parts(text, "--assume", "HOST=FILE, such as cmp4=cmp4.yaml", found)
        devices = _devices_in(catalog, host, path)
        found[host] = Assumption(host=host, devices=devices, said=f"{host} is as in {path}")
    for text in releases:
        host, release = _parts(
            text, "--assume-release", "HOST=RELEASE, such as cmp4=570.133.20", found
        )
        said = _of_release(catalog, host, release)
        found[host] = Assumption(host=host, release=release, said=said)
    return Assumptions(catalog, found.values())


def _parts(text: str, option: str, form: str, found: Mapping[str, Assumption]) -> tuple[str, str]:
    host, _, value = text.partition("=")
    if not host.strip() or not value.strip():
        raise ValueError(f"{option} {text!r} is not {form}")
    if host in found:
        raise ValueError(f"{option} {text!r}: something is assumed of host {host!r} already")
    return host, value


def _devices_in(catalog: Catalog, host: str, path: str) -> tuple[Device, ...]:
    """The entry of a host; the only one where it is of another host, which it is to be like."""
    hosts = load_inventory(path, catalog).hosts
    if host in hosts:
        return hosts[host]
    if len(hosts) == 1:
        return next(iter(hosts.values()))
    named = ", ".join(sorted(hosts)[:_NAMED])
    raise ValueError(
        f"{path}: hosts: none is {host!r}{near(host, list(hosts))}; there are {named}"
    )


def _of_release(catalog: Catalog, host: str, release: str) -> str:
    families = [name for name in RELEASES if name in catalog.families]
    if not families:
        raise ValueError(
            f"--assume-release {host}={release}: releases are known of the families "
            f"{', '.join(RELEASES)}, and the catalog has none of these"
        )
    try:
        assumed = [RELEASES[name](release).assumed for name in families]
    except ValueError as error:
        raise ValueError(f"--assume-release {host}={release}: {error}") from error
    notes = "".join(f" ({note})" for note in assumed if note)
    return f"{host} has release {release} of the driver of {' and '.join(families)}{notes}"

# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What a host tells the others: traits on its root provider, and a document in its stats."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from oslo_log import log as logging

from nova_devcompat import wire
from nova_devcompat.catalog.model import Catalog
from nova_devcompat.compat import choice, traits
from nova_devcompat.compat.accepts import AcceptSet
from nova_devcompat.compat.device import is_pci, provider_address
from nova_devcompat.compat.policy import Policies
from nova_devcompat.compat.runs import runs_of
from nova_devcompat.host.devices import HostDevice, HostDevices
from nova_devcompat.host.inventory import HostReader
from nova_devcompat.kit.once import Once
from nova_devcompat.stores.assigned import is_device_class
from nova_devcompat.stores.placement import Placement

if TYPE_CHECKING:
    from nova.compute.provider_tree import ProviderTree

LOG = logging.getLogger(__name__)

# Child providers appear in placement up to two cycles after a device does: nova-compute makes
# those of PCI devices after the driver's first cycle. Later looks would only cost requests.
_LOOKS_FOR_PROVIDERS = 3

# How many atoms a line names.
_NAMED = 5


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """What one node publishes until its next cycle.

    :param devices: its devices
    :param atoms: the atoms that were evaluated, the most useful first
    :param accept_sets: of its devices and of the host itself, by the identity of their offers
    """

    devices: HostDevices
    atoms: tuple[traits.Atom, ...]
    accept_sets: dict[int, AcceptSet]

    def of(self, one: HostDevice) -> AcceptSet:
        """The accept-set of one of its devices, or of a part of the host."""
        return self.accept_sets[id(one.offer)]


@dataclasses.dataclass(frozen=True, slots=True)
class Providers:
    """The resource providers of one node, as far as they are known.

    :param addresses: by UUID, the address that a provider's name holds, None without one
    :param classes: by UUID, the classes of devices that those have units of which the tree has
        shown
    """

    addresses: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    classes: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def classes_of(self, providers: Iterable[str]) -> tuple[str, ...] | None:
        """The classes that some providers have units of; None where that is not known of all."""
        listed = [self.classes.get(one) for one in providers]
        if not listed or None in listed:
            return None
        return tuple(sorted({name for each in listed for name in each or ()}))

    def unnamed(self, devices: Iterable[wire.PublishedDevice]) -> frozenset[str] | None:
        """The classes of those that are none of some devices; None where that is not known."""
        named = {provider for device in devices for provider in device.providers}
        others = (self.addresses.keys() | self.classes.keys()) - named
        names = self.classes_of(others) if others else ()
        return None if names is None else frozenset(names)


class Publisher:
    """Evaluates all known atoms once a cycle and publishes what the devices accept.

    Nova calls :meth:`stats` and then :meth:`update_root_traits` in each cycle, the second alone
    whenever an instance comes or goes, under the lock of its resource tracker. So the first asks
    all that is outside, sources and placement, and holds no lock meanwhile; the second asks nobody
    and takes what the last cycle found.

    :param inventory: reads the devices
    :param placement: knows the atoms and the providers
    :param policies: the policies that the host applies to the families of a catalog
    :param version: of the format that its stats are written in
    :param post_copy: what it says of ``[libvirt] live_migration_permit_post_copy``
    """

    def __init__(
        self,
        inventory: HostReader,
        placement: Placement,
        policies: Callable[[Catalog], Policies] | None = None,
        *,
        version: int = wire.STATS_VERSION,
        post_copy: bool | None = None,
    ) -> None:
        self._inventory = inventory
        self._policies = policies
        self._version = version
        self._post_copy = post_copy
        self._placement = placement
        # Of what is remembered between calls; never held while something is asked.
        self._lock = threading.Lock()
        self._atoms: frozenset[traits.Atom] = frozenset()
        self._atoms_used_by: set[str] = set()
        self._atoms_read = False
        self._snapshots: dict[str, Snapshot] = {}
        #: By node, what was evaluated or is on its provider.
        self._kept: dict[str, frozenset[traits.Atom]] = {}
        self._providers: dict[str, Providers] = {}
        self._looks_left: dict[str, int] = {}
        self._logged = Once()

    def stats(self, nodename: str) -> str | None:
        """Read the devices anew; the text for ``compute_nodes.stats``.

        Where there is more to say than fits, families are shortened, the longest first.

        :returns: None where not even the names of the families fit
        """
        snapshot = self._take_snapshot(nodename)
        providers = self._look_for_providers(nodename, snapshot)
        published = tuple(_published(providers, snapshot))
        document = wire.HostDocument(
            catalog=snapshot.devices.catalog.digest,
            devices=published,
            whole=_is_whole(providers, snapshot.devices),
            host=tuple(
                wire.PublishedDevice(address=part.address, accepts=snapshot.of(part))
                for _, part in sorted(snapshot.devices.host.items())
            ),
            policies=self._policies_told(snapshot.devices.catalog),
            reads=wire.STATS_READ,
            post_copy=self._post_copy,
            unnamed=providers.unnamed(published),
        )
        try:
            fitted = wire.fit_stats(document, snapshot.atoms, self._version)
        except wire.StatsTooLong as error:
            if self._logged.is_new(f"{nodename} too long"):
                LOG.error("%s: nothing is published in stats: %s", nodename, error)
            return None
        self._log_shortened(nodename, fitted.shortened)
        return fitted.text

    def _policies_told(self, catalog: Catalog) -> dict[str, str] | None:
        return None if self._policies is None else self._policies(catalog).told

    def _log_shortened(self, nodename: str, shortened: Mapping[str, str]) -> None:
        if not self._logged.is_new(f"{nodename} shortened", dict(shortened)):
            return
        for family, what in shortened.items():
            LOG.warning(
                "%(node)s: too many values: of family %(family)s there is no room in stats for "
                "%(what)s",
                {"node": nodename, "family": family, "what": what},
            )

    def devices(self, nodename: str) -> HostDevices | None:
        """The devices as they were read in the node's last cycle, None before the first."""
        with self._lock:
            snapshot = self._snapshots.get(nodename)
        return None if snapshot is None else snapshot.devices

    def update_root_traits(self, tree: ProviderTree, nodename: str) -> None:
        """Make the traits under our prefix on the root provider those that hold now.

        Traits that do not begin with our prefix, or that no atom encodes to, are not touched.
        """
        shown = _shown_by(tree, nodename)
        with self._lock:
            self._providers[nodename] = shown
            snapshot = self._snapshots.get(nodename)
        if snapshot is None:
            return  # nothing could be read yet: what is there is as good
        present = {
            name: atom
            for name in tree.data(nodename).traits
            if (atom := traits.decode(name)) is not None
        }
        # What is on the provider is known too, even if placement could not be asked for all.
        evaluated = frozenset(snapshot.atoms)
        on_it = choice.bounded((snapshot.atoms, present.values()))
        unevaluated = frozenset(on_it).intersection(present.values()) - evaluated
        with self._lock:
            self._kept[nodename] = evaluated | unevaluated
        unlike = snapshot.devices.unlike if unevaluated else ()
        accepted = _accepted(snapshot.accept_sets.values()) | _accepted(
            one.offer.accept_set(unevaluated) for one in unlike
        )
        wanted = self._names(nodename, accepted)
        missing = wanted - present.keys()
        stale = present.keys() - wanted
        if missing:
            tree.add_traits(nodename, *missing)
        if stale:
            tree.remove_traits(nodename, *stale)
        if missing or stale:
            LOG.info(
                "%(node)s: traits added: %(added)s; removed: %(removed)s",
                {
                    "node": nodename,
                    "added": ", ".join(sorted(missing)) or "none",
                    "removed": ", ".join(sorted(stale)) or "none",
                },
            )

    def address_of(self, nodename: str, provider: str) -> str | None:
        """The device address that a provider of this node stands for, None if for none."""
        with self._lock:
            known = self._providers.get(nodename, Providers())
        if provider not in known.addresses:
            known = self._ask_for_providers(nodename)
        return known.addresses.get(provider)

    def _take_snapshot(self, nodename: str) -> Snapshot:
        devices = self._inventory.read(nodename)
        unlike = devices.unlike
        own = frozenset(atom for one in unlike for atom in one.atoms())
        atoms = self._bounded(nodename, own | devices.catalog.announced)
        accept_sets = {id(one.offer): one.offer.accept_set(atoms) for one in unlike}
        snapshot = Snapshot(devices, atoms, accept_sets)
        with self._lock:
            old = self._snapshots.get(nodename)
            if old is None or {d.address for d in old.devices} != {d.address for d in devices}:
                self._looks_left[nodename] = _LOOKS_FOR_PROVIDERS
            self._snapshots[nodename] = snapshot
        return snapshot

    def _bounded(self, nodename: str, own: frozenset[traits.Atom]) -> tuple[traits.Atom, ...]:
        """The atoms to evaluate, of all that are known in the cloud.

        Own ones first. Where there are too many, those that some host accepts come next, before
        all that stand for nothing; and always those that were evaluated before, so that none in
        use is crowded out by others that come later.

        :param own: of the host's devices and its catalog
        """
        known = self._known_atoms(nodename)
        with self._lock:
            kept = self._kept.get(nodename, frozenset())
            if self._atoms_read:
                kept &= known  # what somebody deleted is of no use
        everything = own | known
        atoms = choice.bounded((own, kept, known))
        if len(atoms) < len(everything):
            accepted = self._placement.known_atoms(associated=True) or frozenset()
            atoms = choice.bounded((own, kept & accepted, accepted, kept, known))
        left_out = everything.difference(atoms)
        self._log_left_out(nodename, left_out)
        return atoms

    def _log_left_out(self, nodename: str, left_out: Collection[traits.Atom]) -> None:
        attributes = sorted({f"{atom.family}.{atom.attribute}" for atom in left_out})
        if self._logged.is_new(f"{nodename} left out", tuple(attributes)) and attributes:
            LOG.warning(
                "%(node)s: %(count)d atoms are not evaluated, since placement has more of "
                "%(attributes)s than a host looks at; remove those that no guest needs and no "
                "host offers with nova-devcompat atom prune: %(some)s",
                {
                    "node": nodename,
                    "count": len(left_out),
                    "attributes": ", ".join(attributes),
                    "some": ", ".join(map(str, choice.in_turns(left_out)[:_NAMED])),
                },
            )

    def _known_atoms(self, nodename: str) -> frozenset[traits.Atom]:
        """All atoms in the cloud, asked for once a cycle however many nodes this service has."""
        with self._lock:
            asks = nodename in self._atoms_used_by or not self._atoms_read
        found = self._placement.known_atoms() if asks else None
        with self._lock:
            if found is not None:
                self._atoms = found
                self._atoms_read = True
            if asks:
                self._atoms_used_by.clear()
            self._atoms_used_by.add(nodename)
            return self._atoms

    def _look_for_providers(self, nodename: str, snapshot: Snapshot) -> Providers:
        """The node's providers, as far as they are known.

        Placement is asked for those that the tree has not shown us yet: in each cycle Nova wants
        the stats before it shows the tree, so that after a start the first document would not say
        which provider a device is.
        """
        with self._lock:
            known = self._providers.get(nodename, Providers())
            left = self._looks_left.get(nodename, 0)
        if left <= 0 or all(device.providers for device in _published(known, snapshot)):
            return known
        with self._lock:
            self._looks_left[nodename] = left - 1
        return self._ask_for_providers(nodename)

    def _ask_for_providers(self, nodename: str) -> Providers:
        """Those that placement has; those known until now where it does not tell."""
        found = self._placement.providers_of(nodename)
        with self._lock:
            known = self._providers.get(nodename, Providers())
            if found:
                known = dataclasses.replace(known, addresses=_addresses(nodename, found))
                self._providers[nodename] = known
            return known

    def _names(self, nodename: str, atoms: Iterable[traits.Atom]) -> set[str]:
        names = set()
        for atom in atoms:
            try:
                names.add(traits.encode(atom))
            except traits.TraitTooLong as error:
                if self._logged.is_new(f"{nodename} {error.atom}"):
                    LOG.error("%s: not published: %s", nodename, error)
        return names


def _accepted(accept_sets: Iterable[AcceptSet]) -> set[traits.Atom]:
    return {atom for accept_set in accept_sets for atom in accept_set.atoms}


def _shown_by(tree: ProviderTree, nodename: str) -> Providers:
    """The providers of a node that Nova's tree has."""
    providers = [tree.data(uuid) for uuid in tree.get_provider_uuids(nodename)]
    return Providers(
        _addresses(nodename, {provider.uuid: provider.name for provider in providers}),
        {
            provider.uuid: tuple(filter(is_device_class, provider.inventory))
            for provider in providers
        },
    )


def _addresses(nodename: str, names: Mapping[str, str]) -> dict[str, str | None]:
    return {uuid: provider_address(name, nodename) for uuid, name in names.items()}


def _published(providers: Providers, snapshot: Snapshot) -> Iterator[wire.PublishedDevice]:
    """The devices; functions that are alike and share their parent's provider, together."""
    devices = snapshot.devices
    of_devices: dict[int, list[str]] = {}
    of_parents: dict[str, list[str]] = {}
    for uuid, address in providers.addresses.items():
        if not address:
            continue
        device = devices.find(address)
        if device is None:
            of_parents.setdefault(address, []).append(uuid)
        else:
            of_devices.setdefault(id(device), []).append(uuid)
    functions: dict[tuple[str, int], list[HostDevice]] = {}
    for device in devices:
        own = of_devices.get(id(device), ())
        if device.parent and not own:
            functions.setdefault((device.parent, id(device.offer)), []).append(device)
            continue
        yield wire.PublishedDevice(
            address=device.address,
            accepts=snapshot.of(device),
            providers=tuple(own),
            classes=providers.classes_of(own),
        )
    for (parent, _), alike in functions.items():
        own = of_parents.get(parent, ())
        yield wire.PublishedDevice(
            address=parent,
            accepts=snapshot.of(alike[0]),
            providers=tuple(own),
            classes=providers.classes_of(own),
            functions=runs_of(device.address for device in alike),
        )


def _is_whole(providers: Providers, devices: HostDevices) -> bool:
    """Whether all devices that placement has for the node are among its devices."""
    return bool(providers.addresses) and all(
        devices.may_be(address) if is_pci(address) else devices.is_named(address)
        for uuid, address in providers.addresses.items()
        if address and (is_pci(address) or providers.classes.get(uuid))
    )

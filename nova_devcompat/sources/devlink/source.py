# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The source itself: attributes of what devlink answers, its bounds, and what it logs."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging
import operator
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

from nova_devcompat.compat.device import Device, is_pci
from nova_devcompat.compat.kinds import Floor
from nova_devcompat.compat.types import AttributeType
from nova_devcompat.kit.once import Once
from nova_devcompat.sources.base import Source, SourceError, SourceOptions
from nova_devcompat.sources.calls import SourceCall, TimedOut, Turns
from nova_devcompat.sources.devlink.facts import ATTRIBUTE_TYPES, facts_of, pending
from nova_devcompat.sources.devlink.messages import (
    Conversation,
    Handle,
    Info,
    NoFamily,
    load_pyroute2,
)
from nova_devcompat.sources.devlink.netlink import (
    Channel,
    Garbled,
    KernelError,
    open_socket,
)
from nova_devcompat.sources.devlink.ports import functions_of
from nova_devcompat.sources.sysfs.facts import Facts, Identities
from nova_devcompat.sources.sysfs.files import PCI, CannotRead, Reader

LOG = logging.getLogger(__name__)

T = TypeVar("T")

# A devlink instance without a device: several physical functions share it
# (Documentation/networking/devlink/devlink-shared.rst).
_NO_DEVICE = "devlink_index"

# What is logged of a kernel without devlink.
_FAMILY = "family"

# What a rule asks for, where a device has never said what it has.
_USUAL = ("fw", "fw_version")


class DevlinkSource(Source):
    """Reads versions from the kernel's devlink, which needs no privilege.

    Devices of PCI have their address, others devlink's handle (``auxiliary/mlx5_core.sf.2``). A
    virtual function whose parent is there is not listed: its parent is. Only instances in the
    network namespace of the process are seen. Attributes, all text:

    - for each *fixed* or *running* version one of its name, with ``_`` for what is no letter or
      digit: ``fw.version`` is ``fw_version``, ``fw.psid`` is ``fw_psid``
    - for each *stored* version ``<name>_stored``; ``<name>_pending`` too where it is not the one
      that runs: the next reset activates it
    - ``driver``: its driver
    - of functions, where the device is in switchdev mode and has the choice: ``migratable``, ``1``
      where its port says that the function can be migrated, ``0`` where not
    - of PCI devices what identifies them, as :class:`nova_devcompat.sources.sysfs.SysfsSource` has
      it, so that a catalog can match them

    One request asks for all devices. If that fails or hangs (the kernel holds a device's lock
    while its firmware is flashed), each is asked on its own, so that the others are read.

    :param connect: opens a netlink socket
    :param root: where sysfs is mounted, if not where the options say
    """

    name = "devlink"
    attribute_types = ATTRIBUTE_TYPES
    function_attribute_types = {"migratable": AttributeType.TEXT}
    # mlx5_vfio_pci migrates no function whose port says that it is not migratable
    # (drivers/vfio/pci/mlx5/cmd.c, mlx5vf_cmd_set_migratable).
    implied = MappingProxyType({"migratable": Floor(at="1")})
    # Each driver has versions of its own.
    tells_more = True

    def __init__(
        self,
        options: SourceOptions,
        *,
        connect: Callable[[], Channel] = open_socket,
        root: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(options)
        self._connect = connect
        seconds = options.seconds
        self._turns = Turns(self.name, seconds)
        self._all = SourceCall(self.name, seconds / 2)
        self._sysfs = SourceCall(self.name, seconds / 8)
        self._of_ports = SourceCall(self.name, seconds / 8)
        self._root = root or options.sysfs_root
        self._each: dict[Handle, SourceCall] = {}
        self._identities = Identities(root or options.sysfs_root)
        # What each device said when it last did.
        self._known: dict[Handle, Facts] = {}
        self._once = Once()

    def check(self) -> None:
        """Look whether the kernel answers. That it has no devlink is no mistake.

        :raises SourceError: it cannot be asked
        """
        load_pyroute2()
        with self._turns.turn(), contextlib.suppress(NoFamily):
            self._ask(self._all, lambda conversation: conversation.family)

    def read(self, host: str) -> Sequence[Device]:
        """The devices of this host; none where the kernel has no devlink.

        :param host: of no concern: it is always this one
        :raises SourceError: nothing can be told
        """
        load_pyroute2()
        with self._turns.turn():
            devices = self._devices(self._answers(time.monotonic() + self.options.seconds * 7 / 8))
            # With what hangs, a list of ports would hang too.
            return devices if self._each else self._with_functions(devices)

    def _with_functions(self, devices: Sequence[Device]) -> Sequence[Device]:
        """The devices with what their ports say of their functions."""
        reader = Reader(self._root)
        names = {device.address for device in devices if is_pci(device.address)}
        try:
            if not any(reader.exists(f"{PCI}/{name}/virtfn0") for name in names):
                return devices
            ports = self._ask(self._of_ports, Conversation.ports)
        except (SourceError, NoFamily, CannotRead) as error:
            self._log("devlink's answer for ports", str(error))
            return devices
        self._log("devlink's answer for ports", "")
        if not ports:
            return devices
        return [
            dataclasses.replace(device, functions=functions_of(ports, device.address, reader))
            if device.address in names
            else device
            for device in devices
        ]

    def _answers(self, deadline: float) -> dict[Handle, Info | _NoInfo]:
        """What devlink says of each device, or why it says nothing."""
        try:
            infos, handles = self._ask(self._all, _infos_and_handles)
        except NoFamily:
            if self._once.is_new(_FAMILY):
                LOG.info("This kernel has no devlink, so source 'devlink' finds no devices")
            return {}
        except SourceError as error:
            return self._one_by_one(error, deadline)
        self._once.is_over(_FAMILY)
        self._log("devlink's answer for all devices", "")
        self._each.clear()
        answers: dict[Handle, Info | _NoInfo] = {info.handle: info for info in infos}
        # In a dump the kernel passes over a device whose driver has nothing to say
        # (net/devlink/dev.c, devlink_nl_info_get_dump_one), as if it were not there.
        for handle in handles:
            answers.setdefault(handle, _NOTHING_SAID)
        return answers

    def _one_by_one(self, problem: SourceError, deadline: float) -> dict[Handle, Info | _NoInfo]:
        handles = list(self._known)
        if not isinstance(problem, TimedOut):
            # With what hangs, a list would hang too.
            with contextlib.suppress(SourceError, NoFamily):
                handles = self._ask(self._all, Conversation.handles)
        answers: dict[Handle, Info | _NoInfo] = {}
        for handle in handles:
            call = self._each.get(handle)
            if call is None or not call.stuck:
                left = max(0.0, deadline - time.monotonic())
                limit = min(left, self.options.seconds / 8)
                call = self._each[handle] = SourceCall(self.name, limit)
            try:
                answers[handle] = self._ask(call, operator.methodcaller("info", handle))
            except _Passed as passed:
                if passed.code == errno.EOPNOTSUPP:
                    answers[handle] = _NOTHING_SAID
            except (SourceError, NoFamily) as error:
                why = str(error) or "there is no devlink any more"
                answers[handle] = _NoInfo(why)
        if not any(isinstance(answer, Info) for answer in answers.values()):
            raise problem
        self._log("devlink's answer for all devices", f"{problem}; each is asked on its own")
        return answers

    def _ask(self, call: SourceCall, question: Callable[[Conversation], T]) -> T:
        def run() -> T:
            # Less than the bound around it, so that a lost answer leaves no thread behind.
            with contextlib.closing(self._connect()) as channel:
                return question(Conversation(channel, call.seconds * 0.4))

        try:
            return call.call(run)
        except KernelError as error:
            if error.code in (errno.ENODEV, errno.EOPNOTSUPP):
                raise _Passed(str(error), error.code) from error
            raise SourceError(
                f"devlink refuses to answer: {error}; look at the device's driver in dmesg, and "
                "whether the service may use netlink"
            ) from error
        except Garbled as error:
            raise SourceError(f"devlink's answer cannot be used: {error}") from error
        except TimeoutError as error:
            raise TimedOut("devlink gives no answer; look at its devices in dmesg") from error
        except OSError as error:
            raise SourceError(
                f"devlink cannot be asked: {error}; let the service use netlink sockets"
            ) from error

    def _devices(self, answers: Mapping[Handle, Info | _NoInfo]) -> list[Device]:
        identities = self._identify(answers)
        known: dict[Handle, Facts] = {}
        found: list[Device] = []
        for handle in sorted(answers, key=str):
            answer = answers[handle]
            problem = answer.why if isinstance(answer, _NoInfo) and answer.is_fault else ""
            identity: Facts | None = Facts()
            if handle.bus == "pci":
                identity = identities.get(handle.device, identity)
            if identity is None or handle.bus == _NO_DEVICE:
                continue
            if isinstance(answer, Info):
                said = known[handle] = facts_of(answer)
            else:
                before = self._known.get(handle)
                if before is not None:
                    known[handle] = before
                said = _silent(before, answer.why)
            facts = Facts()
            facts.add(identity)
            facts.add(said)
            self._log(f"devlink's answer for {handle}", problem)
            if not problem:
                self._log_pending(handle, pending(said))
            found.append(Device(handle.address, facts.attributes, problems=facts.problems))
        self._known = known
        return found

    def _identify(self, handles: Iterable[Handle]) -> Mapping[str, Facts | None]:
        addresses = [handle.device for handle in handles if handle.bus == "pci"]
        try:
            return self._sysfs.call(lambda: self._identities.read(addresses))
        except SourceError as error:
            problem = {name: str(error) for name in ("vendor_id", "product_id")}
            return {address: Facts(problems=problem) for address in addresses}

    def _log(self, what: str, problem: str) -> None:
        """One WARNING when a problem appears, one INFO when it has gone."""
        if problem:
            if self._once.is_new(what):
                LOG.warning("%s: %s", what, problem)
        elif self._once.is_over(what):
            LOG.info("%s: can be used again", what)

    def _log_pending(self, handle: Handle, versions: Mapping[str, str]) -> None:
        what = f"pending {handle}"
        text = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
        if text and self._once.is_new(what, text):
            LOG.warning(
                "%s has stored versions that do not run yet: %s. The next reset activates them, "
                "and changes which guests the device accepts",
                handle,
                text,
            )
        elif not text and self._once.is_over(what):
            LOG.info("%s runs the versions that it has stored", handle)


def _infos_and_handles(conversation: Conversation) -> tuple[Sequence[Info], Sequence[Handle]]:
    """What devlink says of all devices, and which there are, as far as that is told."""
    infos = list(conversation.infos())
    try:
        return infos, list(conversation.handles())
    except (KernelError, Garbled):
        return infos, []


class _Passed(SourceError):
    """A device that has gone, or whose driver says nothing.

    :param code: an errno
    """

    def __init__(self, why: str, code: int) -> None:
        super().__init__(why)
        self.code = code


@dataclasses.dataclass(frozen=True, slots=True)
class _NoInfo:
    """That devlink says nothing of a device.

    :param why: as the device's attributes have it for a problem
    :param is_fault: whether it is worth a WARNING, although no family may want to know
    """

    why: str
    is_fault: bool = True


_NOTHING_SAID = _NoInfo(
    "devlink says nothing of the device (Operation not supported); look at its driver and its "
    "firmware in dmesg",
    is_fault=False,
)


def _silent(before: Facts | None, problem: str) -> Facts:
    """Of a device that gives no answer: what it would have, as problems."""
    if before is None:
        return Facts(problems=dict.fromkeys(_USUAL, problem))
    names = {*before.attributes, *before.problems} - {"driver"}
    facts = Facts(problems=dict.fromkeys(sorted(names), problem))
    if "driver" in before.attributes:
        facts.attributes["driver"] = before.attributes["driver"]
    return facts

# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_devcompat.compat.kinds import Equal, Semver
from nova_devcompat.sources import SourceError, SourceOptions
from nova_devcompat.sources.calls import TimedOut
from nova_devcompat.sources.devlink import DevlinkSource
from nova_devcompat.sources.devlink.facts import facts_of
from nova_devcompat.sources.devlink.messages import (
    Handle,
    attribute_name,
    encode_family_request,
    encode_request,
    parse_family,
    parse_info,
)
from nova_devcompat.sources.devlink.netlink import (
    Garbled,
    KernelError,
    exchange,
    open_socket,
    split,
    walk,
)
from tests.unit.sources import devlink_messages as messages
from tests.unit.sources import sysfs_trees
from tests.unit.sources.devlink_messages import Kernel
from tests.unit.sources.fuzzing import fuzz, mutate, shapes
from tests.unit.threads import Begun

FIRST, SECOND = "0000:81:00.0", "0000:85:00.0"


@pytest.fixture
def tree(tmp_path):
    return sysfs_trees.server(tmp_path)


@pytest.fixture
def kernel():
    kernel = Kernel({f"pci/{FIRST}": messages.mlx5(), f"pci/{SECOND}": messages.mlx5()})
    yield kernel
    kernel.unlocked.set()


@pytest.fixture
def source(kernel, tree):
    """One that waits as long as a busy machine may take."""
    return DevlinkSource(SourceOptions(seconds=30), connect=kernel.connect, root=tree.root)


@pytest.fixture
def hurried(kernel, tree):
    """One for what never answers."""
    return DevlinkSource(SourceOptions(seconds=1.6), connect=kernel.connect, root=tree.root)


def read(source):
    return {device.address: device for device in source.read("cmp1")}


def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


# What is found.


def test_two_nics(source, kernel):
    devices = read(source)
    assert list(devices) == [FIRST, SECOND]
    assert devices[FIRST].attributes == {
        "vendor_id": "15b3",
        "product_id": "101e",
        "pf_product_id": "101d",
        "subsystem_vendor_id": "15b3",
        "subsystem_product_id": "0016",
        "class": "020000",
        "revision": "00",
        "driver": "mlx5_core",
        "fw_psid": "MT_0000000359",
        "fw": "22.39.1002",
        "fw_stored": "22.39.1002",
        "fw_version": "22.39.1002",
        "fw_version_stored": "22.39.1002",
    }
    assert devices[FIRST].family is None and not devices[FIRST].problems
    assert kernel.requests == [
        (messages.INFO_GET, None),
        (messages.GET, None),
        (messages.PORT_GET, None),
    ]
    assert kernel.opened == kernel.closed == 2


def test_the_rules_can_read_the_shapes(source):
    attributes = read(source)[FIRST].attributes
    assert Semver().parse_offer(attributes["fw_version"]) == (22, 39, 1002)
    assert Equal().parse_offer(attributes["fw_psid"]) == "MT_0000000359"


def test_a_recorded_answer(tree):
    class Recorded(messages.Socket):
        def send(self, data):
            if struct.unpack_from("=H", data, 4)[0] == messages.FAMILY:
                if data[16] == messages.GET:
                    sequence = struct.unpack_from("=I", data, 8)[0]
                    self.queue.append(messages.done(0, sequence))
                    return len(data)
                assert struct.unpack_from("=I", data, 8)[0] == 2
                self.queue.append(messages.RECORDED_MLX5)
                return len(data)
            return super().send(data)

    ours = DevlinkSource(SourceOptions(), connect=lambda: Recorded(Kernel()), root=tree.root)
    (device,) = ours.read("x")
    assert device.address == FIRST
    assert device.attributes["fw_version"] == "22.39.1002"
    assert device.attributes["fw_version_pending"] == "22.41.1000"
    assert device.attributes["fw_psid"] == "MT_0000000359"
    assert device.attributes["driver"] == "mlx5_core"


def test_the_recorded_answer_is_what_the_kernel_of_these_tests_sends():
    kernel = Kernel({f"pci/{FIRST}": messages.mlx5("22.39.1002", "22.41.1000")})
    request = encode_request(messages.FAMILY, messages.INFO_GET, 2, None)
    assert b"".join(kernel.answer(request)) == messages.RECORDED_MLX5


def test_names_of_many_versions(source, kernel):
    kernel.devices = {f"pci/{FIRST}": messages.ICE}
    attributes = read(source)[FIRST].attributes
    assert {name: value for name, value in attributes.items() if "." in str(value)} == {
        "fw_mgmt": "2.1.7",
        "fw_mgmt_api": "1.5.1",
        "fw_undi": "1.2581.0",
        "fw_undi_stored": "1.2581.0",
        "fw_psid_api": "0.80",
        "fw_psid_api_stored": "0.80",
        "fw_app": "1.3.1.0",
        "fw_netlist": "1.1.2000-6.7.0",
        "fw_netlist_stored": "1.1.2000-6.7.0",
    }
    assert attributes["board_id"] == "K65390-000"
    assert attributes["fw_app_name"] == "ICE OS Default Package"
    assert not any(name.endswith("_pending") for name in attributes)


def test_what_is_only_stored_is_not_pending(source, kernel, caplog):
    kernel.devices = {f"pci/{FIRST}": messages.PDS}
    attributes = read(source)[FIRST].attributes
    assert attributes["fw"] == "1.68.0-8"
    assert attributes["fw_mainfwb_stored"] == "1.68.0-7"
    assert "fw_mainfwb" not in attributes
    assert not any(name.endswith("_pending") for name in attributes)
    assert not caplog.records


def test_a_pending_firmware(source, kernel, caplog):
    kernel.devices[f"pci/{FIRST}"] = messages.mlx5("22.39.1002", "22.41.1000")
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            devices = read(source)
    attributes = devices[FIRST].attributes
    assert attributes["fw_version"] == "22.39.1002"
    assert attributes["fw_version_stored"] == "22.41.1000"
    assert attributes["fw_version_pending"] == "22.41.1000"
    assert "fw_version_pending" not in devices[SECOND].attributes
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert (
        "pci/0000:81:00.0 has stored versions that do not run yet: fw 22.41.1000, "
        "fw_version 22.41.1000. The next reset activates them"
    ) in caplog.text
    caplog.clear()
    kernel.devices[f"pci/{FIRST}"] = messages.mlx5("22.41.1000")
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            devices = read(source)
    assert devices[FIRST].attributes["fw_version"] == "22.41.1000"
    assert "fw_version_pending" not in devices[FIRST].attributes
    assert [record.levelname for record in caplog.records] == ["INFO"]


def test_functions_and_what_is_on_no_bus(source, kernel):
    kernel.devices = {
        "devlink_index/0": b"",
        f"pci/{FIRST}": messages.mlx5(),
        "pci/0000:81:01.0": messages.mlx5(),
        "pci/0000:99:00.0": messages.mlx5(),
        "auxiliary/mlx5_core.sf.2": messages.mlx5(),
        "netdevsim/netdevsim1": messages.text(messages.DRIVER, "netdevsim"),
    }
    devices = read(source)
    assert list(devices) == [
        "auxiliary/mlx5_core.sf.2",
        "netdevsim/netdevsim1",
        FIRST,
        "0000:99:00.0",
    ]
    assert devices["netdevsim/netdevsim1"].attributes == {"driver": "netdevsim"}
    assert "vendor_id" not in devices["0000:99:00.0"].attributes
    assert devices["0000:99:00.0"].attributes["fw_version"] == "22.39.1002"


def test_no_functions(source, tree, kernel):
    tree.pci("0000:91:00.0", totalvfs=4)
    kernel.devices["pci/0000:91:00.0"] = messages.mlx5()
    assert read(source)["0000:91:00.0"].attributes["product_id"] == "101d"


def test_no_devices(source, kernel):
    kernel.devices = {}
    assert read(source) == {}


def test_many_devices_in_many_pieces(source, kernel):
    kernel.devices = {f"pci/0000:{bus:02x}:00.0": messages.mlx5() for bus in range(200)}
    kernel.batch = 3
    assert len(read(source)) == 200


def test_no_devlink(source, kernel, caplog):
    kernel.family = None
    source.check()
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            assert read(source) == {}
    assert [record.levelname for record in caplog.records] == ["INFO"]
    kernel.family = 0x1F
    assert len(read(source)) == 2


def test_two_names_for_one_attribute():
    message = messages.message(
        messages.FAMILY,
        struct.pack("=BBH", 51, 1, 0)
        + messages.handle("pci/0000:81:00.0")
        + messages.version(messages.RUNNING, "fw.app", "1")
        + messages.version(messages.RUNNING, "fw-app", "2")
        + messages.version(messages.RUNNING, "fw", "3")
        + messages.version(messages.RUNNING, "9p", "4"),
    )
    facts = facts_of(parse_info(message))
    assert facts.attributes == {"fw": "3"}
    assert "'fw.app' and 'fw-app'" in facts.problems["fw_app"]


def test_a_version_that_is_no_text(source, kernel):
    kernel.devices[f"pci/{FIRST}"] = messages.version(
        messages.RUNNING, "fw.version", b"\xff\xfe"
    ) + messages.version(messages.RUNNING, "fw", "1.2")
    devices = read(source)
    assert devices[FIRST].attributes["fw"] == "1.2"
    assert "fw_version" not in devices[FIRST].attributes
    assert "is not text; look at its driver" in devices[FIRST].problems["fw_version"]
    assert not devices[SECOND].problems


def test_a_version_that_is_reported_twice(source, kernel):
    kernel.devices[f"pci/{FIRST}"] = (
        messages.version(messages.RUNNING, "fw", "1.2")
        + messages.version(messages.RUNNING, "fw", "1.3")
        + messages.version(messages.STORED, "fw", "1.4")
    )
    device = read(source)[FIRST]
    assert "fw" not in device.attributes and "fw_pending" not in device.attributes
    assert "reported as 1.2 and as 1.3" in device.problems["fw"]


# What goes wrong.


def test_one_device_fails(source, kernel, caplog):
    read(source)
    kernel.failing[f"pci/{FIRST}"] = errno.EIO
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            devices = read(source)
    assert devices[SECOND].attributes["fw_version"] == "22.39.1002"
    assert not devices[SECOND].problems
    assert "fw_version" not in devices[FIRST].attributes
    assert devices[FIRST].attributes["product_id"] == "101e"
    assert devices[FIRST].attributes["driver"] == "mlx5_core"
    assert set(devices[FIRST].problems) == {
        "fw",
        "fw_psid",
        "fw_stored",
        "fw_version",
        "fw_version_stored",
    }
    assert "Input/output error" in devices[FIRST].problems["fw_version"]
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    caplog.clear()
    kernel.failing.clear()
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            devices = read(source)
    assert devices[FIRST].attributes["fw_version"] == "22.39.1002"
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO"]
    assert kernel.opened == kernel.closed


def test_one_device_fails_from_the_start(source, kernel):
    kernel.failing[f"pci/{FIRST}"] = errno.ETIMEDOUT
    devices = read(source)
    assert devices[SECOND].attributes["fw_version"] == "22.39.1002"
    assert set(devices[FIRST].problems) == {"fw", "fw_version"}


def test_all_devices_fail(source, kernel):
    kernel.failing = {f"pci/{FIRST}": errno.EIO, f"pci/{SECOND}": errno.EIO}
    with pytest.raises(SourceError, match="devlink refuses to answer: Input/output error"):
        read(source)


def test_a_driver_that_says_nothing(source, kernel):
    kernel.failing = {f"pci/{FIRST}": errno.EIO, f"pci/{SECOND}": errno.EOPNOTSUPP}
    kernel.devices["pci/0000:91:00.0"] = messages.mlx5()
    devices = read(source)
    assert list(devices) == [FIRST, SECOND, "0000:91:00.0"]
    assert "Operation not supported" in devices[SECOND].problems["fw_version"]
    assert devices[SECOND].attributes["vendor_id"] == "15b3"


def test_a_driver_that_says_nothing_is_not_passed_over_in_a_dump(source, kernel, caplog):
    """The kernel leaves such a device out of a dump, as if it were not there."""
    said = kernel.devices.pop(f"pci/{SECOND}")
    asked = []

    def answers(request):
        whole = {**kernel.devices, f"pci/{SECOND}": said}
        dump = request[16] == messages.GET
        asked.append(request[16])
        kept, kernel.devices = kernel.devices, whole if dump else kernel.devices
        try:
            return type(kernel).answer(kernel, request)
        finally:
            kernel.devices = kept

    kernel.answer = answers
    devices = read(source)
    assert messages.INFO_GET in asked
    assert "Operation not supported" in devices[SECOND].problems["fw_version"]
    assert not devices[FIRST].problems
    # Whether that matters, a family knows.
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_device_that_is_flashed(hurried, kernel, caplog):
    read(hurried)
    begun = Begun()
    kernel.locked.add(f"pci/{FIRST}")
    with caplog.at_level(logging.INFO):
        began = time.monotonic()
        devices = read(hurried)
        assert time.monotonic() - began < 4
        problems = devices[FIRST].problems
        for _ in range(3):
            began = time.monotonic()
            devices = read(hurried)
            assert time.monotonic() - began < 0.9
            # Who logs what changes logs nothing.
            assert devices[FIRST].problems == problems
    assert devices[SECOND].attributes["fw_version"] == "22.39.1002"
    assert not devices[SECOND].problems
    assert devices[FIRST].attributes["vendor_id"] == "15b3"
    assert "gives no answer" in devices[FIRST].problems["fw_version"]
    assert begun.alive() == 2
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    caplog.clear()
    kernel.locked.clear()
    kernel.unlocked.set()
    wait_for(lambda: not begun.alive())
    with caplog.at_level(logging.INFO):
        devices = read(hurried)
    assert devices[FIRST].attributes["fw_version"] == "22.39.1002"
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO"]
    assert kernel.opened == kernel.closed


def test_a_device_that_hangs_from_the_start(hurried, kernel):
    kernel.locked.add(f"pci/{FIRST}")
    began = time.monotonic()
    with pytest.raises(TimedOut, match="'devlink' gives no answer"):
        read(hurried)
    assert time.monotonic() - began < 4
    with pytest.raises(SourceError, match="'devlink' gives no answer"):
        read(hurried)


def test_a_device_that_goes_while_another_hangs(hurried, kernel):
    kernel.devices["pci/0000:91:00.0"] = messages.mlx5()
    read(hurried)
    kernel.locked.add(f"pci/{FIRST}")
    del kernel.devices["pci/0000:91:00.0"]
    assert list(read(hurried)) == [FIRST, SECOND]


@pytest.mark.parametrize("code", [errno.EPERM, errno.EACCES, errno.ENOMEM])
def test_the_kernel_refuses(source, kernel, code):
    kernel.refuses = code
    with pytest.raises(SourceError, match=f"devlink refuses to answer: {os.strerror(code)}; look"):
        read(source)
    assert kernel.opened == kernel.closed


@pytest.mark.parametrize("code", [errno.EPERM, errno.EAFNOSUPPORT, errno.EMFILE])
def test_there_is_no_socket(tree, code):
    def connect():
        raise OSError(code, os.strerror(code))

    ours = DevlinkSource(SourceOptions(), connect=connect, root=tree.root)
    for call in (ours.check, lambda: ours.read("x")):
        with pytest.raises(SourceError, match=os.strerror(code)):
            call()


def test_nothing_is_answered(hurried, kernel, monkeypatch):
    monkeypatch.setattr(messages.Socket, "send", lambda self, data: len(data))
    begun = Begun()
    with pytest.raises(TimedOut, match="devlink gives no answer"):
        read(hurried)
    assert not begun.alive()
    assert kernel.opened == kernel.closed


def test_a_socket_that_never_answers(tree):
    ends = []

    def connect():
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ends.append(theirs)
        return ours

    ours = DevlinkSource(SourceOptions(seconds=0.8), connect=connect, root=tree.root)
    begun = Begun()
    began = time.monotonic()
    with pytest.raises(TimedOut):
        ours.read("x")
    assert time.monotonic() - began < 2
    wait_for(lambda: not begun.alive())
    for end in ends:
        end.close()


def test_a_truncated_answer(tree):
    class Cut(messages.Socket):
        length = 0

        def send(self, data):
            if struct.unpack_from("=H", data, 4)[0] == messages.FAMILY:
                self.queue.append(messages.RECORDED_MLX5[: self.length])
                return len(data)
            return super().send(data)

    ours = DevlinkSource(SourceOptions(), connect=lambda: Cut(Kernel()), root=tree.root)
    for Cut.length in range(len(messages.RECORDED_MLX5)):
        with pytest.raises(SourceError):
            ours.read("x")


def test_no_version_is_shortened():
    """Cut the message and say that it is whole."""
    whole = info_message()
    read = 0
    for length in range(20, len(whole)):
        try:
            info = parse_info(struct.pack("=I", length) + whole[4:length])
        except Garbled:
            continue
        read += 1
        for versions in info.versions.values():
            assert set(versions.values()) <= {"22.39.1002", "22.41.1000", "MT_0000000359"}
    assert 0 < read < 20


def test_an_interrupted_dump(source, kernel):
    def spoil(data):
        length, kind, flags, sequence, port = struct.unpack_from("=IHHII", data)
        if flags & messages.MULTI:
            flags |= messages.DUMP_INTERRUPTED
        return struct.pack("=IHHII", length, kind, flags, sequence, port) + data[16:]

    kernel.spoil = spoil
    with pytest.raises(SourceError, match="devices came or went meanwhile"):
        read(source)
    source._known = {Handle("pci", FIRST): facts_of(parse_info(info_message()))}
    assert list(read(source)) == [FIRST]


def info_message():
    return next(message for *_, message in split(messages.RECORDED_MLX5))


def test_an_answer_to_something_else_is_passed_over(source, kernel):
    stale = messages.message(messages.FAMILY, b"\1\1\0\0" + messages.handle("pci/x"), 0, 99)
    kernel.spoil = lambda data: stale + messages.message(1, b"", 0, 1) + data
    assert list(read(source)) == [FIRST, SECOND]


def test_messages_were_lost(source, kernel):
    kernel.spoil = lambda data: messages.message(4, b"", 0, 2) + data
    with pytest.raises(SourceError, match="messages were lost"):
        read(source)


def test_no_pyroute2(source, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "pyroute2"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyroute2", None)
    for call in (source.check, lambda: source.read("x")):
        with pytest.raises(SourceError, match="needs the Python package pyroute2"):
            call()


def test_sysfs_hangs(hurried, monkeypatch):
    gate = threading.Event()
    monkeypatch.setattr(hurried._identities, "read", lambda addresses: gate.wait(20))
    device = read(hurried)[FIRST]
    assert device.attributes["fw_version"] == "22.39.1002"
    assert "gives no answer" in device.problems["product_id"]
    gate.set()


def test_several_threads(source):
    results = []
    threads = [threading.Thread(target=lambda: results.append(read(source))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(results) == 8 and all(result == results[0] for result in results)


def test_identifiers_are_read_once(source, monkeypatch):
    read(source)
    opened = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *a, **k: opened.append(path) or real(path, *a))
    read(source)
    assert not opened


# The running kernel.


def test_the_running_kernel():
    try:
        open_socket().close()
    except OSError as error:
        pytest.skip(f"no netlink socket here: {error}")
    ours = DevlinkSource(SourceOptions())
    ours.check()
    devices = ours.read("x")
    # pyroute2's own socket finds the same.
    from pyroute2 import DL
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with DL() as theirs:
            known = {message.get_attr("DEVLINK_ATTR_DEV_NAME") for message in theirs.list()}
    except NetlinkError as error:
        assert error.code == errno.ENOENT
        assert devices == []
    else:
        assert {device.address.rpartition("/")[2] for device in devices} <= known


def test_the_running_kernel_answers_for_a_family_that_it_has():
    """The same exchange, about the controller itself: every kernel has that family."""
    try:
        channel = open_socket()
    except OSError as error:
        pytest.skip(f"no netlink socket here: {error}")
    request = bytearray(encode_family_request(7))
    assert request.endswith(b"devlink\0")
    request[-8:] = b"nlctrl\0\0"
    struct.pack_into("=H", request, 20, 4 + 7)
    try:
        (answer,) = exchange(channel, bytes(request), 5)
        assert parse_family(answer) == 0x10
        with pytest.raises(KernelError) as caught:
            # GETFAMILY without a name.
            exchange(channel, messages.message(0x10, b"\3\1\0\0", 1, 8), 5)
        assert caught.value.code in (errno.EINVAL, errno.ENOENT)
    finally:
        channel.close()


# Parsers.


@shapes
@given(st.binary(max_size=120))
def test_split_anything(data):
    try:
        found = list(split(data))
    except Garbled:
        return
    assert b"".join(message for *_, message in found) == data or len(data) % 4 or found


@shapes
@given(st.binary(max_size=80))
def test_walk_anything(data):
    try:
        found = list(walk(data))
    except Garbled:
        return
    assert sum(4 + len(content) for _, content in found) <= len(data)
    assert all(kind < 0x4000 for kind, _ in found)


chunks = st.one_of(
    st.builds(messages.attribute, st.integers(0, 0xFFFF), st.binary(max_size=20)),
    st.builds(
        messages.attribute,
        st.sampled_from([1, 2, 98, 100, 101, 102, 103, 104]),
        st.binary(max_size=24),
    ),
    st.builds(
        messages.version,
        st.sampled_from([100, 101, 102]),
        st.text(max_size=8).map(str.encode),
        st.binary(max_size=12),
    ),
)


@shapes
@given(st.lists(chunks, max_size=8), st.binary(max_size=6), st.booleans())
def test_parse_info_of_anything(parts, rest, named):
    body = (messages.handle("pci/0000:81:00.0") if named else b"") + b"".join(parts) + rest
    message = messages.header(4 + len(body), messages.FAMILY) + b"\x33\1\0\0" + body
    try:
        info = parse_info(message)
    except Garbled:
        return
    facts = facts_of(info)
    assert not facts.attributes.keys() & facts.problems.keys()
    for value in facts.attributes.values():
        assert isinstance(value, str) and value.isprintable() and value.strip()
        # Nothing is made up.
        assert value.encode() in message


@shapes
@given(st.integers(0, 219), st.binary(min_size=1, max_size=4))
def test_parse_info_of_a_spoilt_message(at, noise):
    message = info_message()
    spoilt = (message[: 20 + at] + noise + message[20 + at + len(noise) :])[: len(message)]
    try:
        facts_of(parse_info(spoilt))
    except Garbled:
        pass


@shapes
@given(st.binary(max_size=60))
def test_parse_family_of_anything(body):
    try:
        assert parse_family(messages.header(4 + len(body), 0x10) + b"\1\2\0\0" + body) >= 0
    except Garbled:
        pass


@shapes
@given(st.lists(st.binary(max_size=60), max_size=4))
def test_exchange_with_anything(datagrams):
    class Noise(messages.Socket):
        def send(self, data):
            self.queue += datagrams
            return len(data)

    try:
        exchange(Noise(Kernel()), encode_family_request(1), 1)
    except (Garbled, KernelError, TimeoutError):
        pass


@shapes
@given(st.text(max_size=20))
def test_attribute_name(name):
    try:
        attribute = attribute_name(name)
    except ValueError:
        return
    assert attribute_name(attribute) == attribute
    assert attribute.isascii()


@pytest.mark.parametrize(
    ("name", "attribute"),
    [
        ("fw", "fw"),
        ("fw.version", "fw_version"),
        ("fw.psid", "fw_psid"),
        ("fw.mgmt.api", "fw_mgmt_api"),
        ("fw.bundle_id", "fw_bundle_id"),
        ("board.part_number", "board_part_number"),
        ("FW-Version", "fw_version"),
        ("fw..x", "fw_x"),
    ],
)
def test_attribute_names(name, attribute):
    assert attribute_name(name) == attribute


WORDS = [
    b"\0",
    b"\xff\xff",
    b"\x04\x00\x65\x00",
    b"\x00\x00\x00\x00",
    messages.version(messages.RUNNING, "fw", "9.9"),
    messages.text(messages.DRIVER, "x"),
    messages.done(errno.EIO, 2),
]


@fuzz
def test_any_datagram_many_times(generator):
    class Noise(messages.Socket):
        def send(self, data):
            self.queue.append(mutate(generator, messages.RECORDED_MLX5, WORDS))
            return len(data)

    request = messages.message(messages.FAMILY, b"\x33\1\0\0", 0x301, 2)
    try:
        answer = exchange(Noise(Kernel()), request, 1)
    except (Garbled, KernelError, TimeoutError):
        return
    for message in answer:
        try:
            facts = facts_of(parse_info(message))
        except Garbled:
            continue
        for value in facts.attributes.values():
            assert isinstance(value, str) and value.isprintable() and value.strip()
            assert value.encode() in message


@fuzz
def test_any_message_many_times(generator):
    body = mutate(generator, info_message()[20:], WORDS)
    message = messages.header(4 + len(body), messages.FAMILY) + b"\x33\1\0\0" + body
    for parse in (parse_info, parse_family):
        try:
            parse(message)
        except Garbled:
            pass


@fuzz
def test_any_name_many_times(generator):
    words = [b".", b"_", b"-", b" ", b"\xc3\x9f", b"FW", b"9"]
    name = mutate(generator, b"fw.mgmt.api", words).decode(errors="replace")
    try:
        attribute = attribute_name(name)
    except ValueError:
        return
    assert attribute_name(attribute) == attribute and attribute.isascii()

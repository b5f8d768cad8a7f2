# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

from __future__ import annotations

import dataclasses
import importlib.util
import json
import logging
import resource
import signal
import subprocess
import sys
import time

import pynvml
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nova_devcompat.compat.kinds import Equal, Range
from nova_devcompat.sources import Device, SourceError, SourceOptions, nvml, nvml_reader
from nova_devcompat.sources.calls import SourceCall
from nova_devcompat.sources.nvml import NvmlSource, ask
from nova_devcompat.sources.nvml_answers import Answers, parse
from tests.budget import scaled
from tests.unit.sources import fake_nvml
from tests.unit.sources.fake_nvml import Gpu, Library, Vgpu, two_gpus
from tests.unit.sources.fuzzing import fuzz, mutate

MDEV = "4b20d080-1b54-4048-85b3-a6a62d165c01"
VM = "11111111-2222-3333-4444-555555555555"

# The source's own attributes, by the function that they come from.
FUNCTIONS = {
    "nvmlSystemGetDriverVersion": ["driver_version"],
    "nvmlGetVgpuVersion": ["vgpu_version", "vgpu_version_supported"],
    "nvmlDeviceGetVirtualizationMode": ["virtualization_mode"],
    "nvmlDeviceGetEccMode": ["ecc_mode", "ecc_mode_pending"],
    "nvmlDeviceGetActiveVgpus": ["vgpu_negotiated", "vgpu_instances_migration"],
    "nvmlDeviceGetVgpuMetadata": ["vgpu_migration"],
    "nvmlDeviceGetMigMode": ["mig_mode"],
    "nvmlDeviceGetVgpuHeterogeneousMode": ["vgpu_heterogeneous_mode"],
    "nvmlDeviceGetName": ["product_name"],
}

#: What a GPU may lack, which is a value.
MAY_LACK = {"ecc_mode", "ecc_mode_pending", "mig_mode", "vgpu_heterogeneous_mode"}

#: What is lost where NVML does not get beyond the ECC mode.
FROM_ECC_ON = sorted(
    name
    for function, names in FUNCTIONS.items()
    if function
    not in ("nvmlSystemGetDriverVersion", "nvmlGetVgpuVersion", "nvmlDeviceGetVirtualizationMode")
    for name in names
)

CODES = [*range(1, 31), 999]


@pytest.fixture(autouse=True)
def own_library():
    yield
    fake_nvml.uninstall()


def collect(library, nvidia_ml_py=pynvml):
    """What the reader writes, in this process."""
    fake_nvml.install(library)
    lines = []
    nvml_reader.collect(
        nvidia_ml_py, lambda name, answer, gpu: lines.append(nvml_reader.line(name, answer, gpu))
    )
    lines.append(nvml_reader.line("end", {}, None))
    return Answers(lines="".join(lines).encode())


def read(library):
    return parse(collect(library)).devices


def source(library):
    return NvmlSource(SourceOptions(), ask=lambda: collect(library))


def program(*arguments):
    """The reader as a program, on a library that is not NVIDIA's."""
    return [sys.executable, "-m", "tests.unit.sources.fake_nvml", *arguments]


def answers(*records):
    return Answers(lines=b"\n".join(json.dumps(record).encode() for record in records))


# What a healthy library gives.


def test_gpus():
    library = Library(gpus=two_gpus(), current=(0x140001, 0x180001))
    ranges = {
        "vgpu_version": {"min": "14.1", "max": "18.1"},
        "vgpu_version_supported": {"min": "7.1", "max": "1A.1"},
    }
    assert source(library).read("cmp1") == (
        Device(
            "0000:3b:00.0",
            {
                "vendor_id": "10de",
                "product_id": "1eb8",
                "driver_version": "550.144.02",
                "virtualization_mode": "host_vgpu",
                **ranges,
                "ecc_mode": "enabled",
                "ecc_mode_pending": "enabled",
                "vgpu_negotiated": {
                    MDEV: "18.1",
                    "c5c5a5b1-34c8-4a58-a0d1-c4a1b0b7e1a2": "15.1",
                },
                "vgpu_instances_migration": {
                    MDEV: "1",
                    "c5c5a5b1-34c8-4a58-a0d1-c4a1b0b7e1a2": "1",
                    "7d0a3d4e-7c11-4a8a-8fc3-6d0f6f4ff0d1": "0",
                },
                "vgpu_migration": "1",
                "mig_mode": "none",
                "vgpu_heterogeneous_mode": "disabled",
                "product_name": "Tesla T4",
            },
        ),
        Device(
            "0000:af:00.0",
            {
                "vendor_id": "10de",
                "product_id": "26b9",
                "driver_version": "550.144.02",
                "virtualization_mode": "host_vgpu",
                **ranges,
                "ecc_mode": "disabled",
                "ecc_mode_pending": "enabled",
                "vgpu_negotiated": {},
                "vgpu_instances_migration": {},
                "vgpu_migration": "0",
                "mig_mode": "enabled",
                "vgpu_heterogeneous_mode": "enabled",
                "product_name": "NVIDIA L40S",
            },
        ),
    )
    assert library.initialized == 0


def test_no_gpus():
    assert read(Library()) == ()


@pytest.mark.parametrize(
    ("bus_id", "address"),
    [
        ("00000000:3B:00.0", "0000:3b:00.0"),
        ("0000:3B:00.0", "0000:3b:00.0"),
        ("00010000:01:1F.0", "10000:01:1f.0"),
        ("FFFFFFFF:01:00.0", "ffffffff:01:00.0"),
    ],
)
def test_addresses_are_those_of_linux(bus_id, address):
    (device,) = read(Library(gpus=[Gpu(bus_id=bus_id)]))
    assert device.address == address


def test_a_gpu_that_is_listed_twice():
    gpu = Gpu(bus_id="00000000:3B:00.0")
    assert len(read(Library(gpus=[gpu, gpu]))) == 1


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0x70001, "7.1"),
        (0x140001, "14.1"),
        (0x1A0001, "1A.1"),
        (0x1C000B, "1C.B"),
        (0xFFFFFFFF, "FFFF.FFFF"),
        (1, "0.1"),
    ],
)
def test_vgpu_versions_are_hexadecimal(number, expected):
    (device,) = read(Library(gpus=two_gpus()[:1], supported=(number, number)))
    assert device.attributes["vgpu_version"] == {"min": expected, "max": expected}


@given(st.tuples(*[st.integers(1, 2**32 - 1)] * 2).map(sorted))
def test_the_range_is_one_that_the_rule_reads(bounds):
    reading = parse(
        answers(
            {"name": "init", "value": None},
            {"name": "count", "value": 1},
            {"name": "vgpu_version", "value": [bounds, bounds]},
            {"gpu": 0, "name": "pci", "value": ["00000000:3B:00.0", 0x1EB810DE]},
        )
    )
    rule = Range(base=16)
    offer = rule.parse_offer(reading.devices[0].attributes["vgpu_version"])
    for number, version in zip(bounds, (offer.lowest, offer.highest), strict=True):
        assert version == (number >> 16, number & 0xFFFF)
    assert rule.check(offer, rule.parse_need(next(iter(rule.freeze(offer))))) is None


def test_the_ecc_mode_is_one_that_the_rule_reads():
    (device,) = read(Library(gpus=two_gpus()[:1]))
    assert Equal().parse_offer(device.attributes["ecc_mode"]) == "enabled"


@pytest.mark.parametrize(
    ("current", "expected"),
    [
        (None, {"min": "10.1", "max": "1A.1"}),
        ((0x120001, 0x180001), {"min": "12.1", "max": "18.1"}),
        # What no driver answers: more than it supports.
        ((0x70001, 0x180001), {"min": "10.1", "max": "18.1"}),
        ((0x120001, 0x1C0001), {"min": "12.1", "max": "1A.1"}),
    ],
)
def test_the_range_that_an_administrator_set(current, expected):
    library = Library(gpus=two_gpus()[:1], supported=(0x100001, 0x1A0001), current=current)
    (device,) = read(library)
    assert device.attributes["vgpu_version"] == expected
    assert device.attributes["vgpu_version_supported"] == {"min": "10.1", "max": "1A.1"}


@pytest.mark.parametrize(
    ("ranges", "complaint"),
    [
        (((0x100001, 0x120001), (0x140001, 0x180001)), "an empty range, from 14.1 to 12.1"),
        (((0, 0), (0, 0)), "makes no sense"),
        (((0x100001, 0x120001), (0, 0)), "makes no sense"),
    ],
)
def test_a_range_that_is_none(ranges, complaint):
    (device,) = read(Library(gpus=two_gpus()[:1], supported=ranges[0], current=ranges[1]))
    assert "vgpu_version" not in device.attributes
    assert complaint in device.problems["vgpu_version"]


@pytest.mark.parametrize(
    ("mode", "expected"),
    enumerate(["none", "passthrough", "vgpu", "host_vgpu", "host_vsga"]),
)
def test_virtualization_modes(mode, expected):
    (device,) = read(Library(gpus=[Gpu(bus_id="0000:3B:00.0", mode=mode)]))
    assert device.attributes["virtualization_mode"] == expected


def test_a_virtualization_mode_of_the_future():
    (device,) = read(Library(gpus=[Gpu(bus_id="0000:3B:00.0", mode=5)]))
    assert "NVML's answer 5 makes no sense" in device.problems["virtualization_mode"]


# What the guests negotiated.


def negotiated(*vgpus, errors=()):
    library = Library(gpus=[Gpu(bus_id="0000:3B:00.0", vgpus=list(vgpus))], errors=dict(errors))
    (device,) = read(library)
    return device.attributes.get("vgpu_negotiated"), device.problems.get("vgpu_negotiated")


def test_a_vgpu_that_is_no_mdev_has_its_machines_uuid():
    assert negotiated(Vgpu(instance=1)) == ({VM: "18.1"}, None)


def test_vgpus_of_one_machine():
    assert negotiated(Vgpu(instance=1), Vgpu(instance=2)) == ({VM: "18.1"}, None)
    versions, problem = negotiated(Vgpu(instance=1), Vgpu(instance=2, version=0x150001))
    assert versions == {}
    assert problem == f"vGPUs of {VM} have different versions: 15.1, 18.1"


def test_a_vgpu_of_a_machine_without_uuid():
    versions, problem = negotiated(Vgpu(instance=7, vm="3", vm_id_type=0))
    assert versions == {}
    assert problem == "vGPU instance 7: has neither an mdev's nor a virtual machine's UUID"


@pytest.mark.parametrize("vgpu", [{"initialized": 0}, {"version": 0}])
def test_a_guest_without_driver_has_no_version(vgpu):
    assert negotiated(Vgpu(instance=1, mdev=MDEV, **vgpu)) == ({}, None)


@pytest.mark.parametrize("function", ["GetMetadata", "GetMdevUUID"])
def test_a_vgpu_that_goes_away_while_it_is_read(function):
    found = negotiated(
        Vgpu(instance=1, mdev=MDEV),
        Vgpu(instance=2),
        errors={(f"nvmlVgpuInstance{function}", 1): fake_nvml.NOT_FOUND},
    )
    assert found == ({VM: "18.1"}, None)


def test_a_vgpu_with_an_error_leaves_the_others():
    versions, problem = negotiated(
        Vgpu(instance=1, mdev=MDEV),
        Vgpu(instance=2),
        errors={("nvmlVgpuInstanceGetMetadata", 2): fake_nvml.UNKNOWN},
    )
    assert versions == {MDEV: "18.1"}
    assert problem.startswith("vGPU instance 2: NVML says Unknown Error (code 999); ")


# Errors of the library.


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_an_error_is_a_problem_of_its_attributes(function, code):
    # Its answer is that there is not enough room, of which nvidia-ml-py makes a second call.
    (expected,) = read(Library(gpus=two_gpus()[:1]))
    (device,) = read(Library(gpus=two_gpus()[:1], errors={function: code}))
    told = set(FUNCTIONS[function])
    lacking = told & MAY_LACK if code == fake_nvml.NOT_SUPPORTED else set()
    assert set(device.problems) == told - lacking
    kept = {name: value for name, value in expected.attributes.items() if name not in told}
    assert device.attributes == kept | dict.fromkeys(lacking, "none")
    for problem in device.problems.values():
        assert f"(code {code}); " in problem


@pytest.mark.parametrize(("caps", "told"), [(0, "0"), (1, "1"), (0b11, "1"), (0b10, "0")])
def test_whether_vgpus_can_migrate(caps, told):
    (device,) = read(Library(gpus=[dataclasses.replace(two_gpus()[0], caps=caps)]))
    assert device.attributes["vgpu_migration"] == told


def test_a_recording_of_a_reader_that_did_not_ask_is_taken_as_before():
    lines = collect(Library(gpus=two_gpus()[:1])).lines.splitlines(keepends=True)
    old = b"".join(line for line in lines if b"pgpu_metadata" not in line)
    (device,) = parse(Answers(lines=old)).devices
    assert device.attributes["vgpu_migration"] == "1"
    # Where it ended before it could ask, nothing is known.
    (device,) = parse(Answers(lines=old.replace(b'{"name": "end"}\n', b""))).devices
    assert "vgpu_migration" in device.problems


def test_an_error_of_one_gpu_leaves_the_others():
    healthy = read(Library(gpus=two_gpus()))
    errors = {
        (function, 1): fake_nvml.GPU_IS_LOST for function in FUNCTIONS if "DeviceGet" in function
    }
    first, second = read(Library(gpus=two_gpus(), errors=errors))
    assert first == healthy[0]
    assert set(second.problems) == {*FROM_ECC_ON, "virtualization_mode"}
    assert second.problems["ecc_mode"] == (
        "NVML says GPU is lost (code 15); look for Xid in dmesg; reset the GPU or boot the host "
        "anew"
    )


@pytest.mark.parametrize(
    ("function", "advice"),
    [
        ("nvmlGetVgpuVersion", "the host needs NVIDIA's driver for vGPU hosts (vGPU Manager)"),
        (
            "nvmlDeviceGetVgpuMetadata",
            "the host needs NVIDIA's driver for vGPU hosts (vGPU Manager), "
            "and the GPU must have vGPUs",
        ),
        ("nvmlDeviceGetVirtualizationMode", "the GPU does not have it"),
    ],
)
def test_what_is_not_supported_says_what_would_be_needed(function, advice):
    errors = {function: fake_nvml.NOT_SUPPORTED}
    (device,) = read(Library(gpus=two_gpus()[:1], errors=errors))
    assert device.problems[FUNCTIONS[function][0]] == (
        f"NVML says Not Supported (code 3); {advice}"
    )


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_driver_that_is_too_old_for_a_function(function):
    (device,) = read(Library(gpus=two_gpus()[:1], missing=frozenset([function])))
    for attribute in FUNCTIONS[function]:
        assert "Function Not Found (code 13); upgrade the driver" in device.problems[attribute]


def test_an_nvidia_ml_py_that_is_too_old_for_a_function():
    class Old:
        def __getattr__(self, name):
            if name == "nvmlGetVgpuVersion":
                raise AttributeError("module 'pynvml' has no attribute 'nvmlGetVgpuVersion'")
            return getattr(pynvml, name)

    (device,) = parse(collect(Library(gpus=two_gpus()[:1]), Old())).devices
    assert device.problems["vgpu_version"].endswith("; upgrade nvidia-ml-py")
    assert device.attributes["ecc_mode"] == "enabled"


def test_a_driver_version_that_is_no_text():
    (device,) = read(Library(gpus=two_gpus()[:1], driver=b"\xff\xfe550"))
    assert "driver_version" not in device.attributes
    assert "UnicodeDecodeError" in device.problems["driver_version"]


def test_a_gpu_that_is_lost_is_told_once(caplog):
    caplog.set_level(logging.INFO)
    library = Library(gpus=two_gpus())
    nvml_source = source(library)
    healthy = nvml_source.read("cmp1")
    assert not caplog.records
    library.errors["nvmlDeviceGetHandleByIndex_v2", 0] = fake_nvml.GPU_IS_LOST
    for _ in range(3):
        found = nvml_source.read("cmp1")
        assert found == healthy[1:]
        assert found.left_out.keys() == {"GPU 0"}
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == (
        "Source nvml: GPU 0 cannot be used until this is mended: NVML says GPU is lost (code 15); "
        "look for Xid in dmesg; reset the GPU or boot the host anew"
    )
    library.errors.clear()
    for _ in range(2):
        assert nvml_source.read("cmp1") == healthy
        assert not nvml_source.read("cmp1").left_out
    (_, record) = caplog.records
    assert record.levelname == "INFO"
    assert record.getMessage() == "Source nvml: GPU 0 can be used again, or is gone"


@pytest.mark.parametrize(
    ("function", "code", "advice"),
    [
        ("nvmlInitWithFlags", fake_nvml.DRIVER_NOT_LOADED, "load the driver (modprobe nvidia)"),
        ("nvmlInitWithFlags", fake_nvml.LIB_RM_VERSION_MISMATCH, "finish the upgrade"),
        ("nvmlInitWithFlags", 4, "let the user that nova-compute runs as open /dev/nvidia*"),
        ("nvmlDeviceGetCount_v2", fake_nvml.GPU_IS_LOST, "look for Xid in dmesg"),
        ("nvmlInitWithFlags", 77, "NVML says Error 77 of the library (code 77); try nvidia-smi"),
    ],
)
def test_a_driver_that_answers_nothing_and_then_does(function, code, advice):
    library = Library(gpus=two_gpus())
    nvml_source = source(library)
    healthy = nvml_source.read("cmp1")
    library.errors[function] = code
    for _ in range(2):
        with pytest.raises(SourceError) as caught:
            nvml_source.read("cmp1")
        assert advice in str(caught.value) and f"(code {code})" in str(caught.value)
        assert library.initialized == 0
    library.errors.clear()
    assert nvml_source.read("cmp1") == healthy


# The process that asks.


def test_the_reader_without_nvidias_driver():
    nvml_source = NvmlSource(SourceOptions())
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound:
        with pytest.raises(SourceError, match="install NVIDIA's driver"):
            nvml_source.read("cmp1")
    else:
        pytest.skip("this machine has NVIDIA's driver")


def test_the_reader_as_a_program():
    assert parse(ask(30, program())).devices == read(Library(gpus=two_gpus()))


def test_a_library_that_prints_does_no_harm():
    found = ask(30, program("print", "nvmlDeviceGetEccMode"))
    assert parse(found).devices == read(Library(gpus=two_gpus()))


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        ("crash", "no answer: NVML crashed (SIGSEGV); try nvidia-smi, and look in dmesg"),
        ("exit", "no answer: NVML ended with status 7; try nvidia-smi, and look in dmesg"),
        ("hang", "no answer: NVML gave no answer within 2 s; try nvidia-smi, and look in dmesg"),
    ],
)
def test_trouble_keeps_what_was_answered_before(trouble, why):
    found = ask(2 if trouble == "hang" else 30, program(trouble, "nvmlDeviceGetEccMode", "2"))
    first, second = parse(found).devices
    healthy = read(Library(gpus=two_gpus()))
    assert first == healthy[0]
    assert second.problems == dict.fromkeys(FROM_ECC_ON, why)
    assert second.attributes["vgpu_version"] == healthy[1].attributes["vgpu_version"]


def test_a_reader_that_is_killed():
    kill = f"import os, signal; os.kill(os.getpid(), {signal.SIGRTMIN + 3})"
    with pytest.raises(SourceError, match=f"NVML crashed \\(signal {signal.SIGRTMIN + 3}\\)"):
        parse(ask(30, [sys.executable, "-c", kill]))


def test_a_signal_that_the_parent_ignores_ends_a_call_all_the_same():
    ignore = "import signal; signal.signal(signal.SIGALRM, signal.SIG_IGN)\n"
    ignore += "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])\n"
    ignore += "import os, sys; os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    command = [sys.executable, "-c", ignore, *program("hang", "nvmlInitWithFlags")[1:]]
    with pytest.raises(SourceError, match="NVML gave no answer within 1 s"):
        parse(ask(1, command))


@pytest.mark.parametrize("eventlet", [False, True])
def test_a_hang_under_eventlet(eventlet):
    if eventlet:
        pytest.importorskip("eventlet")
    code = "import eventlet; eventlet.monkey_patch()\n" if eventlet else ""
    code += "from nova_devcompat.sources import SourceOptions, nvml\n"
    code += f"command = {program('hang', 'nvmlDeviceGetEccMode')!r}\n"
    code += "source = nvml.NvmlSource(SourceOptions(), ask=lambda: nvml.ask(1.5, command))\n"
    code += "print([sorted(device.problems) for device in source.read('cmp1')])"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True)
    lost = [FROM_ECC_ON, sorted([*FROM_ECC_ON, "virtualization_mode"])]
    assert done.stdout.decode().strip() == f"{lost}", done.stderr


@pytest.mark.parametrize("function", ["nvmlInitWithFlags", "nvmlDeviceGetCount_v2"])
def test_a_crash_before_the_first_gpu(function):
    with pytest.raises(
        SourceError, match=r"can tell nothing: no answer: NVML crashed \(SIGSEGV\)"
    ):
        parse(ask(30, program("crash", function)))


def test_a_crash_while_gpus_are_looked_for(caplog):
    reading = parse(ask(30, program("crash", "nvmlDeviceGetPciInfo_v3", "2")))
    (device,) = reading.devices
    assert device.address == "0000:3b:00.0"
    assert set(reading.skipped) == {"GPU 1"}


def test_a_python_that_cannot_be_started(tmp_path):
    with pytest.raises(SourceError, match=r"cannot start '.*/python' to ask NVML"):
        ask(1, [str(tmp_path / "python")])
    with pytest.raises(SourceError, match="NVML ended with status 1; try nvidia-smi"):
        parse(ask(30, [sys.executable, "-c", "raise SystemExit('no')"]))


def test_a_reading_that_never_ends_is_given_up(monkeypatch):
    nvml_source = NvmlSource(SourceOptions(), ask=lambda: time.sleep(1))
    monkeypatch.setattr(nvml_source, "_bounded", SourceCall("nvml", 0.2))
    began = time.monotonic()
    for _ in range(3):
        with pytest.raises(SourceError):
            nvml_source.read("cmp1")
    assert time.monotonic() - began < 0.9


def test_without_nvidia_ml_py(monkeypatch):
    missing = {"name": "library", "error": {"code": None, "text": "ModuleNotFoundError: pynvml"}}
    with pytest.raises(SourceError, match="pip install nvidia-ml-py"):
        parse(answers(missing, {"name": "end"}))
    NvmlSource(SourceOptions()).check()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SourceError, match="pip install nvidia-ml-py"):
        NvmlSource(SourceOptions()).check()


def test_the_reader_without_nvidia_ml_py():
    # -S: without site-packages.
    found = ask(30, [sys.executable, "-S", *nvml.COMMAND[1:]])
    with pytest.raises(SourceError, match="pip install nvidia-ml-py"):
        parse(found)


def test_the_reader_imports_none_of_us():
    code = f"import runpy, sys; runpy.run_path({nvml.COMMAND[-1]!r}, run_name='__main__')\n"
    code += "assert not [name for name in sys.modules if name.startswith('nova')], sys.modules"
    assert ask(30, [sys.executable, "-P", "-c", code]).ending is None


def test_a_reading_costs_little():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(3):
        ask(30)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Some 60 to 90 ms each; what is looked for is an import of a large library.
    assert (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 3 < 0.5


# Answers that make no sense.

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["value", "error", "code", "text", "metadata", "vm_id", "mdev_uuid"])
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)

NAMES = st.sampled_from(
    [
        "init",
        "count",
        "library",
        "driver_version",
        "vgpu_version",
        "pci",
        "virtualization_mode",
        "ecc_mode",
        "vgpus",
        "pgpu_metadata",
        "mig_mode",
        "vgpu_heterogeneous_mode",
        "product_name",
        "end",
    ]
)

ERRORS = st.fixed_dictionaries(
    {"error": st.fixed_dictionaries({"code": st.sampled_from([*CODES, None]), "text": st.text()})}
)

VALUES = st.one_of(
    JSON,
    st.integers(0, 5),
    st.tuples(st.sampled_from(["00000000:3B:00.0", "0000:AF:00.0"]), st.integers(0, 2**33)),
    st.lists(st.integers(0, 2), max_size=3),
    st.lists(st.lists(st.integers(-1, 2**33), min_size=2, max_size=2), min_size=2, max_size=2),
    st.lists(
        st.fixed_dictionaries(
            {
                "instance": JSON,
                "mdev_uuid": ERRORS | st.fixed_dictionaries({"value": st.uuids().map(str) | JSON}),
                "vm_id": ERRORS | JSON,
                "metadata": ERRORS
                | st.fixed_dictionaries(
                    {"value": st.tuples(st.integers(0, 2), st.integers(0, 2**33))}
                ),
            }
        ),
        max_size=3,
    ),
)

RECORDS = st.builds(
    lambda name, gpu, answer: {**gpu, "name": name, **answer},
    NAMES,
    st.just({}) | st.fixed_dictionaries({"gpu": st.integers(0, 2)}),
    ERRORS | st.fixed_dictionaries({"value": VALUES}),
)

#: A start that lets the parser see the rest.
START = [{"name": "init", "value": None}, {"name": "count", "value": 2}]


def check(found):
    try:
        reading = parse(found)
    except SourceError as error:
        assert str(error).startswith("source 'nvml' ")
        return
    for device in reading.devices:
        for attribute, value in device.attributes.items():
            assert value is not None
            of_guests = attribute in ("vgpu_negotiated", "vgpu_instances_migration")
            assert of_guests or attribute not in device.problems
            if attribute in ("vgpu_version", "vgpu_version_supported"):
                Range(base=16).parse_offer(value)
            elif attribute == "vgpu_negotiated":
                for version in value.values():
                    Range(base=16).parse_need(version)
            elif attribute == "vgpu_instances_migration":
                assert set(value.values()) <= {"1", "0"}
            else:
                Equal().parse_offer(value)
    for problem in [*reading.skipped.values(), *(p for d in reading.devices for p in d.problems)]:
        assert problem.isprintable()


@settings(max_examples=scaled(100))
@given(st.lists(RECORDS, max_size=12), st.booleans(), st.none() | st.just("crashed (SIGSEGV)"))
def test_answers_of_any_shape(records, started, ending):
    lines = [json.dumps(record) for record in (START if started else []) + records]
    check(Answers(lines="\n".join(lines).encode(), ending=ending))


GOOD = collect(Library(gpus=two_gpus())).lines
fake_nvml.uninstall()


@pytest.mark.parametrize("odd", [None, {}, "\x1b[2J", [[]], -1, 1.5], ids=repr)
def test_an_answer_of_another_shape_costs_what_it_tells(odd):
    """Of each answer in turn: nothing else is lost, and nothing is told that is not so."""
    healthy = {one.address: one for one in parse(Answers(lines=GOOD, ending=None)).devices}
    lines = GOOD.splitlines()
    changed = 0
    for number, record in enumerate(map(json.loads, lines)):
        if "value" not in record:
            continue
        turned = [*lines]
        turned[number] = json.dumps({**record, "value": odd}).encode()
        try:
            devices = parse(Answers(lines=b"\n".join(turned), ending=None)).devices
        except SourceError:
            assert record["name"] == "count"
            continue
        for device in devices:
            right = healthy[device.address].attributes
            assert right.keys() - device.attributes.keys() <= device.problems.keys()
            for attribute, value in device.attributes.items():
                assert value == right[attribute] or attribute in device.problems
            changed += device != healthy[device.address]
    assert changed > 12


WORDS = [
    *b'[ ] { } , : null true -1 0 1 2 3 4294967295 4294967296 1e400 NaN 9.5 "" "\\ud800"'.split(),
    *b'"name" "gpu" "value" "error" "code" "text" "end" "uuid" "\u0000"'.split(),
    *[line + b"\n" for line in GOOD.splitlines()],
    b'{"error": {"code": 6, "text": "Not Found"}}',
    b'{"error": {"code": null, "text": "OSError: \\n"}}',
]


@fuzz
def test_fuzz_lines(generator):
    ending = generator.choice([None, "crashed (SIGSEGV)"])
    check(Answers(lines=mutate(generator, GOOD, WORDS), ending=ending))


@fuzz
def test_fuzz_tokens(generator):
    chosen = b" ".join(generator.choices(WORDS, k=generator.randint(1, 30)))
    check(Answers(lines=GOOD[:100] + chosen))


@given(st.binary())
@example(b"[" * 100_000)
@example(b'{"name": "count", "value": ' + b"9" * 5000 + b"}")
@example(b"\xff\n{}\nnull\n[]")
def test_lines_that_are_none(lines):
    check(Answers(lines=lines))

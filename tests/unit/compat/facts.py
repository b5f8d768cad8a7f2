# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Facts: what a guest needs, what a destination offers, and what vendors and developers say of it.

Tables, no code: :mod:`test_vectors` asks the rules. ``ACCEPT`` is no refusal at all; anything else
is an outcome with the reason's code and who can act on it.
"""

import dataclasses
from typing import Any

from nova_devcompat.compat.verdict import Actor, Code, Outcome

HOST, GUEST, OPERATOR = Actor.HOST, Actor.GUEST, Actor.OPERATOR


@dataclasses.dataclass(frozen=True, slots=True)
class Expected:
    """An outcome, and the code and actor of its only reason."""

    outcome: Outcome
    code: str = ""
    actor: Actor | None = None


ACCEPT = Expected(Outcome.ACCEPT)


def reject(code: str, actor: Actor) -> Expected:
    return Expected(Outcome.REJECT, code, actor)


def unknown(code: str, actor: Actor = OPERATOR) -> Expected:
    return Expected(Outcome.UNKNOWN, code, actor)


TOO_OLD_MINOR = reject(Code.MINOR_TOO_OLD, HOST)
NEWER_MAJOR = reject(Code.MAJOR_DIFFERS, GUEST)
OLDER_MAJOR = reject(Code.MAJOR_DIFFERS, HOST)
BELOW = reject(Code.BELOW_RANGE, GUEST)
ABOVE = reject(Code.ABOVE_RANGE, HOST)
MISSING = reject(Code.FEATURE_MISSING, HOST)
UNEQUAL = reject(Code.NOT_EQUAL, HOST)
TOO_FEW = reject(Code.TOO_FEW, HOST)
NOT_IN_SET = reject(Code.NOT_IN_SET, HOST)
TOO_OLD = reject(Code.TOO_OLD, HOST)
UNLISTED = reject(Code.NOT_LISTED, HOST)
NO_OFFER = unknown(Code.OFFER_MISSING)
BAD_OFFER = unknown(Code.OFFER_UNREADABLE)
NOT_TOLD = unknown(Code.NOT_COMPARABLE)
NOT_SAME = unknown(Code.NOT_THE_SAME)
BELOW_FLOOR = reject(Code.BELOW_FLOOR, HOST)
UNMET = reject(Code.UNMET, GUEST)
BAD_NEED = unknown(Code.NEED_UNREADABLE)
UNSAID = unknown(Code.NEED_UNKNOWN, GUEST)


@dataclasses.dataclass(frozen=True, slots=True)
class Fact:
    """One case.

    :param rule: a kind, and after a space its option: ``range base=16``
    :param need: a value; a list of values, one atom each; None where nothing is needed
    :param offer: the destination's attribute, None where it does not say
    """

    rule: str
    need: Any
    offer: Any
    expected: Expected
    why: str
    source: str


def span(lowest: str, highest: str) -> dict[str, str]:
    return {"min": lowest, "max": highest}


# --- 1. A feature added is a minor, a feature removed is a major; the bugfix never matters. ------

MOONEY = (
    'Sean Mooney, openstack-discuss, 30 July 2020, "device compatibility interface for live '
    'migration with assigned devices"'
)

SCHEME = [
    Fact("semver", need, offer, expected, why, MOONEY)
    for need, offer, expected, why in [
        ("0.0", "0.0.0", ACCEPT, "the same device"),
        ("0.0", "0.1.0", ACCEPT, "pv_mode=none runs on none+ppgtt"),
        ("0.1", "0.0.0", TOO_OLD_MINOR, "none+ppgtt does not run on none: not vice versa"),
        ("0.0", "0.2.7", ACCEPT, "two features on, and the bugfix does not matter"),
        ("0.0", "0.2.0", ACCEPT, "pv_mode=none runs on none+ppgtt+context"),
        ("0.1", "0.2.0", ACCEPT, "none+ppgtt runs on none+ppgtt+context"),
        ("0.2", "0.1.0", TOO_OLD_MINOR, "context is not there yet"),
        ("0.2", "0.1.9", TOO_OLD_MINOR, "a bugfix does not make up for a minor"),
        ("0.2", "1.0.0", NEWER_MAJOR, "ppgtt was removed: a major"),
        ("0.0", "1.0.0", NEWER_MAJOR, "a major tells nothing of what is left"),
        ("1.0", "0.2.0", OLDER_MAJOR, "the other way round"),
        ("2.9", "2.10.0", ACCEPT, "numbers, not text"),
        ("2.10", "2.9.0", TOO_OLD_MINOR, "numbers, not text"),
    ]
]

# The same devices by feature sets, which are finer than the version.
PV_MODES = [
    Fact("superset", need, offer, expected, why, f"{MOONEY}, its example pv_mode")
    for need, offer, expected, why in [
        (["none"], ["none"], ACCEPT, "0.0.0 on itself"),
        (["none"], ["none", "ppgtt"], ACCEPT, "0.0.0 on 0.1.0"),
        (["none", "ppgtt"], ["none"], MISSING, "0.1.0 on 0.0.0"),
        (["none", "ppgtt"], ["none", "context"], MISSING, "0.1.0 does not fit none+context"),
        (
            ["none", "context"],
            ["none", "ppgtt", "context"],
            ACCEPT,
            "where the version says major, the set still fits",
        ),
        (["none"], ["none", "context"], ACCEPT, "ppgtt is gone, but this guest never used it"),
    ]
]

# --- 2. NVIDIA vGPU ------------------------------------------------------------------------------

NVIDIA = (
    "vgpu_version.h of NVIDIA's open-gpu-kernel-modules; nvmlGetVgpuVersion in NVML's reference"
)

#: vGPU versions, hexadecimal major.minor, that a host driver of each release supports.
NVIDIA_RELEASES = {
    "525": span("7.1", "10.1"),
    "535": span("7.1", "12.1"),
    "545": span("7.1", "13.1"),
    "550": span("7.1", "14.1"),
    "555": span("7.1", "15.1"),
    "560": span("7.1", "16.1"),
    "565": span("7.1", "17.1"),
    "570": span("7.1", "18.1"),
    "575": span("7.1", "19.1"),
    "580": span("12.1", "1A.1"),
    "595": span("18.1", "1C.1"),
}

#: From the release on the left, where the guest agreed on the highest version, to the one above:
#: "+" accepts, ">" does not know it yet, "<" no longer supports it.
NVIDIA_MOVES = """
    525 535 545 550 555 560 565 570 575 580 595
525  +   +   +   +   +   +   +   +   +   <   <
535  >   +   +   +   +   +   +   +   +   +   <
545  >   >   +   +   +   +   +   +   +   +   <
550  >   >   >   +   +   +   +   +   +   +   <
555  >   >   >   >   +   +   +   +   +   +   <
560  >   >   >   >   >   +   +   +   +   +   <
565  >   >   >   >   >   >   +   +   +   +   <
570  >   >   >   >   >   >   >   +   +   +   +
575  >   >   >   >   >   >   >   >   +   +   +
580  >   >   >   >   >   >   >   >   >   +   +
595  >   >   >   >   >   >   >   >   >   >   +
"""

NVIDIA_CASES = [
    Fact("range base=16", need, offer, expected, why, NVIDIA)
    for need, offer, expected, why in [
        ("14.1", span("7.1", "14.1"), ACCEPT, "580 -> 550, a downgrade that works"),
        ("14.1", span("12.1", "1A.1"), ACCEPT, "550 -> 580"),
        ("10.1", span("12.1", "1A.1"), BELOW, "525 -> 580: newer and yet too new"),
        ("10.1", span("7.1", "19.1"), ACCEPT, "525 -> 575"),
        ("14.1", span("18.1", "1A.1"), BELOW, "an administrator narrowed it (nvmlSetVgpuVersion)"),
        ("1A.1", span("7.1", "19.1"), ABOVE, "hexadecimal: 1A > 19"),
        ("10.1", span("7.1", "F.9"), ABOVE, "hexadecimal: 10 > F"),
        ("F.9", span("7.1", "10.1"), ACCEPT, "hexadecimal: F < 10"),
        ("1a.1", span("12.1", "1A.1"), ACCEPT, "upper and lower case are the same digit"),
        ("9.1", span("7.1", "10.1"), ACCEPT, "between the bounds"),
        ("7.0", span("7.1", "10.1"), BELOW, "the minor counts"),
        ("10.2", span("7.1", "10.1"), ABOVE, "the minor counts"),
        ("7.1", span("7.1", "10.1"), ACCEPT, "both bounds are included"),
        ("1C.1", span("18.1", "1C.1"), ACCEPT, "both bounds are included"),
    ]
]

# --- 3. Accept lists -----------------------------------------------------------------------------

LISTS = (
    "the accept lists proposed on libvir-list and openstack-discuss in 2020, where other majors "
    "are incompatible"
)
LISTED = {"version": "2.1.3", "accepts": "2.0.2-2.0.4,2.1.0-"}

ACCEPT_LISTS = [
    Fact("accepts", need, LISTED, expected, why, LISTS)
    for need, expected, why in [
        ("2.0.1", UNLISTED, "before the first range"),
        ("2.0.2", ACCEPT, "a range includes its first"),
        ("2.0.3", ACCEPT, "within a range"),
        ("2.0.4", ACCEPT, "a range includes its last"),
        ("2.0.4.1", UNLISTED, "a fourth part is a later version"),
        ("2.0.5", UNLISTED, "between the ranges"),
        ("2.0.10", UNLISTED, "numbers, not text"),
        ("2.1.0", ACCEPT, "where the open range begins"),
        ("2.1", ACCEPT, "the same as 2.1.0"),
        ("2.1.3", ACCEPT, "its own"),
        ("2.7", ACCEPT, "within the open range"),
        ("2.99.99", ACCEPT, "an open range ends with the major"),
        ("1.9", UNLISTED, "another major"),
        ("3.0", UNLISTED, "another major"),
        ("3.1.0", UNLISTED, "another major, however far above the open range's beginning"),
    ]
] + [
    Fact("accepts", need, {"version": version, "accepts": accepts}, expected, why, LISTS)
    for need, version, accepts, expected, why in [
        ("3.0.0", "3.0.0", "2.0.2-2.0.4", ACCEPT, "its own version, listed or not"),
        ("2.0.3", "3.0.0", "2.0.2-2.0.4", ACCEPT, "a major that the device lists"),
        ("2.0.3", "2.1", "2.0.3", ACCEPT, "a single version"),
        ("2.0.4", "2.1", "2.0.3", UNLISTED, "a single version"),
        ("2.0", "2.1", "-2.0.4", ACCEPT, "open below"),
        ("2.0.5", "2.1", "-2.0.4", UNLISTED, "open below"),
        ("1.9", "2.1", "-2.0.4", UNLISTED, "open below, within the major"),
        ("1.5", "2.1", ["1.4-1.6", "2.0"], ACCEPT, "a list of entries"),
        ("1.5", "2.1", ["2.0", "1.4 - 1.6, 1.8"], ACCEPT, "white space, and lists in a list"),
        ("2.0", "2.1", [], UNLISTED, "an empty list is its own version only"),
        ("2.1", "2.1", [], ACCEPT, "an empty list is its own version only"),
    ]
]

# --- 4. to 6. Kernel code ------------------------------------------------------------------------

QAT = "Linux drivers/crypto/intel/qat/qat_common/adf_gen4_vf_mig.c"
MTTY = "Linux samples/vfio-mdev/mtty.c"
VIRTIO = "QEMU hw/virtio/virtio.c: 'Features 0x%x unsupported. Allowed features: 0x%x'"

KERNEL = [
    Fact("superset", ["0", "1"], ["0", "1", "2"], ACCEPT, "mask 0b011 -> 0b111", QAT),
    Fact("superset", ["0", "1", "2"], ["0", "1"], MISSING, "mask 0b111 -> 0b011", QAT),
    Fact("superset", ["0", "1"], ["0", "1"], ACCEPT, "the same mask", QAT),
    Fact("superset", ["0", "3"], ["0", "1", "2"], MISSING, "more bits, but not this one", QAT),
    Fact("equal", "0x1b", "0x1b", ACCEPT, "ring-to-service map", QAT),
    Fact("equal", "0x1b", "0x1e", UNEQUAL, "ring-to-service map", QAT),
    Fact("at_least", 200, 200, ACCEPT, "SLA rate", QAT),
    Fact("at_least", 200, 100, TOO_FEW, "SLA rate", QAT),
    Fact("at_least", 200, 1000, ACCEPT, "numbers, not text", QAT),
    Fact("equal", "1.0", "1.0", ACCEPT, "version", MTTY),
    Fact("equal", "1.1", "1.0", UNEQUAL, "an older version", MTTY),
    Fact("equal", "1.0", "1.1", UNEQUAL, "a newer version too", MTTY),
    Fact("equal", "2", "2", ACCEPT, "ports", MTTY),
    Fact("equal", "1", "2", UNEQUAL, "more ports too", MTTY),
    Fact(
        "superset",
        ["40", "54", "55", "56"],
        ["0", "1", "2", "32"],
        MISSING,
        "bits 40, 54, 55 and 56 are missing",
        VIRTIO,
    ),
]

#: The whole masks of that message, and the bits that the guest has and the destination does not.
VIRTIO_GUEST = 0x1C0010130AFFFA7
VIRTIO_ALLOWED = 0x179BFFFE7
VIRTIO_MISSING = "40,54,55,56"

# --- 7. libvirt ----------------------------------------------------------------------------------

STUMP = "Laine Stump, libvir-list, 20 December 2016, on an implied multifunction='on'"

LIBVIRT = [
    Fact("ordered", need, offer, expected, why, STUMP)
    for need, offer, expected, why in [
        (None, "2.5.0", ACCEPT, "the guest sets multifunction explicitly: nothing needed"),
        ("3.0.0", "2.5.0", TOO_OLD, "auto-added pcie-root-ports on functions of one slot"),
        ("3.0.0", "10.6.0", ACCEPT, "numbers, not text"),
        ("3.0.0", "3.0.0", ACCEPT, "the first that has it"),
        ("3.0.0", "2.99.0", TOO_OLD, "the last that has not"),
    ]
]

# --- 8. Missing facts are never a silent pass ----------------------------------------------------

SILENCE = "design: whatever is missing or unreadable gives UNKNOWN"

MISSING_FACTS = [
    Fact("semver", "1.2", None, NO_OFFER, "nothing said", SILENCE),
    Fact("range", "1.2", {"min": "1.0"}, BAD_OFFER, "no max", SILENCE),
    Fact("range", "1.2", {"max": "1.0"}, BAD_OFFER, "no min", SILENCE),
    Fact("semver", "1.2", "banana", BAD_OFFER, "unreadable, said in the reason", SILENCE),
    Fact("range", "1.2", None, NO_OFFER, "nothing said", SILENCE),
    Fact("superset", ["a"], None, NO_OFFER, "nothing said", SILENCE),
    Fact("equal", "a", None, NO_OFFER, "nothing said", SILENCE),
    Fact("at_least", 1, None, NO_OFFER, "nothing said", SILENCE),
    Fact("one_of", "a", None, NO_OFFER, "nothing said", SILENCE),
    Fact("ordered", "1", None, NO_OFFER, "nothing said", SILENCE),
    Fact("accepts", "1", None, NO_OFFER, "nothing said", SILENCE),
]

FACTS = [
    *SCHEME,
    *PV_MODES,
    *NVIDIA_CASES,
    *ACCEPT_LISTS,
    *KERNEL,
    *LIBVIRT,
    *MISSING_FACTS,
]

# --- Orderings: left, "<", "=" or ">", right -----------------------------------------------------

# rpm's tests/rpmvercmp.at, both sides of which begin with a digit here.
RPM = """
1.0 = 1.0
1.0 < 2.0
2.0.1 = 2.0.1
2.0 < 2.0.1
2.0.1a = 2.0.1a
2.0.1a > 2.0.1
5.5p1 = 5.5p1
5.5p1 < 5.5p2
5.5p10 = 5.5p10
5.5p1 < 5.5p10
10xyz < 10.1xyz
5.5p2 < 5.6p1
5.6p1 < 6.5p1
6.0.rc1 > 6.0
10b2 > 10a1
10a2 < 10b2
1.0aa = 1.0aa
1.0a < 1.0aa
10.0001 = 10.0001
10.0001 = 10.1
10.0001 < 10.0039
4.999.9 < 5.0
20101121 = 20101121
20101121 < 20101122
2_0 = 2_0
2.0 = 2_0
1.0~rc1 = 1.0~rc1
1.0~rc1 < 1.0
1.0~rc1 < 1.0~rc2
1.0~rc1~git123 = 1.0~rc1~git123
1.0~rc1~git123 < 1.0~rc1
1.0^ = 1.0^
1.0^ > 1.0
1.0^git1 = 1.0^git1
1.0^git1 > 1.0
1.0^git1 < 1.0^git2
1.0^git1 < 1.01
1.0^20160101 = 1.0^20160101
1.0^20160101 < 1.0.1
1.0^20160101^git1 = 1.0^20160101^git1
1.0^20160102 > 1.0^20160101^git1
1.0~rc1^git1 = 1.0~rc1^git1
1.0~rc1^git1 > 1.0~rc1
1.0^git1~pre = 1.0^git1~pre
1.0^git1 > 1.0^git1~pre
1b.fc17 < 1.fc17
1g.fc17 > 1.fc17
"""

# rpm's manual, "Dependencies": the epoch outweighs the version, the version the release.
EVR = """
1:1.0 > 2.0
0:1.0 = 1.0
1:1.0-1 < 2:0.1-1
10.0.0-6.el9 < 10.0.0-6.1.el9
10.0.0-9.el9 < 10.0.0-10.el9
8.2.0-11.el9_4 > 8.2.0-9.el9
17:8.2.0-11.el9_4.4 > 17:8.2.0-11.el9_4
17:8.2.0-11.el9 > 8.2.0-11.el9
10.0.0 < 10.0.0-1
10.0.0~rc1-1 < 10.0.0-1
10.0.0^20240101-1 > 10.0.0-9
"""

# deb-version(7), and dpkg's lib/dpkg/t/t-version.c.
DEBIAN = """
0 < 1
1.0 = 1.0-0
0:1.0 = 1.0
0-0 = 0-00
1:0-0 > 0-0
1:1.0 > 9.0
1.0~~ < 1.0~~a
1.0~~a < 1.0~
1.0~ < 1.0
1.0 < 1.0a
1.0~beta1~svn1245 < 1.0~beta1
1.0~beta1 < 1.0
1.0a < 1.0+
1.0+ < 1.0.
1.0Z < 1.0a
1.10 > 1.9
1.010 = 1.10
1.0-1 < 1.0-1.1
1.0-1~bpo12+1 < 1.0-1
1.0-1ubuntu1 > 1.0-1
1.0-1build1 < 1.0-1ubuntu1
1.0-1-2 > 1.0-1
8.2.2+ds-0ubuntu1.4 < 1:8.2.2+ds-0ubuntu1
1:8.2.2+ds-0ubuntu1.4 > 1:8.2.2+ds-0ubuntu1
10.0.0-2ubuntu8.10 > 10.0.0-2ubuntu8.4
2:4.13.1-0ubuntu0.16.04.1.1~ < 2:4.13.1-0ubuntu0.16.04.1.1
"""

# Versions as libvirt, QEMU and uname -r print them.
NUMERIC = """
10.0.0 > 9.10.0
2.5 = 2.5.0
2.05 = 2.5
v8.2.2 = 8.2.2
6.8.0-45-generic > 6.8.0-9-generic
6.8.0-45-generic = 6.8.0-45-lowlatency
6.8.0-45-generic > 6.8.0
6.8.0-45-generic < 6.8.1
6.8-45 < 6.8.1
8.2-10 < 8.2.2
8.2.2-5 < 8.2.2.1
5.14.0-427.13.1.el9_4.x86_64 > 5.14.0-427.el9
5.14.0-362.24.1.el9_3.x86_64 < 5.14.0-427.el9
6.12.0-preempt = 6.12.0
8.2.91 < 9.0.0
"""

ORDERINGS = {"rpm_evr": RPM + EVR, "debian": DEBIAN, "numeric": NUMERIC}

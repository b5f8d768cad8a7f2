# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Versions with builds: what is compared, and what cannot be."""

import itertools
import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_devcompat.compat.attributes import Unreadable
from nova_devcompat.compat.builds import compare_builds, format_build, ordering_of, parse_build
from nova_devcompat.compat.orderings import ORDERINGS

#: As vendors print them, and what is made of them.
READ = [
    ("8.2.2", ((8, 2, 2),), "8.2.2"),
    ("v08.2", ((8, 2),), "8.2"),
    ("6.8.0-45-generic", ((6, 8, 0), "-", (45,)), "6.8.0-45"),
    ("6.12.0-preempt", ((6, 12, 0),), "6.12.0"),
    ("6.1.0-18-rt-amd64", ((6, 1, 0), "-", (18,), "-rt-amd", (64,)), "6.1.0-18-rt-amd64"),
    ("2024-01-15", ((2024,), "-", (1,), "-", (15,)), "2024-1-15"),
    # pds_core.rst of the kernel, running and in the gold slot.
    ("1.60.0-73", ((1, 60, 0), "-", (73,)), "1.60.0-73"),
    ("1.15.9-C-22", ((1, 15, 9), "-c-", (22,)), "1.15.9-c-22"),
    # ethtool -i of ixgbe: the second is no number but a name.
    ("4.40 0x8001C967", ((4, 40), " 0x8001c967"), "4.40 0x8001c967"),
    ("2.4.1-5-gdeadbee", ((2, 4, 1), "-", (5,), "-gdeadbee"), "2.4.1-5-gdeadbee"),
    (
        "5.14.0-427.13.1.el9_4.x86_64",
        ((5, 14, 0), "-", (427, 13, 1), ".el", (9,), "_", (4,), ".x", (86,), "_", (64,)),
        "5.14.0-427.13.1.el9_4.x86_64",
    ),
    (
        "6.2.0-11.module+el8.6.0+20793+2184cc28.11",
        ((6, 2, 0), "-", (11,), ".module+el", (8, 6, 0), "+", (20793,), "+2184cc28.", (11,)),
        "6.2.0-11.module+el8.6.0+20793+2184cc28.11",
    ),
    (
        "8.2.2+ds-0ubuntu1.4",
        ((8, 2, 2), "+ds-", (0,), "ubuntu", (1, 4)),
        "8.2.2+ds-0ubuntu1.4",
    ),
    ("6.9-rc1", ((6, 9), "-rc", (1,)), "6.9-rc1"),
    # Not the same as 6.9, though no digit says so.
    ("6.9-beta", ((6, 9), "-beta"), "6.9-beta"),
    ("6.9~", ((6, 9), "~"), "6.9~"),
]


@pytest.mark.parametrize(("text", "build", "canonical"), READ)
def test_read(text, build, canonical):
    assert parse_build(text) == build
    assert format_build(build) == canonical
    assert format_build(parse_build(canonical)) == canonical


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("banana", "is not a version"),
        (
            "1A.1",
            ": has a letter on a number that counts; a hexadecimal version needs 'base: 16', a",
        ),
        ("0x10", "has a letter on a number that counts"),
        ("6.2.0qemu-kvm-6.2.0-53.module_el8.10.0", "knows its format: try ordering rpm_evr"),
        ("1,5", "is more than one version, or a broken one"),
        ("7..1", "is more than one version"),
        ("1:6.2+dfsg-2ubuntu6.16", "try ordering debian"),
        ("218.0.169.2/pkg 218.0.166.0", "is more than one version"),
        ("2.4\u00b2", "is not a version"),
        ("\u0661.0", "is not a version"),
    ],
)
def test_unreadable(text, why):
    with pytest.raises(Unreadable, match=re.escape(why)) as caught:
        parse_build(text)
    assert str(caught.value).startswith(f"{text!r}: ")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("8.2.2+ds-0ubuntu1.4", "debian"),
        ("1:10.0.0+ds-2+deb13u1", "debian"),
        ("6.2.0-11.module+el8.6.0", "rpm_evr"),
        ("10.0.0-6.el9_4", "rpm_evr"),
        ("1.60.0-73", "numeric"),
        ("1.2-0UBUNTU3", "debian"),
        ("1:8.2", "debian"),
        ("8.2~1", "debian"),
    ],
)
def test_which_ordering_knows_a_format(text, name):
    assert ordering_of(text) == name


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("1.15.9-C-22", "1.15.9-E-22"),
        ("1.15.9-C-22", "1.15.9"),
        ("1.15.9-C-22", "1.15.9-22"),
        ("4.40 0x8001c967", "4.40 0x8001c968"),
        ("4.40 0x8001c967", "4.40"),
        ("2.4.1-5-gdeadbee", "2.4.1-5-gcafe123"),
        ("6.9-rc1", "6.9"),
        ("6.9-beta", "6.9"),
        ("6.9-beta", "6.9-alpha"),
        ("5.14.0-427.el9", "5.14.0-427"),
        ("1.2+3", "1.2-3"),
    ],
)
def test_unlike_words_are_not_compared(left, right):
    assert compare_builds(parse_build(left), parse_build(right)) is None
    assert compare_builds(parse_build(right), parse_build(left)) is None


@pytest.mark.parametrize(
    ("less", "more"),
    [
        ("6.8.0", "6.8.0-45"),
        ("6.8.0-45", "6.8.0-45.46"),
        ("6.8.0-45", "6.8.0-101"),
        ("8.2-10", "8.2.2"),
        ("1.15.9-C-9", "1.15.9-C-22"),
        # What leads to a release is older than it only where the release has no such part.
        ("8.2-rc2", "8.3-rc1"),
        ("8.2-rc1", "8.2-rc2"),
        ("8.2-rc1", "8.2-rc1-5"),
        ("6.8.0", "6.8.0-45-generic"),
    ],
)
def test_a_build_counts_after_the_version(less, more):
    assert compare_builds(parse_build(less), parse_build(more)) == -1
    assert compare_builds(parse_build(more), parse_build(less)) == 1


builds = st.builds(
    "{}{}{}".format,
    st.lists(st.integers(0, 3).map(str), min_size=1, max_size=3).map(".".join),
    st.sampled_from(["", "-0", "-1", "-1.2", "-C-1", "-C-2", "-E-1", ".el9_1", "+ds-0ubuntu1"]),
    st.sampled_from(["", "-generic", ".4", "-rc1", "~", " 0x1f"]),
)


@given(builds, builds, builds)
def test_what_can_be_compared_is_ordered(one, other, third):
    left, middle, right = map(parse_build, (one, other, third))
    assert compare_builds(left, left) == 0
    forth, back = compare_builds(left, middle), compare_builds(middle, left)
    assert (forth is None) is (back is None)
    assert forth is None or forth == -back
    on = compare_builds(middle, right)
    if forth is not None and forth == on:
        assert compare_builds(left, right) in (forth, None)


@given(builds)
def test_no_digit_is_passed_over(text):
    """Whatever digit is changed, the version is another one."""
    for place, digit in enumerate(text):
        if digit.isdigit():
            other = f"{text[:place]}{(int(digit) + 5) % 10}{text[place + 1 :]}"
            assert compare_builds(parse_build(text), parse_build(other)) != 0


@pytest.mark.skipif(not shutil.which("dpkg"), reason="dpkg is not on this machine")
def test_dpkg_agrees_where_words_are_the_same():
    texts = [
        f"{version}{build}{number}"
        for version in ("6.2", "8.2.2", "10.0.0")
        for build, number in itertools.product(
            ("-", "+ds-0ubuntu1.", "+dfsg-2ubuntu6.", "-1.fc", "-rc"), ("1", "10", "9")
        )
    ]
    compared = 0
    for left, right in itertools.combinations(texts, 2):
        result = compare_builds(parse_build(left), parse_build(right))
        if result is None:
            continue
        compared += 1
        if compared % 7:
            continue  # a process each
        relation = {-1: "lt", 0: "eq", 1: "gt"}[result]
        command = ["dpkg", "--compare-versions", left, relation, right]
        assert subprocess.run(command, check=False).returncode == 0, (left, relation, right)
    assert compared > len(texts)


@pytest.mark.parametrize(
    ("ordering", "text", "why"),
    [
        ("rpm_evr", "v1", "is not [epoch:]version[-release], the version a digit first"),
        ("rpm_evr", "1-2-3", "is not [epoch:]version[-release], the version a digit first"),
        ("debian", "v1", "is not [epoch:]upstream-version[-revision]"),
        ("debian", "1.0-", "is not [epoch:]upstream-version[-revision]"),
    ],
)
def test_what_packages_are_not_called(ordering, text, why):
    with pytest.raises(Unreadable) as caught:
        ORDERINGS[ordering].parse(text)
    assert str(caught.value) == f"{text!r}: {why}"


@pytest.mark.parametrize(
    ("ordering", "text"),
    [("rpm_evr", "1:6.2.0-53.EL8_4~x^y+z"), ("debian", "1:8.2.2+DS~rc1-0Ubuntu1.4")],
)
def test_what_packages_are_called(ordering, text):
    assert ORDERINGS[ordering].canonical(ORDERINGS[ordering].parse(text)) == text

# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Names of traits, one by one; :mod:`test_properties` has what holds for all."""

import re

import pytest

from nova_devcompat.compat.traits import Atom, TraitTooLong, check_name, decode, encode


@pytest.mark.parametrize(
    ("atom", "name"),
    [
        (Atom("mlx5_vf", "fw_version", "28.39"), "MLX5_VF__FW_VERSION__28_39"),
        (Atom("nvidia_vgpu", "vgpu_version", "1a.1"), "NVIDIA_VGPU__VGPU_VERSION__1A_1"),
        (Atom("qemu_machine", "type", "pc-q35-8.2"), "QEMU_MACHINE__TYPE__PC__2D_Q35__2D_8_2"),
        (Atom("f", "a", "On"), "F__A____4F_N"),
        (Atom("f", "a", "_"), "F__A____5F_"),
        (Atom("f", "a", "."), "F__A___"),
        (Atom("f", "a", ".."), "F__A____2E__"),
        (Atom("f", "a", ".1"), "F__A___1"),
        (Atom("f", "a", "1."), "F__A__1_"),
        (Atom("f", "a", ".-"), "F__A____2E___2D_"),
        (Atom("f", "a", "\U0010ffff"), "F__A____10FFFF_"),
    ],
)
def test_names(atom, name):
    assert encode(atom) == f"CUSTOM_DEVCOMPAT_{name}"
    assert decode(f"CUSTOM_DEVCOMPAT_{name}") == atom


@pytest.mark.parametrize(
    "name",
    [
        "",
        "CUSTOM_DEVCOMPAT_",
        "CUSTOM_DEVCOMPAT_F",
        "CUSTOM_DEVCOMPAT_F__A",
        "CUSTOM_DEVCOMPAT_F__A__",
        "CUSTOM_DEVCOMPAT_1F__A__1",
        "CUSTOM_DEVCOMPAT__F__A__1",
        "CUSTOM_DEVCOMPAT_f__A__1",
        "CUSTOM_DEVCOMPAT_F__A__1 ",
        "CUSTOM_DEVCOMPAT_F__A__1\n",
        "CUSTOM_DEVCOMPAT_F__A____61_",  # "a" has a shorter name
        "CUSTOM_DEVCOMPAT_F__A____04F_",  # a leading zero
        "CUSTOM_DEVCOMPAT_F__A____110000_",  # beyond Unicode
        "CUSTOM_DEVCOMPAT_F__A____2E_1",  # a dot that needs no escape
        "CUSTOM_DEVCOMPAT_F__A__" + "1" * 233,  # 256 characters
        "CUSTOM_OTHER_F__A__1",
        "HW_CPU_X86_VMX",
    ],
)
def test_what_is_no_name_of_ours_is_ignored(name):
    assert decode(name) is None


def test_too_long():
    longest = Atom("f", "a", "1" * 232)
    assert len(encode(longest)) == 255
    assert decode(encode(longest)) == longest
    atom = Atom("f", "a", "1" * 233)
    with pytest.raises(TraitTooLong, match="256 characters, placement takes 255") as caught:
        encode(atom)
    assert caught.value.atom is atom
    assert caught.value.length == 256
    assert str(caught.value).endswith("or have the source shorten the value")


@pytest.mark.parametrize(
    "name", ["", "A", "1a", "a_", "_a", "a__b", "a-b", "a b", "a\n", "\u00e4", "a.b"]
)
def test_bad_names(name):
    rule = "lower-case letters, digits and single underscores, a letter first, no underscore last"
    message = f"^{re.escape(f'{name!r} is no name: {rule}')}$"
    with pytest.raises(ValueError, match=message):
        check_name(name)
    with pytest.raises(ValueError, match=message):
        Atom(name, "a", "1")
    with pytest.raises(ValueError, match=message):
        Atom("f", name, "1")


def test_atoms_have_values():
    with pytest.raises(ValueError, match=r"f\.a: an atom without a value"):
        Atom("f", "a", "")
    assert str(Atom("f", "a", "1")) == "f.a=1"

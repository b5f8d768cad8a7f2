# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What guests run: a boot sector that does nothing but obey the power button.

A guest needs no more to be migrated, and it fits into any memory. Without the button a soft reboot
would wait for two minutes and become a hard one.
"""

from __future__ import annotations

SECTOR, SIZE = 512, 1 << 20

#: For the 16-bit mode that a BIOS starts it in. SeaBIOS puts the registers of power management at
#: port 0x600: status, enable (+2) and control (+4), as in ACPI's fixed hardware (ACPI 6.5, 4.8.3).
_CODE = bytes.fromhex(
    "ba 02 06"  # mov dx, 0x602
    "b8 00 01"  # mov ax, 0x100       the power button
    "ef"  #       out dx, ax          shall be reported
    "ba 00 06"  # mov dx, 0x600
    "ef"  #       out dx, ax          and has not been pressed before
    "ba 00 06"  # mov dx, 0x600       again:
    "ed"  #       in ax, dx
    "f6 c4 01"  # test ah, 1
    "75 04"  #    jnz off
    "fb"  #       sti                 the timer's interrupt
    "f4"  #       hlt                 comes 18 times a second
    "eb f3"  #    jmp again
    "ba 04 06"  # mov dx, 0x604       off:
    "b8 00 20"  # mov ax, 0x2000      sleep, in state S5
    "ef"  #       out dx, ax
    "f4"  #       hlt
    "eb fd"  #    jmp to the hlt
)
#: One partition, in use from the second sector on: Glance takes a disk whose table is wrong for
#: something else than it is called.
_PARTITION = bytes.fromhex("80 000200 83 000000 01000000 ff070000")


def disk() -> bytes:
    """A raw disk."""
    sector = bytearray(SECTOR)
    sector[: len(_CODE)] = _CODE
    sector[446 : 446 + len(_PARTITION)] = _PARTITION
    sector[-2:] = b"\x55\xaa"
    return bytes(sector).ljust(SIZE, b"\0")

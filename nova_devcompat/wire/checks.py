# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What has to be true of what another process wrote."""

from __future__ import annotations

from collections.abc import Iterable


def text_of(value: object, *, empty: bool = False) -> str:
    if not isinstance(value, str) or not (value or empty):
        raise TypeError(f"{value!r} where a text is expected")
    return value


def texts_of(values: Iterable[object]) -> list[str]:
    if isinstance(values, str):
        raise TypeError("a text where a list is expected")
    return [text_of(value) for value in values]

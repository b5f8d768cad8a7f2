# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What is raised wherever a catalog cannot be had."""

from __future__ import annotations

from nova_devcompat.kit.problems import DocumentError


class CatalogError(DocumentError):
    """A catalog that cannot be used: its text has one line for each problem of its files, or each
    name that is no pack.
    """

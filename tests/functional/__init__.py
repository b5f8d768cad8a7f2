# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Functional tests: real Nova and real Placement in one process.

Importing this package prepares the process, so it must come before anything that imports
``oslo_db`` or ``nova.context``; pytest imports it before any test module of the folder.
"""

from tests.functional import bootstrap

bootstrap.prepare()

# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""A small OpenStack cloud of real processes on one machine, for developers, operators and tests.

Run by ``tools/cloud``. Only the standard library is used here, except in ``serve.py`` and in
``nova_virt_playground``, which run in the cloud's own virtual environment.
"""

# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The pure core: what a device offers, what a guest needs, and whether they fit.

Nothing here imports Nova or oslo, reads a file or asks a service; a test says so. Read in this
order: :mod:`~nova_devcompat.compat.verdict`, :mod:`~nova_devcompat.compat.rules`,
:mod:`~nova_devcompat.compat.kinds`,
:mod:`~nova_devcompat.compat.need`, :mod:`~nova_devcompat.compat.family`,
:mod:`~nova_devcompat.compat.traits`.
"""

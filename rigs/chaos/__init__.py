# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Random operations and faults on a cloud of processes, checked by a model of its hardware.

``tools/cloud chaos`` runs it. ``plan`` draws what is done from a seed, ``model`` knows the
pretended hardware, ``checks`` compares what the cloud says with it, ``report`` counts. Nothing of
nova_devcompat is imported here, so that what it decides is checked by something else.
"""

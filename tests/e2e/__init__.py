# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Scenarios on a cloud of real processes, over the public API; see ``tools/cloud``."""

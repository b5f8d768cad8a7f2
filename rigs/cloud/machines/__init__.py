# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Compute hosts that are virtual machines, for what this machine's own kernel does not have."""

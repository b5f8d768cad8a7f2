# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What one host has and says; no Nova."""

# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The story of a fleet with mixed firmware, which ``tools/demo.sh`` tells on real services."""

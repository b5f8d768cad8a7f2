# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What Nova's databases and placement hold."""

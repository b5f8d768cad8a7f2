# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Tests of the wheel, where operators meet it: in site-packages, beside Nova or without one."""

# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Mutation testing of nova_devcompat.compat, which decides: does a test notice a small change?"""

# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""A fuzzer of all that one process writes and another reads: ``python -m tests.fuzz --help``."""

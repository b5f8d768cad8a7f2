# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What the shell scripts in ``tools`` run: tests, environments, a cloud, Nova's own tests, a demo.

It is not in our wheel. Only the standard library is used here, since any Python may run it, but
for what says that it runs in an environment of its own.
"""

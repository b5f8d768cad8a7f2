# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The operator's command, ``nova-devcompat``. Only ``need ...`` needs Nova, when it runs."""

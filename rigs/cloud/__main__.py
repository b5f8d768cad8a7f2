# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""``python -m rigs.cloud``, which ``tools/cloud`` runs."""

import sys

from rigs.cloud import commands

if __name__ == "__main__":
    sys.exit(commands.main())

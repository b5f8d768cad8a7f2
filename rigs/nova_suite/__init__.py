# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What tools/nova-suite.sh runs; ``__main__`` says what it is for."""

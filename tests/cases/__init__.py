# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Cases from the field: what hosts had, which guest ran, and what is right to say of its move.

``python -m tests.cases [CASE ...]`` feeds them to the project's own classes and commands, without
any cloud or hardware. A case is a folder with a ``case.yaml`` and the files that it names, or one
of several in a file such as those of ``field/``, which has their files in it; a folder of cases
does as well. :mod:`tests.cases.reading` has the format, :mod:`tests.cases.asking` what is asked.
"""

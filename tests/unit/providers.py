# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Resource providers for tests, which name them as they please."""

import functools
import uuid


@functools.cache
def uuid_of(name: str) -> str:
    """The UUID of a provider, always the same for the same name."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))

# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What one process writes and another reads: instance records and stats documents.

Both are JSON with a format version. A table has a reader for each version that is read, the last
and the one before; any other raises :class:`WireError`, which callers turn into UNKNOWN. A release
that brings a version reads it, and goes on writing the one before; a later one writes it, once
everybody reads it (doc/source/support.rst). Keys within a version are never given another meaning;
unknown keys are passed over, so that a later release can add some.
"""

from nova_devcompat.wire.fitting import Fitted, dump_stats, fit_stats
from nova_devcompat.wire.record import (
    METADATA_PREFIX,
    RECORD_READERS,
    RECORD_VERSION,
    dump_record,
    is_record_key,
    load_record,
    load_whole_record,
    same_record,
)
from nova_devcompat.wire.stats import (
    HEAD,
    SHAPE,
    STATS_KEY,
    STATS_LIMIT,
    STATS_READ,
    STATS_VERSION,
    HostDocument,
    PublishedDevice,
    StatsTooLong,
    column_size,
    says_its_length,
)
from nova_devcompat.wire.stats_reader import STATS_READERS, StatsReader, load_stats
from nova_devcompat.wire.versions import WireError, reader_of

__all__ = [
    "HEAD",
    "METADATA_PREFIX",
    "RECORD_READERS",
    "RECORD_VERSION",
    "SHAPE",
    "STATS_KEY",
    "STATS_LIMIT",
    "STATS_READ",
    "STATS_READERS",
    "STATS_VERSION",
    "Fitted",
    "HostDocument",
    "PublishedDevice",
    "StatsReader",
    "StatsTooLong",
    "WireError",
    "column_size",
    "dump_record",
    "dump_stats",
    "fit_stats",
    "is_record_key",
    "load_record",
    "load_stats",
    "load_whole_record",
    "reader_of",
    "same_record",
    "says_its_length",
]

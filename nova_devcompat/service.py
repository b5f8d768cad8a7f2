# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What nova-compute and nova-scheduler look at before they start."""

from __future__ import annotations

from collections.abc import Callable

from oslo_config import cfg

from nova_devcompat.catalog.loader import CatalogError
from nova_devcompat.conf import default_policy
from nova_devcompat.kit.plugins import PluginError
from nova_devcompat.sources.base import SourceError


def problem_at_start(conf: cfg.ConfigOpts, check: Callable[[], object]) -> str:
    """What keeps a service from starting, in a line; '' if nothing does.

    :param conf: with our options
    :param check: looks at what the service needs; raises CatalogError, PluginError or SourceError
    """
    try:
        default_policy(conf)
        check()
    except cfg.ConfigFileValueError as error:
        return " ".join(str(error).split())
    except CatalogError as error:
        return f"the catalog cannot be used: {'; '.join(map(str, error.problems))}"
    except (PluginError, SourceError) as error:
        return str(error)
    return ""

#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.


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

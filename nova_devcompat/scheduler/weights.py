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

"""The scheduler's weighers."""

from __future__ import annotations

import sys

from nova.scheduler import weights
from oslo_log import log as logging

from nova_devcompat import plugins

LOG = logging.getLogger(__name__)


def all_weighers() -> list[type[weights.BaseHostWeigher]]:
    """The weigher classes of all plugins, for ``[filter_scheduler] weight_classes``."""
    try:
        return plugins.Plugins(
            "nova_devcompat.scheduler_weighers", weights.BaseHostWeigher, None
        ).load_all()
    except plugins.PluginError as error:
        LOG.critical("nova-devcompat: %s", error)
        sys.exit(1)

# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What the checks before an upgrade ask, each thing once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

from oslo_upgradecheck.upgradecheck import Code, Result

from nova_devcompat.catalog.errors import CatalogError
from nova_devcompat.catalog.model import Catalog
from nova_devcompat.catalog.stages import Moment
from nova_devcompat.compat.policy import Policy
from nova_devcompat.fleet.cloud import Cloud
from nova_devcompat.fleet.counting import listed, many
from nova_devcompat.fleet.model import Fleet, Host

NO_CATALOG = Result(Code.WARNING, "Not checked, for want of a catalog.")


class Asked:
    """What is asked of the cloud and of the catalog.

    :param conf: Nova's configuration, read, with our options
    :param cloud: asks all cells
    :param load: loads the catalog
    :param default: the policy of families that state none
    :param moment: now
    :param days: how far ahead to look for stages
    :param today: the moment that hosts published at; by default the one that is looked at
    """

    def __init__(
        self,
        conf: Any,
        cloud: Cloud,
        load: Callable[[], Catalog],
        default: Policy,
        moment: Moment,
        days: int,
        today: Moment | None = None,
    ) -> None:
        self._conf = conf
        self._cloud = cloud
        self._load = load
        self._default = default
        self._moment = moment
        self._days = days
        self._today = today or moment

    @functools.cached_property
    def _fleet(self) -> Fleet:
        return self._cloud.fleet()

    @functools.cached_property
    def _catalog(self) -> Catalog | CatalogError:
        try:
            return self._load()
        except CatalogError as error:
            return error

    def _with_guests(self, hosts: Iterable[Host]) -> str:
        """Names of hosts, and how many running guests are on them."""
        places = {host.place for host in hosts}
        guests = [guest for guest in self._fleet.guests if guest.place in places]
        names = listed(sorted(place.host for place in places))
        return f"{names} ({many(guests, 'running guest')} there)"

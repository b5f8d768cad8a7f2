# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The cells of a cloud, their instances and their compute nodes, as a controller reads them."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from nova import context as nova_context
from nova import exception, objects, servicegroup
from oslo_log import log as logging
from oslo_utils import uuidutils

from nova_devcompat.kit.text import near

LOG = logging.getLogger(__name__)

# What is in memory at a time.
_PAGE = 500

T = TypeVar("T")


class BadRequest(ValueError):
    """What was asked for does not exist, or cannot be."""


class Refused(Exception):
    """It cannot be done now; nothing was changed."""


class Cells:
    """All cells, each asked in its turn.

    :param context: an administrator's
    """

    def __init__(self, context: Any) -> None:
        #: An administrator's, of no cell.
        self.context = context
        #: Whether anything had to be passed over; each was logged as a WARNING.
        self.incomplete = False

    def pass_over(self, message: str, *args: object) -> None:
        """Tell the operator of something that the answer leaves out."""
        self.incomplete = True
        LOG.warning(message, *args)

    def select(self, *, name: str | None = None, host: str | None = None) -> list[Any]:
        """The cells concerned; cell0 is not, since nothing there has a host.

        :param name: name or UUID of the only one
        :param host: only the one that has this host
        :raises BadRequest: there is no such cell, or no such host in it
        :raises Refused: the API database does not answer
        """
        cells = [
            cell
            for cell in self._ask_api(objects.CellMappingList.get_all)
            if cell.uuid != objects.CellMapping.CELL0_UUID
        ]
        if name is not None:
            names = [label_of(cell) for cell in cells]
            cells = [cell for cell in cells if name in (cell.name, cell.uuid)]
            if not cells:
                raise BadRequest(
                    f"there is no cell {name!r}; cells: {', '.join(names)}{near(name, names)}"
                )
        if host is not None:
            try:
                mapping = self._ask_api(objects.HostMapping.get_by_host, host)
            except exception.HostMappingNotFound:
                raise BadRequest(f"no cell has the host {host!r}") from None
            cells = [cell for cell in cells if cell.id == mapping.cell_mapping.id]
            if not cells:
                raise BadRequest(f"host {host!r} is in cell {label_of(mapping.cell_mapping)}")
        return cells

    def each(self, cells: Sequence[Any], answers: Callable[[Any], Iterator[T]]) -> Iterator[T]:
        """What each cell answers; one that does not is passed over.

        :param answers: asks one cell, given a context for it
        """
        for cell in cells:
            try:
                with nova_context.target_cell(self.context, cell) as context:
                    yield from answers(context)
            except Exception as error:  # whatever the database layer raises
                LOG.debug("Cell %s failed", label_of(cell), exc_info=True)
                self.pass_over(
                    "Cell %s is left out, all of it or from here on: %s",
                    label_of(cell),
                    brief(error),
                )

    def instance(self, uuid: str, attributes: Sequence[str]) -> tuple[Any, Any]:
        """An instance, read now, and its cell.

        :param attributes: what is joined to it
        :raises BadRequest: there is no such instance
        :raises Refused: its cell does not answer, or it has none yet
        """
        if not uuidutils.is_uuid_like(uuid):
            raise BadRequest(f"{uuid!r} is not the UUID of an instance")
        try:
            mapping = self._ask_api(objects.InstanceMapping.get_by_instance_uuid, uuid)
            if mapping.cell_mapping is None:
                raise Refused(f"instance {uuid} has not been scheduled yet")
            with nova_context.target_cell(self.context, mapping.cell_mapping) as context:
                instance = objects.Instance.get_by_uuid(
                    context, uuid, expected_attrs=list(attributes)
                )
        except (exception.InstanceMappingNotFound, exception.InstanceNotFound):
            raise BadRequest(f"there is no instance {uuid}") from None
        except Refused:
            raise
        except Exception as error:
            cell = label_of(mapping.cell_mapping)
            raise Refused(f"cell {cell} does not answer: {brief(error)}") from error
        return instance, mapping.cell_mapping

    def _ask_api(self, question: Callable[..., T], *args: Any) -> T:
        try:
            return question(self.context, *args)
        except (exception.NotFound, exception.HostMappingNotFound):
            raise
        except Exception as error:
            raise Refused(f"the API database does not answer: {brief(error)}") from error


def label_of(cell: Any) -> str:
    """A cell's name, its UUID where it has none."""
    return str(cell.name or cell.uuid)


def brief(error: Exception) -> str:
    """An error in one line: the statement that SQLAlchemy adds is of no use to an operator."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def instances(
    context: Any, filters: Mapping[str, Any], attributes: Sequence[str]
) -> Iterator[Any]:
    """The instances of a cell, ordered by UUID, read page by page; deleted ones are left out.

    :param filters: as of :meth:`nova.objects.InstanceList.get_by_filters`
    :param attributes: what is joined to each
    """
    seen: list[str] = []
    while True:
        page = _page(context, filters, attributes, seen)
        yield from page
        if len(page) < _PAGE:
            return
        seen = [instance.uuid for instance in page]


def _page(
    context: Any, filters: Mapping[str, Any], attributes: Sequence[str], seen: list[str]
) -> list[Any]:
    # An instance can be deleted and purged while we read. The last that is still there will do:
    # those after it are gone, so nothing is read twice.
    markers: list[str | None] = [*reversed(seen)]
    for marker in markers or [None]:
        try:
            return list(
                objects.InstanceList.get_by_filters(
                    context,
                    {"deleted": False, **filters},
                    limit=_PAGE,
                    marker=marker,
                    expected_attrs=list(attributes),
                    sort_keys=["uuid"],
                    sort_dirs=["asc"],
                )
            )
        except exception.MarkerNotFound:
            continue
    raise Refused("all instances of a page were purged while it was read; ask again")


def silent_since(context: Any) -> dict[str, datetime.datetime | None]:
    """The hosts of a cell whose nova-compute is down, each with when it was last heard of, in UTC;
    None where it never was.
    """
    group = servicegroup.API()
    return {
        service.host: service.last_seen_up
        for service in objects.ServiceList.get_by_binary(context, "nova-compute")
        if not group.service_is_up(service)
    }


def hosts_down(context: Any) -> dict[str, str]:
    """The hosts of a cell whose nova-compute is down, each with when it was last heard of."""
    return {
        host: f"{since:%Y-%m-%d %H:%M:%S}" if since else "it was installed"
        for host, since in silent_since(context).items()
    }


def compute_nodes(context: Any, host: str | None = None) -> Iterator[Any]:
    """The compute nodes of a cell, or those of one host, read page by page."""
    if host is not None:
        try:
            yield from objects.ComputeNodeList.get_all_by_host(context, host)
        except exception.ComputeHostNotFound:
            return
        return
    marker = None
    while True:
        page = objects.ComputeNodeList.get_by_pagination(context, limit=_PAGE, marker=marker)
        yield from page
        if len(page) < _PAGE:
            return
        marker = page[-1].id

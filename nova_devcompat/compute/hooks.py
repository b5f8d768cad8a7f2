# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Puts our hooks around the methods of the driver that we wrap, where the contract holds.

Whatever happens in a hook, the wrapped driver's method is called once, with the arguments of the
call as they are, and what it returns or raises is what Nova gets. Of ours only the exceptions that
the contract names can leave.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from oslo_log import log as logging

from nova_devcompat.compute import contract

LOG = logging.getLogger(__name__)


class Call:
    """The call of the wrapped driver's method that a hook stands around; to be made once."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made = False
        self._result: Any = None
        #: What it raised.
        self.error: BaseException | None = None

    def __call__(self) -> Any:
        self._made = True
        try:
            self._result = self._make()
        except BaseException as error:
            self.error = error
            raise
        return self._result

    def outcome(self) -> Any:
        """What it returned or raised; it is made if it was not."""
        if not self._made:
            return self()
        if self.error is not None:
            raise self.error
        return self._result


def hooked(
    hook: contract.Hook,
    around: Callable[..., Any],
    wrapped: Callable[..., Any],
    signatures: Sequence[inspect.Signature],
    may_leave: tuple[type[Exception], ...],
) -> Callable[..., Any]:
    """A driver's method: the wrapped driver's, with a hook around it.

    :param around: the hook. It is given the driver, the :class:`Call` to make and, by name, what
        it relies on
    :param wrapped: the wrapped driver's method, which takes our driver as its first argument
    :param signatures: see :func:`contract.relied_on`
    :param may_leave: the exceptions that ``hook.raises`` names
    """

    def method(*args: Any, **kwargs: Any) -> Any:
        relied = contract.relied_on(hook, signatures, args, kwargs)
        if relied is None:
            LOG.error(
                "%(method)s was called with unexpected arguments (%(count)d by place, by name: "
                "%(names)s), so nova-devcompat had no part in the call. What is lost: %(lost)s",
                {
                    "method": hook.method,
                    "count": len(args) - 1,
                    "names": ", ".join(sorted(kwargs)) or "none",
                    "lost": hook.off,
                },
            )
            return wrapped(*args, **kwargs)
        call = Call(functools.partial(wrapped, *args, **kwargs))
        try:
            around(args[0], call, **relied)
        except may_leave:
            raise
        except Exception as error:
            if error is call.error:
                raise
            LOG.exception(
                "nova-devcompat failed in %(method)s, which goes on without it. What is lost: "
                "%(lost)s",
                {"method": hook.method, "lost": hook.off},
            )
        return call.outcome()

    return functools.update_wrapper(method, wrapped)

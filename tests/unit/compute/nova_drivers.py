# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Nova's virt drivers as their wheels have them: classes with the recorded signatures."""

from __future__ import annotations

import ast
import inspect
from typing import Any

from rigs import driver_signatures

RELEASES = driver_signatures.recorded()

Parameter = inspect.Parameter


def classes_of(release: dict[str, Any]) -> dict[str, type]:
    """The drivers of a release by name, each but the first a subclass of ``ComputeDriver``.

    :param release: as :func:`driver_signatures.read_release` has it
    """
    made: dict[str, type] = {}
    for name, methods in release["classes"].items():
        bases = (made["ComputeDriver"],) if made else ()
        made[name] = type(name, bases, {each: _stub(text) for each, text in methods.items()})
    return made


def _stub(parameters: str) -> Any:
    def stub() -> None:
        """Never called."""

    stub.__signature__ = signature_of(parameters)  # type: ignore[attr-defined]
    return stub


def signature_of(parameters: str) -> inspect.Signature:
    """The signature with these parameters, as a ``def`` has them; defaults are not evaluated."""
    (function,) = ast.parse(f"def _({parameters}): ...").body
    assert isinstance(function, ast.FunctionDef)
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    required = len(positional) - len(arguments.defaults)
    found = [
        Parameter(
            one.arg,
            Parameter.POSITIONAL_ONLY
            if one in arguments.posonlyargs
            else Parameter.POSITIONAL_OR_KEYWORD,
            default=Parameter.empty if place < required else ...,
        )
        for place, one in enumerate(positional)
    ]
    if arguments.vararg:
        found.append(Parameter(arguments.vararg.arg, Parameter.VAR_POSITIONAL))
    found += [
        Parameter(
            one.arg, Parameter.KEYWORD_ONLY, default=Parameter.empty if default is None else ...
        )
        for one, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    ]
    if arguments.kwarg:
        found.append(Parameter(arguments.kwarg.arg, Parameter.VAR_KEYWORD))
    return inspect.Signature(found)

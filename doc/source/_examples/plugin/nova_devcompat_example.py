"""A rule kind and a source of a third party."""

import dataclasses
import pathlib

from nova_devcompat.compat.attributes import parse_version
from nova_devcompat.compat.rules import BadOptions, Refusal, Rule
from nova_devcompat.compat.verdict import Actor
from nova_devcompat.sources.base import Device, Source, normalise_address


@dataclasses.dataclass(frozen=True, slots=True)
class SameBranch(Rule[str, str]):
    """The first parts of a version are the same: 570.86.15 and 570.133.20 are branch 570.

    :param parts: how many parts name the branch
    """

    kind = "same_branch"
    api_version = (1, 0)
    parts: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.parts, int) or self.parts < 1:
            raise BadOptions(f"parts: {self.parts!r} is not 1 or more")

    def parse_offer(self, raw: object) -> str:
        # parse_version raises Unreadable, which makes the verdict UNKNOWN.
        return ".".join(map(str, parse_version(raw)[: self.parts]))

    def parse_need(self, text: str) -> str:
        return self.parse_offer(text)

    def canonical(self, text: str) -> str:
        return self.parse_need(text)

    def freeze(self, offer: str) -> frozenset[str]:
        return frozenset([offer])

    def check(self, offer: str, need: str) -> Refusal | None:
        return None if offer == need else Refusal("branch-differs", Actor.HOST)

    def describe(self, offer: str) -> str:
        return f"branch {offer}"


class NvidiaSysfs(Source):
    """The PCI devices bound to the nvidia driver, and that driver's version, from sysfs."""

    name = "nvidia_sysfs"
    api_version = (1, 0)
    sysfs = pathlib.Path("/sys")

    def read(self, host: str) -> list[Device]:
        version = _fact(self.sysfs / "module/nvidia/version")
        return [
            Device(
                normalise_address(folder.name),
                {"vendor_id": _fact(folder / "vendor"), "driver_version": version},
            )
            for folder in sorted(self.sysfs.glob("bus/pci/drivers/nvidia/*:*"))
        ]


def _fact(path: pathlib.Path) -> str | None:
    try:
        return path.read_text().strip().removeprefix("0x")
    except OSError:
        return None  # not known

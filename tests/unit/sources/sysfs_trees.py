# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Lays out folders in the true shape of sysfs.

Shape and spelling are the kernel's: Documentation/ABI/testing/sysfs-bus-pci, drivers/pci/iov.c and
drivers/vfio/mdev/mdev_sysfs.c. Devices are folders below ``devices``, everything on a bus or in a
class is a link to them. Identifiers are those of pci.ids for the devices named: ConnectX-6 Dx, QAT
4xxx, NVIDIA T4, and the kernel's mtty; source versions are made up.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence

_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


class Tree:
    """A sysfs.

    :param root: an empty folder
    """

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        for folder in ("bus/pci/devices", "bus/pci/drivers", "devices/pci0000:80", "module"):
            (root / folder).mkdir(parents=True, exist_ok=True)

    # A server has thousands of files and links: these two ask for nothing that they need not know.

    def write(self, path: str, text: str | bytes) -> pathlib.Path:
        file = f"{self.root}/{path}"
        try:
            descriptor = os.open(file, _WRITE, 0o666)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(file), exist_ok=True)
            descriptor = os.open(file, _WRITE, 0o666)
        with open(descriptor, "wb", buffering=0) as opened:
            opened.write(text.encode() if isinstance(text, str) else text)
        return self.root / path

    def link(self, path: str, target: str) -> None:
        """A relative link, as sysfs has them; one that is there goes."""
        link = f"{self.root}/{path}"
        text = os.path.relpath(f"/{target}", os.path.dirname(f"/{path}"))
        try:
            os.symlink(text, link)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(link), exist_ok=True)
            os.symlink(text, link)
        except FileExistsError:
            os.unlink(link)
            os.symlink(text, link)

    def folder(self, address: str) -> str:
        return f"devices/pci0000:80/{address}"

    def module(
        self, name: str, *, version: str | None = None, srcversion: str | None = None
    ) -> None:
        (self.root / "module" / name / "holders").mkdir(parents=True, exist_ok=True)
        if version is not None:
            self.write(f"module/{name}/version", f"{version}\n")
        if srcversion is not None:
            self.write(f"module/{name}/srcversion", f"{srcversion}\n")

    def holder(self, module: str, of: str) -> None:
        self.link(f"module/{of}/holders/{module}", f"module/{module}")

    def driver(self, name: str, module: str | None = None, **facts: str | None) -> None:
        module = module or name.replace("-", "_")
        self.module(module, **facts)
        self.link(f"bus/pci/drivers/{name}/module", f"module/{module}")
        self.link(f"module/{module}/drivers/pci:{name}", f"bus/pci/drivers/{name}")

    def bind(self, address: str, driver: str | None) -> None:
        link = self.root / self.folder(address) / "driver"
        if link.is_symlink():
            old = link.readlink().name
            (self.root / "bus/pci/drivers" / old / address).unlink()
            link.unlink()
        if driver is not None:
            if not (self.root / "bus/pci/drivers" / driver).is_dir():
                self.driver(driver)
            self.link(f"{self.folder(address)}/driver", f"bus/pci/drivers/{driver}")
            self.link(f"bus/pci/drivers/{driver}/{address}", self.folder(address))

    def pci(
        self,
        address: str,
        *,
        vendor: str = "15b3",
        device: str = "101d",
        subsystem: tuple[str, str] = ("15b3", "0016"),
        class_: str = "020000",
        revision: str = "00",
        driver: str | None = None,
        totalvfs: int | None = None,
        vf_device: str = "101e",
    ) -> None:
        folder = self.folder(address)
        self.write(f"{folder}/vendor", f"0x{vendor}\n")
        self.write(f"{folder}/device", f"0x{device}\n")
        self.write(f"{folder}/subsystem_vendor", f"0x{subsystem[0]}\n")
        self.write(f"{folder}/subsystem_device", f"0x{subsystem[1]}\n")
        self.write(f"{folder}/class", f"0x{class_}\n")
        self.write(f"{folder}/revision", f"0x{revision}\n")
        self.write(f"{folder}/config", bytes.fromhex(vendor + device) + bytes(252))
        self.link(f"{folder}/subsystem", "bus/pci")
        number = str(int(address[5:7], 16) * 8 + int(address[-1]))
        os.makedirs(f"{self.root}/kernel/iommu_groups/{number}", exist_ok=True)
        self.link(f"{folder}/iommu_group", f"kernel/iommu_groups/{number}")
        if totalvfs is not None:
            self.write(f"{folder}/sriov_totalvfs", f"{totalvfs}\n")
            self.write(f"{folder}/sriov_numvfs", "0\n")
            self.write(f"{folder}/sriov_vf_device", f"{vf_device}\n")
            self.write(f"{folder}/sriov_drivers_autoprobe", "1\n")
        self.link(f"bus/pci/devices/{address}", folder)
        if driver is not None:
            self.bind(address, driver)

    def functions(
        self, parent: str, count: int, *, driver: str | None = None, offset: int = 8
    ) -> list[str]:
        """Enable virtual functions: each eight to a slot, from the parent's bus and slot 1 on.

        :param offset: of the first one from the parent (First VF Offset), where that is slot 0
        """
        folder = self.folder(parent)
        vf_device = (self.root / folder / "sriov_vf_device").read_text().strip()
        vendor = (self.root / folder / "vendor").read_text().strip()[2:]
        class_ = (self.root / folder / "class").read_text().strip()[2:]
        found = []
        for number in range(count):
            bus, rest = divmod(int(parent[5:7], 16) * 256 + offset + number, 256)
            address = f"{parent[:5]}{bus:02x}:{rest >> 3:02x}.{rest & 7}"
            self.pci(address, vendor=vendor, device=vf_device, class_=class_, driver=driver)
            self.link(f"{self.folder(address)}/physfn", folder)
            self.link(f"{folder}/virtfn{number}", self.folder(address))
            found.append(address)
        self.write(f"{folder}/sriov_numvfs", f"{count}\n")
        return found

    def remove(self, address: str) -> None:
        """Take a device away: first from its bus, as device_del() does."""
        self.bind(address, None)
        (self.root / "bus/pci/devices" / address).unlink()
        folder = self.root / self.folder(address)
        for entry in folder.iterdir():
            if entry.is_symlink() or entry.is_file():
                entry.unlink()

    def mdev_types(
        self, name: str, types: dict[str, dict[str, str]], folder: str | None = None
    ) -> None:
        """Make a device a parent of mdevs.

        :param name: of the device
        :param types: files by type; ``create`` and ``devices`` come by themselves
        """
        folder = folder or self.folder(name)
        for kind, files in types.items():
            for file, text in files.items():
                self.write(f"{folder}/mdev_supported_types/{kind}/{file}", f"{text}\n")
            self.write(f"{folder}/mdev_supported_types/{kind}/create", "").chmod(0o200)
            (self.root / folder / "mdev_supported_types" / kind / "devices").mkdir(exist_ok=True)
        self.link(f"class/mdev_bus/{name}", folder)

    def mdev(self, parent: str, uuid: str, kind: str, folder: str | None = None) -> None:
        """Make an mdev."""
        folder = folder or self.folder(parent)
        self.write(f"{folder}/{uuid}/remove", "")
        self.link(f"{folder}/{uuid}/mdev_type", f"{folder}/mdev_supported_types/{kind}")
        self.link(f"{folder}/mdev_supported_types/{kind}/devices/{uuid}", f"{folder}/{uuid}")
        self.link(f"bus/mdev/devices/{uuid}", f"{folder}/{uuid}")


NVIDIA_T4_TYPES = {
    "nvidia-222": {
        "name": "GRID T4-1B",
        "device_api": "vfio-pci",
        "available_instances": "16",
        "description": "num_heads=4, frl_config=45, framebuffer=1024M, "
        "max_resolution=5120x2880, max_instance=16",
    },
    "nvidia-319": {
        "name": "GRID T4-8C",
        "device_api": "vfio-pci",
        "available_instances": "2",
        "description": "num_heads=1, frl_config=60, framebuffer=8192M, "
        "max_resolution=4096x2160, max_instance=2",
    },
}

# samples/vfio-mdev/mtty.c; its types have no description.
MTTY_TYPES = {
    "mtty-1": {
        "name": "Single port serial",
        "device_api": "vfio-pci",
        "available_instances": "24",
    },
    "mtty-2": {"name": "Dual port serial", "device_api": "vfio-pci", "available_instances": "12"},
}


def mlx5(tree: Tree, parents: int = 2, functions: int = 8) -> list[str]:
    """ConnectX-6 Dx, functions bound to the VFIO variant driver."""
    tree.module("vfio_pci_core", srcversion="0A1B2C3D4E5F60718293A4B")
    tree.driver("mlx5_core", srcversion="8B5A4C1D5E2F3A4B5C6D7E8")
    tree.driver("mlx5_vfio_pci", srcversion="1F2E3D4C5B6A79880716253")
    tree.holder("mlx5_vfio_pci", "vfio_pci_core")
    found = []
    for number in range(parents):
        address = f"0000:{0x81 + number * 4:02x}:00.0"
        tree.pci(address, driver="mlx5_core", totalvfs=128)
        tree.functions(address, functions, driver="mlx5_vfio_pci")
        found.append(address)
    return found


RTX = "0001:04:00.0"


def rtx(
    tree: Tree, functions: int, types: Sequence[str] = (), address: str = RTX, offset: int = 8
) -> list[str]:
    """An NVIDIA GPU under the vendor's own VFIO framework: no mdevs, a type for each function.

    Files are those of NVIDIA's Virtual GPU Software User Guide.
    """
    tree.driver("nvidia", version="580.105.06")
    tree.pci(
        address,
        vendor="10de",
        device="2bb5",
        class_="030200",
        driver="nvidia",
        totalvfs=256,
        vf_device="2bb5",
    )
    found = tree.functions(address, functions, driver="nvidia", offset=offset)
    for number, function in enumerate(found):
        kind = types[number] if number < len(types) else "0"
        tree.write(f"{tree.folder(function)}/nvidia/current_vgpu_type", f"{kind}\n")
        free = "" if kind != "0" else "1518  : NVIDIA RTX-2B\n1561  : NVIDIA RTX-48Q\n"
        tree.write(
            f"{tree.folder(function)}/nvidia/creatable_vgpu_types", f"ID    : vGPU Name\n{free}"
        )
    return found


def mtty(tree: Tree) -> None:
    """The kernel's sample driver, on no bus."""
    folder = "devices/virtual/mtty/mtty"
    tree.module("mtty", version="0.1", srcversion="77D3DC23CDBFE3D0E3E4A7E")
    (tree.root / "class/mtty").mkdir(parents=True)
    tree.link(f"{folder}/subsystem", "class/mtty")
    tree.link("class/mtty/mtty", folder)
    tree.mdev_types("mtty", MTTY_TYPES, folder)


def server(root: pathlib.Path) -> Tree:
    """A host with a bridge, a disk, NICs, a QAT, GPUs, and mtty."""
    tree = Tree(root)
    tree.pci("0000:80:01.0", vendor="8086", device="352a", class_="060400", driver="pcieport")
    tree.pci("0000:80:17.0", vendor="8086", device="a182", class_="010601", driver="ahci")
    mlx5(tree)
    tree.pci(
        "0000:e8:00.0",
        vendor="8086",
        device="4940",
        subsystem=("8086", "0000"),
        class_="0b4000",
        revision="40",
        driver="4xxx",
        totalvfs=16,
        vf_device="4941",
    )
    tree.driver("qat_vfio_pci")
    tree.functions("0000:e8:00.0", 4, driver="qat_vfio_pci")
    tree.write(f"{tree.folder('0000:e8:00.0')}/qat/cfg_services", "sym;asym\n")
    tree.write(f"{tree.folder('0000:e8:00.0')}/qat/num_rps", "64\n")
    tree.driver("nvidia", version="550.144.02", srcversion="0E2B8C3A6B5D4C3B2A19087")
    tree.pci(
        "0000:c1:00.0",
        vendor="10de",
        device="1eb8",
        subsystem=("10de", "12a2"),
        class_="030200",
        revision="a1",
        driver="nvidia",
    )
    tree.mdev_types("0000:c1:00.0", NVIDIA_T4_TYPES)
    tree.mdev("0000:c1:00.0", "4b20d080-1b54-4048-85b3-a6a62d165c01", "nvidia-319")
    mtty(tree)
    return tree

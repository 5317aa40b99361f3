"""One outside system per file: the kernel's /proc and /sys, netlink, file systems, psutil."""

import platform

from host_agent.ports import Kernel


def this_kernel(*, network_disks: bool = False) -> Kernel:
    """The reader for the system this runs on."""
    if platform.system() == "Linux":
        from host_agent.adapters.linux import LinuxKernel  # noqa: PLC0415  (only one of the two is needed)

        return LinuxKernel(network_disks=network_disks)
    from host_agent.adapters.portable import PortableKernel  # noqa: PLC0415  (psutil costs memory)

    return PortableKernel()

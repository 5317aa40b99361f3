"""Whether the machine is a container, a virtual machine or neither, from the traces they leave."""

from dataclasses import dataclass

CONTAINERS = {"kubepods": "kubernetes", "docker": "docker", "libpod": "podman", "containerd": "containerd",
              "lxc": "lxc", "machine.slice": "systemd-nspawn"}  # fmt: skip
MACHINES = (
    ("kvm", "kvm"),
    ("firecracker", "firecracker"),
    ("amazon ec2", "kvm"),
    ("google", "kvm"),
    ("openstack", "kvm"),
    ("digitalocean", "kvm"),
    ("qemu", "qemu"),
    ("vmware", "vmware"),
    ("virtualbox", "virtualbox"),
    ("innotek", "virtualbox"),
    ("xen", "xen"),
    ("microsoft corporation virtual machine", "hyper-v"),
    ("parallels", "parallels"),
    ("bhyve", "bhyve"),
    ("apple virtualization", "apple"),
)

CLOCKS = {"kvm-clock": "kvm", "hyperv_clocksource": "hyper-v", "xen": "xen"}


@dataclass(frozen=True, slots=True)
class Traces:
    """What can be seen from inside."""

    first_cgroup: str = ""
    """The text of /proc/1/cgroup."""
    has_dockerenv: bool = False
    has_containerenv: bool = False
    container_variable: str = ""
    """``container`` in the environment of process 1, which lxc, nspawn and podman set."""
    in_kubernetes: bool = False
    overlay_root: bool = False
    vendor: str = ""
    """The DMI vendor and product, in one line."""
    clock_sources: str = ""
    """The clocks the kernel could use; a paravirtual one names its hypervisor."""
    cpu_has_hypervisor: bool = False


def container(traces: Traces) -> str | None:
    """The kind of container this is, or None.

    A file /.dockerenv alone is no proof: disk images made from container images carry it too, so it counts
    only above the overlay that Docker puts under every container.
    """
    if traces.in_kubernetes:
        return "kubernetes"
    for trace, kind in CONTAINERS.items():
        if f"/{trace}" in traces.first_cgroup or f"-{trace}" in traces.first_cgroup:
            return kind
    if traces.has_containerenv:
        return "podman"
    if traces.container_variable:
        return traces.container_variable
    return "docker" if traces.has_dockerenv and traces.overlay_root else None


def virtualization(traces: Traces) -> str | None:
    """The innermost thing around this machine: a container, else a virtual machine, else None."""
    if found := container(traces):
        return found
    vendor = traces.vendor.lower()
    for trace, kind in MACHINES:
        if trace in vendor:
            return kind
    for trace, kind in CLOCKS.items():
        if trace in traces.clock_sources:
            return kind
    return "vm" if traces.cpu_has_hypervisor else None

"""Where the processes of a stage meet: on the loopback if one node has them all, else on the network that
their nodes share, and nowhere else. torch would listen on all networks of the node."""

import fcntl
import os
import socket
import struct
from datetime import timedelta

from torch.distributed import TCPStore  # type: ignore[attr-defined]

from vssl.errors import VsslError

VARIABLES = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "PEER_ADDR",
)
"""How processes find one another: torch's own names of environment variables, and the name of another node of
the stage, which is the first one, MASTER_ADDR, but for processes of that one."""
_SIOCGIFADDR = 0x8915


def meet(timeout: timedelta) -> TCPStore:
    """The store through which this process finds the others; that of rank 0 serves them all.

    Tells gloo, and on a single node NCCL, to exchange data over the same network, unless the user has.
    """
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    own = address_towards(os.environ.get("PEER_ADDR", host))
    if name := interface(own):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
        if is_loopback(own):
            os.environ.setdefault("NCCL_SOCKET_IFNAME", name)
    world_size = int(os.environ["WORLD_SIZE"])
    if os.environ["RANK"] != "0":
        return TCPStore(host, port, world_size, False, timeout)
    # Others know this node by its name; to itself that may mean the loopback (Debian's 127.0.1.1).
    known_as = address_towards(host)
    place = own if is_loopback(known_as) else known_as
    return TCPStore(place, port, world_size, True, timeout, master_listen_fd=_listen(place, port))


def address_towards(peer: str) -> str:
    """The address of this node on its way to another one, or to itself; nothing is sent."""
    found = socket.getaddrinfo(peer, 9, type=socket.SOCK_DGRAM)
    family, kind, _, _, place = min(found, key=lambda one: one[0] != socket.AF_INET)
    with socket.socket(family, kind) as probe:
        probe.connect(place)
        return str(probe.getsockname()[0])


def is_loopback(address: str) -> bool:
    """Whether an address is one of this node alone."""
    return address.startswith("127.") or address == "::1"


def interface(address: str) -> str | None:
    """The network interface that has an address (IPv4); None if that cannot be told."""
    wanted = "127.0.0.1" if is_loopback(address) else address
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            try:
                told = fcntl.ioctl(any_socket, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:
                continue  # it has no IPv4 address
            if socket.inet_ntoa(told[20:24]) == wanted:
                return name
    return None


def _listen(place: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in place else socket.AF_INET
    try:
        return socket.create_server((place, port), family=family).detach()
    except OSError as error:
        said = os.strerror(error.errno or 0)
        raise VsslError(f"{place}:{port}: {said}; another job may have it, start the stage again") from error

"""Where processes of a stage listen for one another."""

import os
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from conftest import ROOT
from vssl import rendezvous
from vssl.errors import VsslError

CODE = """
import sys
from pathlib import Path
from vssl import distributed
with distributed.init_distributed(60):
    total = distributed.all_gather_object(distributed.rank())
    inodes = {path.readlink().name for path in Path('/proc/self/fd').iterdir() if path.is_symlink()}
    for table in ('tcp', 'tcp6'):
        for line in Path(f'/proc/self/net/{table}').read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == '0A' and f'socket:[{words[9]}]' in inodes:
                print(words[1].partition(':')[0])
    distributed.barrier()
"""


def listening(variables, prefix=((), ())):
    """The addresses, as the kernel writes them, on which each of two ranks listens."""
    ranks = []
    for rank in ("0", "1"):
        own = {
            "RANK": rank,
            "WORLD_SIZE": "2",
            "LOCAL_RANK": rank,
            "LOCAL_WORLD_SIZE": "2",
            **variables[int(rank)],
        }
        ranks.append(
            subprocess.Popen(
                [*prefix[int(rank)], sys.executable, "-c", CODE],
                **{"env": {**os.environ, **own}, "cwd": ROOT, "text": True, "stdout": subprocess.PIPE},
            )
        )
    addresses = [process.communicate(timeout=100)[0].split() for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0]
    assert all(addresses)
    return [set(own) for own in addresses]


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def kernels(address):
    """An IPv4 address as /proc/net/tcp has it."""
    return socket.inet_aton(address)[::-1].hex().upper()


def test_processes_of_one_node_listen_on_the_loopback_only():
    here = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "PEER_ADDR": "127.0.0.1"}
    assert listening([here, here]) == [{kernels("127.0.0.1")}] * 2


@pytest.fixture
def two_nodes():
    """Two network namespaces with two networks each, of which they share one; what runs a command in each."""
    names = [f"vssl{os.getpid()}{which}" for which in "ab"]
    if os.geteuid() or subprocess.run(["ip", "netns", "add", names[0]], check=False).returncode:
        pytest.skip("may not make network namespaces here")
    try:
        a, b = names
        ip(f"netns add {b}")
        ip(f"-n {a} link add shared type veth peer name shared netns {b}")
        for number, name in enumerate(names, 1):
            ip(f"-n {name} link add other type veth peer name end")
            ip(f"-n {name} addr add 10.9.1.{number}/24 dev shared")
            ip(f"-n {name} addr add 10.8.{number}.1/24 dev other")
            for link in ("lo", "shared", "other"):
                ip(f"-n {name} link set {link} up")
        yield [("ip", "netns", "exec", name) for name in names]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def ip(words):
    subprocess.run(["ip", *words.split()], check=True)


@pytest.mark.parametrize("known_as", ["10.9.1.1", "127.0.1.1"])
def test_nodes_meet_on_the_network_that_they_share(two_nodes, known_as):
    """Also where the first one's own name means its loopback to itself, as in Debian's /etc/hosts."""
    port = {"MASTER_PORT": free_port()}
    first = {"MASTER_ADDR": known_as, "PEER_ADDR": "10.9.1.2", **port}
    second = {"MASTER_ADDR": "10.9.1.1", "PEER_ADDR": "10.9.1.1", **port}
    assert listening([first, second], two_nodes) == [{kernels("10.9.1.1")}, {kernels("10.9.1.2")}]


def test_a_port_that_is_taken_is_one_line(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": "0"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("WORLD_SIZE", "2")
        with pytest.raises(VsslError, match=rf"^127\.0\.0\.1:{port}: Address already in use; another job"):
            rendezvous.meet(timedelta(seconds=1))


def test_the_interface_of_an_address_is_found():
    assert rendezvous.interface("127.0.0.1") == rendezvous.interface("127.0.1.1")
    assert rendezvous.interface("127.0.0.1") in {path.name for path in Path("/sys/class/net").iterdir()}
    assert rendezvous.interface("203.0.113.7") is None

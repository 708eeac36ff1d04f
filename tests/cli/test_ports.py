"""Ports: who holds a taken one, and what to do."""

import os
import socket

from wharf.cli.embedded.plan import Port
from wharf.cli.embedded.ports import Ports, conflicts, free_port, listening


def test_a_taken_port_names_its_holder_and_the_flag() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        number = holder.getsockname()[1]
        (line,) = conflicts([Port(part="brain", number=number, flag="--brain-port")])
    assert line.startswith(f"port {number} (brain) is taken by ")
    assert f"(pid {os.getpid()})" in line
    assert line.endswith("stop that, or choose another port with --brain-port (0: any free one)")


def test_a_free_port_is_no_conflict() -> None:
    assert conflicts([Port(part="brain", number=free_port(), flag="--brain-port")]) == []


def test_two_parts_cannot_share_a_port() -> None:
    number = free_port()
    ports = [Port(part="a", number=number, flag="--a"), Port(part="b", number=number, flag="--b")]
    assert conflicts(ports) == [f"port {number} is wanted by a and b; change --b"]


def test_sockets_that_listen_are_found_in_the_kernel_s_table() -> None:
    table = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 0100007F:094B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0\n"
        "   1: 0100007F:094B 0100007F:C000 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0\n"
        "   2: 0100007F:094C 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0\n"
    )
    assert list(listening(table, 2379)) == ["4711"]


def test_zero_is_any_free_port_and_others_stay() -> None:
    chosen = Ports(apiserver=0, brain=5).chosen()
    assert chosen.apiserver > 0
    assert (chosen.brain, chosen.scheduler) == (5, 10259)
    assert len({port.flag for port in chosen.table()}) == 7

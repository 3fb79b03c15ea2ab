"""The checking guest moves: both QEMUs, every pattern, one vCPU and several."""

from lib.move import Move, require
from lib.node import Machine
from lib.proxy import Proxy
from lib.scenario import add, scenario

PATTERNS = ("random", "sequential", "stride", "hotset")


def moves(machine):
    return lambda site: Move(site, machine).go()


for qemu in ("7.2", "10.0"):
    for pattern in PATTERNS:
        add(f"move.checker_{pattern}_on_qemu_{qemu}",
            moves(Machine(qemu=qemu, append=f"pattern={pattern} seed={len(pattern)}")))
    for smp in (2, 4):
        add(f"move.checker_with_{smp}_vcpus_on_qemu_{qemu}", moves(Machine(qemu=qemu, smp=smp)))


@scenario()
def a_byte_changed_on_the_wire_is_found_by_the_guest(site):
    """The proof that the other scenarios can fail: the guest's own check is not blind."""
    proxy = Proxy(site, pages=True)

    def flip(message, data):
        if message.name != "MiB8":
            return data
        return data[:-1] + bytes([data[-1] ^ 1])  # far from a reply's header

    proxy.mangle = flip
    move = Move(site, via=proxy.between)
    move.ready()
    move.transfer().run()
    require(move.destination.check_guest(), "a wrong byte went unnoticed")

"""Processor time: of whole processes, and of the guest's own work in them."""

import os

TICKS = os.sysconf("SC_CLK_TCK")


def _stat_times(path):
    """(user, system) seconds from a /proc stat file (proc(5), fields 14 and 15)."""
    with open(path, encoding="ascii", errors="replace") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return int(fields[11]) / TICKS, int(fields[12]) / TICKS


class GuestCpu:
    """Seconds since it was made, of both QEMUs: all of it, and what the guest's own code used.

    The guest's own work is the user time of the vCPU threads: emulated guest code. Their system time
    stays in what the move cost, because page faults are in it (and the heartbeats, the same for both).
    """

    def __init__(self, guests):
        self._processes = [f"/proc/{g.qemu.pid}/stat" for g in guests]
        self._vcpus = [f"/proc/{g.qemu.pid}/task/{t}/stat" for g in guests for t in g.vcpu_threads]
        self._before = self._now()

    def _now(self):
        whole = sum(sum(_stat_times(path)) for path in self._processes)
        return whole, sum(_stat_times(path)[0] for path in self._vcpus)

    def since(self):
        """(all, of the guest's own work)"""
        return tuple(now - before for now, before in zip(self._now(), self._before))

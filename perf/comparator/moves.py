"""The two ways to move the guest: faultline, and QEMU's own post-copy with preempt.

Each is prepared (everything that may be done before the clock starts) and then run. The clock starts
when the mover is told to go: for QEMU the command `migrate`, for faultline the start of the process
`faultline migrate`.
"""

import json
import os
import socket
import time

from .processes import Failure, wait_until

# Both bandwidth limits out of the way: `max-bandwidth` has no "unlimited" that both versions share
# (default 128 MiB/s), `max-postcopy-bandwidth` does (0).
QEMU_PARAMETERS = {"max-bandwidth": 10**11, "max-postcopy-bandwidth": 0}
# Post-copy in both, requested pages on a connection of their own. Multifd stays off: it stops sending
# when post-copy starts. The rest are QEMU's defaults.
QEMU_CAPABILITIES = {"postcopy-ram": True, "postcopy-preempt": True, "multifd": False, "events": True}


class Moved:
    """What a move has to say for itself; times are CLOCK_MONOTONIC ns."""

    def __init__(self, start_ns, end_ns, total_ms, wall_ms, own):
        self.start_ns, self.end_ns = start_ns, end_ns
        self.total_ms, self.wall_ms = total_ms, wall_ms
        self.own = own  # the mover's own summary, as it gave it
        self.engine_cpu_s = 0.0


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class QemuMove:
    name = "qemu"

    def __init__(self, scope, config, folder, source, destination, link):
        self.source, self.destination, self.timeout_s = source, destination, config.timeout
        for guest in (source, destination):
            capabilities = [{"capability": name, "state": state}
                            for name, state in QEMU_CAPABILITIES.items()]
            guest.qmp.command("migrate-set-capabilities", {"capabilities": capabilities})
            guest.qmp.command("migrate-set-parameters", QEMU_PARAMETERS)
        self.first_pass = config.qemu_start == "after-first-pass"
        self.uri = f"tcp:{link.address}:{link.port()}"
        destination.qmp.command("migrate-incoming", {"uri": self.uri})

    def run(self):
        start = time.monotonic_ns()
        self.source.qmp.command("migrate", {"uri": self.uri})
        # At once: faultline is pure post-copy too, so no page goes before the switch for its own sake.
        if self.first_pass:
            self._await_first_pass()
        self.source.qmp.command("migrate-start-postcopy")
        # The destination says `completed` after its last page and its userfaultfd's end, the source
        # when the destination has said so over the return path.
        end = max(guest.qmp.wait_event("MIGRATION", start, self.timeout_s, status="completed")
                  for guest in (self.destination, self.source))
        total_ms = (end - start) / 1e6
        own = self.source.qmp.command("query-migrate")
        return Moved(start, end, total_ms, total_ms, own)

    def _await_first_pass(self):
        """Until the dirty bitmap has been read a second time: all memory has gone over once."""

        def passed():
            said = self.source.qmp.command("query-migrate")
            return said.get("ram", {}).get("dirty-sync-count", 0) > 1 or said["status"] == "completed"

        wait_until(passed, self.timeout_s, "QEMU's first pass over its memory")


class FaultlineMove:
    name = "faultline"

    def __init__(self, scope, config, folder, source, destination, link):
        self.scope, self.config, self.folder = scope, config, folder
        self.source, self.destination, self.link = source, destination, link
        self.address = f"{link.address}:{link.port()}"
        self.flags = ["--state-dir", os.path.join(folder, "state"), "--quiet"]
        self.flags += ["--insecure"] if link.is_link else []
        self.receive = self._start("receive", destination, ["--listen", self.address],
                                   config.receive_args, link.destination_netns)
        wait_until(self._is_listening, 30, "faultline receive listens", self.receive)

    def _start(self, command, guest, where, extra, netns):
        return self.scope.start(
            [self.config.engine, command, "--qmp", guest.engine_qmp, *where, *self.flags, "--json",
             self._file(f"{command}.json"), *extra], self._file(f"{command}.log"), netns=netns)

    def _file(self, name):
        return os.path.join(self.folder, name)

    def _is_listening(self):
        """By its name space's own table: a connection to find out would be taken for a source."""
        port = int(self.address.rsplit(":", 1)[1])
        with open(f"/proc/{self.receive.pid}/net/tcp", encoding="ascii") as table:
            rows = [row.split() for row in table]
        return any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows[1:])

    def run(self):
        migrate = self._start("migrate", self.source, ["--to", self.address],
                              self.config.migrate_args, self.link.source_netns)
        start = migrate.start_ns
        if migrate.wait(self.config.timeout) != 0 or self.receive.wait(30) != 0:
            logs = migrate.log()[-2000:] + self.receive.log()[-2000:]
            raise Failure(f"faultline: migrate exited with {migrate.status}, receive with "
                          f"{self.receive.status} (None: still running):\n{logs}")
        with open(self._file("migrate.json"), encoding="utf-8") as summary:
            own = json.load(summary)
        # All is placed and no uffd is left when `receive` ends.
        end = self.receive.end_ns
        moved = Moved(start, end, own["total_ms"], (end - start) / 1e6, own)
        moved.engine_cpu_s = migrate.cpu_seconds() + self.receive.cpu_seconds()
        return moved


MOVES = {move.name: move for move in (QemuMove, FaultlineMove)}

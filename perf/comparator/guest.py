"""One QEMU with the checking guest: boots it, reads and commands its console."""

import os
import threading

from . import histogram
from .processes import Failure, connect_unix, wait_until
from .qmp import Qmp

GUESTS = os.path.join(os.path.dirname(__file__), "..", "..", "qemu-integration", "guests")
BOOT = os.path.normpath(os.path.join(GUESTS, "boot"))
READY_SECONDS = 180
ANSWER_SECONDS = 120


class Console:
    """COM1: lines with the time when they were read."""

    def __init__(self, path, qemu):
        self._socket = connect_unix(path, f"serial socket {path}", qemu)
        self.lines = []
        self._changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self._socket.makefile("r", encoding="utf-8", errors="replace"):
            with self._changed:
                self.lines.append(line.strip())
                self._changed.notify_all()

    def send(self, command):
        self._socket.sendall(command.encode())

    def wait_line(self, prefix, seconds, start=0):
        """Index of the first line from `start` on that begins so."""

        def find():
            for i in range(start, len(self.lines)):
                if self.lines[i].startswith(prefix):
                    return i + 1
            return None

        with self._changed:
            found = self._changed.wait_for(find, seconds)
            if not found:
                raise Failure(f"the guest did not say {prefix!r} within {seconds} s; its last "
                              f"lines: {self.lines[-5:]}")
            return found - 1

    def ask(self, command, answer):
        """Sends a command and returns the lines up to the one that begins with `answer`."""
        start = len(self.lines)
        self.send(command)
        end = self.wait_line(answer, ANSWER_SECONDS, start)
        return self.lines[start : end + 1]

    def complaints(self):
        return [line for line in self.lines if line.startswith(("CORRUPT", "EXCEPTION"))]


def fields_of(line):
    """The name=value words of a line, numbers as int where they are."""
    words = dict(word.split("=", 1) for word in line.split() if "=" in word)
    return {name: int(value) if value.isdigit() else value for name, value in words.items()}


def quiet_us(guest_mib):
    """So long the guest says nothing after the switch: a line on its console takes it tens of
    milliseconds of the move that is being measured. Longer than either mover takes on loopback."""
    return min(max(2, 2 * guest_mib // 1024), 20) * 10**6


class Guest:
    """`ram` is a file name, or None for private memory."""

    def __init__(self, scope, config, side, folder, ram, qemu, sink, netns=None):
        self.side, self.ram = side, ram
        path = lambda name: os.path.join(folder, f"{side}.{name}")
        self.engine_qmp = path("qmp")
        command = [BOOT, "--qemu", qemu, "--guest", config.guest, "--mem", config.guest_mib,
                   *(["--ram-file", ram] if ram else ["--private"]),
                   *(["--incoming"] if side == "destination" else []),
                   *(["--netns", netns] if netns else []),
                   "--qmp", self.engine_qmp, "--serial", path("com1"), "--sink", sink,
                   "--append", f"touch_mib={config.touch_mib} pattern={config.pattern} "
                               f"quiet_us={quiet_us(config.guest_mib)}",
                   "--", "-qmp", f"unix:{path('observer')},server=on,wait=off"]
        self.qemu = scope.start(command, path("log"))
        self.console = Console(path("com1"), self.qemu)
        self.qmp = Qmp(path("observer"), self.qemu)
        scope.callback(self.qmp.close)
        cpus = self.qmp.command("query-cpus-fast")
        self.vcpu_threads = [cpu["thread-id"] for cpu in cpus]

    def wait_ready(self):
        line = self.console.lines[self.console.wait_line("READY", READY_SECONDS)]
        return fields_of(line)

    def wait_switch(self, seconds):
        self.console.wait_line("SWITCH", seconds)

    def histograms(self):
        return histogram.parse(self.console.ask("d", "hist-end"))

    def stalls(self):
        """The guest's own account of the stalls since the switch."""
        return fields_of(self.console.ask("s", "lap")[-1])

    def full_check(self):
        """Pages that are wrong, of all that the load has written."""
        return fields_of(self.console.ask("f", "FULL")[-1])["errors"]

    def ram_bytes(self):
        """Memory that its RAM occupies: of the file, or of the process where it is private."""
        if self.ram:
            return os.stat(self.ram).st_blocks * 512
        with open(f"/proc/{self.qemu.pid}/status", encoding="ascii") as status:
            return next(int(l.split()[1]) * 1024 for l in status if l.startswith("RssAnon:"))


def start_sink(scope, folder):
    """(FIFO, log) of a running heartbeat recorder, and the recorder."""
    fifo, log = os.path.join(folder, "beat"), os.path.join(folder, "beat.log")
    recorder = scope.start([os.path.join(GUESTS, "sink.py"), "record", "--fifo", fifo, "--log", log],
                           os.path.join(folder, "sink.log"))
    wait_until(lambda: "sink ready" in recorder.log(), 10, "heartbeat sink", recorder)
    return fifo, log, recorder

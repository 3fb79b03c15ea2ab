"""A node: one QEMU, source or destination, with its guest's console and its RAM files."""

import contextlib
import dataclasses
import os
import re
import signal
import stat

from comparator.guest import Console, fields_of
from comparator.qmp import Qmp

from .site import GUESTS, Failure, Site, qemu_path

READY_SECONDS = 90
SWITCH_SECONDS = 60


@dataclasses.dataclass(frozen=True)
class Machine:
    """What source and destination have in common. `ram`: one (MiB, kind) per backend, kind one of
    tmpfs, unlinked, huge (hugetlbfs, 2 MiB), hugetmpfs (tmpfs with huge=always), private (no file),
    or a folder to make the file in."""

    qemu: str = "7.2"
    guest: str = "checker"
    ram: tuple = ((256, "tmpfs"),)
    smp: int = 1
    append: str = "pattern=random"
    user: str = ""

    @property
    def mib(self):
        return sum(size for size, _ in self.ram)


class Ended:
    """A QEMU that ends may reset its sockets: that is the end of what they say, no error."""

    def _read(self):
        with contextlib.suppress(OSError, ValueError):
            super()._read()


class GuestConsole(Ended, Console):
    pass


class Observer(Ended, Qmp):
    pass


class Stores:
    """Where the RAM files of a site's nodes live: one mount a kind, made when first needed."""

    def __init__(self, site: Site):
        self.site, self.mounts = site, {}

    def path(self, kind, name, huge_mib):
        if kind in ("tmpfs", "unlinked"):
            folder = self.site.memory
        elif kind.startswith("/"):
            folder = kind
        elif kind not in self.mounts:
            make = {"huge": lambda: self.site.huge_mount(huge_mib), "hugetmpfs": self.site.huge_tmpfs}
            folder = self.mounts[kind] = make[kind]()
        else:
            folder = self.mounts[kind]
        return folder if kind == "unlinked" else os.path.join(folder, name)


class Node:
    """`place` is what the guest reads as the number of the QEMU that runs it: 1 for the first."""

    def __init__(self, site: Site, machine: Machine, place, stores, *, incoming, ram=None,
                 extra=(), rename=None, netns=None):
        """`netns`: (name of the network, its tap) of a guest with a network card."""
        self.site, self.machine, self.place, self.incoming = site, machine, place, incoming
        self.name = site.next_name("node")
        self.qmp_path = site.file(self.name + ".qmp")
        ram = machine.ram if ram is None else ram
        huge_mib = 2 * sum(size for size, kind in ram if kind == "huge")
        self.ram_files = []
        command = [*self._open_cache(), os.path.join(GUESTS, "boot"), "--qemu", self._launcher(rename), "--guest", machine.guest]
        for index, (mib, kind) in enumerate(ram):
            if kind == "private":
                command += ["--mem", mib, "--private"]
                continue
            path = stores.path(kind, f"{self.name}.ram{index}", huge_mib)
            command += ["--mem", mib, "--ram-file", path]
            if os.path.basename(path).startswith(self.name):
                self.ram_files.append(path)
        command += ["--smp", machine.smp, "--place", place, "--qmp", self.qmp_path,
                    "--serial", site.file(self.name + ".com1"), "--sink", site.fifo,
                    "--append", machine.append]
        command += ["--incoming"] if incoming else []
        command += ["--user", machine.user] if machine.user and machine.qemu == "7.2" else []
        command += ["--netns", netns[0], "--tap", netns[1]] if netns else []
        observer = site.file(self.name + ".observer")
        command += ["--", "-qmp", f"unix:{observer},server=on,wait=off", *extra]
        self.qemu = site.start(command, site.file(self.name + ".log"))
        site.callback(self.end)
        self.console = GuestConsole(site.file(self.name + ".com1"), self.qemu)
        self.qmp = Observer(observer, self.qemu)
        site.callback(self.qmp.close)

    def _launcher(self, rename):
        """QEMU, or a script that becomes QEMU: as another user, or with other names for the RAM."""
        path = qemu_path(self.machine.qemu)
        other_user = self.machine.user if self.machine.qemu != "7.2" else ""
        if not other_user and not rename:
            return path
        words = '"${@//%s/%s}"' % rename if rename else '"$@"'
        wrapper = self.site.file(self.name + ".qemu")
        with open(wrapper, "w", encoding="ascii") as script:
            script.write(f"#!/bin/bash\nexec {path} {'--as ' + other_user if other_user else ''} {words}\n")
        os.chmod(wrapper, 0o755)
        return wrapper

    def _open_cache(self):
        """Another user cannot read root's cache, where the guests are built: one of the site's own."""
        return ["env", f"FAULTLINE_CACHE={self.site.file('cache')}"] if self.machine.user else []

    def _remove_files(self):
        for path in self.ram_files:
            if os.path.exists(path):
                os.unlink(path)

    @property
    def pid(self):
        return self.qemu.pid

    def wait_ready(self):
        self.ready = fields_of(self.console.lines[self.console.wait_line("READY", READY_SECONDS)])
        if self.ready.get("pages") == 0:
            raise Failure("the guest found no memory for its load: give it 64 MiB at least")
        return self.ready

    def wait_switch(self):
        self.console.wait_line("SWITCH", SWITCH_SECONDS)

    def status(self):
        return self.qmp.command("query-status")["status"]

    def end(self):
        """By force: one that waits for a page that will never come hears nothing else."""
        if self.qemu.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self.qemu.stop()
        self._remove_files()

    # -- what it holds -----------------------------------------------------------------------

    def ram_bytes(self):
        """Memory that its RAM files occupy (unlinked ones too)."""
        return sum(os.stat(path).st_blocks * 512 for path in self.ram_files)

    def descriptors(self):
        """What its file descriptors are, without those that change by themselves."""
        found = []
        for name in os.listdir(f"/proc/{self.pid}/fd"):
            try:
                path = f"/proc/{self.pid}/fd/{name}"
                target = os.readlink(path)
                kind = "socket" if stat.S_ISSOCK(os.stat(path).st_mode) else re.sub(r"\d+", "N", target)
            except FileNotFoundError:
                continue
            found.append(kind)
        return sorted(found)

    def watched_mappings(self):
        """Mappings that are still registered with a userfaultfd (um, uw, ui in VmFlags, proc(5))."""
        found, mapping = [], ""
        with open(f"/proc/{self.pid}/smaps", encoding="utf-8") as smaps:
            for line in smaps:
                if re.match(r"^[0-9a-f]+-[0-9a-f]+ ", line):
                    mapping = line.strip()
                elif line.startswith("VmFlags:") and {"um", "uw", "ui"} & set(line.split()):
                    found.append(mapping)
        return found

    def huge_mapped(self):
        """Bytes of guest RAM on tmpfs that are mapped by huge pages (ShmemPmdMapped, proc(5))."""
        with open(f"/proc/{self.pid}/smaps", encoding="utf-8") as smaps:
            return sum(int(line.split()[1]) << 10 for line in smaps if line.startswith("ShmemPmdMapped:"))

    # -- what its guest says -----------------------------------------------------------------

    def lap(self):
        return fields_of(self.console.ask("s", "lap")[-1])

    def check_guest(self):
        """The guest checks itself: every page, untouched ones, its own complaints."""
        problems = list(self.console.complaints())
        full = fields_of(self.console.ask("f", "FULL")[-1])
        zero = fields_of(self.console.ask("z", "ZERO")[-1])
        if full["errors"] or zero["errors"]:
            problems.append(f"{full['errors']} pages wrong, {zero['errors']} untouched pages not zero")
        if "corrupt" in " ".join(problems).lower():
            problems.append(f"last words: {self.console.lines[-5:]}")
        return problems

    def check_histograms(self):
        """The guest has timed its accesses since the switch."""
        sums = [line for line in self.console.ask("d", "hist-end") if line.startswith("hist-sum first")]
        if len(sums) == 1 and fields_of(sums[0])["count"] > 0:
            return []
        return [f"no histogram of first touches: {sums}"]


__all__ = ["Failure", "Machine", "Node", "Stores"]

"""A laboratory machine: a VM with soft RoCE (rxe0) that runs one command in the host's own, read-only root.

The command finds the same paths as here, its working folder included; what it writes is in the VM's memory and gone
with it, except below /run/lab, which is the machine's results folder on the host. README.md has the whole picture.
"""

import dataclasses
import os
import shlex
import subprocess
import sys
import threading

HERE = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "perf"))
from comparator.processes import Failure, Scope, end_on_signals, is_leftover  # noqa: E402

PREFIX = "faultline-lab-"
# A network with nobody else in it.
ALONE = "user,id=net0,restrict=on"
# no_timer_check: on a busy host the emulated timer is late, and the kernel would panic of it.
CONSOLE = "console=ttyS0 quiet panic=-1 mitigations=off nokaslr tsc=reliable no_timer_check"
POLL_SECONDS = 0.02
IMAGE_SECONDS = 900  # the first call downloads a kernel
STATUS_MAX = 127  # of the debug exit, which has seven bits
GUEST_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclasses.dataclass(frozen=True)
class Shape:
    smp: int = 1
    memory_mib: int = 1024
    seconds: float = 300


def image():
    """The folder with vmlinux and initrd, built if need be."""
    done = subprocess.run([os.path.join(HERE, "image")], capture_output=True, text=True, timeout=IMAGE_SECONDS,
                          check=False)
    if done.returncode != 0:
        raise Failure(f"no boot image for the laboratory: {done.stderr.strip()[-500:]}")
    return done.stdout.strip()


def address(number):
    return f"10.77.0.{number}"


class Machine:
    """`netdev`: QEMU's argument. `meeting`: a folder for what several machines have to tell each other, below
    /run/meet in all of them; no command starts before all of `machines` have their devices."""

    def __init__(self, scope, folder, command, *, netdev, number=1, shape=Shape(), environment=(), meeting=None,
                 machines=1):
        self.folder, self.shape, self.number = folder, shape, number
        os.makedirs(folder)
        self._write("address", f"{address(number)}/24\n")
        self._write("job", self._job(command, dict(environment)))
        self._write("output", "")
        if meeting:
            self._write("machines", f"{machines}\n")
        self.qemu = scope.start(self._qemu(image(), netdev, meeting), self.path("qemu"))

    def path(self, name):
        return os.path.join(self.folder, name)

    def _write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)

    def _job(self, command, environment):
        variables = {"PATH": GUEST_PATH, "HOME": os.path.expanduser("~"), "LAB_ADDRESS": address(self.number),
                     "LAB_DEVICE": "rxe0", "PYTHONDONTWRITEBYTECODE": "1", **environment}
        exports = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
        return "\n".join([*exports, f"cd {shlex.quote(os.getcwd())} || exit 126", f"exec {shlex.join(command)}", ""])

    def _qemu(self, boot, netdev, meeting):
        share = "local,security_model=none,multidevs=remap"
        meet = ["-virtfs", f"{share},path={meeting},mount_tag=meet"] if meeting else []
        return ["qemu-system-x86_64", "-name", f"lab-{self.number}", "-machine", "q35", "-accel", "tcg,thread=multi",
                "-cpu", "qemu64", "-smp", self.shape.smp, "-m", f"{self.shape.memory_mib}M", "-nodefaults",
                "-display", "none", "-no-reboot", "-serial", f"file:{self.path('console')}",
                "-kernel", f"{boot}/vmlinux", "-initrd", f"{boot}/initrd", "-append", f"{CONSOLE} hostname={self.number}",
                "-virtfs", f"{share},path=/,mount_tag=host,readonly=on",
                "-virtfs", f"{share},path={self.folder},mount_tag=lab", *meet,
                "-netdev", netdev,
                "-device", f"virtio-net-pci,netdev=net0,mac=52:54:00:fa:77:{self.number:02x},romfile=",
                "-device", "isa-debug-exit,iobase=0xf4,iosize=1"]

    def follow(self, write):
        """A thread that gives write() the command's output as it comes; ends with the machine."""
        thread = threading.Thread(target=self._follow, args=(write,), daemon=True)
        thread.start()
        return thread

    def _follow(self, write):
        with open(self.path("output"), encoding="utf-8", errors="replace") as file:
            ended = False
            while not ended:
                ended = self.qemu.wait(POLL_SECONDS) is not None
                write(file.read())

    def wait(self, seconds):
        """The command's exit status. Failure if the machine hangs, or ended without a result."""
        ended = self.qemu.wait(seconds)
        if ended is None:
            raise Failure(f"{self._name()} was not done in {self.shape.seconds:.0f} s{self._last_words()}")
        reported = self._reported()
        if reported is None or ended != 2 * min(reported, STATUS_MAX) + 1:
            raise Failure(f"{self._name()} ended with {ended} and left no result that fits ({reported})"
                          f"{self._last_words()}")
        return reported

    def _reported(self):
        try:
            with open(self.path("status"), encoding="ascii") as file:
                return int(file.read())
        except (FileNotFoundError, ValueError):
            return None

    def _name(self):
        return f"the laboratory machine {self.number}"

    def _last_words(self):
        parts = []
        for name in ("console", "qemu"):
            try:
                with open(self.path(name), encoding="utf-8", errors="replace") as file:
                    parts.append(f"\n--- {name} ---\n{file.read()[-3000:]}")
            except FileNotFoundError:
                pass
        return "".join(parts)


def results_folder(scope):
    """A folder of our own, gone with the scope; those of killed runs go now."""
    for name in os.listdir("/tmp"):
        if is_leftover(name, PREFIX):
            subprocess.run(["rm", "-rf", os.path.join("/tmp", name)], check=False, timeout=60)
    path = f"/tmp/{PREFIX}{os.getpid()}"
    os.mkdir(path, mode=0o700)
    scope.callback(subprocess.run, ["rm", "-rf", path], check=False, timeout=60)
    return path


__all__ = ["ALONE", "Failure", "Machine", "Scope", "Shape", "address", "end_on_signals", "results_folder"]

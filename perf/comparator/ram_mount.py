"""A tmpfs for shared guest RAM that nobody else sees and that is gone with the comparison, however it ends.

Private guest RAM gets transparent huge pages from the kernel for nothing; shared RAM gets them only where its tmpfs allows
it, as the README asks for. So by default the shared guests are compared on such a mount.
"""

import ctypes
import os

from .processes import RUN_PREFIX, Failure

CLONE_NEWNS = 0x20000
MS_REC, MS_SLAVE = 0x4000, 0x80000

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name, *arguments):
    if getattr(_libc, name)(*arguments) != 0:
        raise Failure(f"{name}: {os.strerror(ctypes.get_errno())}; run as root")


def mount(scope, huge):
    """The folder where it is. Everything that this process starts afterwards sees it too."""
    folder = scope.folder("/tmp", "ram")
    _call("unshare", CLONE_NEWNS)
    _call("mount", b"none", b"/", None, MS_REC | MS_SLAVE, None)
    _call("mount", b"tmpfs", folder.encode(), b"tmpfs", 0, f"size=100%,mode=700,huge={huge}".encode())
    scope.callback(_libc.umount2, folder.encode(), 0)
    return folder

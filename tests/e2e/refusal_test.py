"""Wrong inputs: each gets one clear line and the right exit code, and nothing changes."""

import contextlib
import http.server
import os
import socket
import threading

from comparator.processes import wait_until

from lib.move import Move, require
from lib.node import Machine
from lib.refusal import clean, one_line, refuses, source_runs_on
from lib.scenario import scenario

SMALL = Machine(ram=((64, "tmpfs"),))
NOWHERE = "127.0.0.1:1"


def receive(site, qmp, *more, listen="127.0.0.1:0"):
    state = os.path.join(site.state_dir, "receive")
    return site.run_engine("receive", "--qmp", qmp, "--listen", listen, "--state-dir", state, *more)


def migrate(site, qmp, *more, to=NOWHERE):
    state = os.path.join(site.state_dir, "migrate")
    return site.run_engine("migrate", "--qmp", qmp, "--to", to, "--state-dir", state, *more)


def commands(site, qmp):
    return {"check": site.run_engine("check", "--qmp", qmp), "receive": receive(site, qmp),
            "migrate": migrate(site, qmp)}


def fails(move, transfer, what, word=None):
    """Both sides end with one line each; the guest runs on; nothing is left. Returns the lines."""
    before = move.descriptors()
    transfer.start()
    lines = (refuses(transfer.migrate, f"migrate, {what}", word),
             refuses(transfer.receive, f"receive, {what}", word))
    source_runs_on(move, what)
    clean(move, before, what)
    return lines


@scenario()
def no_qmp_socket(site):
    for name, child in commands(site, site.file("nothing-here")).items():
        refuses(child, name, "nothing-here")


@scenario()
def a_socket_that_is_not_qmp(site):
    """One that says something else, one that says nothing, one that hangs up, and a plain file."""
    plain = site.file("plain")
    with open(plain, "w", encoding="ascii"):
        pass
    for name, child in commands(site, plain).items():
        refuses(child, f"{name}, plain file", "plain")
    for kind, answer in (("chatter", b"220 mail ready\r\n" * 10), ("binary", bytes(range(256)) * 512),
                         ("silence", b""), ("goodbye", None)):
        path = site.file(kind)
        serve(site, socket.AF_UNIX, path, answer)
        for name, child in commands(site, path).items():
            refuses(child, f"{name}, {kind}", kind)


def serve(site, family, address, answer):
    """Accepts and says `answer`; None closes at once."""
    listener = socket.socket(family)
    listener.bind(address)
    listener.listen()
    site.callback(listener.close)

    def run():
        kept = []
        with contextlib.suppress(OSError):
            while True:
                peer, _ = listener.accept()
                if answer is None:
                    peer.close()
                    continue
                kept.append(peer)
                with contextlib.suppress(OSError):
                    peer.sendall(answer)

    threading.Thread(target=run, daemon=True).start()
    return listener


@scenario()
def private_memory(site):
    for qemu in ("7.2", "10.0"):
        move = Move(site, Machine(qemu=qemu, ram=((64, "private"),)))
        move.source.wait_ready()
        for name, child in (("check", site.run_engine("check", "--qmp", move.source.qmp_path)),
                            ("migrate", migrate(site, move.source.qmp_path))):
            require(child.wait(30) == 1, f"{name} exited with {child.status}")
            said = child.out() + child.log()
            require("memory-backend-file" in said and "share=on" in said, f"no help in: {said}")
        source_runs_on(move, "a guest with private memory")
        destination = move.boot_destination()
        refuses(receive(site, destination.qmp_path), "receive", "share=on")
        move.source.end()
        destination.end()


@scenario()
def machines_that_differ(site):
    move = Move(site, SMALL)
    for what, options, word in (
            ("another size", {"ram": ((96, "tmpfs"),)}, "ram0"),
            ("another number of backends", {"ram": ((32, "tmpfs"), (32, "tmpfs"))}, None),
            ("another backend id", {"rename": ("ram0", "mem0")}, "mem0")):
        destination = move.boot_destination(**options)
        move.ready()
        fails(move, move.transfer(), what, word)
        require(destination.status() == "inmigrate", f"{what}: the destination is {destination.status()}")
        destination.end()


@scenario()
def pages_of_another_size(site):
    """hugetlbfs here, tmpfs there: refused, or moved properly."""
    move = Move(site, Machine(ram=((64, "huge"),)))
    move.boot_destination(ram=((64, "tmpfs"),))
    move.ready()
    fails(move, move.transfer(), "another page size", "ram0")


@scenario()
def a_destination_that_is_no_destination(site):
    """A running guest; and one that a finished move has used already."""
    move = Move(site, SMALL)
    move.ready()
    refuses(receive(site, move.source.qmp_path), "receive into a running guest", "-incoming")
    source_runs_on(move, "receive into a running guest")
    move.go()
    refuses(receive(site, move.destination.qmp_path), "receive a second time", "-incoming")
    require(move.destination.status() == "running", "the moved guest was stopped")
    refuses(migrate(site, move.source.qmp_path), "migrate a second time", "migrated away")


@scenario()
def a_source_that_is_no_source(site):
    move = Move(site, SMALL)
    move.ready()
    refuses(migrate(site, move.destination.qmp_path), "migrate from a destination", "-incoming")
    move.source.qmp.command("stop")
    refuses(migrate(site, move.source.qmp_path), "migrate a paused guest", "cont")
    move.source.qmp.command("cont")
    refuses(migrate(site, move.source.qmp_path), "migrate to where nobody listens", NOWHERE)
    source_runs_on(move, "nobody listens")


@scenario()
def a_port_that_is_taken(site):
    move = Move(site, SMALL)
    move.boot_destination()
    taken = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{taken.getsockname()[1]}"
    refuses(receive(site, move.destination.qmp_path, listen=address), "receive", address)
    taken.close()
    require(move.destination.status() == "inmigrate", "the destination changed")


@scenario()
def a_peer_that_speaks_another_protocol(site):
    """`migrate` to a web server, to one that says nothing, to one that floods."""
    move = Move(site, SMALL)
    move.ready()
    web = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    site.callback(web.shutdown)
    silent = serve(site, socket.AF_INET, ("127.0.0.1", 0), b"")
    flood = serve(site, socket.AF_INET, ("127.0.0.1", 0), b"\xff" * 1_000_000)
    for name, server in (("a web server", web.socket), ("silence", silent), ("a flood", flood)):
        address = f"127.0.0.1:{server.getsockname()[1]}"
        refuses(migrate(site, move.source.qmp_path, to=address), f"migrate to {name}", address)
        source_runs_on(move, name)


@scenario()
def strangers_at_the_port_do_not_stop_a_migration(site):
    """Before the source comes: garbage, half a greeting, a scan, and one that stays and says nothing."""
    move = Move(site, SMALL)
    move.ready()
    before = move.descriptors()
    transfer = move.transfer()
    transfer.start_receive()
    port = int(transfer.address.rsplit(":", 1)[1])
    kept = []
    for words in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\0" * 65536, b"FAULTLN1"[::-1], b"", b"\x16\x03\x01"):
        kept.append(socket.create_connection(("127.0.0.1", port)))
        with contextlib.suppress(OSError):
            kept[-1].sendall(words)
    kept.pop(0).close()
    transfer.start_migrate()
    require(transfer.wait(60) == (0, 0), transfer.logs())
    move.summary = transfer.summary("migrate")
    move.verify(transfer, before)


@scenario()
def a_second_source_is_told_to_go_away(site):
    """While one migration has the port, another one is refused and the first goes on."""
    # A guest that touches little, and a slow pusher: it takes seconds.
    first = Move(site, Machine(ram=((128, "tmpfs"),), append="rest_us=5000"))
    first.boot_destination()
    first.source.wait_ready()
    beats = site.beats
    second = Move(site, SMALL)
    second.source.wait_ready()
    before = first.descriptors()
    transfer = first.transfer(migrate_args=["--max-bandwidth", "20MiB"])
    transfer.start()
    wait_until(lambda: "the guest runs at" in transfer.migrate.out(), 30, "the switch", transfer.migrate)
    intruder = migrate(site, second.source.qmp_path, to=transfer.address)
    refuses(intruder, "the second source", "another migration")
    source_runs_on(second, "refused")
    require(transfer.wait(60) == (0, 0), transfer.logs())
    site.beats = beats
    require(not first.destination.check_guest(), "the first guest is corrupt")
    require(not site.beat_violations(), f"{site.beat_violations()}")
    clean(first, before, "two sources")


@scenario()
def wrong_usage(site):
    qmp = site.file("qmp")
    cases = [[], ["frobnicate"], ["migrate"], ["migrate", "--qmp", qmp], ["receive", "--qmp", qmp],
             ["migrate", "--qmp", qmp, "--to", "nonsense"],
             ["migrate", "--qmp", qmp, "--to", "127.0.0.1:99999"],
             ["migrate", "--qmp", qmp, "--to", NOWHERE, "--max-bandwidth", "fast"],
             ["migrate", "--qmp", qmp, "--to", NOWHERE, "--streams", "0"],
             ["migrate", "--qmp", qmp, "--to", NOWHERE, "--pid", "-3"],
             ["migrate", "--qmp", qmp, "--to", NOWHERE, "--transport", "pigeon"],
             ["receive", "--qmp", qmp, "--listen", "127.0.0.1:0", "--io", "telepathy"],
             ["receive", "--qmp", qmp, "--listen", "127.0.0.1:0", "--window", "0"],
             ["receive", "--qmp", qmp, "--listen", "192.0.2.1:4444"],
             ["migrate", "--qmp", qmp, "--to", "192.0.2.1:4444"],
             ["receive", "--qmp", qmp, "--listen", "0.0.0.0:4444"],
             ["receive", "--qmp", qmp, "--listen", "[::]:4444"]]
    for case in cases:
        child = site.run_engine(*(case or ["--quiet"]))
        require(child.wait(10) == 2, f"{case}: exit {child.status}, not 2: {child.log()}")
        require(child.log().strip(), f"{case}: said nothing")
        if "192.0.2.1:4444" in case or "[::]:4444" in case:
            one_line(child, f"{case}", "--insecure")
    for case in (["--help"], ["migrate", "--help"], ["--version"]):
        child = site.run_engine(*case)
        require(child.wait(10) == 0 and child.out().strip(), f"{case}: exit {child.status}")


@scenario()
def rdma_that_is_not_there(site):
    """Who names a device gets that one or a line, before anything else is looked at."""
    nowhere = ["--qmp", site.file("qmp"), "--rdma-device", "no_such_device"]
    for case in (["migrate", *nowhere, "--to", NOWHERE, "--transport", "rdma"],
                 ["migrate", *nowhere, "--to", NOWHERE, "--transport", "auto"],
                 ["receive", *nowhere, "--listen", "127.0.0.1:0", "--transport", "rdma"]):
        child = site.run_engine(*case)
        require(child.wait(10) == 1, f"{case}: exit {child.status}, not 1: {child.log()}")
        one_line(child, f"{case}", "RDMA")


@scenario()
def no_room_for_the_engines_state(site):
    """--state-dir on a full file system, below a file, and not writable at all."""
    move = Move(site, Machine(ram=((512, "tmpfs"),), append="touch_mib=32"))
    full = site.mount("tmpfs", "size=64k")
    plain = site.file("plain")
    with open(plain, "w", encoding="ascii"):
        pass
    for what, folder in (("full", full), ("a file", plain), ("not writable", "/proc/nowhere")):
        move.boot_destination()
        move.ready(settle=0)
        lines = fails(move, move.transfer(state_dir=folder), what)
        require("--state-dir" in lines[1], f"no help in: {lines[1]}")
        move.destination.end()


@scenario()
def no_room_for_the_guest(site):
    """The destination's tmpfs holds less than the guest has: noticed before the switch."""
    move = Move(site, Machine(ram=((128, "tmpfs"),)))
    move.boot_destination(ram=((128, site.mount("tmpfs", "size=48m")),))
    move.ready()
    fails(move, move.transfer(), "a destination without room", "room")


@scenario()
def a_summary_that_cannot_be_written(site):
    """The guest comes first: the move completes, and the summary's failure is said."""
    move = Move(site, SMALL)
    move.ready()
    transfer = move.transfer()
    transfer.start_receive()
    child = migrate(site, move.source.qmp_path, "--json", "/proc/nowhere/x.json", to=transfer.address)
    require(child.wait(60) == 0, f"migrate exited with {child.status}: {child.log()}")
    one_line(child, "migrate", "/proc/nowhere/x.json")
    require(transfer.receive.wait(30) == 0, transfer.logs())
    require(not move.destination.check_guest(), "the guest found corruption")

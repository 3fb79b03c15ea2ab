"""One transfer: `faultline receive` and `faultline migrate` between two nodes, and what they said."""

import json
import os
import re

from comparator.processes import Failure, wait_until

from .node import Node
from .site import Site

MOVE_SECONDS = 120
END_SECONDS = 12
ERROR_LINE = re.compile(r"^faultline: |^\d\d:\d\d:\d\d\.\d+ (error|critical) |^\S+: .*required|^Run with --help")
TRACE = re.compile(r"Traceback|terminate called|Assertion|CHECK failed|Sanitizer|#0 0x|core dumped")
STEPS = ["count", "from_urgent", "overtook", "joined_bulk", "zero", "already_held"]


def error_lines(text):
    return [line for line in text.splitlines() if ERROR_LINE.match(line)]


class Transfer:
    def __init__(self, site: Site, source: Node, destination: Node, *, listen="127.0.0.1:0",
                 via=None, receive_args=(), migrate_args=(), verbose=True,
                 state_dir=None, streams=2):
        """`via(address)` may put something between the two: it returns where `migrate` dials.
        `streams`: so many on every machine, more than one; 0: as the engine thinks best."""
        self.site, self.source, self.destination = site, source, destination
        self.listen, self.via = listen, via or (lambda address: address)
        self.receive_args, self.migrate_args = list(receive_args), list(migrate_args)
        if streams and "--streams" not in self.migrate_args:
            self.migrate_args += ["--streams", str(streams)]
        self.state_dir = state_dir or site.state_dir
        self.verbose = ["-v"] if verbose else []
        self.files = {}
        self.receive = self.migrate = None

    def common(self, node, side):
        """Its own state folder a side: two engines on one machine are two hosts to us."""
        self.files[side] = self.site.file(self.site.next_name(side + "-json"))
        return ["--qmp", node.qmp_path, "--state-dir", os.path.join(self.state_dir, side),
                "--json", self.files[side], *self.verbose]

    def start_receive(self):
        self.receive = self.site.run_engine("receive", *self.common(self.destination, "receive"),
                                            "--listen", self.listen, *self.receive_args)
        wait_until(lambda: "waiting for a source on" in self.receive.out(), 120,
                   "faultline receive listens", self.receive)
        line = next(l for l in self.receive.out().splitlines() if "waiting for a source on" in l)
        self.address = line.split()[-1]

    def start_migrate(self):
        self.migrate = self.site.run_engine("migrate", *self.common(self.source, "migrate"),
                                            "--to", self.via(self.address), *self.migrate_args)

    def start(self):
        self.start_receive()
        self.start_migrate()

    def wait(self, seconds=MOVE_SECONDS):
        """Exit codes (migrate, receive); None for one that hangs."""
        migrate = self.migrate.wait(seconds)
        return migrate, self.receive.wait(END_SECONDS)

    def run(self):
        """All the way; Failure with both logs when it did not work. Returns the summary."""
        self.start()
        codes = self.wait()
        if codes != (0, 0):
            raise Failure(f"migrate exited with {codes[0]}, receive with {codes[1]} (None: still "
                          f"running)\n{self.logs()}")
        self.destination.wait_switch()
        return self.summary("migrate")

    def logs(self):
        parts = []
        for name, child in (("migrate", self.migrate), ("receive", self.receive)):
            if child is not None:
                parts.append(f"--- {name} ---\n{child.out()[-1500:]}\n{child.log()[-4000:]}")
        return "\n".join(parts)

    def summary(self, side):
        with open(self.files[side], encoding="utf-8") as file:
            return json.load(file)


def check_summary(summary, guest_bytes, transport="tcp"):
    """The contract of --json. Returns what is wrong."""
    problems = []
    for name in ("result", "mode", "transport", "guest_bytes", "data_bytes", "wire_bytes", "blackout_ms",
                 "total_ms", "faults", "fault_latency_us", "pushed_pages", "zero_pages", "first_pages", "early_pages",
                 "bulk", "retries", "cpu_s"):
        if name not in summary:
            problems.append(f"the summary has no {name}")
    if problems:
        return problems
    faults, latency, bulk = summary["faults"], summary["fault_latency_us"], summary["bulk"]
    problems += [f"faults has no {name}" for name in STEPS if name not in faults]
    problems += [f"fault_latency_us has no {name}" for name in ("p50", "p90", "p99", "p999", "max")
                 if name not in latency]
    problems += [f"cpu_s has no {name}" for name in ("source", "destination") if name not in summary["cpu_s"]]
    exits = sum(count for name, count in faults.items() if name != "count")
    if exits != faults["count"]:
        problems.append(f"the exits of faults make {exits}, not {faults['count']}: {faults}")
    facts = {
        "result is completed": summary["result"] == "completed",
        f"mode is post-copy over {transport}": (summary["mode"], summary["transport"]) == ("post-copy", transport),
        f"guest_bytes is {guest_bytes}": summary["guest_bytes"] == guest_bytes,
        "data is sent once": 0 < summary["data_bytes"] <= guest_bytes,
        "page tables and stacks went first": summary["first_pages"] > 0,
        "wire_bytes holds data_bytes, as packed":
            summary["wire_bytes"] >= summary["data_bytes"] - bulk["packed_bytes"] + bulk["packed_to_bytes"],
        "0 < blackout < total": 0 < summary["blackout_ms"] < summary["total_ms"],
        "percentiles rise": latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["max"] * 1.07,
    }
    return problems + [f"not so: {what} ({summary})" for what, true in facts.items() if not true]

"""The redis guest's surroundings: its network, and the client that loads and verifies it."""

import os
import subprocess

from comparator.processes import wait_until

from .site import GUESTS

NETNS = os.path.join(GUESTS, "redis", "netns")


def make_network(site):
    """Its name. Make it before the guests, so that it goes after them."""
    name = f"faultline-e2e-{os.getpid()}"
    subprocess.run([NETNS, "create", name], check=True, capture_output=True, timeout=30)
    site.callback(subprocess.run, [NETNS, "destroy", name], capture_output=True, timeout=30, check=False)
    return name


def start_load(site, network, seconds, keys):
    """The client, running; its figures are in load.json when it has ended."""
    build = subprocess.run([os.path.join(GUESTS, "redis", "build")], check=True, capture_output=True,
                           text=True, timeout=600).stdout.strip()
    client = site.start([os.path.join(build, "redis_load"), "--seconds", seconds, "--keys", keys,
                         "--value-bytes", 1000, "--json", site.file("load.json")],
                        site.file("load.log"), netns=network)
    wait_until(lambda: "redis_load ready" in client.log(), 120, "redis_load", client)
    return client

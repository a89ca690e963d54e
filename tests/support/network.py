"""Two hosts on a wire, in namespaces of their own, so that it can be cut; this machine's network is not touched."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.peers import needs_program

needs_ip = needs_program("ip", "iproute2")


@dataclass(frozen=True)
class Host:
    """Where programs run: `enter` goes before their command line."""

    address: str = "127.0.0.1"
    enter: tuple[str, ...] = ()

    def run(self, *command: str) -> None:
        """Run a command there."""
        subprocess.run([*self.enter, *command], check=True, capture_output=True)


HERE = Host()


@dataclass(frozen=True)
class Wire:
    """Two hosts, and the interface of the first that leads to the second."""

    first: Host
    second: Host
    _interface: str = "wire0"

    def cut(self) -> None:
        """From now on every packet is lost, and neither side is told."""
        self.first.run("ip", "link", "set", self._interface, "down")

    def mend(self) -> None:
        """Let packets pass again."""
        self.first.run("ip", "link", "set", self._interface, "up")


@contextlib.contextmanager
def two_hosts() -> Iterator[Wire]:
    """Make the hosts, which end with the block. Skips the test where namespaces cannot be made."""
    with contextlib.ExitStack() as stack:
        # A user namespace of its own gives the right to make network namespaces, to root and others alike.
        outer = _Namespace(stack, ("unshare", "--user", "--map-root-user", "--net"))
        inside = ("nsenter", f"--target={outer.process.pid}", "--user", "--net", "--preserve-credentials")
        inner = _Namespace(stack, (*inside, "unshare", "--net"))
        first = Host("10.99.0.1", inside)
        second = Host("10.99.0.2", (*inside, "nsenter", f"--net=/proc/{inner.process.pid}/ns/net"))
        pid = str(inner.process.pid)
        try:
            first.run("ip", "link", "add", "wire0", "type", "veth", "peer", "name", "wire1", "netns", pid)
            for host, interface in ((first, "wire0"), (second, "wire1")):
                host.run("ip", "address", "add", f"{host.address}/30", "dev", interface)
                for one in (interface, "lo"):
                    host.run("ip", "link", "set", one, "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces cannot be wired here: {error.stderr.decode().strip()}")
        yield Wire(first, second)


class _Namespace:
    """A process that keeps a new namespace; `enter` makes it."""

    def __init__(self, stack: contextlib.ExitStack, enter: Sequence[str]) -> None:
        if shutil.which("unshare") is None:
            pytest.skip("network namespaces cannot be made here: unshare (util-linux) is not installed")
        self.process = subprocess.Popen(
            [*enter, "sh", "-c", "echo ready; exec sleep 3600"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        stack.callback(self._end)
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        if self.process.stdout.readline() != b"ready\n":
            pytest.skip(f"network namespaces cannot be made here: {self.process.stderr.read().decode().strip()}")

    def _end(self) -> None:
        self.process.kill()
        self.process.communicate()


def listens(pid: int, port: int) -> bool:
    """Whether a program listens on a port of the host that process `pid` is on (proc(5), `net/tcp`)."""
    found = False
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/net/{table}").read_text(encoding="ascii").splitlines()[1:]
            found = found or any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A" for line in lines)
    return found

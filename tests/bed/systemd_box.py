"""A real systemd as PID 1 of a container, on a machine that need not have been booted by one.

Rule: the box sees this machine's files and changes none: its root is an overlay whose upper layer is in memory. It has
this machine's network, so that a service in it reaches the mail bed at 127.0.0.1.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from .service import BedError, Service, children, wait_until


def why_no_box() -> str:
    """Why none can be started here, whatever is installed; empty when one can."""
    if os.getuid() != 0:
        return "a container with systemd takes root"
    if not os.access("/sys/fs/cgroup", os.W_OK):
        return "a container with systemd takes cgroups that can be written"
    script = "mount -t tmpfs t /mnt; cd /mnt; mkdir u w r; mount -t overlay o -o lowerdir=/,upperdir=u,workdir=w r"
    tried = subprocess.run(["unshare", "--mount", "sh", "-ec", script], capture_output=True, text=True, check=False)
    return f"a container with systemd takes an overlay: {tried.stderr.strip()}" if tried.returncode else ""


def what_is_missing() -> str:
    """One line that says what to install first; empty when nothing is missing."""
    if Path("/usr/bin/systemd-nspawn").exists():
        return ""
    return "a container with systemd needs Debian packages: apt-get install --no-install-recommends systemd-container"


class SystemdBox(Service):
    """`binds`: (path here, path in the box), read-only. The last part of `root` names the machine and its cgroup."""

    port_names = ()
    start_timeout: ClassVar[float] = 30.0

    def __init__(self, root: Path, binds: Sequence[tuple[Path, str]] = ()) -> None:
        super().__init__(root)
        self.binds = binds
        self.env = {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}

    def configure(self) -> None:
        (self.root / "fs").mkdir(exist_ok=True)

    def command(self) -> list[str]:
        fs = self.root / "fs"
        nspawn = [
            "systemd-nspawn", "--quiet", "--keep-unit", "--register=no", "--console=pipe",
            f"--machine={self.root.name}", "--directory", f"{fs}/root",
            *(f"--bind-ro={here}:{there}" for here, there in self.binds),
            # To basic.target: no service of this machine starts.
            "--boot", "--", "--unit=basic.target",
        ]  # fmt: skip
        # A mount namespace of its own: the mounts vanish with the process. Its machine-id stays: without one systemd
        # takes it for a first boot and enables what it finds.
        script = [f"mkdir -p {group}; echo $$ >{group}/cgroup.procs" for group in self._cgroups()]
        script += [
            f"mount -t tmpfs tmpfs {fs}",
            f"mkdir {fs}/upper {fs}/work {fs}/root",
            f"mount -t overlay overlay -o lowerdir=/,upperdir={fs}/upper,workdir={fs}/work {fs}/root",
            f"exec {shlex.join(nspawn)}",
        ]
        return ["unshare", "--mount", "--propagation=private", "sh", "-ec", "; ".join(script)]

    def _cgroups(self) -> list[Path]:
        """One of its own in each hierarchy: two boxes in one would end each other's processes."""
        tops = [Path("/sys/fs/cgroup", name) for name in ("", "unified", "systemd")]
        return [top / f"box-{self.root.name}" for top in tops if (top / "cgroup.procs").exists()]

    def stop(self, kill: bool = False) -> None:
        """As any Service; and then what nspawn has left behind: its container's init outlives it."""
        super().stop(kill)
        for group in self._cgroups():
            with contextlib.suppress(OSError):  # there is none in the older hierarchy; one is enough
                (group / "cgroup.kill").write_text("1")
                wait_until(lambda events=group / "cgroup.events": "populated 0" in events.read_text(), 5, "it is empty")

    def close(self) -> None:
        super().close()
        for group in self._cgroups():
            for folder, _, _ in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()

    def ready(self) -> bool:
        if not self._init():
            return False
        return self.call("systemctl", "is-system-running").stdout.strip() in {"running", "degraded"}

    def _init(self) -> int | None:
        """The box's PID 1 as seen from here. Not any child: others set the container up, and are still outside."""
        for child in children(self.pid):
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{child}/status").read_text()
                if re.search(r"^NSpid:\t\d+\t1$", status, re.M):
                    return child
        return None

    # -- inside --------------------------------------------------------------------------------------------------

    def call(self, *argv: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run a command in the box, to its end."""
        init = self._init()
        if init is None:
            raise BedError(f"{self.root} has no init")
        command = ["nsenter", "--target", str(init), "--all", *argv]
        return subprocess.run(command, check=False, **{"capture_output": True, "text": True, **more})

    def do(self, *argv: str | Path, **more: Any) -> str:
        """The same, and what it printed; it must not fail."""
        ended = self.call(*argv, **more)
        assert ended.returncode == 0, f"{argv}: exit status {ended.returncode}\n{ended.stdout}{ended.stderr}"
        return ended.stdout

    def write(self, path: str, text: str, mode: str = "644") -> None:
        """(Re)write a file."""
        self.do("install", "-D", "-m", mode, "/dev/stdin", path, input=text)

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Properties of a unit."""
        lines = self.do("systemctl", "show", unit, "--property", ",".join(properties)).splitlines()
        return dict(line.split("=", 1) for line in lines)

    def journal(self, unit: str, *options: str) -> list[str]:
        """What the journal has of a unit."""
        self.do("journalctl", "--sync")
        return self.do("journalctl", "--no-pager", "--output=cat", "--unit", unit, *options).splitlines()

"""The floor: what mailprobe does to one mail, without mailprobe: raw asyncio streams on uvloop, nothing kept.

`python bare.py FILE`, with FILE as cost.py writes it; says "ready", and at SIGTERM how many mails and NOOPs.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import re
import signal
import ssl
import sys
from pathlib import Path
from typing import Any

import uvloop

_LITERAL = re.compile(rb"\{(\d+)\}\r\n$")
_UID = re.compile(rb"UID (\d+)")
_NOOP_EVERY = 0.005


class Floor:
    """One route: a submission connection and a mailbox connection, both kept open."""

    def __init__(self, plan: dict[str, Any], user: str, every: float) -> None:
        self.plan, self.user, self.every = plan, user, every
        self.mails = self.noops = 0
        self.last_uid = 0

    async def connect(self, context: ssl.SSLContext) -> None:
        """Log in on both wires."""
        host, password = self.plan["host"], self.plan["password"]
        self.smtp_in, self.smtp_out = await asyncio.open_connection(host, self.plan["smtp"], ssl=context)
        await self.smtp(b"")
        await self.smtp(b"EHLO [127.0.0.1]\r\n")
        await self.smtp(b"AUTH PLAIN " + base64.b64encode(f"\0{self.user}\0{password}".encode()) + b"\r\n")
        self.imap_in, self.imap_out = await asyncio.open_connection(host, self.plan["imap"], ssl=context)
        await self.imap_in.readline()
        await self.imap(f"LOGIN {self.user} {password}".encode())
        await self.imap(b"SELECT INBOX")

    async def run(self) -> None:
        """Open loop: one mail each period, with a random phase."""
        clock = asyncio.get_running_loop().time
        due = clock() + random.uniform(0, self.every)
        address = f"{self.user}@bed.test".encode()
        while True:
            await asyncio.sleep(due - clock())
            due += self.every
            await self.smtp(b"MAIL FROM:<" + address + b">\r\n")
            await self.smtp(b"RCPT TO:<" + address + b">\r\n")
            await self.smtp(b"DATA\r\n")
            token = b"%s%06d" % (self.user.encode(), self.mails)
            await self.smtp(self.plan["mail"].encode().replace(b"TOKEN", token) + b".\r\n")
            while True:
                self.noops += 1
                if any(b"EXISTS" in line for line in await self.imap(b"NOOP")):
                    break
                await asyncio.sleep(_NOOP_EVERY)
            found = await self.imap(b"UID FETCH %d:* (UID INTERNALDATE BODY.PEEK[HEADER])" % (self.last_uid + 1))
            uids = [match[1] for line in found if (match := _UID.search(line))]
            self.last_uid = int(uids[-1])
            await self.imap(b"UID STORE " + uids[-1] + b" +FLAGS.SILENT (\\Deleted)")
            await self.imap(b"UID EXPUNGE " + uids[-1])
            self.mails += 1

    async def smtp(self, command: bytes) -> bytes:
        """One command, the last line of its reply."""
        if command:
            self.smtp_out.write(command)
        while (line := await self.smtp_in.readline())[3:4] == b"-":
            pass
        if line[:1] not in b"23":
            raise ConnectionError(line)
        return line

    async def imap(self, command: bytes) -> list[bytes]:
        """One command, the lines and literals of its reply."""
        self.imap_out.write(b"t " + command + b"\r\n")
        lines = []
        while True:
            line = await self.imap_in.readline()
            lines.append(line)
            if literal := _LITERAL.search(line):
                lines.append(await self.imap_in.readexactly(int(literal[1])))
            elif line.startswith(b"t "):
                if not line.startswith(b"t OK"):
                    raise ConnectionError(line)
                return lines


async def main(plan: dict[str, Any]) -> None:
    """All routes until SIGTERM."""
    context = ssl.create_default_context(cafile=plan["ca"])
    floors = [Floor(plan, user, every) for user, every in plan["routes"]]
    await asyncio.gather(*(floor.connect(context) for floor in floors))
    print("ready", flush=True)
    running = asyncio.gather(*(floor.run() for floor in floors))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        counts = {"mails": sum(floor.mails for floor in floors), "noops": sum(floor.noops for floor in floors)}
        print(json.dumps(counts), flush=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(json.loads(Path(sys.argv[1]).read_text())))

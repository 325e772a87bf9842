#!/usr/bin/env python3
"""Speaks with a QEMU machine through its QMP socket.

    qmp.py SOCKET running                     ends with 0 if the machine runs; one that has read a state
                                              whole is let go on first
    qmp.py SOCKET save OLD_DISK_NEXT STATE    what the machine is now, to go on from more than once

`save` holds the machine, lets it write its disk "root" to the new file OLD_DISK_NEXT from now on (so
that the file before it stays as it is), writes its memory and devices to STATE (zstd), and lets it go on.
"""

import json
import shlex
import socket
import sys
import time

PATIENCE = 300.0


class Qmp:
    """One connection; a command's answer, or the reason why there is none."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(path)
        self.lines = self.socket.makefile("r")
        self.lines.readline()
        self.call("qmp_capabilities")

    def call(self, command: str, **arguments: object) -> dict:
        self.socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            line = self.lines.readline()
            if not line:
                sys.exit(f"qmp: the machine ended during {command}")
            answer = json.loads(line)
            if "error" in answer:
                sys.exit(f"qmp: {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]


def save(qmp: Qmp, disk: str, state: str) -> None:
    qmp.call("stop")
    arguments = {"device": "root", "snapshot-file": disk, "format": "qcow2", "mode": "absolute-paths"}
    qmp.call("blockdev-snapshot-sync", **arguments)
    qmp.call("migrate-set-parameters", **{"max-bandwidth": 1 << 40, "downtime-limit": 60000})
    qmp.call("migrate", uri=f"exec:zstd -q -1 -o {shlex.quote(state)}")
    end = time.monotonic() + PATIENCE
    while (status := qmp.call("query-migrate").get("status")) != "completed":
        if status in ("failed", "cancelled") or time.monotonic() > end:
            sys.exit(f"qmp: the machine's state was not written: {status}")
        time.sleep(0.02)
    qmp.call("cont")


def running(qmp: Qmp) -> bool:
    status = qmp.call("query-status")
    if status["status"] == "paused" and qmp.call("query-migrate").get("status") == "completed":
        qmp.call("cont")
        return True
    return status["running"]


def main() -> None:
    match sys.argv[1:]:
        case [path, "running"]:
            try:
                sys.exit(not running(Qmp(path)))
            except OSError:
                sys.exit(1)
        case [path, "save", disk, state]:
            save(Qmp(path), disk, state)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()

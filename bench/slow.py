#!/usr/bin/env python3
"""What peers cost that do not keep up: memory, and how other sessions fare meanwhile.

    slow.py --gateway PATH [--sessions 200] [--rounds 3] [--seconds 3]

Sessions are logged in before and counted apart. In turn: clients that read a large result by 4 KB a second; clients that send
a statement of 512 KB by 1 KB a second; clients that send all that is taken, small statements or COPY data, to a target whose
processes are stopped (SIGSTOP). Meanwhile other sessions run pgbench -S through the gateway and directly in turns, as they did
before: how fast the gateway is beside the direct way is compared.
"""
import argparse, os, pathlib, re, shutil, signal, socket, struct, sys, tempfile, threading, time
import rig, run
from held import ratio

POLICY = """
@id("bench") permit (principal, action in [Action::"connect", Action::"read", Action::"write"], resource in Resource::"bench");
"""
LARGE = "SELECT repeat('x', 1000) FROM generate_series(1, 1000000)"
WRITERS, READERS, STATEMENTS, COPY = "slow writers", "slow readers", "stopped target, statements", "stopped target, COPY"


def query(text):
    text = text.encode() + b"\0"
    return b"Q" + struct.pack(">i", len(text) + 4) + text


def ask(session, text, until=b"Z\0\0\0\5"):
    session.sendall(query(text))
    data = b""
    while until not in data:
        chunk = session.recv(65536)
        if not chunk:
            sys.exit(f"bench: the session ended: {data!r}")
        data += chunk
    return data


def backend(session):
    return int(re.search(rb"D.{4}\x00\x01.{4}(\d+)", ask(session, "SELECT pg_backend_pid()"), re.S)[1])


class Slow(threading.Thread):
    """All sessions of one kind, in one thread."""

    def __init__(self, kind, sessions):
        super().__init__(daemon=True)
        self.kind, self.sessions, self.over, self.sent = kind, sessions, threading.Event(), 0

    def run(self):
        if self.kind == READERS:
            for session in self.sessions:
                session.sendall(query(LARGE))
            self.each(lambda session: session.recv(4096))
        elif self.kind == WRITERS:
            for session in self.sessions:
                session.sendall(b"Q" + struct.pack(">i", 512 * 1024 + 4))
            self.each(lambda session: session.send(b" " * 1024))
        else:
            data = query("SELECT 1") * 5000 if self.kind == STATEMENTS else (b"d" + struct.pack(">i", 8196) + b"x" * 8192) * 16
            rest = {session: data for session in self.sessions}
            while not self.over.wait(0.05):
                for session in self.sessions:
                    try:
                        sent = session.send(rest[session], socket.MSG_DONTWAIT)
                    except BlockingIOError:
                        continue
                    self.sent += sent
                    rest[session] = rest[session][sent:] or data

    def each(self, step):
        while not self.over.wait(1):
            for session in self.sessions:
                step(session)


def peers(kind, way, direct, args):
    """(KB a session, MB that were sent, the others' rate)."""
    sessions = []
    for _ in range(args.sessions):
        # A machine's own buffers are megabytes; what a session takes for itself is asked here.
        session = run.login(way)
        session.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        sessions.append(session)
    stopped = []
    if kind in (STATEMENTS, COPY):
        stopped = [backend(session) for session in sessions]
        if kind == COPY:
            for session in sessions:
                ask(session, "COPY copied FROM STDIN", b"G\0\0\0")
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
    time.sleep(3)
    memory = way.memory()
    slow = Slow(kind, sessions)
    try:
        slow.start()
        time.sleep(5)
        during = ratio(direct, way, args)
        grown = way.memory() - memory
        if not slow.is_alive():
            sys.exit(f"bench: {kind} ended early")
    finally:
        slow.over.set()
        slow.join(30)
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        for session in sessions:
            session.close()
    time.sleep(5)
    return grown / args.sessions / 1024, slow.sent / 1e6, during


def main():
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--gateway", required=True, type=pathlib.Path)
    asked.add_argument("--sessions", type=int, default=200)
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--seconds", type=int, default=3)
    args = asked.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="gateway-bench-"))
    folder.chmod(0o755)
    postgres = rig.Postgres(folder, 1)
    show = lambda r: f"{r[0]:.3f} [{r[1]:.3f}..{r[2]:.3f}]"
    try:
        postgres.start()
        with rig.Middle(folder, postgres.port) as middle:
            direct = rig.Way("direct", postgres.port, "bench", rig.PASSWORD)
            way = middle.gateway(args.gateway, policy=POLICY)
            ratio(direct, way, argparse.Namespace(rounds=1, seconds=1))
            print(f"pgbench -S, prepared, 4 clients, of direct: before {show(ratio(direct, way, args))}\n")
            print(f"| {args.sessions} sessions | KB resident, each | sent, MB in all | others, of direct |\n|---|--:|--:|--:|")
            for kind in (READERS, WRITERS, STATEMENTS, COPY):
                each, sent, during = peers(kind, way, direct, args)
                print(f"| {kind} | {each:.0f} | {sent:.1f} | {show(during)} |", flush=True)
            print(f"\nafter {show(ratio(direct, way, args))}; {way.memory() / 1e6:.0f} MB resident in all")
    finally:
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()

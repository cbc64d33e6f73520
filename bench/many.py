#!/usr/bin/env python3
"""What many connections cost that do nothing: memory, processor time, and how other sessions fare meanwhile.

    many.py --gateway PATH [--sessions 9000] [--half-open 1000] [--rounds 3] [--seconds 3]

First connections that have not logged in: they have sent nothing, the half of a packet, a request for TLS, or a start-up without
a password, each a quarter. Then sessions that are logged in by way of the gateway to a server of this script's own, which takes
everybody and says no more: ten thousand processes of PostgreSQL would not fit beside it. Meanwhile other sessions run pgbench -S
through the same gateway and directly in turns, and log in one after the other. A gateway holds two descriptors a session: 9,000 fit
into 20,000. The last quarter of the half-open ones is for other addresses.
"""
import argparse, asyncio, multiprocessing, pathlib, shutil, socket, statistics, struct, sys, tempfile, time
import rig, run
from held import ratio

LIMITS = """
[limits]
half_open = {half_open}
login = "10m"
"""
POLICY = """
@id("bench") permit (principal, action in [Action::"connect", Action::"read", Action::"write"], resource);
"""
OPEN_AT_ONCE = 64


def frame(tag, body):
    return tag + struct.pack(">i", len(body) + 4) + body


GREETING = (frame(b"R", bytes(4)) + b"".join(frame(b"S", text) for text in (
    b"server_version\x0015.18\0", b"server_encoding\0UTF8\0", b"client_encoding\0UTF8\0", b"standard_conforming_strings\0on\0",
    b"integer_datetimes\0on\0")) + frame(b"K", struct.pack(">ii", 1, 2)) + frame(b"Z", b"I"))


def serve(listener):
    """Takes every start-up and answers nothing else."""
    async def one(reader, writer):
        try:
            await reader.readexactly(struct.unpack(">i", await reader.readexactly(4))[0] - 4)
            writer.write(GREETING)
            while await reader.read(1024):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def run_server():
        async with await asyncio.start_server(one, sock=listener, backlog=4096) as server:
            await server.serve_forever()

    asyncio.run(run_server())


async def login(way, resource):
    reader, writer = await asyncio.open_connection("127.0.0.1", way.port, limit=4096)
    parameters = b"user\0alice@" + resource + b"\0database\0bench\0\0"
    writer.write(struct.pack(">ii", len(parameters) + 8, 196608) + parameters)
    try:
        while True:
            tag = await reader.readexactly(1)
            body = await reader.readexactly(struct.unpack(">i", await reader.readexactly(4))[0] - 4)
            if tag == b"R" and body == b"\0\0\0\3":
                writer.write(frame(b"p", way.password.encode() + b"\0"))
            elif tag == b"Z":
                return writer
            elif tag == b"E":
                sys.exit(f"bench: a login was refused: {body!r}")
    except asyncio.IncompleteReadError:
        sys.exit("bench: a login ended early")


async def open_all(count, way):
    """So many idle sessions, some at a time."""
    turns = asyncio.Semaphore(OPEN_AT_ONCE)

    async def one():
        async with turns:
            return await login(way, b"quiet")

    return await asyncio.gather(*(one() for _ in range(count)))


def half_open(port, number):
    s = socket.create_connection(("127.0.0.1", port))
    start_up = b"user\0alice@bench\0database\0bench\0\0"
    packet = struct.pack(">ii", len(start_up) + 8, 196608) + start_up
    s.sendall((b"", packet[: len(packet) // 2], struct.pack(">ii", 8, 80877103), packet)[number % 4])
    return s


def used(way, seconds=5):
    """Milliseconds of processor time a second."""
    before, start = way.cpu(), time.monotonic()
    time.sleep(seconds)
    return (way.cpu() - before) / (time.monotonic() - start) * 1000


def logins(way, count=30):
    """Milliseconds that one login takes, the median."""
    times = []
    for _ in range(count):
        start = time.monotonic()
        run.login(way).close()
        times.append((time.monotonic() - start) * 1000)
    return statistics.median(times)


def line(case, way, direct, before, count, args):
    each = f"{(way.memory() - before) / count / 1024:.1f}" if count else ""
    idle, login_ms = used(way), logins(way)
    middle, low, high = ratio(direct, way, args)
    print(f"| {case} | {each} | {idle:.1f} | {login_ms:.1f} | {middle:.3f} [{low:.3f}..{high:.3f}] |", flush=True)


async def sessions(way, direct, args):
    before, start = way.memory(), time.monotonic()
    opened = await open_all(args.sessions, way)
    took = time.monotonic() - start
    await asyncio.sleep(3)
    line(f"{args.sessions:,} idle sessions, opened in {took:.1f} s", way, direct, before, args.sessions, args)
    for writer in opened:
        writer.transport.abort()


def main():
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--gateway", required=True, type=pathlib.Path)
    asked.add_argument("--sessions", type=int, default=9000)
    asked.add_argument("--half-open", type=int, default=1000)
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--seconds", type=int, default=3)
    args = asked.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="gateway-bench-"))
    folder.chmod(0o755)
    postgres = rig.Postgres(folder, 1)
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    quiet = multiprocessing.Process(target=serve, args=(listener,), daemon=True)
    quiet.start()
    resource = f"""
[[resource]]
name = "quiet"
protocol = "postgres"
address = "127.0.0.1:{listener.getsockname()[1]}"
tls = "disable"
credential = {{ kind = "static", username = "bench", password = {{ file = "target-password" }} }}
"""
    try:
        postgres.start()
        with rig.Middle(folder, postgres.port) as middle:
            direct = rig.Way("direct", postgres.port, "bench", rig.PASSWORD)
            limits = LIMITS.format(half_open=args.half_open * 3 // 2)
            way = middle.gateway(args.gateway, policy=POLICY, audit=limits, tags=resource)
            ratio(direct, way, argparse.Namespace(rounds=1, seconds=1))
            print("| | KB resident, each | cpu, ms a second | a login, ms | others, of direct |\n|---|--:|--:|--:|--:|")
            line("before", way, direct, 0, 0, args)
            before = way.memory()
            waiting = [half_open(way.port, number) for number in range(args.half_open)]
            time.sleep(3)
            line(f"{args.half_open:,} half-open connections", way, direct, before, args.half_open, args)
            for s in waiting:
                s.close()
            time.sleep(3)
            asyncio.run(sessions(way, direct, args))
            time.sleep(3)
            line("after", way, direct, 0, 0, args)
    finally:
        postgres.stop()
        quiet.terminate()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()

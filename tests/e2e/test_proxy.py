"""The PROXY protocol: from listed peers alone, and nobody becomes another by it."""
import contextlib, os, socket, struct, time

import rig
from harness import check, eventually, query

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def v1(source, port=54321, family="TCP4", target="10.0.0.1"):
    return f"PROXY {family} {source} {target} {port} 6432\r\n".encode()


def v2(source, port=54321, command=0x21, extra=b""):
    six = ":" in source
    kind = socket.AF_INET6 if six else socket.AF_INET
    block = socket.inet_pton(kind, source) + socket.inet_pton(kind, "::1" if six else "10.0.0.1") + struct.pack("!HH", port, 6432) + extra
    return SIGNATURE + bytes([command, 0x21 if six else 0x11]) + struct.pack("!H", len(block)) + block


LOCAL = SIGNATURE + b"\x20\x00\0\0"


@contextlib.contextmanager
def behind(w, networks='["127.0.0.0/8"]', **options):
    """A gateway that believes these peers."""
    os.environ["GATEWAY_LISTEN__PROXY_PROTOCOL_FROM"] = networks
    try:
        with w.own(**options) as own:
            yield own
    finally:
        del os.environ["GATEWAY_LISTEN__PROXY_PROTOCOL_FROM"]


class Balancer:
    """Sends a header in front of whatever a client sends: a load balancer of one connection at a time."""

    def __init__(self, port, header):
        import threading
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port, self.to, self.header = self.listener.getsockname()[1], port, header
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        import threading
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                gateway = socket.create_connection(("127.0.0.1", self.to), 5)
                gateway.sendall(self.header)
                for a, b in [(client, gateway), (gateway, client)]:
                    threading.Thread(target=self.pump, args=(a, b), daemon=True).start()

    @staticmethod
    def pump(a, b):
        with contextlib.suppress(OSError):
            while piece := a.recv(65536):
                b.sendall(piece)
            b.shutdown(socket.SHUT_WR)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()


def psql(own, port, who="reader"):
    env = {"PGHOST": "localhost", "PGPORT": str(port), "PGSSLMODE": "verify-full", "PGSSLROOTCERT": own.gateway.ca()}
    return own.psql(who, "-c", "SELECT 1", env=env)


def test_each_kind_of_tls_and_a_cancel_behind_a_header(w):
    import threading
    import psycopg
    with behind(w) as own, Balancer(own.port, v2("203.0.113.9", 4242)) as balancer:
        settings = {**own.dsn("reader"), "host": "localhost", "port": balancer.port, "sslmode": "verify-full", "sslrootcert": own.gateway.ca()}
        for more in [{}, {"sslnegotiation": "direct"}, {"max_protocol_version": "3.2"}]:
            with psycopg.connect(**settings, **more, autocommit=True) as conn:
                check(conn.execute("SELECT 1").fetchone() == (1,), more)
                timer = threading.Timer(0.7, conn.cancel_safe)  # behind a header of its own
                timer.start()
                try:
                    conn.execute("SELECT pg_sleep(20)")
                    raise AssertionError("it was not cancelled")
                except psycopg.errors.QueryCanceled:
                    timer.join()


def peers(own, kind="session_started"):
    return [r["peer"] for r in own.rows("audit", "search") if r["kind"] == kind]


def test_the_clients_address_is_what_the_proxy_says(w):
    with behind(w) as own:
        for header, peer in [(v1("203.0.113.5"), "203.0.113.5:54321"), (v2("203.0.113.6", 7), "203.0.113.6:7"),
                             (v1("2001:db8::5", family="TCP6", target="::1"), "[2001:db8::5]:54321"), (v2("2001:db8::6"), "[2001:db8::6]:54321"),
                             (v2("203.0.113.7", extra=b"\x04\x00\x02ab" + b"\x20\x00\x05\x01\0\0\0\0"), "203.0.113.7:54321")]:
            with Balancer(own.port, header) as balancer:
                done = psql(own, balancer.port)
                check(done.stdout == "1\n", header, done.stderr)
                eventually(lambda: peer in peers(own), f"{peer} is in the trail")
                wrong = own.psql("reader", "-c", "SELECT 1", env={
                    "PGHOST": "localhost", "PGPORT": str(balancer.port), "PGSSLMODE": "require", "PGPASSWORD": "wrong"})
                check(wrong.returncode == 2)
                eventually(lambda: peer in peers(own, "login_refused"), f"{peer} is in the trail as refused")


def clear(own, header, user="reader"):
    """What a login without TLS is asked for behind this header: the tag and code of the first message."""
    wire = rig.Wire(own.port, 5)
    wire.send(header + rig.startup_packet({"user": own.user(user), "database": own.database}))
    got = wire.read()
    return got and (got[0], wire.codes() or got[1])


def test_nobody_becomes_loopback_through_a_proxy(w):
    """A secret may go without TLS on loopback; what a proxy passes on may have come from anywhere."""
    with behind(w) as own:
        for header in [v1("203.0.113.5"), v1("127.0.0.1"), v1("::1", family="TCP6", target="::1"), v2("127.0.0.1"), v2("::1"),
                       v2("::ffff:127.0.0.1"), b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN 127.0.0.1 127.0.0.1 1 1\r\n", LOCAL, v2("127.0.0.1", command=0x20)]:
            check(clear(own, header) == ("E", ["28000"]), header, clear(own, header))


def test_a_listed_peer_must_send_a_header(w):
    with behind(w) as own:
        startup = rig.startup_packet({"user": own.user("reader"), "database": own.database})
        for first in [startup, rig.special_packet(rig.SSL_REQUEST), b"\x16\x03\x01\x02\x00\x01" + bytes(200), b"PROXY TCP4 1.2.3.4\r\n" + startup,
                      SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12) + startup, SIGNATURE + b"\x21\x11\xff\xff" + bytes(100), b"PROXY " + b"x" * 300]:
            wire = rig.Wire(own.port, 5)
            wire.send(first)
            wire.silence(3)
            check(wire.closed and not wire.lines, first[:30], wire.lines)


def test_a_header_from_anybody_else_is_malformed(w):
    startup = rig.startup_packet({"user": w.user("reader"), "database": w.database})
    with behind(w, '["10.0.0.0/8", "2001:db8::/32"]') as own:
        for header in [v1("203.0.113.5"), v2("203.0.113.5"), b"PROXY UNKNOWN\r\n", LOCAL]:
            wire = rig.Wire(own.port, 5)
            wire.send(header + startup)
            wire.silence(3)
            check(wire.closed and "ready I" not in wire.lines and not [l for l in wire.lines if "password" in l], header, wire.lines)
        check(own.psql("reader", "-c", "SELECT 1").stdout == "1\n", "others log in as always")
        check("203.0.113.5" not in str(own.rows("audit", "search")))


def test_a_header_that_comes_slowly_meets_the_deadline(w):
    with behind(w, sections='[limits]\nlogin = "2s"\nhalf_open = 4\n') as own:
        started = time.monotonic()
        for first in [b"", b"PROXY TCP4 ", SIGNATURE, v2("203.0.113.5")[:20]]:
            wire = rig.Wire(own.port, 10)
            wire.send(first)
        wire.silence(5)
        check(wire.closed and time.monotonic() - started < 5)


def test_health_checks_of_a_load_balancer_are_silent(w):
    with behind(w) as own:
        before, trail = own.log(), len(own.rows("audit", "search"))
        for first in [b"", LOCAL, b"PROXY UNKNOWN\r\n", v1("203.0.113.5"), LOCAL + rig.special_packet(rig.SSL_REQUEST), b"PRO"]:
            with socket.create_connection(("127.0.0.1", own.port), 5) as s:
                s.sendall(first)
        time.sleep(0.5)
        check(own.log() == before, own.log()[len(before):])
        check(len(own.rows("audit", "search")) == trail)


def test_networks_are_checked(w):
    for bad, word in [('["10.0.0.0/33"]', "10.0.0.0/33"), ('["10.1.2.3/8"]', "10.0.0.0/8"), ('["lb.example"]', "lb.example"), ('"10.0.0.0/8"', "list")]:
        os.environ["GATEWAY_LISTEN__PROXY_PROTOCOL_FROM"] = bad
        try:
            with w.own(start=False) as own:
                done = own.cli("config", "check", ok=False)
                check(done.returncode == 1 and word in done.stdout + done.stderr, bad, done.stdout, done.stderr)
        finally:
            del os.environ["GATEWAY_LISTEN__PROXY_PROTOCOL_FROM"]

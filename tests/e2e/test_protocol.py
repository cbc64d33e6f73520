"""The corners of the protocol before a session: versions, direct TLS, cancelling, health checks. psycopg brings the
libpq of PostgreSQL 18, which has them; what no client sends is sent byte by byte."""
import contextlib, os, select, socket, ssl, struct, threading, time

import common, rig
from harness import check, eventually, query

V3_2, V3_9999 = 0x30002, 0x3270F


def libpq(w, who="reader", tls=False, **more):
    """psycopg on a connection of libpq's, with whatever parameters."""
    import psycopg
    settings = {**w.dsn(who), **more}
    if tls:
        settings.update(host="localhost", sslmode="verify-full", sslrootcert=w.gateway.ca())
    return psycopg.connect(**settings, autocommit=True)


def opened(w, version, extra=(), user=None):
    """The lines of a start-up with that version, up to the request for a password."""
    wire = rig.Wire(w.port, 10)
    params = {"user": user or w.user("reader"), "database": w.database, **dict(extra)}
    wire.send(rig.startup_packet(params, version))
    first = wire.read()
    return wire, first


def negotiated(body):
    version, count = struct.unpack("!II", body[:8])
    return version, body[8:].split(b"\0")[:count]


def finish(w, wire):
    """Logs in with the clear password that was asked for."""
    wire.send(rig.frame("p", rig.cstr(w.token("reader"))))
    while True:
        got = wire.read()
        check(got is not None and got[0] != "E", wire.lines)
        if got[0] == "Z":
            wire.outstanding, wire.lines = 0, []
            return wire


def test_version_3_2_has_keys_of_32_bytes_and_3_0_of_4(w):
    for version, length in [(rig.PROTOCOL_3, 4), (0x30001, 4), (V3_2, 32)]:
        wire, first = opened(w, version)
        check(first[0] == "R", hex(version), "needs no negotiation:", first)
        check(len(finish(w, wire).key[1]) == length, hex(version), len(wire.key[1]))
        check(query(wire, "SELECT 1 AS one")[0][1] == "row 1")
        wire.close()


def test_a_newer_version_and_unknown_options_are_answered_with_what_is_spoken(w):
    option = [("_pq_.test_protocol_negotiation", "1"), ("_pq_.other", "")]
    names = [name.encode() for name, _ in option]
    for version, extra, spoken, unknown, length in [
        (V3_9999, [], V3_2, [], 32),
        (V3_9999, option, V3_2, names, 32),
        (V3_2, option, V3_2, names, 32),
        (rig.PROTOCOL_3, option[:1], rig.PROTOCOL_3, names[:1], 4),
    ]:
        wire, first = opened(w, version, extra)
        check(first[0] == "v" and negotiated(first[1]) == (spoken, unknown), hex(version), extra, first)
        check(wire.read()[0] == "R")
        check(len(finish(w, wire).key[1]) == length)
        wire.close()


def test_another_major_version_is_refused(w):
    for version in [0x20000, 0x40000, 0x7FFF0000]:
        wire, first = opened(w, version)
        check(first and first[0] == "E" and wire.codes() == ["08P01"], hex(version), wire.lines)


def test_libpq_18_speaks_3_2_and_the_newest(w):
    for asked in ["3.2", "latest"]:
        with libpq(w, max_protocol_version=asked) as conn:
            check(conn.pgconn.full_protocol_version == 30002, asked, conn.pgconn.full_protocol_version)
            check(conn.execute("SELECT 1").fetchone() == (1,))
    with libpq(w, min_protocol_version="3.2", max_protocol_version="3.2") as conn:
        check(conn.execute("SELECT 1").fetchone() == (1,))


def cancelled(conn, cancel):
    import psycopg
    failures = []

    def later():
        try:
            cancel()
        except Exception as failure:
            failures.append(failure)
    timer = threading.Timer(0.7, later)
    timer.start()
    started = time.monotonic()
    try:
        conn.execute("SELECT pg_sleep(20)")
        raise AssertionError("it was not cancelled")
    except psycopg.errors.QueryCanceled:
        check(time.monotonic() - started < 10)
    finally:
        timer.join()
    check(not failures, "the client thinks that it failed:", failures)
    check(conn.execute("SELECT 1").fetchone() == (1,))


def test_cancelling_with_libpq_in_each_way(w):
    for more in [dict(), dict(max_protocol_version="3.2"), dict(tls=True), dict(tls=True, max_protocol_version="3.2"),
                 dict(tls=True, sslnegotiation="direct")]:
        with libpq(w, **more) as conn:
            cancelled(conn, conn.cancel_safe)  # PQcancelStart: encrypted as the session is
            cancelled(conn, conn.cancel)       # PQcancel: in clear


def cancel_packet(process, key):
    return rig.special_packet(rig.CANCEL_REQUEST, struct.pack("!I", process) + key)


def said_to(w, packet, wrap=None):
    """What is answered to a packet without a tag on a connection of its own: nothing, and it closes."""
    with socket.create_connection(("127.0.0.1", w.port), 5) as s:
        s.settimeout(5)
        peer = wrap(s) if wrap else s
        peer.sendall(packet)
        got = b""
        with contextlib.suppress(OSError):
            while True:
                piece = peer.recv(4096)
                if not piece:
                    break
                got += piece
        return got


def test_unknown_keys_cancel_nothing_and_are_told_nothing(w):
    events = lambda: len([r for r in w.rows("audit", "search") if r["kind"] == "cancel"])
    wire = finish(w, opened(w, V3_2)[0])
    before = events()
    process, key = wire.key
    wire.send(rig.frame("Q", rig.cstr("SELECT pg_sleep(2)")))
    time.sleep(0.5)
    for pid, wrong in [(process, key[:4]), (process, bytes(32)), (process, key[:31] + bytes([key[31] ^ 1])), (process, key + b"x"),
                       (process ^ 1, key), (0, bytes(4)), (process, bytes(256))]:
        check(said_to(w, cancel_packet(pid, wrong)) == b"", pid, wrong)
    # No valid packet at all.
    for bad in [bytes(0), bytes(3), bytes(257)]:
        check(b"ERROR" not in said_to(w, cancel_packet(process, bad)), bad)
    wire.outstanding = 1
    wire.until_ready()
    check(not wire.errors and "ready I" in wire.lines, "somebody without the key has cancelled it:", wire.lines)
    check(events() == before, "guesses must not fill the trail")
    check(said_to(w, cancel_packet(process, key)) == b"")
    eventually(lambda: events() == before + 1, "a request with the key is in the trail")
    wire.close()
    time.sleep(0.3)
    check(said_to(w, cancel_packet(process, key)) == b"", "the key of a session that has ended")


def test_the_target_s_own_key_cancels_nothing_here(w):
    wire = finish(w, opened(w, rig.PROTOCOL_3)[0])
    pid = int(query(wire, "SELECT pg_backend_pid()")[0][1].split()[1])
    check(wire.key[0] != pid, "the client was told the target's process id")
    wire.close()


# ---- direct TLS ----

def context(w, *protocols):
    tls = ssl.create_default_context(cafile=w.gateway.ca())
    if protocols:
        tls.set_alpn_protocols(list(protocols))
    return tls


def direct(w, *protocols):
    s = socket.create_connection(("127.0.0.1", w.port), 5)
    s.settimeout(5)
    return context(w, *protocols).wrap_socket(s, server_hostname="localhost")


def test_direct_tls_with_libpq(w):
    with libpq(w, tls=True, sslnegotiation="direct") as conn:
        check(conn.execute("SELECT 1").fetchone() == (1,))
        check(conn.pgconn.used_password)


def test_direct_tls_needs_the_application_protocol(w):
    startup = rig.startup_packet({"user": w.user("reader"), "database": w.database})
    with direct(w, "postgresql") as s:
        check(s.selected_alpn_protocol() == "postgresql")
        s.sendall(startup)
        check(s.recv(9) == rig.frame("R", struct.pack("!I", 3)))
    with direct(w, "h2", "postgresql") as s:
        check(s.selected_alpn_protocol() == "postgresql")
    # None at all: the handshake may end, and then nothing is answered.
    got = b""
    with contextlib.suppress(OSError):
        with direct(w) as s:
            s.sendall(startup)
            got = s.recv(100)
    check(got == b"", got)
    # Others alone: no handshake.
    for others in [["h2", "http/1.1"], ["postgres"], ["postgresql2"]]:
        try:
            direct(w, *others).close()
            raise AssertionError(f"{others} was taken")
        except ssl.SSLError as error:
            check("application protocol" in str(error).lower().replace("_", " "), error)


def requested(w, *protocols):
    s = socket.create_connection(("127.0.0.1", w.port), 5)
    s.settimeout(5)
    s.sendall(rig.special_packet(rig.SSL_REQUEST))
    check(s.recv(1) == b"S")
    return context(w, *protocols).wrap_socket(s, server_hostname="localhost")


def test_requested_tls_takes_clients_with_and_without_the_application_protocol(w):
    with requested(w) as s:
        check(s.selected_alpn_protocol() is None)
    with requested(w, "postgresql") as s:
        check(s.selected_alpn_protocol() == "postgresql")
    try:
        requested(w, "h2").close()
        raise AssertionError("another application protocol was taken")
    except ssl.SSLError:
        pass


def test_cancelling_inside_of_tls(w):
    for tls in [lambda s: context(w, "postgresql").wrap_socket(s, server_hostname="localhost"), None]:
        wire = finish(w, opened(w, V3_2)[0])
        wire.send(rig.frame("Q", rig.cstr("SELECT pg_sleep(20)")))
        time.sleep(0.5)
        check(said_to(w, cancel_packet(*wire.key), tls) == b"")
        wire.outstanding = 1
        wire.until_ready()
        check(wire.codes() == ["57014"], wire.lines)
        wire.close()


def test_requests_for_encryption_are_bounded(w):
    with requested(w, "postgresql") as s:
        # GSSAPI inside of TLS, TLS inside of TLS: no, and go on.
        for code in [rig.GSS_REQUEST, rig.SSL_REQUEST]:
            s.sendall(rig.special_packet(code))
            check(s.recv(1) == b"N")
        s.sendall(rig.special_packet(rig.GSS_REQUEST))
        s.recv(1)
        with contextlib.suppress(OSError):
            s.sendall(rig.special_packet(rig.GSS_REQUEST))
            check(s.recv(1) == b"", "an endless game of requests")


def test_gssapi_encryption_is_declined_and_the_login_goes_on(w):
    wire = rig.Wire(w.port, 10)
    wire.send(rig.special_packet(rig.GSS_REQUEST))
    check(wire.raw(1) == b"N")
    wire.login(w.user("reader"), w.token("reader"), w.database)
    check(query(wire, "SELECT 1 AS one")[0][1] == "row 1")
    wire.close()


def test_bytes_before_the_gssapi_answer_are_refused_cve_2021_3935(w):
    wire = rig.Wire(w.port, 5)
    wire.send(rig.special_packet(rig.GSS_REQUEST) + rig.startup_packet({"user": w.user("reader"), "database": w.database}))
    wire.silence()
    check(wire.closed and not [line for line in wire.lines if line.startswith("ready")], wire.lines)


def test_bytes_behind_the_tls_request_are_refused_over_direct_tls_too_cve_2021_3935(w):
    with direct(w, "postgresql") as s:
        s.sendall(rig.special_packet(rig.SSL_REQUEST) + rig.startup_packet({"user": w.user("reader"), "database": w.database}))
        got = b""
        with contextlib.suppress(OSError):
            while piece := s.recv(100):
                got += piece
        check(got in (b"", b"N"), got)


def test_more_than_the_login_asks_for_is_refused(w):
    """What comes with the password would be taken as if the session had sent it."""
    wire, _ = opened(w, rig.PROTOCOL_3)
    wire.send(rig.frame("p", rig.cstr(w.token("reader"))) + rig.frame("Q", rig.cstr("SELECT 1")))
    wire.silence()
    check(wire.closed and "ready I" not in wire.lines, wire.lines)
    wire = rig.Wire(w.port, 5)
    wire.send(rig.startup_packet({"user": w.user("reader"), "database": w.database}) + rig.frame("p", rig.cstr(w.token("reader"))))
    wire.silence()
    check("ready I" not in wire.lines and wire.closed, wire.lines)


# ---- health checks, and clients that are slow or wrong before they have logged in ----

def test_health_checks_fill_neither_the_log_nor_the_trail(w):
    with w.own() as own:
        own.psql("reader", "-c", "SELECT 1")
        eventually(lambda: [r for r in own.rows("audit", "search") if r["kind"] == "session_ended"], "the session has ended")
        log, trail = own.log(), len(own.rows("audit", "search"))
        startup = rig.startup_packet({"user": own.user("reader"), "database": own.database})

        def ask(first=b"", read=0, then=b""):
            with socket.create_connection(("127.0.0.1", own.port), 5) as s:
                s.sendall(first)
                if read:
                    s.recv(read)
                s.sendall(then)

        for _ in range(5):
            ask()
            ask(rig.special_packet(rig.SSL_REQUEST))
            ask(rig.special_packet(rig.SSL_REQUEST), 1)
            ask(rig.special_packet(rig.GSS_REQUEST), 1)
            ask(startup[:7])
            ask(startup, 9)                       # pg_isready
            ask(b"\x16\x03\x01")
            with socket.create_connection(("127.0.0.1", own.port), 5) as s:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
            with contextlib.suppress(OSError):
                requested(own, "postgresql").close()
            with contextlib.suppress(OSError):
                direct(own, "postgresql").close()
        ready = own.run("reader", "pg_isready", "-h", "127.0.0.1", "-p", str(own.port), env={"PGPASSWORD": ""})
        check(ready.returncode == 0, ready.stdout, ready.stderr)
        time.sleep(0.7)
        check(own.log() == log, "the log has:", own.log()[len(log):])
        check(len(own.rows("audit", "search")) == trail, own.rows("audit", "search")[trail:])


def test_more_than_one_host(w):
    """libpq goes on to the next host where one does not answer, and asks which one takes writes."""
    nobody = common.free_port()
    hosts = dict(host="127.0.0.1,127.0.0.1", port=f"{nobody},{w.port}")
    for wish in ["any", "read-write", "primary", "prefer-standby"]:
        with libpq(w, **hosts, target_session_attrs=wish) as conn:
            check(conn.execute("SELECT 1").fetchone() == (1,), wish)


def test_bytes_that_come_slowly_meet_the_deadline_ghsa_78rf_ghsa_vv47(w):
    with w.own(sections='[limits]\nlogin = "2s"\n') as own:
        session = own.wire("reader")
        startup = rig.startup_packet({"user": own.user("reader"), "database": own.database})
        drips = []
        for first, drip in [(b"", startup), (startup, rig.frame("p", b"x" * 60000)), (b"", b"\x16\x03\x01\x02\x00\x01" + bytes(500)),
                            (rig.special_packet(rig.SSL_REQUEST), b"\x16\x03\x01\x02\x00\x01" + bytes(500))]:
            s = socket.create_connection(("127.0.0.1", own.port), 5)
            s.sendall(first)
            drips.append((s, iter(drip)))
        started, open_ = time.monotonic(), list(drips)
        while open_ and time.monotonic() - started < 8:
            for one in list(open_):
                try:
                    one[0].sendall(bytes([next(one[1])]))
                    if select.select([one[0]], [], [], 0)[0] and one[0].recv(100, socket.MSG_PEEK) == b"":
                        open_.remove(one)
                except (OSError, StopIteration):
                    open_.remove(one)
                with contextlib.suppress(OSError):
                    if select.select([one[0]], [], [], 0)[0]:
                        one[0].recv(100)
            time.sleep(0.1)
        check(not open_ and time.monotonic() - started < 5, len(open_), "are still open")
        check(query(session, "SELECT 1")[1] == [])
        session.close()


def test_huge_lengths_before_the_login_are_refused_at_once_ghsa_78rf(w):
    startup = rig.startup_packet({"user": w.user("reader"), "database": w.database})
    for first, bad in [(b"", struct.pack("!I", 10_005) + bytes(8)), (b"", b"\x7f\xff\xff\xff"), (b"", struct.pack("!I", 3)),
                       (startup, b"p\x7f\xff\xff\xff"), (startup, b"p" + struct.pack("!I", 70_000)), (startup, b"p\0\0\0\0"),
                       (startup, b"Q\0\0\0\x0dSELECT 1\0")]:
        wire = rig.Wire(w.port, 5)
        wire.send(first)
        if first:
            wire.read()
        wire.send(bad)
        started = time.monotonic()
        wire.silence(3)
        check(wire.closed and time.monotonic() - started < 2, bad, wire.lines)


def test_start_up_parameters_never_steer_the_gateway_s_own_queries_cve_2025_12819(w):
    """What a client asks for holds in its session alone, and never where the gateway reads the structure."""
    w.admin("CREATE SCHEMA evil")
    w.admin("CREATE TABLE evil.pg_class (oid oid, relname text)")
    try:
        for startup in [{"search_path": "evil,public"}, {"options": "-c search_path=evil,pg_catalog"},
                        {"search_path": "evil", "client_encoding": "LATIN1"}]:
            wire = w.wire("reader", startup=startup)
            lines, errors = query(wire, "SELECT id FROM public.orders LIMIT 1")
            check(errors == [], startup, lines)
            wire.close()
        settings = w.admin("SELECT DISTINCT application_name, usename FROM pg_stat_activity WHERE application_name = 'gateway'")
        check(len(settings) <= 1, settings)
        for bad in [{"session_authorization": "postgres"}, {"role": "postgres"}, {"options": "-c role=postgres"}, {"replication": "database"},
                    {"options": "-c session_preload_libraries=x"}, {"track_activities": "off"}, {"options": "--log-statement=none"}]:
            check(w.refused_login("reader", startup=bad) in ("0A000", "08P01", "28000"), bad)
    finally:
        w.admin("DROP SCHEMA evil CASCADE")


def timers():
    """Local and remote port of every TCP connection of this machine over IPv4, and whether keepalive is on for it."""
    with open("/proc/net/tcp") as table:
        for line in list(table)[1:]:
            _, local, remote, _, _, timer, *_ = line.split()
            yield int(local.split(":")[1], 16), int(remote.split(":")[1], 16), timer.startswith("02:")


def test_a_peer_that_vanishes_is_noticed_by_tcp_keepalive(w):
    wire = w.wire("reader")
    pid = int(query(wire, "SELECT pg_backend_pid()")[0][1].split()[1])
    target = int(w.admin(f"SELECT client_port FROM pg_stat_activity WHERE pid = {pid}")[0])
    client = wire.sock.getsockname()[1]
    time.sleep(0.5)  # while something is on its way another timer runs
    for local, remote in [(w.port, client), (target, w.server.port)]:
        check((local, remote, True) in set(timers()), local, remote, [t for t in timers() if t[0] == local])
    wire.close()


def test_many_requests_to_cancel_are_few_at_the_target(w):
    """The target sees one at a time; one that waits stands for all that come meanwhile."""
    import contextlib as c
    from test_hostile_targets import Fake, WELCOME, says
    arrived, at_once, most = [], [0], [0]

    class Slow(Fake):
        def serve(self, s):
            head = s.recv(8, socket.MSG_PEEK)
            if head[4:] == struct.pack("!I", rig.CANCEL_REQUEST):
                at_once[0] += 1
                most[0] = max(most[0], at_once[0])
                arrived.append(time.monotonic())
                time.sleep(1.0)
                at_once[0] -= 1
                s.close()
                return
            super().serve(s)

    with Slow(says(WELCOME)) as slow:
        with w.own(resources=w.resource(address=f'"127.0.0.1:{slow.port}"')) as own:
            wire = own.wire("reader")
            sockets = []
            for _ in range(40):
                s = socket.create_connection(("127.0.0.1", own.port), 5)
                s.sendall(cancel_packet(*wire.key))
                sockets.append(s)
            started = time.monotonic()
            for s in sockets:
                s.settimeout(10)
                with c.suppress(OSError):
                    check(s.recv(1) == b"")
                s.close()
            check(most[0] == 1 and 1 <= len(arrived) <= 4, most, len(arrived))
            check(time.monotonic() - started < 6)
            wire.close()

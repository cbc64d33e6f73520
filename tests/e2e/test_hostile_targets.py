"""Targets that lie, flood and stall: a session with one costs that session, a bounded time, and a bounded memory."""
import contextlib, os, pathlib, socket, struct, threading, time

import rig
from harness import check, eventually, query

OK = rig.frame("R", struct.pack("!I", 0))
KEY = rig.frame("K", struct.pack("!II", 4711, 0x5EC2E7))
READY = rig.frame("Z", b"I")


def status(name, value):
    return rig.frame("S", rig.cstr(name) + rig.cstr(value))


GREETING = b"".join(status(*pair) for pair in [
    ("server_version", "15.0"), ("client_encoding", "UTF8"), ("server_encoding", "UTF8"), ("standard_conforming_strings", "on"),
    ("integer_datetimes", "on"), ("DateStyle", "ISO, MDY"), ("TimeZone", "UTC")])
NOTICE = rig.frame("N", b"SNOTICE\0VNOTICE\0C00000\0M" + b"x" * 200 + b"\0\0")
WELCOME = OK + GREETING + KEY + READY


class Fake:
    """A target that takes the start-up message and then does what `play(socket, startup)` says."""

    def __init__(self, play):
        self.play, self.startups, self.cancels = play, [], []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                s, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, s):
        with contextlib.suppress(OSError), s:
            s.settimeout(60)
            head = s.recv(4)
            if len(head) < 4:
                return
            body = s.recv(int.from_bytes(head, "big") - 4)
            if body[:4] == struct.pack("!I", rig.CANCEL_REQUEST):
                self.cancels.append(body[4:])
                return
            self.startups.append(body)
            self.play(s, body)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()


@contextlib.contextmanager
def before(w, play, limits='connect = "3s"'):
    """A gateway before a target that plays this."""
    with Fake(play) as fake:
        keys = dict(address=f'"127.0.0.1:{fake.port}"')
        with w.own(sections=f"[limits]\n{limits}\n", resources=w.resource(**keys)) as own:
            own.fake = fake
            own.token("reader")
            yield own


def rss(own):
    text = pathlib.Path(f"/proc/{own.gateway.process.pid}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024


def endless(*pieces):
    """Sends greetings, then the last piece for ever."""
    def play(s, _):
        for piece in pieces[:-1]:
            s.sendall(piece)
        block = pieces[-1] * max(1, 65536 // len(pieces[-1]))
        while True:
            s.sendall(block)
    return play


def says(*pieces, stay=True):
    def play(s, _):
        for piece in pieces:
            s.sendall(piece)
        if stay:
            with contextlib.suppress(OSError):
                while s.recv(65536):
                    pass
    return play


BIG = 0x7FFFFFFF
AT_LOGIN = {
    "unsolicited ready": says(READY),
    "unsolicited row": says(rig.frame("D", b"\0\0")),
    "a key before the login": says(KEY),
    "a status before the login": says(status("a", "b")),
    "a query's answer in the greeting": says(OK, GREETING, rig.frame("C", b"SELECT 1\0"), READY),
    "a copy in the greeting": says(OK, rig.frame("G", b"\0\0\0")),
    "two oks": says(OK, OK, READY),
    "an unknown message": says(rig.frame("!", b"")),
    "an unknown way to authenticate": says(rig.frame("R", struct.pack("!I", 99))),
    "kerberos": says(rig.frame("R", struct.pack("!I", 2))),
    "sasl without mechanism": says(rig.frame("R", struct.pack("!I", 10) + b"\0")),
    "sasl of unknown mechanism": says(rig.frame("R", struct.pack("!I", 10) + b"X\0\0")),
    "sasl that goes on before it began": says(rig.frame("R", struct.pack("!I", 11) + b"r=x,s=AAAA,i=4096")),
    "sasl final at once": says(rig.frame("R", struct.pack("!I", 12) + b"v=AAAA")),
    "scram with endless iterations": says(rig.frame("R", struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0"),
                                          rig.frame("R", struct.pack("!I", 11) + b"r=x,s=AAAA,i=2000000000")),
    "a huge length": says(b"R" + struct.pack("!I", BIG)),
    "a huge length after the login": says(OK, b"S" + struct.pack("!I", BIG)),
    "a length that does not count itself": says(b"R\0\0\0\0"),
    "a key of no length": says(OK, rig.frame("K", struct.pack("!I", 1)), READY),
    "a key that is too long": says(OK, rig.frame("K", struct.pack("!I", 1) + bytes(257)), READY),
    "a version that was not asked for": says(rig.frame("v", struct.pack("!II", 0x30003, 0)), WELCOME),
    "another major version": says(rig.frame("v", struct.pack("!II", 0x20000, 0)), WELCOME),
    "options that were not asked for": says(rig.frame("v", struct.pack("!II", 0x30000, 1) + b"_pq_.x\0"), WELCOME),
    "the version twice": says(rig.frame("v", struct.pack("!II", 0x30000, 0)) * 2, WELCOME),
    "the version after the login": says(OK, rig.frame("v", struct.pack("!II", 0x30000, 0)), KEY, READY),
    "no word": says(),
    "half a message": says(OK[:6]),
    "endless notices": endless(NOTICE),
    "endless notices after the login": endless(OK, NOTICE),
    "endless statuses": endless(OK, status("a", "b" * 1000)),
    "endless small statuses": endless(OK, status("a", "")),
    "large statuses": endless(OK, status("a", "b" * 60000)),
    "endless oks": endless(OK),
    "endless requests for a password": endless(rig.frame("R", struct.pack("!I", 3))),
    "endless sasl": endless(rig.frame("R", struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0")),
    "endless keys": endless(OK, KEY),
    "it closes": says(stay=False),
    "it closes after its ok": says(OK, stay=False),
}


def test_a_target_that_misbehaves_at_the_login_costs_that_login(w):
    turn = {}
    with before(w, lambda s, startup: turn["play"](s, startup)) as own:
        start = rss(own)
        for name, play in AT_LOGIN.items():
            turn["play"] = play
            began = time.monotonic()
            done = own.psql("reader", "-c", "SELECT 1", timeout=20)
            took = time.monotonic() - began
            check(done.returncode == 2 and "can't be reached" in done.stderr, name, done.stdout, done.stderr)
            check(took < 6, name, took)
        check(rss(own) - start < 60 << 20, "memory grew by", rss(own) - start)
        check(own.gateway.alive() and "panicked" not in own.log())


def test_a_version_that_the_target_has_is_taken(w):
    """3.2 is asked for; a server of 3.0 says so, one of 3.2 does not, and keys may have 4 to 256 bytes."""
    less = rig.frame("v", struct.pack("!II", 0x30000, 0))
    for greeting, key in [(less + WELCOME, 4), (OK + GREETING + rig.frame("K", struct.pack("!I", 9) + bytes(32)) + READY, 32),
                          (OK + GREETING + rig.frame("K", struct.pack("!I", 9) + b"k" * 256) + READY, 256)]:
        with before(w, says(greeting)) as own:
            wire = own.wire("reader")
            check(own.fake.startups[0][:4] == struct.pack("!I", 0x30002))
            check(len(wire.key[1]) == 4, "the client's key is its own")
            with socket.create_connection(("127.0.0.1", own.port), 5) as s:
                s.sendall(rig.special_packet(rig.CANCEL_REQUEST, struct.pack("!I", wire.key[0]) + wire.key[1]))
                s.settimeout(5)
                check(s.recv(1) == b"")
            eventually(lambda: own.fake.cancels, "the target is told")
            check(len(own.fake.cancels[0]) == 4 + key and wire.key[1] not in own.fake.cancels[0], own.fake.cancels)
            wire.close()
    old = says(WELCOME)
    with Fake(old) as fake:
        keys = dict(address=f'"127.0.0.1:{fake.port}"\nmax_protocol_version = "3.0"')
        with w.own(resources=w.resource(**keys)) as own:
            own.wire("reader").close()
            check(fake.startups[0][:4] == struct.pack("!I", 0x30000))


def test_a_target_is_told_nothing_of_the_client_s_login(w):
    with before(w, says(WELCOME)) as own:
        token = own.token("reader")
        own.wire("reader").close()
        check(token.encode() not in own.fake.startups[0] and token.split("_")[1].encode() not in own.fake.startups[0])


AFTER_LOGIN = {
    "unsolicited rows": says(WELCOME, rig.frame("D", b"\0\1\0\0\0\1x")),
    "an unsolicited end of a command": says(WELCOME, rig.frame("C", b"SELECT 1\0")),
    "an unsolicited ready": says(WELCOME, READY),
    "another request for a password": says(WELCOME, rig.frame("R", struct.pack("!I", 3))),
    "another ok": says(WELCOME, OK),
    "another key": says(WELCOME, rig.frame("K", struct.pack("!II", 1, 2))),
    "a version": says(WELCOME, rig.frame("v", struct.pack("!II", 0x30000, 0))),
    "an unsolicited copy": says(WELCOME, rig.frame("H", b"\0\0\0")),
    "copy both": says(WELCOME, rig.frame("W", b"\0\0\0")),
    "an unknown message": says(WELCOME, rig.frame("!", b"")),
    "a huge length": says(WELCOME, b"D" + struct.pack("!I", BIG)),
    "a huge notice": says(WELCOME, b"N" + struct.pack("!I", BIG)),
    "a length that does not count itself": says(WELCOME, b"N\0\0\0\3"),
    "it closes": says(WELCOME, stay=False),
}


def test_unsolicited_messages_after_the_login_end_the_session_and_reach_nobody(w):
    turn = {}
    with before(w, lambda s, startup: turn["play"](s, startup)) as own:
        for name, play in AFTER_LOGIN.items():
            turn["play"] = play
            wire = own.wire("reader", seconds=10)
            wire.silence(3)
            check(wire.closed, name, wire.lines)
            seen = [line for line in wire.lines if not line.startswith("error")]
            check(seen == [], name, "reached the client:", seen)
        check(own.gateway.alive() and "panicked" not in own.log())


FLOODS = {
    "notices": NOTICE,
    "statuses": status("application_name", "x" * 1000),
    "notifications": rig.frame("A", struct.pack("!I", 7) + rig.cstr("c") + rig.cstr("x" * 1000)),
    "statuses of ever new names": None,
}


def ever_new(s, _):
    s.sendall(WELCOME)
    number = 0
    while True:
        s.sendall(b"".join(status(f"name{number + i}", "x" * 100) for i in range(500)))
        number += 500


def test_floods_after_the_login_are_bounded_whether_the_client_reads_or_not(w):
    turn = {}
    with before(w, lambda s, startup: turn["play"](s, startup)) as own:
        for name, piece in FLOODS.items():
            turn["play"] = endless(WELCOME, piece) if piece else ever_new
            start = rss(own)
            lazy, eager = own.wire("reader", seconds=30), own.wire("reader", seconds=30)
            end = time.monotonic() + 3
            eager.sock.settimeout(1)
            with contextlib.suppress(OSError):
                while time.monotonic() < end and eager.sock.recv(1 << 20):
                    pass
            grown = rss(own) - start
            check(grown < 40 << 20, name, "memory grew by", grown)
            lazy.close(), eager.close()
            eventually(lambda: own.rows("sessions", "list") is not None, "the gateway answers")
        check(own.gateway.alive() and "panicked" not in own.log())


def test_others_are_unharmed_while_a_target_floods_and_stalls(w):
    with Fake(endless(WELCOME, NOTICE)) as flood, Fake(says()) as stall:
        text = w.resource() + "\n" + w.resource("flood", address=f'"127.0.0.1:{flood.port}"') + "\n" + w.resource("stall", address=f'"127.0.0.1:{stall.port}"')
        with w.own(sections='[limits]\nconnect = "20s"\n', resources=text) as own:
            wires = [own.wire("reader", resource="flood", seconds=60) for _ in range(3)]
            stalled = [threading.Thread(target=lambda: own.psql("reader", "-c", "SELECT 1", env={"PGUSER": "alice@stall"}, timeout=40)) for _ in range(5)]
            for thread in stalled:
                thread.start()
            for _ in range(5):
                began = time.monotonic()
                check(own.psql("reader", "-c", "SELECT 1").stdout == "1\n")
                check(time.monotonic() - began < 5, time.monotonic() - began)
            for wire in wires:
                wire.close()
            for thread in stalled:
                thread.join()


def test_a_target_whose_structure_never_comes_holds_nobody_for_ever(w):
    """The gateway's own questions are answered by rows without end, or not at all."""
    def play(s, startup):
        s.sendall(WELCOME)
        own = b"application_name\0gateway\0" in startup
        while s.recv(65536):
            while own:
                s.sendall(rig.frame("D", b"\0\1\0\0\0\1x") * 5000)
            # What stands in the place of a refused statement fails.
            s.sendall(rig.frame("E", b"SERROR\0VERROR\0C42601\0Mno\0\0") + READY)
    with before(w, play) as own:
        start = rss(own)
        wire = own.wire("reader", seconds=100)
        began = time.monotonic()
        lines, codes = query(wire, "SELECT id FROM orders")
        check(codes and time.monotonic() - began < 45, codes, lines)
        check(rss(own) - start < 60 << 20)
        check(not [line for line in lines if line.startswith("row")], lines)

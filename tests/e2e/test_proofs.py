"""Clients that prove their token instead of sending it (SCRAM), and those that bring a bearer token (OAUTHBEARER)."""
import base64, contextlib, ctypes, hashlib, hmac, json, os, pathlib, socket, struct, subprocess, time

import rig
from harness import PRINCIPALS, check, eventually, query
from test_logins import unnamed
from test_protocol import libpq

UNKNOWN = "Zz0000000000"


def token_id(token):
    return token.split("_")[1]


def named(token, resource="orders-db"):
    return f"{token_id(token)}@{resource}"


def sasl(w, user, seconds=10):
    """A connection that was asked for SASL: the wire and the mechanisms."""
    wire = rig.Wire(w.port, seconds)
    wire.send(rig.startup_packet({"user": user, "database": w.database}))
    tag, body = wire.read()
    check(tag == "R" and body[:4] == struct.pack("!I", 10), tag, body)
    return wire, body[4:].rstrip(b"\0").split(b"\0")


def initial(mechanism, message):
    return rig.frame("p", rig.cstr(mechanism) + struct.pack("!I", len(message)) + message)


def test_scram_in_clear_on_loopback_with_a_raw_client(w):
    token = w.token("reader")
    wire = rig.Wire(w.port, 10).login(named(token), token, w.database)
    check(query(wire, "SELECT 1 AS one")[0][1] == "row 1")
    wire.close()


def test_psql_15_with_require_auth_less_and_channel_binding_required(w):
    token = w.token("reader")
    env = {"PGHOST": "localhost", "PGUSER": named(token), "PGSSLMODE": "verify-full", "PGSSLROOTCERT": w.gateway.ca()}
    for binding in ["require", "prefer", "disable"]:
        done = w.psql("reader", "-c", "SELECT 1", env={**env, "PGCHANNELBINDING": binding})
        check(done.stdout == "1\n", binding, done.stderr)
    # A clear password is no channel binding: the client itself refuses.
    done = w.psql("reader", "-c", "SELECT 1", env={**env, "PGUSER": w.user("reader"), "PGCHANNELBINDING": "require"})
    check(done.returncode == 2 and "channel binding" in done.stderr, done.stdout, done.stderr)


def test_libpq_18_with_require_auth_and_channel_binding(w):
    token = w.token("reader")
    for more in [dict(channel_binding="require"), dict(), dict(sslnegotiation="direct", channel_binding="require"),
                 dict(max_protocol_version="3.2", channel_binding="require")]:
        with libpq(w, tls=True, user=named(token), require_auth="scram-sha-256", **more) as conn:
            check(conn.execute("SELECT 1").fetchone() == (1,), more)
    with libpq(w, user=named(token), require_auth="scram-sha-256") as conn:
        check(conn.execute("SELECT 1").fetchone() == (1,))


def test_asyncpg_proves_its_token_too(w):
    import asyncio, asyncpg
    token = w.token("reader")

    async def ask():
        conn = await asyncpg.connect(host="127.0.0.1", port=w.port, user=named(token), password=token, database=w.database, ssl=False)
        try:
            return await conn.fetchval("SELECT 1")
        finally:
            await conn.close()
    check(asyncio.run(ask()) == 1)


def test_a_session_by_proof_is_that_of_the_token(w):
    token = w.token("reader", fresh=True)
    wire = rig.Wire(w.port, 30).login(named(token), token, w.database)
    lines, errors = query(wire, "DROP TABLE orders")
    check(errors == ["42501"], lines)
    pid = int(query(wire, "SELECT pg_backend_pid()")[0][1].split()[1])
    name = w.admin(f"SELECT application_name FROM pg_stat_activity WHERE pid = {pid}")[0]
    check(PRINCIPALS["reader"][0] in name, name)
    # It ends with the token.
    check(w.cli("token", "revoke", token_id(token)).returncode == 0)
    wire.silence(5)
    check(wire.closed and wire.codes()[-1] == "57P01", wire.lines)
    check(refusal(w, named(token), token)[0] == "28000")


def refusal(w, user, password, tls=None):
    """SQLSTATE and text of a refused login."""
    wire = rig.Wire(w.port, 10)
    try:
        wire.login(user, password, w.database)
    except rig.Refused as refused:
        return str(refused), wire.errors[-1].get("M") if wire.errors else None, [unnamed(l) if l.startswith("error") else l for l in wire.lines]
    raise AssertionError(f"{user} was let in")


def test_who_is_refused_learns_nothing_of_why(w):
    token, gone, ended = w.token("reader"), w.token("reader", fresh=True), w.token("reader", ttl="1s")
    w.cli("token", "revoke", token_id(gone))
    time.sleep(1.2)
    limited = w.token("reader", resources=["other-db"])
    stranger = w.token("nobody")
    told = {str(refusal(w, user, password)) for user, password in [
        (named(token), "wrong"), (named(token), gone), (f"{UNKNOWN}@orders-db", "wrong"), (f"{UNKNOWN}@orders-db", token),
        (named(gone), gone), (named(gone), "wrong"), (named(ended), ended), (named(ended), "wrong")]}
    check(len(told) == 1, told)
    # These have proved who they are, and are told the same words.
    words = {refusal(w, user, password)[:2] for user, password in [
        (named(token), "wrong"), (named(limited), limited), (named(stranger), stranger), (named(token, "no-such-db"), token)]}
    check(len(words) == 1, words)


def test_the_trail_says_why_a_proof_was_refused(w):
    with w.own() as own:
        token, gone = own.token("reader"), own.token("reader", fresh=True)
        own.cli("token", "revoke", token_id(gone))
        for user, password in [(named(token), "wrong"), (f"{UNKNOWN}@orders-db", "x"), (named(gone), gone), (named(gone), "x")]:
            refusal(own, user, password)
        text = eventually(lambda: (lambda t: t if t.count("login_refused") + t.count("login-refused") >= 4 or t.count("refused") >= 4 else None)(
            json.dumps(own.rows("audit", "search"))), "the refusals are in the trail")
        for reason in ["the proof of the token is wrong", "the token is unknown", "the token was revoked"]:
            check(reason in text, reason, text)
        check(token not in text and gone not in text)


def challenge(w, user):
    """Salt and iteration count that a name is answered with."""
    wire, mechanisms = sasl(w, user)
    wire.send(initial("SCRAM-SHA-256", b"n,,n=,r=abcdefgh"))
    tag, body = wire.read()
    check(tag == "R" and body[:4] == struct.pack("!I", 11), tag, body)
    parts = dict(p.split("=", 1) for p in body[4:].decode().split(","))
    check(parts["r"].startswith("abcdefgh") and len(parts["r"]) >= 8 + 24, parts)
    wire.close()
    return mechanisms, len(base64.b64decode(parts["s"])), parts["i"], parts["s"], parts["r"]


def test_no_one_learns_which_ids_exist(w):
    with w.own() as own:
        known, unknown = named(own.token("reader")), f"{UNKNOWN}@orders-db"
        first = {user: challenge(own, user) for user in (known, unknown)}
        check(first[known][:3] == first[unknown][:3], "a known and an unknown id are asked alike:", first)
        for user in first:
            check(challenge(own, user)[3] == first[user][3], "the salt stays:", user)
            check(challenge(own, user)[4] != first[user][4], "the nonce does not:", user)
        check(challenge(own, "Yy0000000000@orders-db")[3] != first[unknown][3])
        own.kill()
        own.gateway.start()
        for user in first:
            check(challenge(own, user)[3] == first[user][3], "the salt stays over a restart:", user)


def test_a_name_that_is_no_id_is_asked_for_a_clear_password(w):
    for name in ["alice", "", "christopher1", "alexanderson", "alice.smith1", "A" * 12, "Zz000000000", "Zz00000000000", UNKNOWN + "x"]:
        wire = rig.Wire(w.port, 10).login(f"{name}@orders-db" if name else "orders-db", w.token("reader"), w.database)
        wire.close()


# ---- what a client of SCRAM must not do ----

def proof(password, first, server_first, header=b"n,,", binding=b"", nonce=None, flip=0):
    parts = dict(p.split("=", 1) for p in server_first.decode().split(","))
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(parts["s"]), int(parts["i"]))
    key = hmac.digest(salted, b"Client Key", "sha256")
    bare = f"c={base64.b64encode(header + binding).decode()},r={nonce or parts['r']}"
    text = ",".join((first, server_first.decode(), bare)).encode()
    mixed = bytes(a ^ b for a, b in zip(key, hmac.digest(hashlib.sha256(key).digest(), text, "sha256")))
    mixed = bytes([mixed[0] ^ flip]) + mixed[1:]
    return f"{bare},p={base64.b64encode(mixed).decode()}".encode()


def play(w, token, header=b"n,,", mechanism="SCRAM-SHA-256", end=None, sock=None):
    """A login with this header; `end` makes the last message. The SQLSTATE, or None where it was let in."""
    wire = rig.Wire(w.port, 10)
    if sock:
        wire.sock.close()
        wire.sock = sock
    wire.send(rig.startup_packet({"user": named(token), "database": w.database}))
    wire.read()
    first = "n=,r=abcdefgh"
    wire.send(initial(mechanism, header + first.encode()))
    got = wire.read()
    if got and got[0] == "R":
        wire.send(rig.frame("p", (end or (lambda server: proof(token, first, server, header)))(got[1][4:])))
        got = wire.read()
        if got and got[0] == "R" and got[1][:4] == struct.pack("!I", 12):
            return None
    check(got and got[0] == "E", got, wire.lines)
    check("ready I" not in wire.lines)
    return wire.codes()[-1]


def test_scram_messages_that_are_none(w):
    token = w.token("reader")
    check(play(w, token) is None, "the exchange of this test itself works")
    check(play(w, token, b"y,,") is None, "no channel binding is offered without TLS, and the client says so")
    for header, mechanism in [(b"p=tls-server-end-point,,", "SCRAM-SHA-256"), (b"n,a=root,", "SCRAM-SHA-256"), (b"x,,", "SCRAM-SHA-256"),
                              (b"p=tls-server-end-point,,", "SCRAM-SHA-256-PLUS"), (b"n,,", "SCRAM-SHA-1"), (b"n,,", "OAUTHBEARER"), (b"n,,m=x,", "SCRAM-SHA-256")]:
        check(play(w, token, header, mechanism) == "08P01", header, mechanism)
    first = "n=,r=abcdefgh"
    for end, code in [
        (lambda s: proof(token, first, s, flip=1), "28000"),
        (lambda s: proof(token, first, s, header=b"y,,"), "28000"),
        (lambda s: proof(token, first, s, nonce="abcdefgh"), "08P01"),
        (lambda s: b"", "08P01"),
        (lambda s: b"c=biws,r=x", "08P01"),
        (lambda s: b"\xff" * 20, "08P01"),
    ]:
        check(play(w, token, end=end) == code, code)


def test_who_thinks_that_channel_binding_was_not_offered_is_refused(w):
    """A man in the middle who takes -PLUS out of the offer is found out by this."""
    import ssl
    token = w.token("reader")

    def tls():
        s = socket.create_connection(("127.0.0.1", w.port), 5)
        s.sendall(rig.special_packet(rig.SSL_REQUEST))
        check(s.recv(1) == b"S")
        return ssl.create_default_context(cafile=w.gateway.ca()).wrap_socket(s, server_hostname="localhost")

    def over_tls(header, mechanism, end=None):
        peer = tls()
        peer.settimeout(10)
        ask = lambda data: (peer.sendall(data), message(peer))[1]
        kind, body = ask(rig.startup_packet({"user": named(token), "database": w.database}))
        check(body[4:].rstrip(b"\0").split(b"\0") == [b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256"], body)
        der = peer.getpeercert(True)
        kind, body = ask(initial(mechanism, header + b"n=,r=abcdefgh"))
        if kind == b"R":
            kind, body = ask(rig.frame("p", proof(token, "n=,r=abcdefgh", body[4:], header, (end or (lambda d: b""))(der))))
        peer.close()
        return kind, body

    digest = lambda der: hashlib.sha256(der).digest()
    plus = b"p=tls-server-end-point,,"
    check(over_tls(plus, "SCRAM-SHA-256-PLUS", digest)[0] == b"R", "the exchange of this test itself works")
    check(over_tls(b"n,,", "SCRAM-SHA-256")[0] == b"R")
    kind, body = over_tls(b"y,,", "SCRAM-SHA-256")
    check(kind == b"E" and b"C28000" in body, body)
    kind, body = over_tls(plus, "SCRAM-SHA-256-PLUS", lambda der: hashlib.sha256(b"another certificate").digest())
    check(kind == b"E" and b"C28000" in body, body)
    kind, body = over_tls(b"n,,", "SCRAM-SHA-256-PLUS")
    check(kind == b"E" and b"C08P01" in body, body)


def message(peer):
    head = b""
    while len(head) < 5:
        piece = peer.recv(5 - len(head))
        check(piece, "closed")
        head += piece
    size, body = int.from_bytes(head[1:], "big") - 4, b""
    while len(body) < size:
        body += peer.recv(size - len(body))
    return head[:1], body


# ---- OAUTHBEARER ----

def bearer(w, message, user="oauth@orders-db", mechanism="OAUTHBEARER"):
    """The answer to a first message: the wire and its next message."""
    wire, mechanisms = sasl(w, user)
    check(mechanisms == [b"OAUTHBEARER"], mechanisms)
    wire.send(initial(mechanism, message))
    return wire, wire.read()


def auth(token):
    return b"n,,\x01auth=Bearer " + token.encode() + b"\x01\x01"


def test_a_bearer_token_opens_a_session(w):
    wire, got = bearer(w, auth(w.token("reader")))
    check(got == ("R", bytes(4)), got)
    while wire.read()[0] != "Z":
        pass
    wire.outstanding, wire.lines = 0, []
    check(query(wire, "SELECT 1 AS one")[0][1] == "row 1")
    check(query(wire, "DROP TABLE orders")[1] == ["42501"])
    wire.close()


def failed(wire, got):
    """A failure as RFC 7628 has it: the status, the client's 0x01, then the error."""
    check(got[0] == "R" and got[1][:4] == struct.pack("!I", 11), got)
    wire.send(rig.frame("p", b"\x01"))
    check(wire.read()[0] == "E" and wire.codes() == ["28000"], wire.lines)
    check(wire.read() is None, "the connection ends")
    return json.loads(got[1][4:])


def test_a_bearer_token_that_is_not_taken(w):
    for token in ["x", "gwt_unknown", w.token("reader")[:-1] + "0"]:
        check(failed(*bearer(w, auth(token))) == {"status": "invalid_token"})


def test_who_has_no_token_is_told_where_to_get_one(w):
    sections = '[postgres]\noauth_issuer = "https://idp.example/realm"\noauth_scope = "openid email"\n'
    with w.own(sections=sections) as own:
        before = len(own.rows("audit", "search"))
        answer = failed(*bearer(own, b"n,,\x01auth=\x01\x01"))
        check(answer == {"status": "invalid_token", "scope": "openid email",
                         "openid-configuration": "https://idp.example/realm/.well-known/openid-configuration"}, answer)
        check(len(own.rows("audit", "search")) == before, "to ask is no refused login")
        check(failed(*bearer(own, auth("wrong")))["scope"] == "openid email")
        # A record that nobody waits for is written a few milliseconds later.
        eventually(lambda: len(own.rows("audit", "search")) > before, "the refusal in the trail")


def test_bearer_messages_that_are_none(w):
    token = w.token("reader")
    for message_, mechanism in [
        (b"p=tls-server-end-point,,\x01auth=Bearer x\x01\x01", "OAUTHBEARER"), (b"n,a=root,\x01auth=Bearer x\x01\x01", "OAUTHBEARER"),
        (b"n,,\x01auth=Basic x\x01\x01", "OAUTHBEARER"), (b"n,,\x01auth=Bearer x\x01", "OAUTHBEARER"), (b"", "OAUTHBEARER"),
        (auth(token), "SCRAM-SHA-256"), (b"n,,n=,r=abc", "SCRAM-SHA-256")]:
        wire, got = bearer(w, message_, mechanism=mechanism)
        check(got[0] == "E" and wire.codes() == ["08P01"], message_, got)
    # No acknowledgement, but something else: refused all the same.
    wire, got = bearer(w, auth("wrong"))
    wire.send(rig.frame("p", auth(token)))
    check(wire.read()[0] == "E" and wire.codes() == ["28000"], wire.lines)


def test_all_clients_can_be_asked_for_a_bearer_token(w):
    with w.own(sections='[postgres]\noffer = "oauthbearer"\n') as own:
        wire, got = bearer(own, auth(own.token("reader")), own.user("reader"))
        check(got == ("R", bytes(4)), got)
        # An id still asks for its proof.
        token = own.token("reader")
        rig.Wire(own.port, 10).login(named(token), token, own.database).close()


def test_libpq_18_without_a_flow_sees_that_a_bearer_token_is_asked_for(w):
    import psycopg
    try:
        libpq(w, user="oauth@orders-db")
        raise AssertionError("a password is no bearer token")
    except psycopg.OperationalError as error:
        check("oauth" in str(error).lower(), error)


class BearerRequest(ctypes.Structure):
    """What libpq 18 asks its `PQsetAuthDataHook` for (`PGoauthBearerRequest`)."""
    _fields_ = [("discovery", ctypes.c_char_p), ("scope", ctypes.c_char_p), ("poll", ctypes.c_void_p),
                ("cleanup", ctypes.c_void_p), ("token", ctypes.c_char_p), ("user", ctypes.c_void_p)]


@contextlib.contextmanager
def a_flow(token):
    """libpq 18 gets its bearer tokens here, as from a flow of the application's own; gives what it asked with."""
    import psycopg
    folder = pathlib.Path(psycopg.__file__).parent.parent / "psycopg_binary.libs"
    libpq_18 = ctypes.CDLL(str(next(folder.glob("libpq-*"))))
    asked, bearer_token = [], 1
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(BearerRequest))

    def answer(what, _conn, request):
        if what != bearer_token:
            return 0
        asked.append((request.contents.discovery, request.contents.scope))
        request.contents.token = token
        return 1

    token, hook = token.encode(), kind(answer)
    libpq_18.PQgetAuthDataHook.restype = ctypes.c_void_p
    before = ctypes.c_void_p(libpq_18.PQgetAuthDataHook())
    libpq_18.PQsetAuthDataHook(hook)
    try:
        yield asked
    finally:
        libpq_18.PQsetAuthDataHook(before)


def test_libpq_18_with_a_flow_brings_a_bearer_token(w):
    import psycopg
    issuer = "https://idp.example/realm"
    discovery = f"{issuer}/.well-known/openid-configuration"
    sections = f'[postgres]\noauth_issuer = "{issuer}"\noauth_scope = "openid email"\n'
    with w.own(sections=sections) as own:
        options = {"user": "oauth@orders-db", "oauth_client_id": "console", "require_auth": "oauth"}
        # Only the issuer is known: the gateway tells where and for what, then the client comes back with a token.
        with a_flow(own.token("reader")) as asked:
            for more in [{}, {"tls": True}]:
                with libpq(own, **options, **more, oauth_issuer=issuer) as conn:
                    check(conn.execute("SELECT 1").fetchone() == (1,))
                    check(conn.pgconn.error_message == b"", conn.pgconn.error_message)
        check(asked == [(discovery.encode(), b"openid email")] * 2, asked)
        # All is known beforehand: one connection.
        with a_flow(own.token("reader")) as asked:
            with libpq(own, **options, oauth_issuer=discovery, oauth_scope="openid") as conn:
                check(conn.execute("SELECT 1").fetchone() == (1,))
        check(asked == [(discovery.encode(), b"openid")], asked)
        # Another issuer than the one that the gateway names: the client itself gives nothing away.
        for issued, text in [("https://elsewhere.example", "issuer"), (discovery, "failed")]:
            with a_flow("wrong") as asked:
                try:
                    libpq(own, **options, oauth_issuer=issued).close()
                    raise AssertionError(f"it logged in: {issued}")
                except psycopg.OperationalError as error:
                    check(text in str(error), issued, error)
                    check(len(asked) == (issued == discovery), asked)


def test_a_proof_needs_tls_as_a_password_does(w):
    with w.own(sections='[tls]\nrequire = "always"\n') as own:
        for user in [named(own.token("reader")), "oauth@orders-db", own.user("reader")]:
            wire = rig.Wire(own.port, 10)
            wire.send(rig.startup_packet({"user": user, "database": own.database}))
            check(wire.read()[0] == "E" and wire.codes() == ["28000"], user, wire.lines)


def test_a_kept_verifier_does_not_forget_when_its_token_ends_cve_2025_2291(w):
    token = w.token("reader", ttl="3s")
    wire = rig.Wire(w.port, 10).login(named(token), token, w.database)
    wire.silence(6)
    check(wire.closed and wire.codes() == ["57P01"], wire.lines)
    check(refusal(w, named(token), token)[0] == "28000")


def test_a_login_at_the_target_that_has_ended_is_refused_by_the_target_cve_2025_2291(w):
    login = w.server.names["login"]
    w.admin(f"ALTER ROLE {login} VALID UNTIL '2000-01-01'")
    try:
        done = w.psql("reader", "-c", "SELECT 1")
        check(done.returncode == 2 and "can't be reached" in done.stderr, done.stdout, done.stderr)
    finally:
        w.admin(f"ALTER ROLE {login} VALID UNTIL 'infinity'")
    check(w.psql("reader", "-c", "SELECT 1").stdout == "1\n")

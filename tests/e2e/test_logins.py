"""Logins: who gets in, how, what a refusal tells, and how a session ends with what proved it."""
import copy, os, pathlib, re, socket, subprocess, time

import rig
from harness import PRINCIPALS, check, ending, eventually, query


def unnamed(text):
    """What a refusal tells, without the name that each has in the log."""
    check(re.search("correlation [0-9a-f]{12}", text), text)
    return re.sub("correlation [0-9a-f]{12}", "correlation", text)


def test_a_refusal_is_found_in_the_log_by_what_the_client_is_told(w):
    told = w.psql("reader", "-c", "SELECT 1", env={"PGPASSWORD": "wrong"}).stderr
    name = re.search("correlation ([0-9a-f]{12})", told)[1]
    line = eventually(lambda: [l for l in w.log().splitlines() if name in l], "the refusal is in the log")
    check(len(line) == 1 and "no known form" in line[0] and "no known form" not in told, line, told)


def test_a_wrong_token_is_refused_like_an_unknown_resource(w):
    check(w.refused_login("reader", password="not-a-token") == "28000")
    token = w.token("reader")
    changed = token[:-1] + ("y" if token.endswith("x") else "x")
    check(w.refused_login("reader", password=changed) == "28000")
    check(w.refused_login("reader", resource="no-such-db") == "28000")
    check(w.refused_login("nobody") == "28000")
    told = {unnamed(w.psql("reader", "-c", "SELECT 1", env=env).stderr.split("FATAL:")[-1]) for env in [
        {"PGPASSWORD": "wrong"}, {"PGUSER": "alice@no-such-db"}, {"PGPASSWORD": w.token("nobody")}]}
    check(len(told) == 1, "refusals must not tell what was wrong:", told)


def test_a_token_for_another_resource_is_refused(w):
    token = w.token("reader", resources=["other-db"])
    check(w.refused_login("reader", password=token) == "28000")
    wire = w.wire("reader", password=token, resource="other-db")
    check(query(wire, "SELECT 1 AS one")[0][1] == "row 1")
    wire.close()


def test_an_expired_token_ends_its_session(w):
    token = w.token("reader", ttl="4s")
    wire = w.wire("reader", password=token)
    check(query(wire, "SELECT 1")[1] == [])
    check(ending(wire) == "57P01", wire.lines)
    check(w.refused_login("reader", password=token) == "28000")


def test_a_token_that_expires_ends_a_statement_that_runs(w):
    wire = w.wire("reader", password=w.token("reader", ttl="4s"))
    wire.send(rig.frame("Q", rig.cstr("SELECT pg_sleep(62)")))
    check(ending(wire) == "57P01", wire.lines)
    eventually(lambda: w.admin("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(62)%' "
                               "AND state = 'active' AND pid <> pg_backend_pid()") == ["0"], "the target is free again", 20)


def test_a_revoked_token_ends_its_session(w):
    token = w.token("writer", fresh=True)
    before = {t["id"] for t in w.rows("token", "list")}
    other = w.token("writer", fresh=True)
    made = [t["id"] for t in w.rows("token", "list") if t["id"] not in before]
    check(len(made) == 1, made)
    wire, kept = w.wire("writer", password=other), w.wire("writer", password=token)
    w.cli("token", "revoke", made[0])
    check(ending(wire) == "57P01", wire.lines)
    check(w.refused_login("writer", password=other) == "28000")
    check(query(kept, "SELECT 1")[1] == [], "another token's session must live")
    kept.close()
    check(w.cli("token", "revoke", "no-such-id", ok=False).returncode == 1)


def test_tokens_are_short_and_only_their_hash_is_kept(w):
    token = w.token("reader")
    check(len(token) <= 128 and token.isprintable() and " " not in token, len(token))
    for listed in [w.cli("token", "list").stdout, str(w.rows("token", "list"))]:
        check(token not in listed and PRINCIPALS["reader"][0] in listed, listed)
    for path in pathlib.Path(w.gateway.dir).rglob("*"):
        if path.is_file():
            check(token.encode() not in path.read_bytes(), "the token is in", str(path))


def backend(wire):
    """The target's process of a session."""
    return int(query(wire, "SELECT pg_backend_pid()")[0][1].split()[1])


def test_the_target_knows_who_it_is(w):
    for startup in [{}, {"application_name": "somebody-else"}]:
        wire = w.wire("reader", startup=startup)
        pid = backend(wire)
        name = w.admin(f"SELECT application_name FROM pg_stat_activity WHERE pid = {pid}")[0]
        check(PRINCIPALS["reader"][0] in name, startup, name)
        wire.close()
        eventually(lambda: w.admin(f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}") == ["0"],
                   "the session has ended at the target")


def test_nothing_of_the_target_reaches_the_client(w):
    wire = w.wire("reader")
    for sql in ["SELECT 1", "SELECT 1/0", "DROP TABLE orders", "SELECT nothing FROM nowhere", "SELEC", "SHOW all_of_it"]:
        query(wire, sql)
    text = "\n".join(wire.login_lines + wire.lines)
    check(w.server.names["password"] not in text and str(w.server.port) not in text, text)
    wire.close()


def test_a_target_that_cannot_be_reached_is_told_without_its_address(w):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        with w.own(resources=w.resource(address=f'"127.0.0.1:{port}"')) as own:
            wire = rig.Wire(own.port, 20)
            try:
                wire.login(own.user("reader"), own.token("reader"), own.database)
                raise AssertionError("there is no target")
            except rig.Refused as refused:
                check(str(refused)[:2] in ("08", "53", "57", "28"), refused)
            text = "\n".join(wire.lines)
            check(str(port) not in text and "127.0.0.1" not in text and "Zeppelin" not in text, text)


def test_a_wrong_credential_for_the_target_is_told_without_it(w):
    (w.scratch / "wrong").write_text("wrong-Zeppelin-password")
    credential = f'{{ kind = "static", username = "app", password = {{ file = "{w.scratch}/wrong" }} }}'
    with w.own(resources=w.resource(credential=credential)) as own:
        wire = rig.Wire(own.port, 20)
        try:
            wire.login(own.user("reader"), own.token("reader"), own.database)
            raise AssertionError("the target must refuse")
        except rig.Refused:
            text = "\n".join(wire.lines)
            check("Zeppelin" not in text and 'user "app"' not in text, text)


def test_a_credential_from_the_environment(w):
    import os
    os.environ["E2E_TARGET_PASSWORD"] = w.server.names["password"]
    try:
        credential = '{ kind = "static", username = "app", password = { env = "E2E_TARGET_PASSWORD" } }'
        with w.own(resources=w.resource(credential=credential)) as own:
            check(own.psql("reader", "-c", "SELECT 1").stdout == "1\n")
    finally:
        del os.environ["E2E_TARGET_PASSWORD"]


def test_each_way_the_target_asks_for_a_password(w):
    hba = w.server.dir / "data" / "pg_hba.conf"
    before, login, word = hba.read_text(), w.server.names["login"], w.server.names["password"]
    try:
        for method, kept in [("trust", None), ("password", None), ("md5", "md5"), ("scram-sha-256", "scram-sha-256")]:
            if kept:
                w.admin(f"SET password_encryption = '{kept}'; ALTER ROLE {login} PASSWORD '{word}'")
            hba.write_text(f"host all {login} 127.0.0.1/32 {method}\n" + before)
            w.admin("SELECT pg_reload_conf()")
            time.sleep(0.3)
            done = w.psql("reader", "-c", "SELECT 1")
            check(done.stdout == "1\n", method, done.stderr)
    finally:
        hba.write_text(before)
        w.admin(f"SET password_encryption = 'scram-sha-256'; ALTER ROLE {login} PASSWORD '{word}'; SELECT pg_reload_conf()")
        time.sleep(0.3)


def certificates(folder, owner):
    """A CA and a certificate of it for localhost: paths of ca, cert, key, and of a CA that signed nothing."""
    def openssl(*argv):
        subprocess.run(["openssl", *map(str, argv)], check=True, capture_output=True, cwd=folder)

    for name in ["ca", "stranger"]:
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout", f"{name}.key",
                "-out", f"{name}.crt")
    (folder / "ext").write_text("subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", "pg.key", "-out", "pg.csr")
    openssl("x509", "-req", "-in", "pg.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-extfile", "ext", "-out", "pg.crt")
    return [folder / n for n in ["ca.crt", "pg.crt", "pg.key", "stranger.crt"]]


def test_tls_to_the_target(w):
    import os, shutil
    folder = w.scratch / "pki"
    folder.mkdir()
    ca, cert, key, stranger = certificates(folder, w.server.owner)
    data = w.server.dir / "data"
    for name, path in [("server.crt", cert), ("server.key", key)]:
        shutil.copy(path, data / name)
        os.chmod(data / name, 0o600)
        if os.geteuid() == 0:
            shutil.chown(data / name, w.server.owner)
    try:
        for setting in ["ssl_cert_file = 'server.crt'", "ssl_key_file = 'server.key'", "ssl = on"]:
            w.admin(f"ALTER SYSTEM SET {setting}")
        w.admin("SELECT pg_reload_conf()")
        eventually(lambda: w.admin("SHOW ssl") == ["on"], "the server offers TLS")
        address = f'"localhost:{w.server.port}"\nca = "{ca}"'
        with w.own(resources=w.resource(tls='"verify-full"', address=address)) as own:
            wire = own.wire("reader")
            check(w.admin(f"SELECT ssl FROM pg_stat_ssl WHERE pid = {backend(wire)}") == ["t"])
            wire.close()
        for wrong in [f'"localhost:{w.server.port}"\nca = "{stranger}"', f'"127.0.0.1:{w.server.port}"\nca = "{ca}"']:
            with w.own(resources=w.resource(tls='"verify-full"', address=wrong)) as own:
                own.refused_login("reader")
    finally:
        w.admin("ALTER SYSTEM RESET ALL")
        w.admin("SELECT pg_reload_conf()")


def test_tls_can_be_demanded_of_everyone(w):
    with w.own(sections='[tls]\nrequire = "always"\n') as own:
        check(own.psql("reader", "-c", "SELECT 1").returncode == 2, "a clear login must be refused")
        env = {"PGHOST": "localhost", "PGSSLMODE": "verify-full", "PGSSLROOTCERT": own.gateway.ca()}
        check(own.psql("reader", "-c", "SELECT 1", env=env).stdout == "1\n")


def test_bytes_before_the_tls_handshake_are_refused_cve_2021_3935(w):
    wire = rig.Wire(w.port, 5)
    early = rig.startup_packet({"user": w.user("reader"), "database": w.database})
    wire.send(rig.special_packet(rig.SSL_REQUEST) + early)
    wire.silence()
    check("ready I" not in wire.lines and not wire.rows, wire.lines)
    check(wire.closed or wire.errors or wire.lines == ["bytes S"], wire.lines)
    wire.close()


def test_a_login_that_does_not_go_on_is_closed(w):
    with w.own(sections='[limits]\nlogin = "2s"\n') as own:
        for first in [b"", rig.startup_packet({"user": own.user("reader"), "database": own.database})]:
            wire = rig.Wire(own.port, 10)
            wire.send(first)
            started = time.monotonic()
            wire.silence(6)
            check(wire.closed and time.monotonic() - started < 5, first, wire.lines)


def test_half_open_connections_are_capped_and_the_others_go_on(w):
    with w.own(sections='[limits]\nhalf_open = 8\nlogin = "3s"\n') as own:
        session = own.wire("reader")
        idle = [socket.create_connection(("127.0.0.1", own.port)) for _ in range(30)]
        check(query(session, "SELECT 1")[1] == [])
        for s in idle:
            s.close()
        eventually(lambda: own.psql("reader", "-c", "SELECT 1").returncode == 0, "there is room again")
        session.close()


REASONED = {"all": """
@id("with-reason") @reason("required") permit (principal, action == Action::"connect", resource);
@id("limited") @rows("5") @timeout("30s") permit (principal, action in [Action::"read", Action::"temp"], resource in Resource::"orders-db");
@id("looks") permit (principal, action in [Action::"session-view", Action::"audit-search"], resource);
"""}


def test_a_reason_that_connect_demands_is_stated_before_anything_runs(w):
    with w.own(policies=REASONED) as own:
        wire = own.wire("reader")
        for sql in ["SELECT 1", "BEGIN", "SET search_path = app", "SELECT total FROM orders", "CREATE TEMP TABLE x (n int)"]:
            check(query(wire, sql)[1] == ["42501"], sql)
        told = wire.errors[-1]
        check('"rule":"with-reason"' in told["D"] and "gateway.reason" in told["H"], told)
        wire.send(b"".join([rig.frame("P", b"\0SELECT 1\0\0\0"), rig.frame("B", b"\0\0\0\0\0\0\0\0"), rig.frame("E", b"\0\0\0\0\0"), rig.frame("S", b"")]))
        wire.silence(1)
        check(wire.codes()[-1] == "42501" and "row 1" not in wire.lines[-4:], wire.lines[-6:])
        wire.close()
        options = {"PGOPTIONS": "-c gateway.reason=INC-1"}
        check(own.psql("reader", "-c", "SELECT 1", env=options).stdout == "1\n")
        # The operators' database is one more resource.
        shown = {**options, "PGUSER": "reader@gateway", "PGDATABASE": "gateway"}
        check(own.psql("reader", "-c", "SHOW SESSIONS", env={**shown, "PGOPTIONS": ""}).returncode != 0)
        check(own.psql("reader", "-c", "SHOW SESSIONS", env=shown).returncode == 0)


def test_connections_leave_the_gateway_the_descriptors_that_it_needs_itself(w):
    """Under a low limit of open files the next session is refused, and the trail goes on in new segments."""
    small = copy.copy(w)
    small.binary = w.scratch / "small-gateway"
    small.binary.write_text(f'#!/bin/sh\nulimit -n 360\nexec {w.binary} "$@"\n')
    small.binary.chmod(0o755)
    with small.own(sections='[limits]\nsessions = 1000\n[audit]\nsegment_bytes = 65536\n') as own:
        check("fewer than the configuration asks for" in own.log() and "half_open=45" in own.log(), own.log()[:3000])
        files = lambda: len(os.listdir(f"/proc/{own.gateway.process.pid}/fd"))
        session, before = own.wire("reader"), files()
        idle = [socket.create_connection(("127.0.0.1", own.port)) for _ in range(200)]
        time.sleep(1)
        check(files() <= before + 45, before, files())
        for s in idle:
            s.close()
        others = []
        try:
            while len(others) < 100:
                others.append(own.wire("reader"))
        except rig.Refused as refused:
            check(str(refused) == "57P03", refused)
        check(len(others) == 28, len(others))
        # Some hundred KB of records: the trail begins new segments meanwhile.
        for _ in range(300):
            check(query(session, f"SELECT '{'x' * 1000}'")[1] == [])
        check(len(list((own.gateway.dir / "data").rglob("audit-*.jsonl"))) > 3)
        for other in others:
            other.close()
        eventually(lambda: own.psql("reader", "-c", "SELECT 1").returncode == 0, "there is room again")
        check(query(session, "SELECT 1")[1] == [])
        session.close()
        own.cli("audit", "verify")

"""The operators' database: resource `gateway`, asked with psql, psycopg, asyncpg and by hand."""
import asyncio, contextlib, datetime, json, signal, time, uuid

import asyncpg
import psycopg
from psycopg import errors

from harness import POLICIES, check, decision_of, ending, eventually, query
import rig

OPERATE = dict(POLICIES, operators="""
@id("migrators-operate")
permit (principal in Group::"migrators",
        action in [Action::"session-view", Action::"session-kill", Action::"audit-search", Action::"administer"], resource);

@id("writers-look-at-orders")
permit (principal in Group::"writers", action in [Action::"session-view", Action::"audit-search"],
        resource == Resource::"orders-db");
""")


@contextlib.contextmanager
def desk(w, **options):
    with w.own(policies=OPERATE, **options) as own:
        yield own


def ask(own, who, sql, *argv):
    """psql's table without its frame."""
    return own.psql(who, *argv, "-v", "VERBOSITY=verbose", "-c", sql, env={"PGUSER": own.user(who, "gateway"), "PGDATABASE": "gateway"})


def connect(own, who, **more):
    return psycopg.connect(**own.dsn(who, "gateway"), autocommit=True, **more)


def rows(own, who, sql):
    done = ask(own, who, sql)
    check(done.returncode == 0, done.stderr)
    return [line.split("|") for line in done.stdout.splitlines()]


def raises(kind, run, *args, **more):
    try:
        run(*args, **more)
    except kind as error:
        return error
    raise AssertionError(f"{args}: no {kind.__name__}")


def test_a_session_is_shown_to_who_may_view_its_resource(w):
    with desk(w) as own:
        orders, other = own.wire("reader"), own.wire("reader", resource="other-db")
        seen = rows(own, "migrator", "SHOW SESSIONS")
        check(sorted(row[4] for row in seen) == ["gateway", "orders-db", "other-db"], seen)
        check([row[4] for row in rows(own, "writer", "SHOW SESSIONS")] == ["orders-db"])
        check(rows(own, "reader", "SHOW SESSIONS") == [])
        check(len(rows(own, "migrator", "SHOW SESSIONS LIMIT 1")) == 1)
        orders.close(), other.close()
        check([row[4] for row in eventually(lambda: [r for r in [rows(own, "migrator", "SHOW SESSIONS")] if len(r) == 1],
                                            "the closed sessions leave the list")[0]] == ["gateway"])


def test_a_session_is_killed_by_who_may_and_else_it_is_unknown(w):
    with desk(w) as own:
        victim = own.wire("reader")
        with connect(own, "migrator") as c:
            check(c.execute("SELECT 1").fetchone() == (1,))
            found = c.execute("SHOW SESSIONS").fetchall()
            session = next(row[0] for row in found if row[4] == "orders-db")
            mine = next(row[0] for row in found if row[4] == "gateway")
            # Who may not see it is told the same as of one that does not exist.
            with connect(own, "reader") as r:
                blind = raises(errors.UndefinedObject, r.execute, "KILL %s", (session,))
                absent = raises(errors.UndefinedObject, r.execute, "KILL %s", (str(uuid.uuid4()),))
                check(str(blind).splitlines()[0] == str(absent).splitlines()[0], str(blind), str(absent))
                one, two = decision_of(blind), decision_of(absent)
                one.pop("correlation"), two.pop("correlation")
                check(one == two, one, two)
            # Who may see it, and not kill it, is told why.
            with connect(own, "writer") as r:
                refused = raises(errors.InsufficientPrivilege, r.execute, "KILL %s", (session,), prepare=True)
                check(decision_of(refused)["operation"] == "session-kill orders-db", decision_of(refused))
                raises(errors.UndefinedObject, r.execute, f"KILL '{mine}'")
            check(query(victim, "SELECT 1")[1] == [], "it still lives")
            c.execute("KILL %s", (uuid.UUID(session),), binary=True)
            check(ending(victim) == "57P01", victim.lines)
            # And one's own, this one.
            raises(psycopg.OperationalError, lambda: [c.execute("KILL %s", (mine,)), time.sleep(1), c.execute("SELECT 1")])
        killed = [e for e in own.rows("audit", "search", "--kind", "operation") if (e.get("operation") or "").startswith("session-kill")]
        check({e["verdict"] for e in killed} == {"allow", "deny"}, killed)
        check(own.cli("audit", "verify").returncode == 0)


def test_the_trail_is_shown_by_resource(w):
    with desk(w) as own:
        query(own.wire("reader"), "SELECT 'on-orders'")
        query(own.wire("reader", resource="other-db"), "SELECT 'on-other'")
        own.wire("reader").close()
        ask(own, "migrator", "SHOW AUDIT")
        whole = ask(own, "migrator", "SHOW AUDIT").stdout
        check("on-orders" in whole and "on-other" in whole and "show audit" in whole, whole)
        part = ask(own, "writer", "SHOW AUDIT LIMIT 3").stdout
        check("on-orders" in part or "session_" in part, part)
        check("on-other" not in part and "show audit" not in part and len(part.splitlines()) <= 3, part)
        check({line.split("|")[6] for line in ask(own, "writer", "SHOW AUDIT").stdout.splitlines()} == {"orders-db"})
        check(ask(own, "reader", "SHOW AUDIT").stdout == "")
        with connect(own, "migrator") as c:
            newest = c.execute("SHOW AUDIT LIMIT %s", (2,)).fetchall()
            check(len(newest) == 2 and newest[0][0] < newest[1][0] and isinstance(newest[0][1], datetime.datetime), newest)
            again = c.cursor(binary=True).execute("SHOW AUDIT LIMIT %s", (2,)).fetchall()
            check(isinstance(again[0][0], int) and abs(again[0][1] - newest[0][1]) < datetime.timedelta(minutes=1), again)


def test_policies_and_metrics_are_for_administrators(w):
    with desk(w) as own:
        policies = rows(own, "migrator", "SHOW POLICIES")
        check("migrators-operate" in {row[0] for row in policies if len(row) > 2}, policies)
        check(any(row[0] == "gateway_sessions" for row in rows(own, "migrator", "SHOW METRICS")))
        for sql in ["SHOW POLICIES", "SHOW METRICS"]:
            done = ask(own, "writer", sql)
            check(done.returncode == 1 and "42501" in done.stderr and '"code":"denied"' in done.stderr, done.stderr)
        check({row[0]: row[2] != "" for row in rows(own, "migrator", "SHOW RESOURCES")}
              == {"gateway": False, "orders-db": True, "other-db": True})
        check({row[0]: row[2] for row in rows(own, "reader", "SHOW RESOURCES")} == {"gateway": "", "orders-db": "", "other-db": ""},
              "an address is for administrators")


def test_what_cannot_be_asked_is_told_with_what_can(w):
    with desk(w) as own:
        for sql, state in [("SELECT * FROM pg_class", "0A000"), ("DROP TABLE x", "0A000"), ("SHOW TABLES", "42704"),
                           ("KILL 1", "42601"), ("SHOW SESSIONS WHERE 1=1", "42601"), ("\\d", "0A000")]:
            done = ask(own, "migrator", sql)
            check(state in done.stderr and "SHOW SESSIONS" in done.stderr, sql, done.stderr)
        check("version" in ask(own, "migrator", "SELECT version()").stdout)
        check("KILL" in ask(own, "reader", "SHOW HELP").stdout)
        # Everything of a message is decided before anything is done.
        done = ask(own, "writer", "SHOW HELP; SHOW METRICS")
        check(done.stdout == "" and "42501" in done.stderr, done.stdout, done.stderr)


def test_transactions_behave(w):
    with desk(w) as own:
        with psycopg.connect(**own.dsn("migrator", "gateway")) as c:  # BEGIN and COMMIT by itself
            c.execute("SHOW SESSIONS")
            raises(errors.FeatureNotSupported, c.execute, "TRUNCATE x")
            raises(errors.InFailedSqlTransaction, c.execute, "SHOW SESSIONS")
            c.rollback()
            c.execute("SET application_name = 'x'")
            check(c.execute("SHOW server_version").fetchone() == ("15.0",))
        with connect(own, "migrator") as c:
            with c.pipeline():
                found = [c.execute("SHOW HELP") for _ in range(20)]
            check({len(f.fetchall()) for f in found} == {7})
            found = []

            def pipeline():
                with c.pipeline() as p:
                    found.append(c.execute("SELECT 1"))
                    p.sync()
                    c.execute("TRUNCATE x")
                    c.execute("SELECT 2")

            raises(errors.FeatureNotSupported, pipeline)
            check(found[0].fetchone() == (1,) and c.execute("SELECT 3").fetchone() == (3,))
            with c.cursor() as s:
                check(len(list(s.stream("SHOW HELP"))) == 7)


def test_asyncpg_prepares_describes_and_resets(w):
    with desk(w) as own:
        orders = own.wire("reader")

        async def main():
            pool = await asyncpg.create_pool(host="127.0.0.1", port=own.port, user=own.user("migrator", "gateway"),
                                             password=own.token("migrator"), database="gateway", ssl=False, min_size=1, max_size=1)
            for _ in range(3):  # a pool resets its connections
                async with pool.acquire() as c:
                    found = await c.fetch("SHOW SESSIONS")
                    check({r["resource"] for r in found} == {"orders-db", "gateway"}, found)
                    check(isinstance(found[0]["started"], datetime.datetime) and isinstance(found[0]["operations"], int))
                    statement = await c.prepare("KILL $1")
                    check([p.name for p in statement.get_parameters()] == ["text"] and not statement.get_attributes())
                    async with c.transaction():
                        check(len(await c.fetch("SHOW AUDIT LIMIT $1", 2)) == 2)
            await pool.close()

        asyncio.run(asyncio.wait_for(main(), 60))
        orders.close()


def test_a_client_of_many_statements_and_portals_is_bounded(w):
    with desk(w) as own:
        wire = own.wire("migrator", resource="gateway")
        wire.exchange([rig.encode(m) for n in range(260) for m in [{"parse": {"name": f"s{n}", "sql": "SHOW HELP"}}]]
                      + [rig.encode("sync")])
        check(wire.codes() == ["53400"], wire.codes())
        check(query(wire, "SELECT 1")[1] == [])


def test_hostile_frames_end_their_own_session_only(w):
    with desk(w) as own:
        good = own.wire("migrator", resource="gateway")
        bad = [b"Q\x7f\xff\xff\xff", b"Q\0\x02\0\0", b"Q\0\0\0\x00", b"B\0\0\0\x0a\0\0\xff\xff\0\0", b"P\0\0\0\x08\0\0\xff\xff", b"Q\0\0\0\x08abcd",
               b"p\0\0\0\x05\0", b"F\0\0\0\x04", b"\x16\x03\x01\x02\0", b"Q\0\0\0\x06\xff\0", b"E\0\0\0\x05\0", b"D\0\0\0\x06X\0"]
        for data in bad:
            wire = own.wire("migrator", resource="gateway", seconds=10)
            wire.send(data)
            check(ending(wire, 8) == "08P01", data, wire.lines[-3:])
        for cut in [b"Q\0\0", b"Q\0\0\0\x20SHOW"]:  # half a frame, and gone
            wire = own.wire("migrator", resource="gateway")
            wire.send(cut)
            wire.close()
        check(query(good, "SHOW SESSIONS")[1] == [])
        eventually(lambda: len(rows(own, "migrator", "SHOW SESSIONS")) == 2, "the broken sessions are gone")
        check("panicked" not in own.log(), own.log()[-500:])


def test_sessions_end_with_their_token_and_with_the_gateway(w):
    with desk(w) as own:
        quiet = own.wire("migrator", resource="gateway", seconds=40)
        short = own.wire("migrator", resource="gateway", password=own.token("migrator", ttl="3s"), seconds=20)
        taken = own.wire("migrator", resource="gateway", password=own.token("migrator", fresh=True), seconds=20)
        check(ending(short) == "57P01" and "session_expired" in json.dumps(short.errors), short.errors)
        newest = own.rows("token", "list")[0]["id"]
        own.cli("token", "revoke", newest)
        check(ending(taken) == "57P01", taken.errors)
        check(query(quiet, "SELECT 1")[1] == [])
        own.gateway.process.send_signal(signal.SIGTERM)
        check(ending(quiet) == "57P01", quiet.lines)
        check(own.gateway.process.wait(20) == 0)
        check(own.cli("audit", "verify").returncode == 0)


def test_limits_of_time_hold(w):
    with desk(w, sections='[limits]\nidle = "2s"\n') as own:
        quiet, half = own.wire("migrator", resource="gateway", seconds=20), own.wire("migrator", resource="gateway", seconds=20)
        half.send(b"Q\0\0")  # and no more
        check(ending(quiet) == "57P05" and ending(half) == "57P05", quiet.errors, half.errors)
    with desk(w, sections='[limits]\nsession = "3s"\n') as own:
        wire, end = own.wire("migrator", resource="gateway", seconds=20), time.monotonic() + 15
        while time.monotonic() < end and not wire.closed:
            wire.send(rig.frame("Q", rig.cstr("SELECT 1")))
            while wire.read() not in (None, ("Z", b"I")):
                pass
            time.sleep(0.1)
        check(wire.closed and [e["C"] for e in wire.errors] == ["57P01"], wire.errors)


def test_policy_tools_know_the_resource(w):
    with desk(w) as own:
        told = own.cli("policy", "explain", "--as", "mia", "--group", "migrators", "--resource", "gateway", "SHOW METRICS").stdout
        check("migrators-operate" in told, told)
        told = own.cli("policy", "explain", "--as", "al", "--group", "readers", "--resource", "gateway", "SHOW METRICS", ok=False)
        check("deny" in told.stdout.lower() or "denied" in told.stdout.lower(), told.stdout)

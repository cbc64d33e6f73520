"""What people are told: in which database something was looked at, what is not there, why something is refused, who did what."""
import json, os, subprocess

import psycopg

import rig
from harness import check, decision_of, eventually, query
from test_approvals import Office, POLICIES as HELD

POLICY = {"all": """
@id("connect") permit (principal, action == Action::"connect", resource == Resource::"orders-db");
@id("read") @rows("5")
permit (principal in Group::"readers", action == Action::"read", resource in Resource::"orders-db");
@id("write")
permit (principal in Group::"writers", action in [Action::"read", Action::"write"], resource in Resource::"orders-db");
@id("call") permit (principal, action == Action::"call", resource == Function::"orders-db/public.told_opaque");
@id("not-the-old") forbid (principal, action, resource in Table::"orders-db/public.customers_old");
@id("other") permit (principal, action == Action::"read", resource in Resource::"orders-bd");
@id("gone") permit (principal, action == Action::"read", resource == Table::"orders-db/public.told_gone");
"""}


def explain(own, *argv, ok=True):
    return own.cli("policy", "explain", "--as", "alice", "--group", "readers", "--resource", "orders-db", *argv, ok=ok)


def test_an_explanation_says_where_it_was_looked_and_what_is_not_there(w):
    with w.own(policies=POLICY) as own:
        told = json.loads(explain(own, "SELECT email FROM customers WHERE id = 1", "--output", "json").stdout)
        check(told["place"] == w.database and told["results"][0]["mask"] == "partial", told)
        check(any("pins none" in doubt and "elsewhere" in doubt for doubt in told["doubts"]), told["doubts"])
        named = explain(own, "--database", w.database, "SELECT email FROM customers WHERE id = 1").stdout
        check(f"in `{w.database}`" in named and "careful" not in named and "masked (partial)" in named, named)
        lost = explain(own, "--database", w.database, "SELECT email FROM custmers").stdout
        check("careful: not found" in lost and "table custmers" in lost, lost)
        # The gateway that runs says the same over its API, with the masks.
        remote = own.gateway.cli("policy", "explain", "--as", "alice", "--group", "readers", "--resource", "orders-db",
                                 "SELECT email FROM customers WHERE id = 1",
                                 token=own.gateway.token("root@corp.test"))
        check(remote.returncode == 1, "it is for those who administer", remote.stdout, remote.stderr)


def test_expectations_name_a_database_and_masks(w):
    with w.own(policies=POLICY) as own:
        file = own.gateway.dir / "tests.yaml"
        file.write_text(f"""
principals: {{ alice: {{ groups: [readers] }} }}
tests:
  - {{ name: masked, as: alice, resource: orders-db, database: {w.database}, statement: "SELECT email FROM customers_none", expect: allow }}
  - {{ name: plain, as: alice, resource: orders-db, statement: "SELECT total FROM orders", expect: allow }}
  - {{ name: sees, as: alice, resource: orders-db, database: {w.database}, statement: "SELECT email FROM visits", expect: mask }}
""")
        done = own.cli("policy", "test", str(file))
        check("3 passed, 0 failed" in done.stdout, done.stdout)
        check("careful: not found" in done.stdout and "customers_none" in done.stdout, done.stdout)
        file.write_text(file.read_text().replace("SELECT total FROM orders\", expect: allow", "SELECT total FROM orders\", expect: mask"))
        done = own.cli("policy", "test", str(file), ok=False)
        check(done.returncode == 1 and "nothing is masked" in done.stdout, done.stdout)


def test_names_that_nobody_knows_are_told(w):
    tag = '\n[[resource.tag]]\ntag = "pii.gone"\ncolumns = ["public.customers.emial"]\n'
    with w.own(policies=POLICY, resources=w.resource() + tag) as own:
        for argv in (["policy", "check"], ["config", "check"]):
            done = own.cli(*argv)
            check("orders-bd" in done.stderr + own.log() and "did you mean `orders-db`" in done.stderr + done.stdout, argv, done.stderr)
        done = own.cli("config", "check", "--probe")
        check("tag `pii.gone`: there is no column `public.customers.emial`" in done.stderr, done.stderr)
        check("told_gone" in done.stderr and "which is not there" in done.stderr, done.stderr)
        check("customers_old" not in done.stderr.split("probe:")[-1], "it is there", done.stderr)
        check("did you mean `orders-db`" in own.log(), "at the start, too")


def test_who_names_no_database_is_told_what_to_do(w):
    word = w.scratch / "bystander"
    word.write_text("bystander")
    text = w.resource(credential=f'{{ kind = "static", username = "bystander", password = {{ file = "{word}" }} }}')
    with w.own(policies=POLICY, resources=text) as own:
        env = {"PGDATABASE": own.user("reader")}
        done = own.psql("reader", "-c", "SELECT 1", env=env)
        check("no database was named" in done.stderr and "--database" in done.stderr, done.stderr)
        done = own.psql("reader", "-c", "SELECT 1", env={"PGDATABASE": "told_none"})
        check('database "told_none" does not exist' in done.stderr, done.stderr)
        env = dict(os.environ, GATEWAY_URL=f"http://127.0.0.1:{own.gateway.control}", GATEWAY_TOKEN=own.token("reader"))
        done = subprocess.run([own.binary, "connect", "orders-db", "--database", "elsewhere", "--config", own.gateway.config, "--",
                               "-X", "-A", "-t", "-c", "SELECT current_database()"], env=env, text=True, capture_output=True, timeout=30)
        check(done.stdout.strip() == "elsewhere", done.stdout, done.stderr)


def test_a_refusal_to_unmask_says_what_it_is_about(w):
    w.admin("CREATE OR REPLACE FUNCTION told_opaque() RETURNS text LANGUAGE plpgsql AS $$BEGIN RETURN 'x'; END$$")
    with w.own(policies=POLICY) as own, own.connect("reader") as c:
        for sql, parts in [
            ("SELECT emial FROM tickets", ["not found: column emial"]),
            ("SELECT id FROM tickets WHERE email LIKE 'a%'", ["public.tickets.email", "comparison"]),
            ("SELECT told_opaque()", ["public.told_opaque()", "[[resource.function]]"]),
        ]:
            try:
                c.execute(sql)
                raise AssertionError(f"{sql} was not refused")
            except Exception as refused:
                decision = decision_of(refused)
                check(decision["operation"].startswith("unmask "), sql, decision)
                check(all(part in decision["hint"] for part in parts), sql, decision)


def test_a_policy_that_names_a_child_counts_through_its_parent(w):
    with w.own(policies=POLICY) as own, own.connect("writer") as c:
        for sql in ("SELECT id FROM customers", "UPDATE customers SET name = 'x' WHERE id = 902", "DELETE FROM customers WHERE id = 902"):
            try:
                c.execute(sql)
                raise AssertionError(f"{sql} was not refused")
            except Exception as refused:
                decision = decision_of(refused)
                check(decision["rule"] == "not-the-old" and "customers_old" in decision["operation"], decision)
        check(c.execute("SELECT count(*) > 0 FROM visits").fetchone() == (True,), "partitions that no policy names come with their table")


def test_a_policy_on_a_table_counts_where_a_foreign_key_would_change_it(w):
    """What the keys really do is seen at the server first: only what changes rows there is refused here."""
    w.admin("DROP TABLE IF EXISTS fk_notes, fk_items, fk_orders, fk_codes, fk_people CASCADE;"
            "CREATE TABLE fk_people (id int PRIMARY KEY, code text UNIQUE, name text);"
            "CREATE TABLE fk_orders (id int PRIMARY KEY, person int REFERENCES fk_people ON DELETE CASCADE);"
            "CREATE TABLE fk_items (id int PRIMARY KEY, of_order int REFERENCES fk_orders ON DELETE SET NULL, state text);"
            "CREATE TABLE fk_codes (code text REFERENCES fk_people (code) ON UPDATE CASCADE);"
            "CREATE TABLE fk_notes (id int PRIMARY KEY, person int REFERENCES fk_people);"
            "INSERT INTO fk_people VALUES (1, 'a', 'x'), (2, 'b', 'y'); INSERT INTO fk_orders VALUES (10, 1), (11, 2);"
            "INSERT INTO fk_items VALUES (100, 10), (101, 11); INSERT INTO fk_codes VALUES ('a');"
            "GRANT ALL ON fk_people, fk_orders, fk_items, fk_codes, fk_notes TO PUBLIC")
    tables = "fk_people", "fk_orders", "fk_items", "fk_codes", "fk_notes"
    tries = ["DELETE FROM fk_people WHERE id = 2", "UPDATE fk_people SET code = 'z' WHERE id = 1", "UPDATE fk_people SET name = 'n' WHERE id = 1",
             "DELETE FROM fk_orders WHERE id = 10", "INSERT INTO fk_people AS p VALUES (1, 'q', '') ON CONFLICT (id) DO UPDATE SET code = 'w' WHERE p.id = 1",
             "WITH d AS (DELETE FROM fk_people WHERE id = 2 RETURNING id) INSERT INTO fk_notes SELECT id + 90, NULL FROM d",
             "UPDATE fk_items SET state = 's' WHERE id = 100"]

    def changed(sql):
        """The tables whose rows are others after `sql`, which is taken back."""
        sums = " UNION ALL ".join(f"SELECT '{t}', coalesce(md5(string_agg(r::text, '|' ORDER BY r::text)), '') FROM {t} r" for t in tables)
        with psycopg.connect(host="127.0.0.1", port=w.server.port, user="postgres", password="superuser", dbname=w.database, sslmode="disable") as direct:
            before = dict(direct.execute(sums).fetchall())
            direct.execute(sql)
            after = dict(direct.execute(sums).fetchall())
            direct.rollback()
        return {t for t in tables if before[t] != after[t]}

    try:
        named = {sql: changed(sql) for sql in tries}
        check(named[tries[0]] == {"fk_people", "fk_orders", "fk_items"} and named[tries[1]] == {"fk_people", "fk_codes"}, named)
        for forbidden in ("fk_items", "fk_codes", "fk_orders"):
            rule = f"""
@id("not-{forbidden}")
forbid (principal, action in [Action::"write", Action::"write-unbounded"], resource == Table::"orders-db/public.{forbidden}");
@id("all") permit (principal in Group::"writers", action, resource);
"""
            with w.own(policies={"p": rule}) as own, own.connect("writer", autocommit=False) as c:
                for sql in tries:
                    try:
                        c.execute(sql)
                        told = None
                    except Exception as refused:
                        told = decision_of(refused)
                    c.rollback()
                    touches = forbidden in named[sql]
                    check(bool(told) == touches, forbidden, sql, told, named[sql])
                    check(not told or told["rule"] == f"not-{forbidden}" and forbidden in told["operation"], told)
    finally:
        w.admin("DROP TABLE fk_notes, fk_items, fk_orders, fk_codes, fk_people CASCADE")


def test_a_used_up_budget_names_policy_and_operation(w):
    with w.own(policies=POLICY) as own, own.connect("reader") as c:
        try:
            c.execute("SELECT id FROM orders").fetchall()
            raise AssertionError("the rows were not limited")
        except Exception as stopped:
            decision = decision_of(stopped)
        check(decision["code"] == "budget_exhausted" and decision["rule"] == "read", decision)
        check("/" in decision["correlation"] and "at most 5 rows" in decision["hint"], decision)


def test_approvers_read_binary_parameters_as_values(w):
    import asyncio
    import asyncpg
    with w.own(policies=HELD) as own:
        o = Office(own)

        async def held():
            c = await asyncpg.connect(host="127.0.0.1", port=own.port, user="wanda@orders-db", password=o.token("wanda"),
                                      database=w.database, ssl=False)
            try:
                await c.execute("UPDATE orders SET status = $1, placed = $2 WHERE id = $3", "told", __import__("datetime").datetime(
                    2026, 3, 1, 10, 0, tzinfo=__import__("datetime").timezone.utc), 7)
            finally:
                await c.close()

        async def both():
            asked = asyncio.create_task(held())
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(None, lambda: eventually(
                lambda: [a for a in own.rows("approvals", "list") if a["state"] == "open"], "it is held"))
            shown = json.loads(own.cli("approvals", "show", found[0]["id"], "--output", "json").stdout)
            check(shown["parameters"] == ["told", "2026-03-01 10:00:00+00", "7"], shown["parameters"])
            # What is watched late shows what waits.
            rows = own.rows("audit", "search", "--kind", "approval")
            check(any(row["detail"].startswith(found[0]["id"] + " opened") for row in rows), rows)
            table = own.cli("audit", "search", "--kind", "approval").stdout
            check(found[0]["id"] in table and "opened" in table, table)
            await loop.run_in_executor(None, lambda: o.decide("approve", found[0]["id"], "dana"))
            await asked

        asyncio.run(both())
        check(w.admin("SELECT status FROM orders WHERE id = 7") == ["told"], "it ran as it was sent")


def test_approvals_of_former_policies_are_over(w):
    with w.own(policies=HELD) as own:
        o = Office(own)
        wire = o.wire("wanda")
        wire.send(rig.frame("Q", rig.cstr("UPDATE orders SET status = 'told' WHERE id = 1")))
        id = eventually(lambda: [a["id"] for a in own.rows("approvals", "list") if a["state"] == "open"], "it is held")[0]
        folder = own.gateway.dir / "policies"
        next(folder.glob("*.cedar")).write_text(HELD["all"] + '@id("told") permit (principal in Group::"x", action, resource);\n')
        state = lambda: next(a for a in own.rows("approvals", "list") if a["id"] == id)
        eventually(lambda: state()["state"] == "expired", "it can't be approved any more")
        check("other policies" in state()["note"], state())
        wire.close()


def test_a_killed_session_says_who_did_it_and_why(w):
    with w.own(policies=POLICY) as own:
        wire = own.wire("reader")
        session = own.rows("sessions", "list")[0]["id"]
        own.cli("sessions", "kill", session, "--reason", "runaway")
        query_lines, codes = query(wire, "SELECT 1")
        fatal = [e for e in wire.errors if e.get("S") == "FATAL"]
        check(fatal and "runaway" in fatal[0]["M"], wire.errors, codes)
        shown = eventually(lambda: [s for s in own.rows("sessions", "list") if s["id"] == session and s.get("reason")], "its end")
        check(shown[0]["reason"] == "killed by operator: runaway", shown)


def test_approvers_read_what_the_server_reads_in_any_encoding(w):
    """The bytes of one character in UTF-8 are two in LATIN1: what is shown must be what is written."""
    with w.own(policies=HELD) as own:
        o = Office(own)
        for encoding, value, binary in (("LATIN1", "A\u00c3\u00a4\\x1", False), ("WIN1251", "B\u0413\u00b6", True), ("UTF8", "\\x41", False)):
            wire = o.wire("wanda", client_encoding=encoding)
            wire.encoding = {"LATIN1": "latin-1", "WIN1251": "cp1251", "UTF8": "utf-8"}[encoding]
            sent = value.encode(wire.encoding)
            body = lambda *parts: b"".join(parts)
            one = (1).to_bytes(2, "big")
            wire.send(body(
                rig.frame("P", b"\0" + b"UPDATE orders SET status = $1 WHERE id = 9\0" + one + (25).to_bytes(4, "big")),
                rig.frame("B", b"\0\0" + one + (1 if binary else 0).to_bytes(2, "big") + one + len(sent).to_bytes(4, "big") + sent + (0).to_bytes(2, "big")),
                rig.frame("E", b"\0" + (0).to_bytes(4, "big")), rig.frame("S", b"")))
            found = eventually(lambda: [a for a in own.rows("approvals", "list") if a["state"] == "open"], "it is held")
            shown = json.loads(own.cli("approvals", "show", found[0]["id"], "--output", "json").stdout)["parameters"]
            o.decide("approve", found[0]["id"], "dana")
            stored = eventually(lambda: [s for s in w.admin("SELECT status FROM orders WHERE id = 9") if s == value], f"it is stored as {value!r}")
            # A value that begins with a backslash is no hex digits.
            check(shown == [("\\" if value.startswith("\\") else "") + stored[0]], encoding, shown, stored)
            wire.close()

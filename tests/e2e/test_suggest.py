"""`gateway policy suggest`: what somebody used, as permits that are enough and no more."""
import re

from harness import check, eventually, query

POLICIES = {"all": """
@id("in") permit (principal in Group::"readers", action == Action::"connect", resource);
@id("everything") permit (principal in Group::"readers", action in [Action::"read", Action::"write", Action::"temp", Action::"define"],
    resource in Resource::"orders-db");
@id("never-needed") permit (principal in Group::"readers", action == Action::"control", resource == Resource::"orders-db");
@id("of-others") permit (principal in Group::"writers", action == Action::"connect", resource);
@id("held") @approve("dba") @wait("1s") permit (principal in Group::"readers", action == Action::"write-unbounded", resource in Resource::"orders-db");
"""}


def test_what_was_used_becomes_the_least_that_permits_it(w):
    with w.own(policies=POLICIES) as own:
        subject = own.rows("token", "list")[0]["subject"] if own.token("reader") else None
        wire = own.wire("reader")
        used = ["SELECT total, id FROM orders", "UPDATE tickets SET subject = subject WHERE id = 1", "CREATE TEMP TABLE mine (n int)",
                "SELECT count(*) FROM orders"]
        for sql in used:
            check(query(wire, sql)[1] == [], sql, wire.errors)
        held = own.psql("reader", "-v", "VERBOSITY=verbose", "-c", "DELETE FROM tickets")
        check(held.returncode == 1 and "PA001" in held.stderr, held)
        check(query(wire, "SELECT pg_sleep(0)")[1] == ["42501"], wire.errors)
        wire.close()
        done = eventually(lambda: (got := own.cli("policy", "suggest", "--as", subject, ok=False)).returncode == 0 and got, "a suggestion")
        text = done.stdout
        for part in ['// Would be lost, and was not used: "never-needed"', 'Held for approval by "held", 1 times', "1 messages were refused",
                     f'principal == Principal::"{subject}", action == Action::"connect", resource == Resource::"orders-db"',
                     'Column::"orders-db/public.orders.total"', 'Action::"write"', 'Action::"temp"']:
            check(part in text, part, text)
        for part in ["of-others", "orders-db/public.orders.email", "write-unbounded", 'Action::"define"', "pg_sleep"]:
            check(part not in text, part, text)
        check(re.search(r"permit all \d+ different operations", done.stderr), done.stderr)
        # Alone in force it permits the same again, and nothing else.
        policy = own.gateway.dir / "policies"
        for file in policy.glob("*.cedar"):
            file.unlink()
        (policy / "suggested.cedar").write_text(text)
        own.cli("policy", "check")
        own.hang_up()
        eventually(lambda: 'suggested-' in own.cli("policy", "explain", "--as", subject, "--resource", "orders-db", "--offline").stdout, "it is in force")
        wire = own.wire("reader")
        for sql in used:
            check(query(wire, sql)[1] == [], sql, wire.errors)
        for sql in ["SELECT * FROM tickets", "UPDATE orders SET total = 1 WHERE id = 1", "CREATE TABLE public.x (n int)", "DELETE FROM tickets"]:
            check(query(wire, sql)[1] == ["42501"], sql)
        wire.close()
        refused = own.cli("policy", "suggest", "--as", "nobody@x.test", ok=False)
        check(refused.returncode == 1 and "has nothing that" in refused.stderr and not refused.stdout, refused)

"""Access for a time: asked for, decided by others, in force in sessions that run, and over when its time is."""
import json, sqlite3, time

import rig
from harness import check, eventually
from test_approvals import PEOPLE, Office

POLICIES = {"all": """
@id("connect") permit (principal in Group::"writers", action == Action::"connect", resource == Resource::"orders-db");
@id("sleep") permit (principal, action == Action::"call", resource == Function::"orders-db/pg_catalog.pg_sleep");
@id("oncall") @approve("dba") @longest("1h")
permit (principal == ?principal, action in [Action::"read", Action::"write"], resource in ?resource)
when { principal in Group::"writers" };
@id("guest") @approve("dba")
permit (principal == ?principal, action in [Action::"connect", Action::"read"], resource in ?resource)
when { principal in Group::"guests" };
@id("never") forbid (principal, action == Action::"write", resource == Table::"orders-db/public.payments");
"""}
PEOPLE["gus"] = ("gus@corp.test", ["guests"], None)


class Desk(Office):
    def access(self, *argv, who=None, ok=True):
        done = self.w.gateway.cli("access", *argv, token=who and self.token(who))
        check((done.returncode == 0) == ok, argv, who, done.returncode, done.stdout, done.stderr)
        return done

    def ask(self, who, *more, lasting="30m", reason="INC-9", ok=True):
        done = self.access("request", "orders-db", "--for", lasting, "--reason", reason, *more, who=who, ok=ok)
        return done.stdout.strip() if ok else done.stderr

    def grant(self, id, who=None):
        all = json.loads(self.access("list", "--output", "json", who=who).stdout)
        return next((one for one in all if one["id"] == id), None)


def codes(wire, sql):
    wire.errors = []
    wire.exchange([rig.frame("Q", rig.cstr(sql))])
    return wire.codes()


READ = "SELECT count(*) FROM orders"
WRITE = "UPDATE orders SET status = 'granted' WHERE id = 3"


def test_asked_for_decided_by_another_in_force_at_once_and_taken_back(w):
    with w.own(policies=POLICIES) as own:
        o = Desk(own)
        try:
            wire = o.wire("wanda")
            check(codes(wire, READ) == ["42501"], wire.errors)
            id = o.ask("wanda", "--action", "read")
            check(o.ask("wanda", "--action", "read") == id, "the same asked again is the same")
            check(o.grant(id, "wanda")["state"] == "requested")
            check(o.grant(id, "nick") is None, "it is no business of others")
            shown = o.state(id)
            check(shown["reason"] == "INC-9" and "read on orders-db" in shown["operation"], shown)
            check(codes(wire, READ) == ["42501"], "nobody has decided")
            o.decide("approve", id, "wanda", ok=False)
            o.decide("approve", id, "nick", ok=False)
            o.decide("approve", id, "dana")
            # In the session that runs, and with the next operation.
            check(codes(wire, READ) == [], wire.errors)
            check(codes(wire, WRITE) == ["42501"], "it was not asked for")
            check(o.grant(id, "wanda")["state"] == "active")
            told = o.w.gateway.cli("policy", "explain", "--as", "wanda@corp.test", "--group", "writers", "--resource", "orders-db", READ)
            check(f"oncall/{id}" in told.stdout, told.stdout, told.stderr)

            more = o.ask("wanda", "--action", "write", "--on", "public.orders")
            o.decide("approve", more, "dana")
            check(codes(wire, WRITE) == [], wire.errors)
            check(codes(wire, "UPDATE payments SET amount = 1 WHERE id = 1") == ["42501"])
            o.access("revoke", more, who="nick", ok=False)
            o.access("revoke", more, "--reason", "incident over", who="dana")
            check(codes(wire, WRITE) == ["42501"], "it was taken back")
            check("incident over" in o.grant(more, "wanda")["note"])
            o.access("revoke", more, who="dana", ok=False)
            # Its requester gives it back, too.
            o.access("revoke", id, who="wanda")
            check(codes(wire, READ) == ["42501"])
            check(o.trail(more) == ["opened", "approved", "revoked"], o.trail(more))
            check(o.w.gateway.cli("audit", "verify").returncode == 0)
        finally:
            w.admin("UPDATE orders SET status = 'open' WHERE id = 3")
            w.admin("DELETE FROM orders_log")


def test_what_the_policies_do_not_give_is_not_asked_for(w):
    with w.own(policies=POLICIES) as own:
        o = Desk(own)
        check("no access" in o.ask("nick", ok=False))
        check("no access" in o.ask("wanda", "--action", "define", ok=False))
        check("there is no action" in o.ask("wanda", "--action", "wirte", ok=False))
        check("2h is longer than the 1h" in o.ask("wanda", lasting="2h", ok=False))
        check("reason" in o.ask("wanda", reason=" ", ok=False))
        check("no access" in o.access("request", "no-such", "--for", "5m", "--reason", "x", who="wanda", ok=False).stderr)
        check("token" in o.access("request", "orders-db", "--for", "5m", "--reason", "x", ok=False).stderr)
        id = o.ask("wanda")
        o.decide("deny", id, "dana", "--reason", "not now")
        check(o.grant(id)["state"] == "denied", o.grant(id))


def test_its_end_ends_what_it_let_in_and_what_it_let_run(w):
    with w.own(policies=POLICIES) as own:
        o = Desk(own)
        # Idle, let in by the grant.
        id = o.ask("gus", lasting="4s")
        o.decide("approve", id, "dana")
        idle = o.wire("gus", seconds=20)
        check(codes(idle, READ) == [], idle.errors)
        began = time.monotonic()
        idle.errors = []
        closed(idle)
        check(time.monotonic() - began < 8, "it outlived its grant")
        check("57P01" in idle.codes(), idle.errors)
        told = [json.loads(e["D"]) for e in idle.errors if e["C"] == "57P01"][0]
        check(told["code"] == "session_expired" and "access" in told["hint"] and told["correlation"], told)
        ended = [s for s in own.rows("sessions", "list") if s["id"] == told["correlation"]]
        check(ended and ended[0]["reason"] == "access for a time ended", ended)
        check(o.grant(id, "gus")["state"] == "ended")
        # Running, in a session that may be there without it.
        id = o.ask("wanda", "--action", "read", lasting="3s")
        o.decide("approve", id, "dana")
        busy = o.wire("wanda", seconds=30)
        began = time.monotonic()
        got = codes(busy, "SELECT count(*), pg_sleep(20) FROM orders GROUP BY id LIMIT 1")
        check(got and time.monotonic() - began < 10, got, time.monotonic() - began)


def closed(wire):
    """Reads until the gateway ends the connection."""
    wire.outstanding = max(wire.outstanding, 1)
    wire.until_ready()


def test_a_restart_keeps_grants_in_force(w):
    with w.own(policies=POLICIES) as own:
        o = Desk(own)
        id = o.ask("wanda", "--action", "read")
        o.decide("approve", id, "dana")
        own.kill()
        own.gateway.start()
        wire = o.wire("wanda")
        eventually(lambda: codes(wire, READ) == [], "the grant is not in force after a restart")
        check(o.grant(id)["state"] == "active")


TWO = {"all": POLICIES["all"] + """
@id("two") @approve("dba") @approvers("2") @longest("1h")
permit (principal == ?principal, action == Action::"define", resource in ?resource) when { principal in Group::"writers" };
"""}


def revoke(own, subject):
    """Ends the tokens of `subject`."""
    for one in own.rows("token", "list"):
        if one["subject"] == subject and one["state"] == "active":
            own.cli("token", "revoke", one["id"])


def test_an_approver_whose_token_has_ended_does_not_count_when_the_last_one_decides(w):
    with w.own(policies=TWO) as own:
        o = Desk(own)
        id = o.ask("wanda", "--action", "define", "--on", "public.orders")
        o.decide("approve", id, "dana")
        check(o.grant(id)["state"] == "requested", o.grant(id))
        revoke(own, "dana@corp.test")
        o.decide("approve", id, "dirk")
        check(o.grant(id)["state"] == "requested", "given by one living vote", o.grant(id))
        wire = o.wire("wanda")
        define = "COMMENT ON TABLE orders IS 'granted'"
        check(codes(wire, define) == ["42501"], wire.errors)
        # Whoever's token has ended says it anew with another one, and counts once; the same token says nothing new.
        o.decide("approve", id, "dirk", ok=False)
        o.decide("approve", id, "dirk", token=o.token("dirk", fresh=True))
        check(o.grant(id)["state"] == "requested", "one person stood for two", o.grant(id))
        o.decide("approve", id, "dana", token=o.token("dana", fresh=True))
        check(o.grant(id)["state"] == "active", o.grant(id))
        check(codes(wire, define) == [], wire.errors)
        # Later their tokens do not matter to it.
        revoke(own, "dirk@corp.test")
        check(codes(wire, "COMMENT ON TABLE orders IS NULL") == [], wire.errors)


def other_policies(own, change):
    file = own.gateway.dir / "policies" / "all.cedar"
    file.write_text(change(file.read_text()))
    own.hang_up()


def test_a_grant_is_of_its_template_as_it_was_asked_for(w):
    with w.own(policies=POLICIES) as own:
        o = Desk(own)
        active, asked = o.ask("wanda", "--action", "read"), o.ask("wanda", "--action", "write", "--on", "public.orders")
        o.decide("approve", active, "dana")
        wire = o.wire("wanda")
        check(codes(wire, READ) == [], wire.errors)
        # Another text of the template, though it says the same to this principal.
        other_policies(own, lambda text: text.replace('@longest("1h")', '@longest("2h")'))
        eventually(lambda: codes(wire, READ) == ["42501"], "a grant outlived its template's text")
        check("policies" in o.decide("approve", asked, "dana", ok=False))
        again = [o.ask("wanda", "--action", "write", "--on", "public.orders"), o.ask("wanda", "--action", "read")]
        check(not {active, asked} & set(again), "asked under other policies it is another request")
        for one in again:
            o.decide("approve", one, "dana")
        check(codes(wire, WRITE) == [], wire.errors)
        # And without it there is nothing.
        other_policies(own, lambda text: text.replace('@id("oncall")', '@id("other")'))
        eventually(lambda: codes(wire, WRITE) == ["42501"], "a grant outlived its template")
    w.admin("UPDATE orders SET status = 'open' WHERE id = 3")
    w.admin("DELETE FROM orders_log")


def test_who_sees_a_grant_and_what_can_not_be_asked_for(w):
    with w.own(policies=POLICIES) as own:
        o = Desk(own)
        of_agent = o.ask("bot", "--action", "read")
        # Its own, for whom it acts (who is of the deciding group, too), and those who decide.
        check(all(o.grant(of_agent, who) for who in ("bot", "dana", "dirk")))
        check(not any(o.grant(of_agent, who) for who in ("wanda", "nick", "sid", "gus")))
        o.decide("approve", of_agent, "dana", ok=False)
        o.access("revoke", of_agent, who="wanda", ok=False)
        done = o.access("request", "gateway", "--for", "5m", "--reason", "x", who="wanda", ok=False)
        check("gateway" in done.stderr and "can't" in done.stderr or "no access" in done.stderr, done.stderr)
        done = o.access("request", "gateway", "--for", "5m", "--reason", "x", "--action", "administer", who="wanda", ok=False)
        check(done.returncode != 0, done.stdout)
        check([r for r in own.rows("access", "list") if r["resource"] == "gateway"] == [])


def test_a_grant_that_does_not_open_gives_nothing_and_keeps_no_other_in_force(w):
    key = w.scratch / "grants.key"
    key.write_text(w.cli("secrets", "key").stdout)
    key.chmod(0o600)
    with w.own(policies=POLICIES, sections=f'[secrets]\nkeys = [{{ file = "{key}" }}]\nrequire = true\n') as own:
        o = Desk(own)
        ids = {}
        for who in ("wanda", "gus"):
            more = ["--action", "read"] if who == "wanda" else []
            ids[who] = o.ask(who, *more)
            o.decide("approve", ids[who], "dana")
        wire = o.wire("wanda")
        eventually(lambda: codes(wire, READ) == [], "it is in force")
        with sqlite3.connect(own.gateway.dir / "data" / "gateway.db") as store:
            kept = store.execute("SELECT record FROM approvals WHERE id = ?", [ids["gus"]]).fetchone()
            store.execute("UPDATE approvals SET record = substr(record, 1, 60) WHERE id = ?", [ids["gus"]])
        o.access("revoke", ids["wanda"])
        eventually(lambda: codes(wire, READ) == ["42501"], "taken back beside one that does not open")

        def is_refused():
            try:
                o.wire("gus").close()
            except rig.Refused:
                return True
            return False
        eventually(is_refused, "one that does not open lets nobody in")
        with sqlite3.connect(own.gateway.dir / "data" / "gateway.db") as store:
            store.execute("UPDATE approvals SET record = ? WHERE id = ?", [kept[0], ids["gus"]])
        eventually(lambda: not is_refused(), "and where it is put back it is in force again", 20)

"""Sessions that are ended while something runs: nothing that waits behind it runs, and the trail says what did."""
import json, time

import rig
from harness import check, eventually

SLEEP = "SELECT pg_sleep(8)"
POLICIES = {"all": """
@id("all") permit (principal, action in [Action::"connect", Action::"read", Action::"write"], resource);
@id("sleep") permit (principal, action == Action::"call", resource == Function::"orders-db/pg_catalog.pg_sleep");
"""}


def write(n):
    return f"UPDATE orders SET note = 'behind' WHERE id = {n}"


def packets(n):
    """The same two statements in one packet: as two Query messages, and as two runs of the extended protocol."""
    simple = b"".join(rig.frame("Q", rig.cstr(sql)) for sql in (SLEEP, write(n)))
    run = lambda sql: b"".join(map(rig.encode, ({"parse": {"sql": sql}}, {"bind": {}}, {"execute": {}}, "sync")))
    return {"simple": simple, "extended": run(SLEEP) + run(write(n)), "mixed": run(SLEEP) + rig.frame("Q", rig.cstr(write(n)))}


def sessions(own):
    told = own.gateway.cli("sessions", "list", "--output", "json")
    return [s for s in json.loads(told.stdout) if s["resource"] == "orders-db" and not s["ended"]]


def outcomes(own, session):
    told = own.gateway.cli("audit", "search", "--session", session, "--limit", "1000", "--output", "json")
    check(told.returncode == 0, told.stderr)
    return json.loads(told.stdout)


def sleepers(w):
    return w.admin("SELECT count(*) FROM pg_stat_activity WHERE query ~ 'pg_sleep.8' AND state = 'active' AND pid <> pg_backend_pid()")[0]


def notes(w):
    return w.admin("SELECT count(*) FROM orders WHERE note = 'behind'")[0]


def test_what_waits_behind_a_running_statement_does_not_run_when_the_session_is_ended(w):
    with w.own(policies=POLICIES) as own:
        try:
            for how, packet in packets(4).items():
                for end in ("kill", "revoke"):
                    token = own.gateway.token("wanda@corp.test", "human", ["writers"])
                    wire = rig.Wire(own.port, 20)
                    wire.login("wanda@orders-db", token, own.database, {})
                    wire.send(packet)
                    eventually(lambda: sleepers(w) == "1", f"{how}: the first of them runs")
                    session = sessions(own)[0]["id"]
                    if end == "kill":
                        done = own.gateway.cli("sessions", "kill", session, "--reason", "test")
                    else:
                        known = json.loads(own.gateway.cli("token", "list", "--output", "json").stdout)
                        for one in (t for t in known if t["state"] == "active"):
                            done = own.gateway.cli("token", "revoke", one["id"])
                    check(done.returncode == 0, done.stderr)
                    eventually(lambda: not sessions(own), f"{how}: ended by {end}", 10)
                    time.sleep(0.3)
                    check(notes(w) == "0", f"{how}, {end}: the write behind ran")
                    check(sleepers(w) == "0", f"{how}, {end}: it still sleeps")
                    told = json.dumps(outcomes(own, session))
                    check("57014" in told, f"{how}, {end}: the cancelled statement's own end is in the trail", told)
                    check("UPDATE orders" not in told, "what did not run was not decided", told)
        finally:
            w.admin("UPDATE orders SET note = 'order no ' || id WHERE id <= 20")
            w.admin("DELETE FROM orders_log")


def test_a_write_whose_client_is_gone_has_its_outcome_in_the_trail(w):
    with w.own(policies=POLICIES) as own:
        try:
            token = own.gateway.token("wanda@corp.test", "human", ["writers"])
            wire = rig.Wire(own.port, 20)
            wire.login("wanda@orders-db", token, own.database, {})
            session = sessions(own)[0]["id"]
            wire.send(rig.frame("Q", rig.cstr("SELECT pg_sleep(0.3)")) + rig.frame("Q", rig.cstr(write(5))))
            time.sleep(0.1)
            wire.close()
            eventually(lambda: not sessions(own), "the session ends", 10)
            ran = notes(w) == "1"
            told = [r for r in outcomes(own, session) if "UPDATE" in json.dumps(r)]
            check(ran == bool(told), ran, told)
            check(not ran or told[0].get("rows") == 1 and not told[0].get("error"), told)
        finally:
            w.admin("UPDATE orders SET note = 'order no ' || id WHERE id <= 20")
            w.admin("DELETE FROM orders_log")

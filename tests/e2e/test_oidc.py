"""OIDC tokens as passwords: who gets in with one, as whom, for how long, and what when the issuer is down."""
import base64, hashlib, hmac, json, os, time

from harness import POLICIES, check, ending, eventually, query
from issuer import Issuer, b64

READ = "SELECT count(*) FROM orders WHERE id = 1"


def trail(w):
    """The audit trail as it is on disk."""
    return "".join(path.read_text() for path in sorted((w.gateway.dir / "data" / "audit").glob("*.jsonl")))


def login(w, token, seconds=30):
    return w.wire("reader", password=token, seconds=seconds)


def test_psql_connects_with_an_oidc_token_and_its_group_decides(w):
    with Issuer() as issuer, w.own(sections=issuer.section()) as own:
        reader, writer, nobody = (issuer.token(groups=groups) for groups in (["readers"], "writers", []))
        ask = lambda token, sql: own.psql("reader", "-v", "VERBOSITY=verbose", "-c", sql, env={"PGPASSWORD": token})
        check(ask(reader, READ).stdout == "1\n")
        check("42501" in ask(reader, "DELETE FROM orders WHERE id = -1").stderr)
        written = ask(writer, "DELETE FROM orders WHERE id = -1")
        check(written.stdout == "DELETE 0\n", written)
        refused = ask(nobody, READ)
        check(refused.returncode == 2 and "FATAL" in refused.stderr, refused)
        wire = login(own, reader)
        session = next(s for s in own.rows("sessions", "list", "--live") if "alice@corp.test" in json.dumps(s))
        check(session["resource"] == "orders-db", session)
        wire.close()
        events = own.cli("audit", "search", "--principal", "alice@corp.test", "--output", "json").stdout
        check("oidc/corp/" in events, events[:2000])
        events = eventually(lambda: (lambda t: t if "session_ended" in t else None)(trail(own)), "the trail is written")
        check(f'"iss":"{issuer.url}"' in events, events[:2000])
        for token in (reader, writer):
            for part in token.split("."):
                check(part not in events and part not in own.log(), "a part of a token is written down")


def test_groups_get_the_prefix_of_their_issuer(w):
    renamed = POLICIES | {"connect": POLICIES["connect"].replace('"readers"', '"corp:readers"')}
    with Issuer() as issuer, w.own(sections=issuer.section(group_prefix="corp:"), policies=renamed) as own:
        wire = login(own, issuer.token())
        check(query(wire, READ)[1] == ["42501"], "a group without the prefix may read, this one may not")
        wire.close()
        # A gateway token of the bare name is in another group.
        check(own.refused_login("reader") == "28000")


def test_a_session_ends_when_its_oidc_token_does(w):
    with Issuer() as issuer, w.own(sections=issuer.section()) as own:
        token = issuer.token(ttl=5)
        wire = login(own, token)
        check(query(wire, READ)[1] == [])
        started = time.time()
        check(ending(wire) == "57P01", wire.lines)
        check(time.time() - started < 8, "it ended late")
        check(own.refused_login("reader", password=token) == "28000")


def test_oidc_tokens_that_prove_nothing_are_refused_alike_and_the_trail_says_why(w):
    with Issuer() as issuer, Issuer() as stranger, w.own(sections=issuer.section()) as own:
        login(own, issuer.token()).close()
        good = issuer.token()
        head, claims, signature = good.split(".")
        modulus = base64.urlsafe_b64decode(issuer.key.jwk()["n"] + "==")
        by_hmac = b64(json.dumps({"alg": "HS256", "kid": "first"})) + "." + claims
        by_hmac += "." + b64(hmac.new(modulus, by_hmac.encode(), hashlib.sha256).digest())
        bad = {
            "signature": issuer.new_key("own", publish=False).sign(issuer.claims(), kid="first"),
            "has not the form": f"{b64(json.dumps({'alg': 'none'}))}.{claims}.",
            "algorithm `HS256`": by_hmac,
            "audience": issuer.token(aud="somebody-else"),
            "issuer `http": stranger.token(),
            "expired": issuer.token(ttl=-1),
            "`nbf`": issuer.token(nbf=int(time.time()) + 120),
            "`sub`": issuer.token(sub=""),
            "no key of its id": issuer.new_key("unheard", publish=False).sign(issuer.claims()),
            "crit": issuer.key.sign(issuer.claims(), crit=["exp"]),
            "longer than": issuer.token(photo="x" * 20_000),
        }
        told = set()
        for why, token in bad.items():
            done = own.psql("reader", "-c", "SELECT 1", env={"PGPASSWORD": token})
            check(done.returncode == 2 and done.stdout == "", why, done)
            told.add(done.stderr.split("FATAL:")[-1].partition("DETAIL:  correlation ")[0])
        check(len(told) == 1, "refusals must not tell what was wrong:", told)
        reasons = eventually(lambda: (lambda r: r if len(r) >= len(bad) else None)(
            [line for line in own.log().splitlines() if "login refused" in line]), "refusals are logged")
        for why in bad:
            text = "no known form" if why == "has not the form" else why
            check(any(text in line for line in reasons), text, "is in none of", "\n".join(reasons))
        check(stranger.asked == [], "an issuer that nobody trusts was asked")


def test_a_rotated_key_is_taken_at_once_and_strangers_do_not_wear_the_issuer_out(w):
    with Issuer() as issuer, w.own(sections=issuer.section()) as own:
        login(own, issuer.token()).close()
        before = issuer.token()
        issuer.new_key("second")
        login(own, issuer.token()).close()
        login(own, before).close()
        asked = len(issuer.asked)
        unheard = issuer.new_key("unheard", publish=False)
        for _ in range(10):
            check(own.refused_login("reader", password=unheard.sign(issuer.claims())) == "28000")
        check(len(issuer.asked) == asked, issuer.asked)


def test_known_keys_work_while_the_issuer_is_down(w):
    with Issuer() as issuer, w.own(sections=issuer.section()) as own:
        wire = login(own, issuer.token())
        issuer.down()
        login(own, issuer.token()).close()
        unheard = issuer.new_key("unheard", publish=False)
        check(own.refused_login("reader", password=unheard.sign(issuer.claims())) == "28000")
        check(query(wire, READ)[1] == [])
        wire.close()


def test_an_issuer_that_is_down_at_the_start_stops_nobody_else_and_is_found_when_it_comes(w):
    with Issuer() as issuer:
        issuer.down()
        with w.own(sections=issuer.section()) as own:
            check(own.psql("reader", "-c", "SELECT 1").stdout == "1\n", "gateway tokens need no issuer")
            token = issuer.token()
            check(own.refused_login("reader", password=token) != "28000", "it may be tried again later")
            eventually(lambda: "cannot be read" in own.log(), "the log tells of it")
            issuer.up()
            eventually(lambda: own.psql("reader", "-c", "SELECT 1", env={"PGPASSWORD": token}).stdout == "1\n",
                       "the issuer is found", 40)


def test_issuers_come_and_go_by_reload_and_other_sessions_live(w):
    with Issuer() as first, Issuer() as second, w.own(sections=first.section()) as own:
        kept = own.wire("writer")
        wire = login(own, first.token())
        check(own.refused_login("reader", password=second.token()) == "28000")
        old = own.gateway.config.read_text()
        config = own.gateway.config
        both = old.replace(first.section(), first.section() + second.section("other"))
        config.write_text(both)
        own.hang_up()
        eventually(lambda: own.psql("reader", "-c", "SELECT 1", env={"PGPASSWORD": second.token()}).stdout == "1\n",
                   "the new issuer is trusted")
        check(query(wire, READ)[1] == [])
        # A fault keeps both.
        config.write_text(both.replace("audience", "audeince", 1))
        own.hang_up()
        eventually(lambda: "did you mean `identity.oidc.corp.audience`" in own.log(), "the fault is told")
        check(query(wire, READ)[1] == [])
        config.write_text(old.replace(first.section(), second.section("other")))
        own.hang_up()
        check(ending(wire) == "57P01", wire.lines)
        check(own.refused_login("reader", password=first.token()) == "28000")
        check(query(kept, READ)[1] == [], "a gateway token's session lives on")
        kept.close()


def test_a_token_of_eight_kibibytes_is_taken(w):
    with Issuer() as issuer, w.own(sections=issuer.section()) as own:
        token = issuer.token(photo=os.urandom(3100).hex())
        check(len(token) > 8192, len(token))
        check(own.psql("reader", "-c", "SELECT 1", env={"PGPASSWORD": token}).stdout == "1\n")


def test_an_agent_acts_for_somebody_under_its_own_name(w):
    with Issuer() as issuer, w.own(sections=issuer.section()) as own:
        wire = login(own, issuer.token(act={"sub": "helper-bot"}))
        check(query(wire, READ)[1] == [])
        wire.close()
        rows = own.rows("audit", "search", "--principal", "helper-bot")
        check(rows and all(row["on_behalf_of"] == "alice@corp.test" for row in rows), rows)
        check('"kind":"agent"' in trail(own), trail(own)[:2000])


def test_plain_http_issuers_are_told_of_loudly(w):
    with Issuer() as issuer, w.own(sections=issuer.section()) as own:
        eventually(lambda: "PLAIN HTTP" in own.log(), "the warning")
        done = own.cli("config", "check")
        check("PLAIN HTTP" in done.stderr and issuer.url in done.stdout, done)

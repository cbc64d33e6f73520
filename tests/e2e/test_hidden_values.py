"""Tokens, paths into JSON, what detectors find, and what functions are declared to give back."""
import contextlib
import json
import re
import uuid

import psycopg
from psycopg import errors

from harness import POLICIES, check, query
from test_masks import copied
from test_psycopg import psycopg_raises

SETUP = """
    CREATE TABLE public.vault (id int PRIMARY KEY, email text UNIQUE, card text, no int, big bigint, amount numeric(12,2), code uuid,
        names text[], note text, doc jsonb);
    INSERT INTO public.vault
    SELECT n, 'v' || n || '.heron@mailfort.test', '49291234567' || lpad((n * 37 % 100000)::text, 5, '0'), 100000 + n, 4929123456700000 + n,
        123456.5 + n, ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, ARRAY['Ada ' || n, 'Päivi'],
        'note ' || n, jsonb_build_object('mail', 'd' || n || '.heron@mailfort.test', 'n', n)
    FROM generate_series(1, 9) n;
    CREATE TABLE public.purchases (id int, who text);
    INSERT INTO public.purchases SELECT n, 'v' || n || '.heron@mailfort.test' FROM generate_series(1, 9) n;
    CREATE TABLE public.events (id int PRIMARY KEY, kind text, payload jsonb, raw json);
    INSERT INTO public.events
    SELECT n, 'click', jsonb_build_object('user', jsonb_build_object('email', 'e' || n || '.heron@mailfort.test', 'name', 'N' || n),
                                          'items', jsonb_build_array(jsonb_build_object('card', '4929123456700037', 'n', n)), 'page', '/p' || n),
           ('{"user": {"em\\u0061il": "e' || n || '.heron@mailfort.test"}, "page": "x"}')::json
    FROM generate_series(1, 5) n;
    CREATE VIEW public.event_mails AS SELECT id, payload->'user'->>'email' AS mail, payload->>'page' AS page FROM public.events;
    CREATE TABLE public.memos (id int, body text, doc json, lines text[], amount numeric);
    INSERT INTO public.memos VALUES
        (1, 'write to x.heron@mailfort.test or pay 4929 1234 5670 0038', '{"a": "x.heron\\u0040mailfort.test", "n": 4929123456700038}',
         ARRAY['plain', 'call +44 7700 900123'], 4929123456700038),
        (2, 'nothing in here', '{"a": [1, "b"]}', ARRAY['x'], 12.5);
    CREATE FUNCTION public.mail_of(who int) RETURNS text LANGUAGE plpgsql AS
        $$ BEGIN RETURN (SELECT email FROM public.vault WHERE id = who); END $$;
    CREATE FUNCTION public.page_count() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT count(*) FROM public.events); END $$;
"""
DROP = """DROP TABLE IF EXISTS public.vault, public.purchases, public.memos, public.events CASCADE; DROP FUNCTION IF EXISTS public.mail_of, public.page_count"""

TAGS = """
[[resource.tag]]
tag = "t.email"
columns = ["public.vault.email", "public.purchases.who", "public.vault.doc$.mail"]
mask = "token"
[[resource.tag]]
tag = "t.other"
columns = ["public.vault.card", "public.vault.no", "public.vault.big", "public.vault.amount", "public.vault.code", "public.vault.names"]
mask = "token"
[[resource.tag]]
tag = "j.email"
columns = ["public.events.payload$.user.email", "public.events.raw$.user.email"]
mask = "partial"
[[resource.tag]]
tag = "j.card"
columns = ["public.events.payload$.items[*].card"]
[[resource.detect]]
tag = "found.mail"
find = ["email", "phone"]
[[resource.detect]]
tag = "found.card"
find = ["card"]
mask = "partial"
[[resource.function]]
name = "public.mail_of"
tags = ["t.email"]
mask = "partial"
[[resource.function]]
name = "public.page_count"
tags = []
"""
CALLS = {"calls": """@id("calls") permit (principal in Group::"readers", action == Action::"call", resource)
    when { resource in [Function::"orders-db/public.mail_of", Function::"orders-db/public.page_count"] };"""}


@contextlib.contextmanager
def world(w, **more):
    """The table of tokens, the tags above, and a gateway that knows both."""
    w.admin(DROP)
    w.admin(SETUP)
    base = w.resource()
    login = w.server.names["login"]
    for name in ["vault", "purchases", "events", "memos"]:
        w.admin(f"ALTER TABLE public.{name} OWNER TO {login}")
    w.admin(f"ALTER VIEW public.event_mails OWNER TO {login}")
    try:
        with w.own(resources=base + TAGS, policies={**POLICIES, **CALLS, **more}) as own:
            yield own
    finally:
        w.admin(DROP)


def one(c, text, values=None, binary=False):
    with c.cursor(binary=binary) as cursor:
        row = cursor.execute(text, values).fetchone()
        return row[0] if row and len(row) == 1 else row


def test_tokens_keep_type_and_form_in_both_formats(w):
    with world(w) as own, own.connect("reader") as c:
        text = "SELECT email, card, no, big, amount, code, names FROM vault WHERE id = 1"
        plain, binary = one(c, text), one(c, text, binary=True)
        check(plain == binary, plain, binary)
        email, card, no, big, amount, code, names = plain
        check(re.fullmatch(r"[a-z2-7]+@[a-z2-7.]+\.token\.invalid", email), email)
        check(re.fullmatch(r"\d{16}", card) and card != "4929123456700037", card)
        check(isinstance(no, int) and no != 100001 and isinstance(big, int) and len(str(big)) == 16 and big != 4929123456700001, no, big)
        check(len(str(amount)) == len("123457.50") and str(amount) != "123457.50", amount)
        check(isinstance(code, uuid.UUID) and code.version == 4 and code.int & 0xffff != 1, code)
        check(len(names) == 2 and all(name.startswith("tok_") for name in names), names)
        rows = {row[0] for row in c.execute("SELECT email FROM vault")}
        check(len(rows) == 9, rows)


def test_a_token_that_comes_back_is_the_value(w):
    with world(w) as own, own.connect("reader") as c:
        email, card, no, big, amount, code, names = one(
            c, "SELECT email, card, no, big, amount, code, names FROM vault WHERE id = 3")
        given = {"email": email, "card": card, "no": no, "big": big, "amount": amount, "code": code}
        for column, token in given.items():
            found = c.execute(f"SELECT id FROM vault WHERE {column} = %s", (token,)).fetchall()
            check(found == [(3,)], "parameter", column, token, found)
            with c.cursor() as cursor:
                quoted = token if isinstance(token, (int,)) else "'" + str(token) + "'"
                rows, codes = query(own.wire("reader"), f"SELECT id FROM vault WHERE {column} = {quoted}")
                check(any("3" in line for line in rows) and not codes, "literal", column, rows, codes)
        check(c.execute("SELECT id FROM vault WHERE email IN (%s, 'x') ORDER BY id", (email,)).fetchall() == [(3,)])
        check(c.execute("SELECT id FROM vault WHERE email = ANY(%s)", ([email, "x"],)).fetchall() == [(3,)])
        check(c.execute("SELECT id FROM vault WHERE (id, email) IN ((3, %s))", (email,)).fetchall() == [(3,)])
        with c.cursor(binary=True) as cursor:
            check(cursor.execute("SELECT id FROM vault WHERE big = %b AND code = %b", (big, code)).fetchall() == [(3,)])
        c.execute("PREPARE by_mail (text) AS SELECT id FROM vault WHERE email = $1")
        check(c.execute(psycopg.sql.SQL("EXECUTE by_mail ({})").format(email)).fetchall() == [(3,)])
        # Not a token, and so a value as it stands.
        check(c.execute("SELECT id FROM vault WHERE email = 'v4.heron@mailfort.test'").fetchall() == [(4,)])
        # Elsewhere a token is a text like any other.
        check(one(c, "SELECT %s::text", (email,)) == email)


def test_joins_groups_and_json_paths_work_over_tokens(w):
    with world(w) as own, own.connect("reader") as c:
        rows = c.execute("SELECT v.id, v.email, p.who FROM vault v JOIN purchases p ON p.who = v.email").fetchall()
        check(len(rows) == 9 and all(email == who for _, email, who in rows), rows[:2])
        rows = c.execute("SELECT email, count(*) FROM vault GROUP BY email").fetchall()
        check(len(rows) == 9 and all(count == 1 for _, count in rows), rows)
        mail = one(c, "SELECT doc->>'mail' FROM vault WHERE id = 2")
        check(mail.endswith(".token.invalid") and one(c, "SELECT doc FROM vault WHERE id = 2") == {"mail": mail, "n": 2}, mail)
        check(c.execute("SELECT id FROM vault WHERE doc->>'mail' = %s", (mail,)).fetchall() == [(2,)])


def test_a_token_that_is_written_becomes_the_value(w):
    with world(w) as own, own.connect("writer") as c:
        email, card = one(c, "SELECT email, card FROM vault WHERE id = 5")
        c.execute("INSERT INTO purchases (id, who) VALUES (100, %s), (101, 'new@mailfort.test')", (email,))
        c.execute("UPDATE vault SET card = %s WHERE id = 6", (card,))
        check(own.admin("SELECT who FROM purchases WHERE id >= 100 ORDER BY id") ==
              ["v5.heron@mailfort.test", "new@mailfort.test"])
        check(own.admin("SELECT count(DISTINCT card) FROM vault WHERE id IN (5, 6)") == ["1"])


def test_who_may_see_a_tag_sees_and_sends_values_not_tokens(w):
    all_tags = {"unmask": '@id("sees") permit (principal in Group::"readers", action == Action::"unmask", resource);'}
    with world(w, **all_tags) as own, own.connect("reader") as c, own.connect("writer") as other:
        check(one(c, "SELECT email FROM vault WHERE id = 1") == "v1.heron@mailfort.test")
        token = one(other, "SELECT email FROM vault WHERE id = 1")
        check(c.execute("SELECT id FROM vault WHERE email = %s", (token,)).fetchall() == [])
        check(one(c, "SELECT body FROM memos WHERE id = 1").startswith("write to x.heron"))


def test_a_path_into_json_is_masked_and_the_rest_is_not(w):
    with world(w) as own, own.connect("reader") as c:
        for binary in [False, True]:
            payload = one(c, "SELECT payload FROM events WHERE id = 1", binary=binary)
            check(payload == {"user": {"email": "****test", "name": "N1"}, "items": [{"card": "[redacted]", "n": 1}], "page": "/p1"}, payload)
        check(one(c, "SELECT raw FROM events WHERE id = 1") == {"user": {"email": "****test"}, "page": "x"})
        for text, expected in [
            ("payload->'user'", {"email": "****test", "name": "N1"}), ("payload->'user'->>'name'", "N1"),
            ("payload->'user'->>'email'", "****test"), ("payload #>> '{user,email}'", "****test"),
            ("payload->>'user'", '{"name": "N1", "email": "****test"}'), ("payload['user']['email']", "****test"),
            ("payload->'items'->0", {"card": "[redacted]", "n": 1}), ("payload->'items'->0->>'card'", "[redacted]"),
            ("payload->'items'->0->'n'", 1), ("jsonb_extract_path_text(payload, 'user', 'name')", "N1"), ("payload->>'page'", "/p1"),
            ("upper(payload->>'page')", "/P1"), ("upper(payload->'user'->>'email')", "[redacted]"), ("payload::text", "[redacted]"),
        ]:
            got = one(c, f"SELECT {text} FROM events WHERE id = 1")
            check(got == expected, text, got)
        check(one(c, "SELECT mail, page FROM event_mails WHERE id = 2") == ("****test", "/p2"))
        check(one(c, "SELECT x.u FROM (SELECT payload->'user' AS u FROM events WHERE id = 1) x") == {"email": "****test", "name": "N1"})
        check(c.execute("SELECT id FROM events WHERE payload->>'page' = '/p3'").fetchall() == [(3,)])
        check(c.execute("SELECT id FROM events WHERE payload->>'page' LIKE '/p%%' ORDER BY payload->'user'->>'name'").fetchall()[0] == (1,))
        check(c.execute("SELECT id FROM events WHERE payload->'user'->>'email' = 'e3.heron@mailfort.test'").fetchall() == [(3,)])
        check(b'"email": "****test"' in copied(c, "COPY (SELECT payload FROM events) TO STDOUT").replace(b'\\"', b'"'))
        for text in ["SELECT id FROM events WHERE payload->'user'->>'email' LIKE 'e3%%'",
                     "SELECT id FROM events ORDER BY payload->'user'->>'email'", "SELECT id FROM events ORDER BY payload",
                     "SELECT id FROM events WHERE payload @> '{\"user\": {\"email\": \"x\"}}'",
                     "SELECT jsonb_path_query(payload, '$.user.email') FROM events", "SELECT (jsonb_each(payload)).value FROM events",
                     "SELECT k FROM events, jsonb_each_text(payload) AS x(k, v)"]:
            with psycopg_raises(errors.InsufficientPrivilege):
                c.execute(text, ())


def test_what_detectors_find_is_masked_in_any_column(w):
    with world(w) as own, own.connect("reader") as c:
        for binary in [False, True]:
            body, doc, lines, amount = one(c, "SELECT body, doc, lines, amount FROM memos WHERE id = 1", binary=binary)
            check(body == "write to [redacted] or pay ****0038", body)
            check(doc == {"a": "[redacted]", "n": "****0038"}, doc)
            check(lines == ["plain", "call [redacted]"], lines)
            check(amount is None, amount)
        body, doc, lines, amount = one(c, "SELECT body, doc, lines, amount FROM memos WHERE id = 2")
        check((body, doc, lines, str(amount)) == ("nothing in here", {"a": [1, "b"]}, ["x"], "12.5"), body, doc, lines, amount)
        check(one(c, "SELECT 'a@b.test' || ' ' || upper('c')") == "[redacted] C")
        check(b"heron" not in copied(c, "COPY memos TO STDOUT") and b"heron" not in copied(c, "COPY memos TO STDOUT (FORMAT csv)"))
        check(b"heron" not in copied(c, "COPY (SELECT body FROM memos) TO STDOUT (FORMAT binary)"))
        check("heron" not in repr(c.execute("SELECT m FROM memos m WHERE id = 1").fetchall()))
        with psycopg_raises(errors.InvalidTextRepresentation) as seen:
            c.execute("SELECT 'mine@mailfort.test'::int")
        check("mailfort" not in seen.error.diag.message_primary, seen.error)


def test_what_a_function_gives_back_is_what_is_declared(w):
    with world(w) as own, own.connect("reader") as c:
        check(one(c, "SELECT page_count()") == 5)
        check(one(c, "SELECT mail_of(1)") == "****test")
        check(one(c, "SELECT upper(mail_of(1))") == "[redacted]")
        check(one(c, "SELECT m FROM mail_of(2) AS m") == "****test")
        check(one(c, "SELECT mail_of(1) = 'v1.heron@mailfort.test'") is True)
        check(one(c, "SELECT * FROM mail_of(2) WITH ORDINALITY AS x (e, n)") == ("****test", 1))
        for text in ["SELECT count(*) FROM vault WHERE mail_of(id) LIKE 'v1%'", "SELECT contact_of(1)", "SELECT min(mail_of(id)) FROM vault"]:
            with psycopg_raises(errors.InsufficientPrivilege):
                c.execute(text)


def test_a_star_over_a_join_with_using_has_its_true_places(w):
    with world(w) as own, own.connect("reader") as c:
        w.admin("CREATE TABLE public.extras (tier int, id int, email text)")
        w.admin("INSERT INTO public.extras SELECT n % 3, n, 'plain ' || n FROM generate_series(1, 9) n")
        w.admin(f"ALTER TABLE public.extras OWNER TO {w.server.names['login']}")
        try:
            row = one(c, "SELECT * FROM vault JOIN extras USING (id) WHERE id = 1")
            check(row[0] == 1 and row[1].endswith("token.invalid") and row[-2:] == (1, "plain 1"), row)
            row = one(c, "SELECT * FROM extras JOIN vault USING (id) WHERE id = 1")
            check(row[:3] == (1, 1, "plain 1") and row[3].endswith("token.invalid"), row)
            row = one(c, "SELECT j.* FROM (extras JOIN vault USING (id)) AS j WHERE j.id = 1")
            check(row[:3] == (1, 1, "plain 1") and row[3].endswith("token.invalid"), row)
            row = one(c, "SELECT e.* FROM extras e JOIN vault v USING (id) WHERE id = 1")
            check(row == (1, 1, "plain 1"), row)
            row = one(c, "SELECT * FROM extras e LEFT JOIN (SELECT id, card FROM vault) v USING (id) RIGHT JOIN purchases p USING (id) WHERE id = 2")
            check(row[0] == 2 and "heron" not in repr(row) and len(row) == 5, row)
        finally:
            w.admin("DROP TABLE public.extras")

"""What is defined through the gateway is known at once, to every session; and what extensions bring stands in nobody's way."""
from psycopg import errors

from harness import POLICIES, check, eventually

DEFINES = {
    **POLICIES,
    "all": '@id("sees-all") permit (principal in Group::"migrators", action, resource);',
}
SHOWS_AN_ADDRESS = "CREATE OR REPLACE VIEW public.shown AS SELECT id, email::varchar AS x FROM customers"


def shown(w, policies, define):
    """What a reader sees of the view right behind a definition; the view is as before in the end."""
    w.admin("DROP VIEW IF EXISTS public.shown")
    w.admin("CREATE VIEW public.shown AS SELECT id, name::varchar AS x FROM customers")
    w.admin(f"ALTER VIEW public.shown OWNER TO {w.server.names['login']}")
    try:
        with w.own(policies=policies) as own, own.connect("migrator") as migrator, own.connect("reader") as reader:
            text = "SELECT x FROM public.shown WHERE id = 1"
            eventually(lambda: reader.execute(text).fetchone() == ("Customer 1",), "the view is not known")
            define(migrator)
            seen = reader.execute(text).fetchone()[0]
            with own.connect("reader") as fresh:
                return seen, fresh.execute(text).fetchone()[0]
    finally:
        w.admin("DROP VIEW public.shown")


def test_what_a_chained_transaction_defines_is_known_when_it_ends(w):
    def define(c):
        c.execute("BEGIN")
        c.execute(SHOWS_AN_ADDRESS)
        c.execute("COMMIT AND CHAIN")
    check(shown(w, DEFINES, define) == ("****test", "****test"), "a view was shown as it had been")


def test_what_a_block_of_code_defines_is_known_when_it_ends(w):
    def define(c):
        c.execute(f"DO $$ BEGIN EXECUTE '{SHOWS_AN_ADDRESS}'; END $$")
    check(shown(w, DEFINES, define) == ("****test", "****test"), "a view was shown as it had been")


def test_extensions_that_nothing_in_a_statement_is_of_ask_nothing(w):
    w.admin("CREATE EXTENSION IF NOT EXISTS citext")
    w.admin("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    w.admin("CREATE EXTENSION IF NOT EXISTS pgcrypto")
    w.admin("CREATE TABLE folded (id int, word citext)")
    w.admin("INSERT INTO folded VALUES (1, 'Heron')")
    w.admin("GRANT ALL ON folded TO PUBLIC")
    try:
        with w.own() as own, own.connect("reader") as c:
            for text, found in [
                ("SELECT 1", 1), ("SELECT 5 % 2", 1), ("SELECT id % 2 FROM orders WHERE id = 1", 1),
                ("SELECT gen_random_uuid() IS NOT NULL", True), ("SELECT upper(region) IS NOT NULL FROM customers WHERE id = 1", True),
                ("SELECT word FROM folded", "Heron"),
            ]:
                check(c.execute(text).fetchone() == (found,), text)
            # What does run code of an extension's is asked.
            for text in ["SELECT 'a' % 'b'", "SELECT true::citext"]:
                try:
                    c.execute(text)
                    raise AssertionError(text)
                except errors.InsufficientPrivilege as error:
                    check("call public." in str(error), error)
    finally:
        w.admin("DROP TABLE folded")
        for name in ["citext", "pg_trgm", "pgcrypto"]:
            w.admin(f"DROP EXTENSION {name}")

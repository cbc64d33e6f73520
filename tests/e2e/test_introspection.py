"""Clients look into the structure as they do on a direct connection: for one who may only connect, and for one who reads
and sees masks. What is never shown is refused, and is all that is."""
import difflib, os, pathlib, re, shutil, subprocess, warnings

import psycopg
from psycopg import errors

from harness import Skipped, check

HERE = pathlib.Path(__file__).with_name("introspection")
# `nobody` is in no group: of it only `connect` is permitted.
CONNECT = '@id("all-connect") permit (principal, action == Action::"connect", resource);'
READ = """
@id("readers-read")
permit (principal in Group::"readers", action in [Action::"read", Action::"temp", Action::"file"],
        resource in Resource::"orders-db");
"""
WHO = ["nobody", "reader"]
SECRET = "far-secret"


class Zoo:
    """A gateway of its own, and an object of each kind at the server."""

    def __init__(self, w):
        self.outer = w

    def __enter__(self):
        self.outer.admin((HERE / "zoo.sql").read_text())
        self.own = self.outer.own(policies={"connect": CONNECT, "readers": READ})
        return self.own.__enter__()

    def __exit__(self, *exc):
        self.own.__exit__(*exc)
        self.outer.admin("SELECT lo_unlink(oid) FROM pg_largeobject_metadata; DROP PUBLICATION changes; DROP SERVER far CASCADE;"
                         "DROP SCHEMA zoo CASCADE")


def direct_env(w):
    return {"PGPORT": str(w.server.port), "PGUSER": w.server.names["login"], "PGPASSWORD": w.server.names["password"]}


def direct(w, **more):
    return psycopg.connect(host="127.0.0.1", port=w.server.port, user=w.server.names["login"], dbname=w.database,
                           password=w.server.names["password"], sslmode="disable", autocommit=True, **more)


COMMANDS = """
\\d|\\d+|\\d *.*|\\da|\\da+|\\dA|\\dA+|\\dAc|\\dAf|\\dAo|\\dAp|\\db|\\db+|\\dc zoo.*|\\dC+|\\dd|\\dD+ zoo.*|\\ddp|\\dE+ zoo.*|\\des|\\det|\\det+ zoo.*|\\deu|\\dew+
\\df zoo.*|\\df+ zoo.*|\\dfa *|\\dfn zoo.*|\\dfp *.feed|\\dft *.*|\\df+ pg_catalog.lower|\\dF|\\dF+|\\dFd|\\dFd+|\\dFp|\\dFp+|\\dFt|\\dg|\\dg+|\\di+ *.*|\\dl|\\dl+
\\dL|\\dL+|\\dm+ zoo.*|\\dn|\\dn+|\\dn+S|\\do zoo.*|\\do+ zoo.*|\\dO zoo.*|\\dO+ zoo.*|\\dp|\\dp *.*|\\dP|\\dP+ *.*|\\dPi *.*|\\drds|\\dRp|\\dRp+|\\ds+ *.*|\\dt|\\dt+ *.*
\\dT|\\dT+ *.*|\\du|\\du+|\\dv+ *.*|\\dx|\\dx+ plpgsql|\\dX|\\dX+ *.*|\\dy|\\dy+|\\l|\\l+|\\z|\\z zoo.*|\\dconfig work_mem|\\sf zoo.heavier|\\sf+ zoo.feed|\\sv zoo.heavy
\\encoding|\\lo_list|\\dt zoo.*|\\d+ hr.employees|\\d+ pg_class|\\d pg_authid|\\d information_schema.columns
"""
OBJECTS = ["keeper", "keeper_pkey", "keeper_seen_excl", "animal", "animal_id_seq", "bird", "light", "log", "log_1", "log_rest", "heavy",
           "counted", "numbers", "pair", "away"]


def test_psql_describes_each_kind_of_object(w):
    commands = [c for line in COMMANDS.split("\n") for c in line.split("|") if c]
    commands += [f"{verb} zoo.{name}" for name in OBJECTS for verb in ("\\d", "\\d+")]
    script = "\n".join(f"\\echo ==== {command.replace(chr(92), '')}\n{command}" for command in commands)

    def answers(done):
        parts = re.split(r"(?m)^==== (.*)\n", done.stdout)
        return dict(zip(parts[1::2], parts[2::2]))

    with Zoo(w) as zoo:
        plain = zoo.run("reader", "psql", "-X", stdin=script, env=direct_env(w))
        expected = answers(plain)
        check(len(expected) > 100, len(expected))
        for who in WHO:
            done = zoo.run(who, "psql", "-X", stdin=script)
            check(done.stderr == plain.stderr, who, done.stderr[:600], plain.stderr[:300])
            found = answers(done)
            for command, text in expected.items():
                check(found.get(command) == text, who, command, "direct:", text[:400], "through:", found.get(command, "")[:400])


def test_psql_is_told_that_options_of_servers_are_never_shown(w):
    with Zoo(w) as zoo:
        for who in WHO:
            for command in ["\\des+", "\\deu+"]:
                done = zoo.run(who, "psql", "-X", "-c", command)
                check("never shown" in done.stderr and SECRET not in done.stdout + done.stderr, who, command, done.stdout, done.stderr)


def test_pg_dump_of_the_structure_is_the_same_but_for_options_of_servers(w):
    def dump(**more):
        done = zoo.run("reader", "pg_dump", "--schema-only", "--no-password", **more)
        check(done.returncode == 0, done.stderr)
        # A word made for each run keeps psql from being led astray by names.
        return [line for line in done.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]

    with Zoo(w) as zoo:
        def options(lines):
            options = r"(CREATE (?:SERVER \S+ FOREIGN DATA WRAPPER \S+|USER MAPPING FOR \S+ SERVER \S+)) OPTIONS \([^)]*\)"
            return re.sub(options, r"\1", "\n".join(lines)).splitlines()

        through, plain = dump(), dump(env=direct_env(w))
        check(SECRET not in "\n".join(through), "options of servers are shown")
        differ = [(a, b) for a, b in zip(options(through), options(plain)) if a != b]
        check(len(through) > 300 and not differ, differ[:3])
        # It locks what it dumps, which asks `read`.
        done = zoo.run("nobody", "pg_dump", "--schema-only", "--no-password")
        check(done.returncode != 0 and "denied" in done.stderr, done.stderr)


def metadata():
    """(name, query) of metadata.sql."""
    parts = re.split(r"(?m)^-- (\w+: .*)\n", (HERE / "metadata.sql").read_text())
    return [(name, sql.strip()) for name, sql in zip(parts[1::2], parts[2::2])]


def test_metadata_queries_of_clients_give_what_they_give_directly(w):
    queries = metadata()
    check(len(queries) > 40, len(queries))
    with Zoo(w) as zoo, direct(w) as plain:
        plain.execute("SELECT set_config('search_path', 'public', false)")
        for who in WHO:
            for binary in (False, True):
                with zoo.connect(who) as c:
                    c.execute("SET search_path = public")
                    for name, sql in queries:
                        if name.endswith("(refused)"):
                            try:
                                c.execute(sql).fetchall()
                            except errors.InsufficientPrivilege as error:
                                check("never shown" in str(error), who, name, error)
                                continue
                            raise AssertionError(f"{who}: {name} was shown")
                        try:
                            known = plain.execute(sql, binary=binary)
                        except errors.UndefinedFunction as error:  # a type that has no binary format
                            check(binary and "binary output" in str(error), name, error)
                            continue
                        try:
                            got = c.execute(sql, binary=binary)
                        except psycopg.Error as error:
                            raise AssertionError(f"{who}: {name}: {error}") from error
                        check([d.name for d in got.description] == [d.name for d in known.description], who, name)
                        if name.endswith("(moves)"):
                            check(got.fetchall(), who, name)
                            continue
                        got, known = got.fetchall(), known.fetchall()
                        check(known and got == known, who, name, next(((a, b) for a, b in zip(got, known) if a != b), "rows"))


def test_sqlalchemy_reflects_what_it_reflects_directly(w):
    try:
        import sqlalchemy
    except ImportError:
        raise Skipped("needs sqlalchemy") from None

    def reflected(**login):
        engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(**login),
                                          poolclass=sqlalchemy.pool.NullPool)
        look, found = sqlalchemy.inspect(engine), {}
        for schema in look.get_schema_names():
            for what in ["get_table_names", "get_view_names", "get_materialized_view_names", "get_sequence_names",
                         "get_foreign_table_names", "get_enums", "get_domains", "get_multi_columns", "get_multi_pk_constraint",
                         "get_multi_foreign_keys", "get_multi_indexes", "get_multi_unique_constraints", "get_multi_check_constraints",
                         "get_multi_table_comment", "get_multi_table_options"]:
                if schema in ("information_schema",) and what.startswith("get_multi"):
                    continue
                found[schema, what] = repr(getattr(look, what)(schema=schema))
            for view in look.get_view_names(schema=schema):
                found[schema, view] = look.get_view_definition(view, schema=schema)
        tables = sqlalchemy.MetaData()
        tables.reflect(engine, schema="zoo", views=True)
        found["tables"] = repr(sorted(tables.tables))
        return found

    warnings.filterwarnings("ignore", "Did not recognize type")
    with Zoo(w) as zoo:
        known = reflected(**{**zoo.dsn("reader"), "port": w.server.port, "user": w.server.names["login"],
                             "password": w.server.names["password"]})
        check(len(known) > 60 and "zoo.animal" in known["tables"], len(known))
        for who in WHO:
            got = reflected(**zoo.dsn(who))
            check(got == known, who, [(k, str(got.get(k))[:300], str(v)[:300]) for k, v in known.items() if got.get(k) != v][:1])


DJANGO = """
import sys
import django
from django.conf import settings
from django.core.management import call_command
host, port, user, password, name = sys.argv[1:]
settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "HOST": host, "PORT": port, "USER": user,
                                          "PASSWORD": password, "NAME": name, "OPTIONS": {"sslmode": "disable"}}})
django.setup()
call_command("inspectdb", "--include-views", "--include-partitions")
"""


def test_django_inspects_what_it_inspects_directly(w):
    def inspected(port, user, password):
        done = subprocess.run([shutil.which("python3", path=os.path.dirname(os.sys.executable)) or os.sys.executable, "-c", DJANGO,
                               "127.0.0.1", str(port), user, password, w.database], text=True, capture_output=True, timeout=60)
        if "No module named 'django'" in done.stderr:
            raise Skipped("needs django")
        check(done.returncode == 0, done.stderr[-800:])
        return done.stdout

    with Zoo(w) as zoo:
        known = inspected(w.server.port, w.server.names["login"], w.server.names["password"])
        check("class Customers(" in known and "Unable to inspect" not in known, known[:500])
        got = inspected(zoo.port, zoo.user("reader"), zoo.token("reader"))
        check(got == known, "reader", *list(difflib.unified_diff(known.splitlines(), got.splitlines(), lineterm="", n=0))[:12])
        # It reads a row of each table for the names of its columns, which asks `read`.
        got = inspected(zoo.port, zoo.user("nobody"), zoo.token("nobody"))
        check(got.count("Unable to inspect table") == known.count("class Meta") and "denied" in got, got[:600])


def test_jdbc_metadata_is_what_it_is_directly(w):
    driver = pathlib.Path("/usr/share/java/postgresql.jar")
    if not (shutil.which("java") and shutil.which("javac") and driver.exists()):
        raise Skipped("needs a JDK and libpostgresql-jdbc-java")

    def told(port, user, password):
        url = f"jdbc:postgresql://127.0.0.1:{port}/{w.database}?sslmode=disable"
        done = subprocess.run(["java", "-cp", str(driver), str(HERE / "Metadata.java"), url, user], capture_output=True, text=True,
                              timeout=100, env={**os.environ, "TOKEN": password})
        check(done.returncode == 0, done.stderr[-1500:])
        return done.stdout.splitlines()

    with Zoo(w) as zoo:
        known = told(w.server.port, w.server.names["login"], w.server.names["password"])
        check(len(known) > 300, len(known))
        for who in WHO:
            got = told(zoo.port, zoo.user(who), zoo.token(who))
            check(got == known, who, next(((a, b) for a, b in zip(got, known) if a != b), (len(got), len(known))))

#!/usr/bin/env python3
"""What a definition costs by way of the gateway, which has to know the structure afterwards: direct beside gateway.

    ddl.py --gateway PATH [--statements N] [--only WORD]

A private PostgreSQL (fsync off) and two databases, one empty, one of 1,000 tables and 300 views. Each list of
statements goes through one psql session, in one file: N times CREATE TABLE by themselves, in one transaction, each
followed by a SELECT from the new table, and CREATE OR REPLACE of one view over and over. Prints milliseconds a statement.
"""
import argparse, os, pathlib, shutil, subprocess, sys, tempfile, time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests" / "cases"), str(HERE.parent / "tests" / "cases" / "postgres")]
import common  # noqa: E402
import rig  # noqa: E402


def lists(n):
    tables = [f"CREATE TABLE new_{i} (id int PRIMARY KEY, name text, made date)" for i in range(n)]
    drop = "DROP SCHEMA public CASCADE; CREATE SCHEMA public"
    yield "CREATE TABLE, by itself", n, tables, drop
    yield "CREATE TABLE, in one transaction", n, ["BEGIN", *tables, "COMMIT"], drop
    reads = [f"SELECT name FROM new_{i}" for i in range(n)]
    yield "CREATE TABLE, then SELECT from it", n, [s for pair in zip(tables, reads) for s in pair], drop
    views = [f"CREATE OR REPLACE VIEW v AS SELECT {i} AS a, name FROM t" for i in range(n)]
    yield "CREATE OR REPLACE VIEW", n, ["CREATE TABLE t (id int, name text)", *views], drop


def play(port, user, password, database, statements, folder):
    path = folder / "statements.sql"
    path.write_text("".join(f"{s};\n" for s in statements))
    began = time.monotonic()
    subprocess.run(["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", "SET client_min_messages = warning", "-o", "/dev/null", "-f", path],
                   env=dict(rig.client_env(port, user, password), PGDATABASE=database), check=True)
    return time.monotonic() - began


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--gateway", required=True)
    ask.add_argument("--statements", type=int, default=300)
    ask.add_argument("--only", default="", help="only lists whose name contains this")
    args = ask.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="gateway-ddl-"))
    folder.chmod(0o755)
    postgres, gateway = rig.Postgres(folder, 1), None
    try:
        postgres.start()
        subprocess.run(["psql", "-X", "-q", "-c", "ALTER SYSTEM SET fsync = off", "-c", "SELECT pg_reload_conf()",
                        "-c", "CREATE DATABASE empty", "-c", "CREATE DATABASE large"], check=True,
                       stdout=subprocess.DEVNULL, env=rig.client_env(postgres.port, "bench", rig.PASSWORD))
        large = ["CREATE SCHEMA app"]
        large += [f"CREATE TABLE app.t{i} (id int PRIMARY KEY, a text, b text, c date, d numeric)" for i in range(1000)]
        large += [f"CREATE VIEW app.v{i} AS SELECT x.id, x.a, y.b FROM app.t{i} x JOIN app.t{i + 1} y USING (id)"
                  for i in range(300)]
        play(postgres.port, "bench", rig.PASSWORD, "large", ["BEGIN", *large, "COMMIT"], folder)
        resource = (f'[[resource]]\nname = "db"\nprotocol = "postgres"\naddress = "127.0.0.1:{postgres.port}"\n'
                    f'tls = "disable"\ncredential = {{ kind = "static", username = "bench", '
                    f'password = {{ file = "{postgres.password}" }} }}\n')
        gateway = common.Gateway(args.gateway, "postgres", resource,
                                 {"all": '@id("all")\npermit (principal, action, resource);\n'})
        gateway.start()
        token = gateway.token("alice@corp.test")
        print("| ms a statement | database | direct | gateway |\n|---|---|--:|--:|")
        for database in ("empty", "large"):
            for name, count, statements, after in lists(args.statements):
                if args.only not in name:
                    continue
                took = []
                for port, user, password in ((postgres.port, "bench", rig.PASSWORD), (gateway.port, "alice@db", token)):
                    took.append(1000 * play(port, user, password, database, statements, folder) / count)
                    play(postgres.port, "bench", rig.PASSWORD, database, [after], folder)
                print(f"| {name} | {database} | {took[0]:.1f} | {took[1]:.1f} |", flush=True)
    finally:
        if gateway:
            gateway.stop()
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())

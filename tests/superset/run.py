#!/usr/bin/env python3
"""Checks that what the analysis says a statement reads holds all that the server's own plan reads.

    run.py --analyze PATH [--regress DIR] [--only NAME...] [--seconds N] [--queries N] [--seed S] [--rounds N] [--show]

For each SELECT, INSERT, UPDATE, DELETE and MERGE of PostgreSQL's regression files (see tests/regression), of own.sql beside
this file, of names.py, and of the canaries' generator, the server is asked for its plan (`EXPLAIN (VERBOSE, FORMAT JSON)`), and every
relation and column in it must be among what `gateway_sql::analyze` (played by `analyze` of gateway-testkit) says. Then
the statement runs, so that the next one finds what it finds. allowed.txt holds what may be missing, each with its reason.

Counted apart, since the gateway holds them for touching everything: `unknown` (not understood, or a name not placed),
`opaque` (calls a function whose body is not understood), `forbidden` (never shown). The last line is "N passed, N failed".
"""
import argparse, collections, importlib.util, json, os, pathlib, random, re, shutil, signal, subprocess, sys, tempfile, time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "canary")]
import psycopg  # noqa: E402
from psycopg import pq  # noqa: E402
import names, plan, script  # noqa: E402

spec = importlib.util.spec_from_file_location("regression", HERE.parent / "regression" / "run.py")
regression = importlib.util.module_from_spec(spec)
spec.loader.exec_module(regression)
import grammar, world  # noqa: E402

QUERIES = {"select", "insert", "update", "delete", "merge", "with", "values", "table"}
# What leaves the structure as it is. All else may change it, so that it is read again.
QUIET = QUERIES | {"begin", "start", "commit", "end", "savepoint", "release", "explain", "analyze", "copy", "prepare", "execute",
                   "declare", "fetch", "move", "close", "show", "deallocate", "listen", "notify", "unlisten", "lock", "vacuum",
                   "checkpoint", "truncate"}
SYSTEM = {"pg_catalog", "information_schema", "pg_toast"}
# The server's catalogs are free, but for these.
SECRET = {("pg_authid", "rolpassword"), ("pg_largeobject", "data"), ("pg_subscription", "subconninfo"),
          *(("pg_statistic", f"sta{kind}{n}") for kind in ("values", "numbers") for n in range(1, 6))}
CONTEXT = """SELECT pg_catalog.json_build_object('path', pg_catalog.current_schemas(true), 'temp', (SELECT pg_catalog.json_object_agg(c.relname, (
  SELECT coalesce(pg_catalog.json_agg(a.attname ORDER BY a.attnum), '[]') FROM pg_catalog.pg_attribute a
  WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped))
  FROM pg_catalog.pg_class c WHERE c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()
  AND c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,m,f,S}'::pg_catalog."char"[])),
  'views', (SELECT pg_catalog.count(*) FROM pg_catalog.pg_class c WHERE c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()
  AND c.relkind OPERATOR(pg_catalog.=) 'v'))::pg_catalog.text"""

# Asked with no path, so that every name in them is qualified.
VIEWS = """SELECT pg_catalog.json_agg(pg_catalog.concat('CREATE TEMP VIEW ', pg_catalog.quote_ident(c.relname), ' AS ', pg_catalog.pg_get_viewdef(c.oid)) ORDER BY c.oid)
  FROM pg_catalog.pg_class c WHERE c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() AND c.relkind OPERATOR(pg_catalog.=) 'v'"""
# What row policies read: they run without being asked for, as their owner put them there.
POLICIES = """SELECT pg_catalog.json_agg(DISTINCT pg_catalog.jsonb_build_array(n.nspname, c.relname, a.attname)) FROM pg_catalog.pg_depend d
  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) d.refobjid JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
  LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) c.oid AND a.attnum OPERATOR(pg_catalog.=) d.refobjsubid
  WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_policy'::pg_catalog.regclass
  AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass"""


class Analyzer:
    """The analysis in a process of its own."""

    def __init__(self, binary, rounds=0):
        self.rounds, self.times = rounds, []
        self.query = subprocess.run([binary, "query"], text=True, capture_output=True, check=True).stdout
        self.process = subprocess.Popen([binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, **message):
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def ask(self, **message):
        self.tell(**message)
        return json.loads(self.process.stdout.readline())


class Session:
    """One connection that plays statements and compares before each."""

    def __init__(self, port, database, analyzer, tally):
        self.pg = pq.PGconn.connect(f"host=127.0.0.1 port={port} user=postgres password={regression.PASSWORD} dbname={database}".encode())
        if self.pg.status != pq.ConnStatus.OK:
            raise SystemExit(self.pg.error_message)
        self.pg.notice_handler = None
        self.analyzer, self.tally, self.stale, self.context = analyzer, tally, True, None
        self.columns, self.parents, self.policies = {}, {}, set()
        self.before = []
        self.run("SET statement_timeout = '20s'")

    def run(self, sql, data=None):
        """The result, or None on an error; rows of COPY are fed and dropped."""
        if self.pg.status != pq.ConnStatus.OK:
            return None
        self.pg.send_query(sql.encode())
        last, failed = None, False
        while (result := self.pg.get_result()) is not None:
            if result.status == pq.ExecStatus.COPY_IN:
                self.pg.put_copy_data((data or "").encode())
                self.pg.put_copy_end()
            elif result.status == pq.ExecStatus.COPY_OUT:
                while self.pg.get_copy_data(0)[0] > 0:
                    pass
            failed |= result.status == pq.ExecStatus.FATAL_ERROR
            last = result
            if self.pg.status != pq.ConnStatus.OK:
                return None
        return None if failed else last

    def within(self, *statements):
        """The last one's value, in a transaction or savepoint of its own that is rolled back."""
        inside = self.pg.transaction_status == pq.TransactionStatus.INTRANS
        if self.pg.transaction_status not in (pq.TransactionStatus.INTRANS, pq.TransactionStatus.IDLE):
            return None
        self.run("SAVEPOINT superset_" if inside else "BEGIN")
        value = None
        for sql in statements:
            value = self.run(sql)
            if value is None:
                break
        if value is not None:
            value = (value.get_value(0, 0) or b"").decode("utf-8", "replace") if value.ntuples else None
        self.run("ROLLBACK TO superset_; RELEASE superset_" if inside else "ROLLBACK")
        return value

    def refresh(self, whole):
        """Reads where names lead, and the structure; False where that cannot be had."""
        context = self.within(CONTEXT)
        if whole:
            document = self.within("SET LOCAL search_path = pg_catalog", self.analyzer.query)
            if document is None:
                return False
            self.analyzer.tell(catalog=document)
            self.policies = {tuple(part for part in item if part) for item in json.loads(self.within(POLICIES) or "[]")}
            relations = json.loads(document)["relations"]
            names = {r["oid"]: (r["schema"], r["name"]) for r in relations}
            self.columns = {names[r["oid"]]: [c["name"] for c in r["columns"]] for r in relations}
            self.parents = {names[r["oid"]]: [names[p] for p in r["parents"] if p in names] for r in relations if r["parents"]}
        if context is None:
            return False
        self.context = json.loads(context)
        views = self.context["views"] and self.within("SET LOCAL search_path = pg_catalog", VIEWS)
        self.before = json.loads(views or "[]")
        self.stale = False
        return True

    def plan(self, sql):
        text = self.within(f"SET LOCAL client_encoding = 'UTF8'", f"EXPLAIN (VERBOSE, FORMAT JSON, COSTS OFF) {sql}")
        try:
            return json.loads(text or "null")
        except ValueError:  # several statements, of which the last one's answer came
            return None

    def of_policy(self, item):
        """Whether a row policy reads it: a column, itself or as the same of a parent; or a relation of which it reads some."""
        family = [item[:2], *self.ancestors(item[:2])]
        return any((*relation, *item[2:]) in self.policies or (len(item) == 2 and any(p[:2] == relation for p in self.policies))
                   for relation in family)

    def unaliased(self, sql, schema, relation, column):
        """The column behind a name of `FROM relation AS alias (names)`, which plans show in its place."""
        own = self.columns.get((schema, relation), ())
        if own and column not in own:
            for names in re.findall(r"\w\s*\(([\w\s,\"$]+)\)", sql):
                names = [n.strip().strip('"') for n in names.lower().split(",")]
                if column in names and names.index(column) < len(own):
                    return schema, relation, own[names.index(column)]
        return schema, relation, column

    def ancestors(self, relation):
        found, todo = set(), [relation]
        while todo:
            new = set(self.parents.get(todo.pop(), ())) - found
            found |= new
            todo += new
        return found

    def judge(self, sql):
        """(verdict, what is missing)."""
        if (self.stale or self.context is None) and not self.refresh(self.stale):
            return "no context", ()
        plans = self.plan(sql)
        if plans is None:
            return "not planned", ()
        verdict, missing = self.compare(sql, plans)
        if missing or verdict == "unknown":  # a function may have changed the structure
            if not self.refresh(True):
                return "no context", ()
            verdict, missing = self.compare(sql, plans)
        return verdict, missing

    def compare(self, sql, plans):
        temp = self.context["temp"] or {}
        asked = {"sql": sql, "search_path": self.context["path"], "temp": temp, "before": self.before}
        said = self.analyzer.ask(**asked)
        if len(said) != 1:
            return "not one statement", ()
        said = said[0]
        if self.analyzer.rounds and not said["unresolved"]:
            self.analyzer.times.append(self.analyzer.ask(rounds=self.analyzer.rounds, **asked)["nanoseconds"])
        if said["forbidden"]:
            return "forbidden", ()
        if said["unknown"] or said["unresolved"] or said["syntax_error"]:
            return "unknown", ()
        reads, beneath = set(map(tuple, said["reads"])), set(map(tuple, said["beneath_views"]))
        reads = {("pg_temp", *rest) if schema.startswith("pg_temp") else (schema, *rest) for schema, *rest in reads}
        tables = set(map(tuple, said["tables"])) | {read[:2] for read in reads}
        is_temp = ["temp", "resource"] in said["operations"]

        def whole_row(schema, name):
            """Of a child that is read as its parent, the parent's columns alone come out."""
            if schema.startswith("pg_temp"):
                return temp.get(name, ())
            own, above = self.columns.get((schema, name), ()), self.ancestors((schema, name))
            asked = set(map(tuple, said["tables"]))
            if (schema, name) not in asked and above & asked:
                own = set(own) & {column for parent in above & asked for column in self.columns.get(parent, ())}
            return own

        relations, columns = plan.read(plans, whole_row)
        missing, by_view = set(), False
        for relation in relations:
            if relation[0] in SYSTEM or (relation[0].startswith("pg_temp") and is_temp) or relation in tables:
                continue
            if self.ancestors(relation) & tables:  # a child or partition of what is asked, of which no column is read
                continue
            if {relation, *self.ancestors(relation)} & {read[:2] for read in beneath}:
                by_view = True
            else:
                missing.add(relation)
        for column in columns:
            column = self.unaliased(sql, *column)
            if column[0] in SYSTEM:
                if column[1:] in SECRET:
                    missing.add(column)
            elif column in reads or (column[0].startswith("pg_temp") and is_temp):
                continue
            elif any((*relation, column[2]) in beneath for relation in (column[:2], *self.ancestors(column[:2]))):
                by_view = True
            elif column[:2] not in missing:
                missing.add(column)
        by_policy = {item for item in missing if self.of_policy(item)}
        if by_policy == missing and missing:
            return "row policies", ()
        missing -= by_policy
        if missing and said["opaque"]:
            return "opaque", ()
        if missing:
            if self.tally.show:
                print(json.dumps({"plans": plans, "said": said}, indent=1))
            return "missing", sorted(missing)
        return ("beneath a view" if by_view else "covered"), ()

    def play(self, sql, data=None, of=""):
        word = script.first_word(sql)
        if word in QUERIES:
            verdict, missing = self.judge(sql)
            self.tally(of, verdict, sql, missing)
        if self.run(sql, data) is None and self.pg.status != pq.ConnStatus.OK:
            return False
        if word not in QUIET or (word in QUERIES and re.search(r"(?i)\binto\b", sql) and word in ("select", "with")):
            self.stale = True
            self.context = None
        elif word not in QUERIES:
            self.context = None
        return True


class Tally:
    """What came of each file's statements."""

    def __init__(self, allowed, show=False):
        self.show = show
        self.counts, self.allowed, self.used, self.failed = collections.defaultdict(collections.Counter), allowed, set(), 0

    def __call__(self, of, verdict, sql, missing):
        left = []
        for item in missing:
            text = ".".join(item)
            reason = next((k for k in self.allowed if re.search(k[0], f"{of}: {text}") and k[1] in " ".join(sql.split())), None)
            if reason:
                self.used.add(reason)
            else:
                left.append(text)
        if missing and not left:
            verdict = "allowed"
        self.counts[of][verdict] += 1
        if left:
            self.failed += 1
            print(f"MISSING {of}: {', '.join(left)}\n    {' '.join(sql.split())[:700]}", flush=True)


def allowed():
    """Lines `pattern of "file: schema.table.column" | part of the statement | reason`."""
    lines = (HERE / "allowed.txt").read_text().splitlines()
    return [tuple(part.strip() for part in line.split(" | ")) for line in lines if line.strip() and not line.startswith("#")]


def play_file(session, text, of, folder, reconnect, until):
    variables = {"abs_srcdir": str(folder), "libdir": "/nonexistent", "dlsuffix": ".so", "abs_builddir": "/nonexistent",
                 "HIDE_TABLEAM": "on", "DBNAME": "regression"}
    pending = None
    for kind, value in [*script.parts(text), ("command", "")]:
        if time.monotonic() > until:
            print(f"     {of}: cut short by its time")
            return session
        if pending is not None:
            if not session.play(pending, value if kind == "data" else None, of):
                session = reconnect()
            pending = None
        if kind == "sql":
            pending = script.filled(value, variables)
        elif kind == "command":
            words = value.split()
            if words[:1] == ["\\set"] and len(words) > 1:
                variables[words[1]] = " ".join(words[2:]).strip("'").replace("'' '", "")
            elif words[:1] in (["\\c"], ["\\connect"]):
                session = reconnect()
    return session


def speed(times):
    """What a first analysis costs, beside the parser that is a part of it. Of each statement the least time counts."""
    def of(values):
        values = sorted(values)
        return values[len(values) // 2], values[int(len(values) * 0.95)]

    print(f"{len(times)} analyses, the least time of each:")
    for what, label in [("parser", "libpg_query's parser alone"), ("parse", "pg_query::parse"), ("analyze", "gateway_sql::analyze")]:
        median, most = of([t[what] for t in times])
        print(f"    {label:28} median {median / 1000:8.1f} us   p95 {most / 1000:8.1f} us")
    for what, label in [("parse", "analyze / parse"), ("parser", "analyze / parser alone")]:
        median, most = of([t["analyze"] / max(t[what], 1) for t in times])
        print(f"    {label:28} median {median:8.2f}      p95 {most:8.2f}")


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--analyze", required=True, help="the binary `analyze` of gateway-testkit")
    ask.add_argument("--regress", type=pathlib.Path, default=os.environ.get("PG_REGRESS_DIR"), help="src/test/regress of PostgreSQL's sources")
    ask.add_argument("--only", nargs="*", help="only these files; `own`, `names` and `generated` are names too")
    ask.add_argument("--seconds", type=float, default=600, help="the most that one file may take")
    ask.add_argument("--queries", type=int, default=2000, help="how many generated ones")
    ask.add_argument("--seed", type=int, default=1)
    ask.add_argument("--show", action="store_true", help="print the plans in which something is that is missing")
    ask.add_argument("--rounds", type=int, default=0, help="measure each analysis so often, beside the parser")
    args = ask.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    programs = pathlib.Path(subprocess.run(["pg_config", "--bindir"], text=True, capture_output=True).stdout.strip())
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="gateway-superset-"))
    scratch.chmod(0o755)
    if os.geteuid() == 0:
        shutil.chown(scratch, "postgres")
    tally, analyzer = Tally(allowed(), args.show), Analyzer(args.analyze, args.rounds)
    cluster = regression.Cluster(programs, scratch / "direct")
    regress = pathlib.Path(args.regress).resolve() if args.regress else None
    try:
        cluster.init()
        cluster.start()
        for command in ("CREATE DATABASE base", *regression.alter("base")):
            regression.psql(cluster.port, "postgres", regression.PASSWORD, "postgres", ["-c", command], 60)
        opened = []

        def connect():
            opened.append(Session(cluster.port, "regression", analyzer, tally))
            return opened[-1]

        def one(of, text, folder=None):
            if args.only and of not in args.only:
                return
            began = time.monotonic()
            cluster.fresh()
            play_file(connect(), text, of, folder, connect, began + args.seconds)
            for session in opened:
                session.pg.finish()
            opened.clear()
            counts = ", ".join(f"{n} {what}" for what, n in sorted(tally.counts[of].items()))
            print(f"{of} ({time.monotonic() - began:.1f}s): {counts}", flush=True)

        one("own", (HERE / "own.sql").read_text())
        setup = world.SETUP.format(labels=", ".join(f"'{label}'" for label in world.LABELS))
        written = (HERE.parent / "canary" / "corpus.txt").read_text().splitlines()
        written = [part for line in written for part in line.removeprefix("! ").removeprefix("= ").split(" ;; ")]
        generated = []
        for seed in range(args.seed, args.seed + args.queries):
            mode = grammar.Tape(seed).pick(["simple"] * 5 + ["change"])
            generated.append(grammar.statement(grammar.Tape(seed), mode)[1])
        one("names", names.SETUP + ";\n".join(names.statements(args.queries, args.seed)) + ";\n")
        one("generated", setup + ";\n".join([*written, *generated]) + ";\n")
        if regress and (regress / "sql").is_dir():
            for name in regression.BASE:
                regression.psql(cluster.port, "postgres", regression.PASSWORD, "base", ["-f", f"sql/{name}.sql"], 120, regress)
            for name in regression.schedule(regress):
                one(name, (regress / "sql" / f"{name}.sql").read_text(errors="replace"), regress)
        else:
            print("PostgreSQL's regression files are not at hand (--regress DIR): left out")
    finally:
        analyzer.process.kill()
        cluster.stop()
        shutil.rmtree(scratch, ignore_errors=True)
    total = collections.Counter()
    for counts in tally.counts.values():
        total.update(counts)
    judged = sum(n for what, n in total.items() if what not in ("not planned", "no context"))
    for what, n in total.most_common():
        share = "" if what in ("not planned", "no context") else f" ({100 * n / max(judged, 1):.1f} %)"
        print(f"    {n:6} {what}{share}")
    if analyzer.times:
        speed(analyzer.times)
    unused = [k for k in tally.allowed if k not in tally.used]
    if unused and regress and not args.only:
        print("in allowed.txt, and not met:", *(" | ".join(k) for k in unused), sep="\n    ")
    print(f"{judged - tally.failed} passed, {tally.failed} failed")
    return 1 if tally.failed or not judged else 0


if __name__ == "__main__":
    sys.exit(main())

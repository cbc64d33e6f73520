"""Random statements over parts of JSON, tokens, what detectors find and declared functions.

`@code3@` in a statement stands for the token of the third row as the one who is asked sees it (`run.py` puts it in).
"""
KEYS = ["user", "mail", "items", "x", "any", "q", "page", "name", "1", "s", "none", "a.b"]
PATHS = ["user", "user,mail", "items", "items,0", "items,0,x", "items,-1,x", "any", "any,q", "any,r", "page", "user,name", "1", "1,s",
         "items,0,n", "", "a.b", "none,user"]
CODE = "@code%d@"


def doc(tape, source, depth):
    """A jsonb or json value."""
    if depth <= 0 or not tape.chance(75):
        return tape.pick(source["docs"])
    inner = doc(tape, source, depth - 1)
    roll = tape.draw(20)
    if roll < 8:
        return f"({inner} -> {key(tape)})"
    if roll < 10:
        return f"({inner} #> {path(tape)})"
    if roll < 12:
        return f"({inner})[{tape.pick(KEYS_QUOTED)}]"
    if roll < 13:
        steps = tape.pick(PATHS[:-3]).split(",")
        return f"jsonb_extract_path({inner}, {', '.join(repr(s) for s in steps if s) or repr('none')})"
    if roll < 14:
        return f"coalesce({inner}, {doc(tape, source, depth - 1)})"
    if roll < 15:
        return f"CASE WHEN {source['plain']} = 1 THEN {inner} ELSE {doc(tape, source, depth - 1)} END"
    if roll < 16:
        return f"(SELECT {inner})"
    if roll < 17:
        return f"(SELECT z FROM (SELECT {inner} AS z) y)"
    if roll < 18:
        return f"(SELECT z -> {key(tape)} FROM (SELECT {inner} AS z) y)"
    return tape.pick(["({0})::jsonb", "to_jsonb({0})", "jsonb_build_object('user', {0})", "jsonb_build_array({0})", "jsonb_set({0}, '{{k}}', '1')",
                      "({0}) - 'user'", "jsonb_strip_nulls({0})", "({0}) || '{{\"k\": 1}}'", "({0})::text::jsonb", "jsonb_path_query_first({0}, '$.user')",
                      "({0}) #- '{{user}}'", "(array_agg({0}) OVER ())[1]", "first_value({0}) OVER ()", "to_json({0})", "(ARRAY[{0}])[1]"]).format(inner)


KEYS_QUOTED = [f"'{key}'" for key in KEYS] + ["0", "1", "-1"]


def key(tape):
    if tape.chance(15):
        return tape.pick(["0", "1", "-1", "'us' || 'er'", "E'\\x6dail'", "'mail'::text", "lower('USER')"])
    return f"'{tape.pick(KEYS)}'"


def path(tape):
    steps = tape.pick(PATHS)
    if tape.chance(15):
        return "ARRAY[%s]::text[]" % ", ".join(f"'{step}'" for step in steps.split(",") if step)
    return "'{%s}'" % (steps if not tape.chance(10) else ",".join(f'"{step}"' for step in steps.split(",") if step))


def text(tape, source, depth):
    if source["texts"] and tape.chance(25):
        return tape.pick(source["texts"])
    inner = doc(tape, source, depth)
    roll = tape.draw(10)
    if roll < 5:
        return f"({inner} ->> {key(tape)})"
    if roll < 7:
        return f"({inner} #>> {path(tape)})"
    return tape.pick(["({0})::text", "upper({0} ->> 'mail')", "left({0} ->> 'mail', 4)", "jsonb_extract_path_text({0}, 'user', 'mail')", "({0} ->> 'page') || '!'",
                      "jsonb_pretty({0})", "concat({0})", "jsonb_typeof({0})", "jsonb_array_length({0})::text", "length({0} ->> 'mail')::text",
                      "xmlelement(name a, {0} ->> 'user')::text", "string_to_array({0} ->> 'mail', 'g')::text"]).format(inner)


def where(tape, source):
    roll = tape.draw(12)
    d = doc(tape, source, 1)
    if roll < 3:
        return ""
    return " WHERE " + tape.pick([f"{source['plain']} < 4", f"{d} ->> 'page' = '/p1'", f"{d} ->> 'page' LIKE '/p%'", f"{d} -> 'user' ->> 'mail' = 'x'", f"{d} -> 'user' IS NOT NULL",
                                  f"{d} ->> 'mail' IN ('x', 'y')", f"{d} ->> 'mail' LIKE 'g%'", f"{d} @> '{{\"page\": \"/p1\"}}'", f"{d} ? 'user'", f"{d} = {doc(tape, source, 1)}",
                                  f"{d} -> 'user' ->> 'name' > 'N2'", f"{text(tape, source, 1)} IS NULL"])


EV = {"docs": ["e.body", "e.body", "e.raw"], "texts": ["e.code", "e.mail", "e.acct", "e.page"], "plain": "e.id"}


def source(tape):
    """(text after FROM, what is in it, stars that may be asked for)."""
    roll = tape.draw(30)
    if roll < 10:
        return "ev e", EV, ["*", "e.*", "e", "to_jsonb(e)", "row_to_json(e)"]
    if roll < 13:
        return "v_ev e", {"docs": ["e.u", "e.items", "e.r", "e.other"], "texts": ["e.page", "e.name", "e.m"], "plain": "e.id"}, ["*", "e.*", "e"]
    if roll < 17:
        one, two, other = doc(tape, EV, 2), doc(tape, EV, 2), text(tape, EV, 1)
        more = f" UNION ALL SELECT 100, {doc(tape, EV, 1)}, {doc(tape, EV, 1)}, {tape.pick(EV['texts'])} FROM ev e" if tape.chance(25) else ""
        head = tape.pick(["({0}) q", "LATERAL ({0}) q", "({0} OFFSET 0) q"])
        return head.format(f"SELECT e.id, {one} AS a, {two} AS b, {other} AS t FROM ev e{more}"), \
            {"docs": ["q.a", "q.b"], "texts": ["q.t"], "plain": "q.id"}, ["*", "q.*", "q", "to_jsonb(q)"]
    if roll < 20:
        return "ev e, LATERAL (SELECT e.body AS z, e.code AS w) l", {"docs": ["l.z", "e.raw"], "texts": ["l.w", "e.page"], "plain": "e.id"}, ["*", "l.*", "l"]
    join = tape.pick(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"])
    kind = tape.draw(8)
    if kind == 0:
        return f"ev e {join} ev f USING (id)", {"docs": ["e.body", "f.raw"], "texts": ["e.code", "f.mail"], "plain": "id"}, ["*", "e.*", "f.*", "f"]
    if kind == 1:
        return f"ev e {join} ev f USING (code)", {"docs": ["e.body"], "texts": ["code", "f.code", "e.mail"], "plain": "e.id"}, ["*", "code", "e.*", "e"]
    if kind == 2:
        return f"free g {join} ev e USING (id)", EV, ["*", "e.*", "g.*", "g"]
    if kind == 3:
        return f"(free g {join} ev e USING (id)) AS j", {"docs": ["j.body", "body"], "texts": ["j.code", "label"], "plain": "j.id"}, ["*", "j.*", "j", "to_json(j)"]
    if kind == 4:
        names = tape.pick(["id", "id, l", "id, l, n, at, j2, list, page", "id, l, n, at, j2, list, page, body, raw, code, mail, acct"])
        return f"(free g {join} ev e USING (id)) AS j({names})", {"docs": ["j.body"], "texts": ["j.code", "j.mail"], "plain": "j.id"}, ["*", "j.*", "j", "j.l", "j.j2", "j.page"]
    if kind == 5:
        return f"free g NATURAL {join} (ev e CROSS JOIN (SELECT 1 AS one) o)", EV, ["*", "e.*", "g.*"]
    if kind == 6:
        return f"ev e JOIN ev f USING (id, code) AS u", EV, ["*", "u.*", "u", "u.code"]
    return f"(SELECT code, id FROM ev) c(id2, id) {join} free USING (id)", {"docs": ["j"], "texts": ["id2", "label"], "plain": "id"}, ["*", "c.*", "c", "free.*"]


CAREFUL = 60


def select(tape):
    text_from, found, stars = source(tape)
    count = 1 + tape.draw(3)
    items = []
    for at in range(count):
        roll = tape.draw(20)
        item = (doc(tape, found, 1 + tape.draw(3)) if roll < 9 else text(tape, found, 1 + tape.draw(2)) if roll < 17 else
                tape.pick([f"count({tape.pick(found['docs'])}) OVER ()", f"{tape.pick(found['texts'] or ['1'])} IS NULL", "mail_at(%s)" % found["plain"], "left(mail_at(1), 3)"]))
        items.append(f"{item} AS c{at + 1}")
    roll = tape.draw(20)
    if roll < 4:
        return f"SELECT {tape.pick(stars)} FROM {text_from}{where(tape, found)}"
    if roll < 5:
        return f"SELECT DISTINCT {items[0]} FROM {text_from}"
    if roll < 6:
        value = items[0].rsplit(" AS ", 1)[0]
        return f"SELECT {value} AS c1, count(*) AS c2 FROM {text_from} GROUP BY {value}"
    if roll < 7:
        return f"SELECT {items[0]} FROM {text_from} {tape.pick(['UNION ALL', 'UNION', 'EXCEPT'])} SELECT {doc(tape, EV, 2)} FROM ev e"
    if roll < 8:
        return f"SELECT k, v FROM ev e, {tape.pick(['jsonb_each(%s)', 'jsonb_each_text(%s)', 'json_each(e.raw)']).replace('%s', doc(tape, EV, 1))} AS t(k, v)"
    if roll < 9:
        return f"SELECT {tape.pick(['jsonb_agg(%s)', 'array_agg(%s)', 'json_agg(%s)', 'string_agg((%s)::text, %r)', 'max((%s)::text)']).replace('%r', repr(',')).replace('%s', doc(tape, found, 2))} AS c1 FROM {text_from}"
    order = tape.pick(["", "", f" ORDER BY {found['plain']}", f" ORDER BY {found['plain']} LIMIT 2", f" ORDER BY {text(tape, found, 1)}" if tape.chance(20) else ""])
    return f"SELECT {', '.join(items)} FROM {text_from}{where(tape, found)}{order}"


def tokens(tape):
    """Tokens that are sent back."""
    one = "'" + CODE % tape.draw(5) + "'"
    cast = tape.pick(["", "", "", "::text", "::varchar", "::varchar(3)", "::char(3)", '::"char"', "::name", "::regclass::text", "::int::text", "::date::text", "::json::text",
                      ' COLLATE "C"', "||''"])
    test = tape.pick(["code = {0}", "{0} = code", "code IN ({0}, 'x')", "code = ANY (ARRAY[{0}])", "(id, code) = (3, {0})", "(id, code) IN ((3, {0}), (1, 'x'))", "code IS NOT DISTINCT FROM {0}",
                      "code <> {0}", "code = ANY ('{{{1}}}')", "code LIKE {0}", "code > {0}", "page = {0}", "code = {0} OR page = {0}", "nullif({0}, code) IS NULL", "{0} IN (code, page)",
                      "EXISTS (SELECT 1 FROM ev f WHERE f.code = {0} AND f.id = e.id)", "code = (SELECT {0})", "(CASE WHEN id = 3 THEN 'g' ELSE code END) = {0}",
                      "code IN (SELECT x FROM (VALUES ({0})) v(x))"]).format(one + cast, one.strip("'"))
    out = tape.pick(["id, code", "id, code", "count(*), min(id)", "id", f"id, {one} AS t, code", f"{test} AS c1, code", f"length({one}), code", "id, current_query(), code",
                     f"CASE WHEN {test} THEN {one} ELSE 'no' END AS c1, code"])
    roll = tape.draw(12)
    if roll < 8:
        return f"SELECT {out} FROM ev e WHERE {test}"
    if roll < 10:
        return f"SELECT id, code FROM ev e JOIN (VALUES ({one}{cast})) v(t) ON v.t = e.code"
    return f"SELECT a.id, b.code, b.page FROM ev a LEFT JOIN ev b ON (a.code, b.page) = ({one}, {one}{cast})"


PAIRS = ["mark", "code", "page"]


def writes(tape):
    """Changes of the table `note`, whose column `code` has tokens and `mark` has not; what is done is undone."""
    one = "'" + CODE % tape.draw(5) + "'"
    back = tape.pick(["*", "id, mark, code", "mark", "id, code, mark || '!'", "note", "to_json(note)"])
    return tape.pick([
        f"INSERT INTO note (id, code, mark) VALUES (50, {one}, {one}) RETURNING {back}",
        f"INSERT INTO note (id, code) VALUES (50, {one}) RETURNING {back}",
        f"INSERT INTO note (id, code, mark) VALUES (1, {one}, 'm') ON CONFLICT (id) DO UPDATE SET {tape.pick(['mark', 'code'])} = excluded.{tape.pick(['code', 'mark', 'up'])} RETURNING {back}",
        f"INSERT INTO note (id, code, mark) VALUES (1, {one}, 'm') ON CONFLICT (id) DO UPDATE SET mark = (excluded)::text RETURNING {back}",
        f"INSERT INTO note (id, code, mark) VALUES (1, {one}, 'm') ON CONFLICT (id) DO UPDATE SET mark = 'z' WHERE excluded.code > 'm' RETURNING {back}",
        f"INSERT INTO note (id, code, mark) SELECT 50, x, x FROM (SELECT {one} AS x) q RETURNING {back}",
        f"INSERT INTO note (id, code, mark) SELECT 50, {one}, {one} RETURNING {back}",
        f"WITH q AS (SELECT {one} AS x), i AS (INSERT INTO note (id, code) SELECT 51, x FROM q RETURNING code) SELECT x, code FROM q, i",
        f"UPDATE note SET code = {one}, mark = {one} WHERE id = 1 RETURNING {back}",
        f"UPDATE note SET (mark, code) = ROW({one}, {one}) WHERE id = 1 RETURNING {back}",
        f"UPDATE note SET (mark, code) = (SELECT {one}, {one}) WHERE id = 1 RETURNING {back}",
        f"UPDATE note SET mark = e.body ->> {key(tape)} FROM ev e WHERE e.id = note.id AND note.id = 1 RETURNING note.mark",
        f"UPDATE note SET doc = {doc(tape, EV, 2)} FROM ev e WHERE e.id = note.id AND note.id = 1 RETURNING note.doc",
        f"UPDATE note SET doc[{tape.pick(KEYS_QUOTED)}] = {doc(tape, EV, 2)} FROM ev e WHERE e.id = note.id AND note.id = 1 RETURNING note.doc",
        f"INSERT INTO note (id, doc) SELECT 60 + e.id, {doc(tape, EV, 2)} FROM ev e RETURNING doc",
        f"INSERT INTO note (id, mark) SELECT 60 + e.id, {text(tape, EV, 1)} FROM ev e RETURNING mark",
        f"DELETE FROM note WHERE code = {one} RETURNING {back}",
    ])


def found(tape):
    """What detectors find, in columns that no tag names; as it is or wrapped, for a part is no longer found."""
    columns = ["t", "v", "dm", "j", "jb", "ta", "tt", "x", "ct", "cts", "num", "big"]
    one = tape.pick(columns)
    item = tape.pick(["{0}", "{0}", "{0}", "({0})", "coalesce({0}, {0})", "(SELECT {0})", "to_jsonb({0})", "to_json({0})", "ROW({0}, 1)", "ARRAY[{0}]", "{0}::text", "jsonb_build_array({0})",
                      "json_build_object('k', {0})", "array_agg({0}) OVER ()", "first_value({0}) OVER ()", "m", "row_to_json(m)", "to_jsonb(m)", "concat({0}, ' ')", "ta[3]", "j -> 'k'", "jb ->> 'k'",
                      "jb", "(ct).mail", "xmlelement(name q, t)", "format('%s', {0})"]).format(one)
    return tape.pick([f"SELECT {item} AS c1, {tape.pick(columns)} AS c2 FROM memo m", f"SELECT * FROM memo", f"SELECT {item} AS c1 FROM memo m ORDER BY id LIMIT 2",
                      f"SELECT DISTINCT c1::text AS c1 FROM (SELECT {item} AS c1 FROM memo m) q", f"SELECT x1.* FROM memo x1 JOIN free USING (id)",
                      f"SELECT j1 FROM (memo JOIN free USING (id)) AS j1", f"SELECT (t)::{tape.pick(['int', 'json', 'date', 'uuid', 'level', 'contact', 'numeric'])} FROM memo"])


def statement(tape):
    roll = tape.draw(20)
    return select(tape) if roll < 12 else tokens(tape) if roll < 15 else writes(tape) if roll < 17 else found(tape)

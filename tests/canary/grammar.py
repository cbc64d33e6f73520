"""Random SELECTs, and other statements around them.

Every choice is drawn from a tape of numbers. Smaller numbers choose what is simpler, so a query is made smaller by
making its tape shorter and its numbers lower (`run.py` does), and a tape alone gives the same query again.
"""
import random

# Columns as (name, type, tagged).
CUST = [("id", "int", 0), ("email", "text", 1), ("name", "text", 0), ("sal", "int", 1), ("vc", "text", 1), ("num", "num", 1),
        ("tel", "text", 1), ("secret", "text", 1), ("grp", "int", 0), ("region", "text", 0), ("ok", "bool", 0),
        ("since", "date", 0), ("free", "uuid", 0), ("ch", "text", 1), ("day", "date", 1), ("seen", "ts", 1),
        ("tok", "uuid", 1), ("blob", "bytea", 1), ("doc", "json", 1), ("tags", "arr", 1), ("con", "row", 1), ("lvl", "enum", 1)]
PAY = [("id", "int", 0), ("email", "text", 1), ("cust_id", "int", 0), ("amount", "num", 0), ("note", "text", 0), ("card", "text", 1)]
FREE = [("id", "int", 0), ("label", "text", 0), ("n", "int", 0), ("at", "ts", 0), ("j", "json", 0), ("list", "arr", 0)]
VISITS = [("id", "int", 0), ("email", "text", 1), ("page", "text", 0)]
RELATIONS = {
    "cust": CUST, "pay": PAY, "free": FREE,
    "v_contact": [("id", "int", 0), ("mail", "text", 1), ("name", "text", 0), ("tel", "text", 1), ("region", "text", 0)],
    "v_label": [("id", "int", 0), ("label", "text", 1), ("mail", "text", 1)],
    "v_free": [("id", "int", 0), ("name", "text", 0), ("grp", "int", 0), ("region", "text", 0)],
    "v_count": [("n", "int", 0), ("region", "text", 0), ("mails", "int", 2)],
    "mv": [("id", "int", 0), ("m", "text", 1), ("card", "text", 1), ("note", "text", 0)],
    "v_part": [("id", "int", 0), ("part", "text", 1), ("low", "text", 1), ("size", "int", 1)],
    "mv_part": [("id", "int", 0), ("part", "text", 1), ("low", "text", 1), ("size", "int", 1)],
    "visits": VISITS, "visits_1": VISITS, "cust_old": CUST + [("closed", "date", 0)],
    "scratch": [("id", "int", 0), ("label", "text", 0), ("email", "text", 1), ("n", "int", 0)],
}
NAMES = list(RELATIONS)
LITERAL = {"text": ["'x'", "'q7'", "''", "'%g%'", "'m'"], "int": ["1", "0", "2", "5", "500000000"], "num": ["1.5", "0.0", "2"],
           "bool": ["true", "false"], "date": ["date '1960-06-15'", "date '2001-01-01'"], "ts": ["timestamptz '1970-06-15 12:00+00'"],
           "uuid": ["uuid '00000000-0000-0000-0000-000000000001'", "uuid 'b0000000-0000-0000-0000-000000000000'"],
           "bytea": [r"'\x80'::bytea", r"'\xc0ff'::bytea"], "json": ["""'{"k":"v","a":[1]}'::jsonb""", "'[]'::jsonb"],
           "arr": ["ARRAY['x','y']", "'{}'::text[]"], "row": ["ROW('x',1)::contact"], "enum": ["NULL::level"]}
TYPES = ["text", "int", "num", "date", "ts", "uuid", "bytea", "json", "arr", "row", "enum", "bool"]
SQL_TYPE = {"text": "text", "int": "int", "num": "numeric", "bool": "bool", "date": "date", "ts": "timestamptz", "uuid": "uuid",
            "bytea": "bytea", "json": "jsonb", "arr": "text[]", "row": "contact", "enum": "level"}

# One expression per line: result type, template; $T is an expression of type T, and #T a plain column of it.
EXPRESSIONS = {}
for _line in r"""
text lower($text)
text $text || $text
text coalesce($text, $text)
text CASE WHEN $bool THEN $text ELSE $text END
text $int::text
text $any::text
text concat($any, $text)
text upper($text)
text substr($text, 1, 4)
text substr($text, $int, 2)
text left($text, 3)
text right($text, 5)
text left($text, $int)
text nullif($text, $text)
text greatest($text, $text)
text least($text, $text)
text reverse($text)
text concat_ws('-', $any, $any)
text format('%s/%s', $any, $any)
text format('%I', $text)
text md5($text)
text encode($text::bytea, 'hex')
text encode($bytea, 'base64')
text replace($text, 'g', 'h')
text translate($text, 'ghjk', '1234')
text regexp_replace($text, '[g-m]', '_', 'g')
text split_part($text, '@', 1)
text split_part($text, 'g', $int)
text $json->>'k'
text $json #>> '{a,0}'
text $json::text
text array_to_string($arr, ',')
text array_to_string($arr, ',', 'nil')
text ($arr)[1]
text ($arr)[$int]
text (array_agg($text))[1]
text quote_literal($text)
text quote_nullable($any)
text quote_ident($text)
text lpad($text, 30, '.')
text lpad($text, 4)
text rpad($text, 3, $text)
text overlay($text placing 'zz' from 2 for 3)
text initcap($text)
text btrim($text, 'gh')
text ltrim($text, $text)
text chr(ascii($text))
text chr(length($text) + 64)
text to_hex($int)
text to_char($num, '9999999999.99')
text to_char($ts, 'YYYY-MM-DD HH24:MI')
text to_char($date, 'MM')
text date_part('month', $date)::text
text $text::varchar(3)
text $text::char(5)
text $text::"char"::text
text $text::name::text
text $text COLLATE "C"
text $text::varchar
text cast($any as varchar)
text xmlelement(name a, $any)::text
text xmlforest($any as a, $any as b)::text
text xmlelement(name a, xmlattributes($text as t))::text
text pg_typeof($any)::text
text ($row).mail
text (SELECT $text)
text sha256($text::bytea)::text
text convert_from($bytea, 'LATIN1')
text quote_literal($arr)
text regexp_substr($text, '^.')
text substring($text from '(.).$')
text substring($text from $int for 1)
text substring($text similar '#"_#"%' escape '#')
text (regexp_match($text, '^(..)'))[1]
text (string_to_array($text, 'g'))[1]
text to_json($any)::text
text json_build_object('k', $any)::text
text jsonb_build_array($any, $any)::text
text json_build_object($text, 1)::text
text json_object($arr)::text
text ROW($any, $any)::text
text ARRAY[$text, $text]::text
text normalize($text)
text $text #same
text repeat($text, 2)
text repeat('*', length($text))
text $uuid::text
text encode(convert_to($text, 'UTF8'), 'escape')
text to_ascii($text)
text unistr($text)
text parse_ident($text)::text
text $bool::text
text $enum::text
text current_setting(coalesce($text, 'x'), true)
int length($text)
int $int + 1
int $int + $int
int CASE WHEN $bool THEN 1 ELSE 0 END
int ($bool)::int
int ascii($text)
int strpos($text, 'g')
int position($text in $text)
int $int / 2
int 1 / ($int - $int)
int 1 / (length($text) - 13)
int 100 / nullif($int, 0)
int mod($int, 10)
int $int % 7
int abs($int)
int -$int
int coalesce($int, 0)
int nullif($int, $int)
int $text::int
int $num::int
int extract(year from $date)::int
int extract(month from $date)::int
int extract(epoch from $ts)::int
int cardinality($arr)
int array_length($arr, 1)
int array_position($arr, $text)
int jsonb_array_length($json)
int ($json->>'n')::int
int ($json->'n')::int
int hashtext($text)
int octet_length($text)
int bit_length($text)
int get_byte($bytea, 0)
int pg_column_size($any)
int num_nonnulls($any, $any)
int num_nulls($any)
int sign($num)::int
int width_bucket($num, 0, 1000000000, 4)
int ($row).code
int greatest($int, $int)
int least($int, 0)
int $date - date '1960-01-01'
int (SELECT $int)
int bit_count($bytea)
int regexp_count($text, '[g-m]')
int hashtext($any::text)
int $int & 1
int $int::smallint
int $int * 100000
int length($bytea)
int hash_record(ROW($any))
num $num + 1
num $num / 2
num round($num, 2)
num $int::numeric
num sqrt($num)
num ln($num)
num trunc($num)
num $text::numeric
num extract(epoch from $ts)
num 1.0 / ($num - 1.5)
num scale($num)
num coalesce($num, 0)
date $ts::date
date $date + 1
date $date + $int % 3
date $text::date
date coalesce($date, $date)
date make_date(2000 + $int % 5, 1, 1)
date greatest($date, $date)
ts date_trunc('year', $ts)
ts date_trunc('month', $ts)
ts $date::timestamptz
ts $ts + interval '1 day'
ts coalesce($ts, $ts)
ts $ts at time zone 'UTC'
ts to_timestamp($int)
uuid coalesce($uuid, $uuid)
uuid $text::uuid
uuid md5($text)::uuid
bytea $text::bytea
bytea sha256($bytea)
bytea substring($bytea from 1 for 2)
bytea $bytea || $bytea
bytea decode($text, 'escape')
bytea decode($text, 'hex')
bytea uuid_send($uuid)
bytea int4send($int)
bytea textsend($text)
json jsonb_build_object('k', $any, 'l', $any)
json to_jsonb($any)
json $json || $json
json $json -> 'a'
json $json - 'k'
json jsonb_build_array($any, $any)
json jsonb_set($json, '{k}', to_jsonb($text))
json jsonb_path_query_first($json, '$.k')
json $text::jsonb
json jsonb_strip_nulls($json)
json array_to_json($arr)::jsonb
json row_to_json(ROW($any, $any))::jsonb
json jsonb_object(ARRAY[$text, $text])
arr ARRAY[$text, $text]
arr array_append($arr, $text)
arr $arr || $arr
arr string_to_array($text, '@')
arr regexp_split_to_array($text, 'g')
arr array_remove($arr, $text)
arr ($arr)[1:1]
arr ARRAY(SELECT $text)
arr $text::text[]
arr array_fill($text, ARRAY[2])
arr coalesce($arr, '{}')
row ROW($text, $int)::contact
row coalesce($row, $row)
row $text::contact
row jsonb_populate_record(NULL::contact, $json)
enum coalesce($enum, $enum)
enum $text::level
bool #any IS NOT NULL
bool #text <> #text
bool #text IN (SELECT email FROM pay)
bool #int <> 1
bool #text IS DISTINCT FROM #text
bool #text = #text
bool #any IS NULL
bool #text = 'x'
bool NOT $bool
bool $bool OR $bool
bool $bool AND $bool
bool #text IN ('x', 'y')
bool #text = ANY (ARRAY['x', 'y'])
bool #int = 1
bool EXISTS (SELECT 1 FROM pay p9 WHERE p9.email = #text)
bool $text = $text
bool $text > 'm'
bool $text < $text
bool $int > 500000000
bool $int < $int
bool $num > 500000000
bool $date > date '1960-06-15'
bool $ts between '1965-01-01' and '1970-06-15'
bool $uuid > 'b0000000-0000-0000-0000-000000000000'
bool $bytea > '\xc0'
bool $text LIKE 'g%'
bool $text ILIKE '%G%'
bool $text ~ '^[g-m]'
bool $text SIMILAR TO '[g-m]%'
bool starts_with($text, 'g')
bool $text = ANY ($arr)
bool $text > ALL (ARRAY['g', 'm'])
bool $arr @> ARRAY[$text]
bool $arr && $arr
bool $arr < $arr
bool $json ? 'k'
bool $json @> '{"k":"x"}'
bool $json @? '$.n ? (@ > 500000000)'
bool $json = $json
bool $json < $json
bool ($text, $int) < ('m', 5)
bool ($text, $int) = ($text, $int)
bool $row < $row
bool $row = $row
bool $row IS NULL
bool $enum > $enum
bool $enum = $enum
bool isfinite($date)
bool ($date, $date) OVERLAPS (date '1960-06-15', date '1970-06-15')
bool $text IN ($text, $text)
bool $text >= ALL (SELECT email FROM pay)
bool $text::bool
bool $bool IS TRUE
bool $bool IS UNKNOWN
bool CASE $text WHEN 'x' THEN true ELSE $bool END
bool (SELECT $bool)
bool $text ^@ 'g'
bool $text COLLATE "C" > 'm'
bool texteq($text, 'x')
bool text_gt($text, 'm')
bool int4gt($int, 500000000)
bool (SELECT count(*) FROM pay p8 WHERE p8.email < $text) > 3
bool ROW($text) IS DISTINCT FROM ROW($text)
bool $text IS NFC NORMALIZED
bool ($json->>'n')::int > 500000000
bool to_tsvector('simple', $text) @@ to_tsquery('simple', 'x')
bool $int BETWEEN SYMMETRIC 0 AND 500000000
bool $num::text LIKE '5%'
bool bool($int % 2)
bool ($int % 2) = 0
bool xpath_exists('/a', $text::xml)
bool xmlelement(name a, $text) IS DOCUMENT
""".strip().splitlines():
    _type, _template = _line.split(" ", 1)
    EXPRESSIONS.setdefault(_type, []).append(_template.replace(" #same", ""))

# Those that fail for no value: a query of these alone can be masked. `careful` queries are.
SAFE = {kind: [t for t in templates if t in set("""lower($text)|$text || $text|coalesce($text, $text)|CASE WHEN $bool THEN $text ELSE $text END|$any::text
concat($any, $text)|upper($text)|substr($text, 1, 4)|left($text, 3)|right($text, 5)|reverse($text)|concat_ws('-', $any, $any)|md5($text)
split_part($text, '@', 1)|$json->>'k'|$json #>> '{a,0}'|$json::text|array_to_string($arr, ',')|array_to_string($arr, ',', 'nil')|($arr)[1]
quote_literal($text)|quote_nullable($any)|quote_ident($text)|initcap($text)|btrim($text, 'gh')|$text::varchar|cast($any as varchar)
xmlelement(name a, $any)::text|xmlforest($any as a, $any as b)::text|($row).mail|(SELECT $text)|to_json($any)::text|$bool::text|$enum::text
json_build_object('k', $any)::text|jsonb_build_array($any, $any)::text|ROW($any, $any)::text|ARRAY[$text, $text]::text|$uuid::text|$text COLLATE "C"
length($text)|CASE WHEN $bool THEN 1 ELSE 0 END|cardinality($arr)|array_length($arr, 1)|num_nonnulls($any, $any)|num_nulls($any)|coalesce($int, 0)|($row).code
(SELECT $int)|coalesce($num, 0)|coalesce($date, $date)|coalesce($ts, $ts)|coalesce($uuid, $uuid)|jsonb_build_object('k', $any, 'l', $any)|to_jsonb($any)
$json -> 'a'|jsonb_build_array($any, $any)|jsonb_strip_nulls($json)|ARRAY[$text, $text]|$arr || $arr|ARRAY(SELECT $text)|coalesce($arr, '{}')
ROW($text, $int)::contact|coalesce($row, $row)|coalesce($enum, $enum)|#text = #text|#any IS NULL|#any IS NOT NULL|#text = 'x'|#text IN ('x', 'y')
NOT $bool|$bool AND $bool|$bool OR $bool|#int = 1|#int <> 1|#text IN (SELECT email FROM pay)|#text IS DISTINCT FROM #text|#text <> #text
#text = ANY (ARRAY['x', 'y'])|EXISTS (SELECT 1 FROM pay p9 WHERE p9.email = #text)|$bool IS TRUE|$text IN ($text, $text)|(SELECT $bool)|$row IS NULL
ROW($text) IS DISTINCT FROM ROW($text)""".replace("\n", "|").split("|"))] for kind, templates in EXPRESSIONS.items()}
SAFE_AGGREGATES = {"int": ["count(*)", "count($any)", "count(DISTINCT #text)", "count(*) FILTER (WHERE $bool)", "count(#int)"],
                   "text": ["string_agg($text, ',')", "array_agg($text)::text", "json_agg($any)::text", "xmlagg(xmlelement(name a, $any))::text"],
                   "bool": ["bool_or($bool)", "bool_and($bool)", "count(*) > 3", "count(DISTINCT #text) > 2"],
                   "json": ["jsonb_agg($any)"], "arr": ["array_agg($text)"], "num": ["sum($num)", "avg($num)"]}
AGGREGATES = {
    "int": ["count(*)", "count($any)", "count(DISTINCT #text)", "max($int)", "min($int)", "sum($int)::int", "count(*) FILTER (WHERE $bool)",
            "bit_and($int)", "sum(length($text))::int", "max(length($text))", "(array_agg($int))[1]", "count(DISTINCT $any)", "grouping(1)"],
    "text": ["string_agg($text, ',')", "max($text)", "min($text)", "array_agg($text)::text", "json_agg($any)::text", "string_agg(name, ',' ORDER BY $text)",
             "string_agg($text, $text)", "xmlagg(xmlelement(name a, $any))::text", "string_agg(DISTINCT $text, ',')", "json_object_agg($text, 1)::text",
             "mode() WITHIN GROUP (ORDER BY $text)", "percentile_disc(0.5) WITHIN GROUP (ORDER BY $text)", "array_agg($any)::text", "json_object_agg('k', $any)::text"],
    "num": ["avg($num)", "sum($num)", "stddev($num)", "percentile_cont(0.5) WITHIN GROUP (ORDER BY $int)::numeric", "variance($int)", "corr($int, $int)::numeric"],
    "bool": ["bool_or($bool)", "bool_and($bool)", "every($bool)", "count(*) > 3", "max($text) > 'm'", "count(DISTINCT #text) > 2"],
    "json": ["jsonb_agg($any)", "jsonb_object_agg('k', $any)", "jsonb_agg($text ORDER BY $any)", "jsonb_object_agg($text, $any)"],
    "arr": ["array_agg($text)", "array_agg($text ORDER BY $any)", "array_agg(DISTINCT $text)"],
    "date": ["max($date)", "min($date)"], "ts": ["max($ts)", "min($ts)"],
}
WINDOWS = [("int", "row_number() OVER (PARTITION BY $any)"), ("int", "count(*) OVER (PARTITION BY #text)"), ("text", "lag($text) OVER (ORDER BY id_)"),
           ("text", "first_value($text) OVER ()"), ("int", "rank() OVER (ORDER BY $any)"), ("int", "dense_rank() OVER (ORDER BY id_)"),
           ("int", "ntile(2) OVER (ORDER BY $any)"), ("text", "lead($text, 1, $text) OVER (ORDER BY id_)"), ("text", "max($text) OVER ()"),
           ("text", "nth_value($text, 2) OVER (ORDER BY id_)"), ("text", "string_agg($text, ',') OVER (ORDER BY id_)"), ("int", "sum($int) OVER (ORDER BY id_)::int"),
           ("text", "lag($text, $int) OVER (ORDER BY id_)"), ("int", "count(*) OVER (ORDER BY $any RANGE UNBOUNDED PRECEDING)"),
           ("int", "count(*) FILTER (WHERE $bool) OVER ()"), ("num", "cume_dist() OVER (ORDER BY $any)::numeric"),
           ("int", "count(*) OVER (ORDER BY $int RANGE BETWEEN 1 PRECEDING AND CURRENT ROW)"),
           ("int", "count(*) OVER (ORDER BY id_ ROWS BETWEEN (SELECT count(*) FROM pay p7 WHERE p7.email < 'm') PRECEDING AND CURRENT ROW)")]
SETS = [("text", "unnest($arr)"), ("text", "string_to_table($text, 'g')"), ("text", "regexp_split_to_table($text, 'g')"), ("int", "generate_series(1, $int % 4)"),
        ("int", "generate_series(1, length($text))"), ("text", "jsonb_object_keys($json)"), ("text", "jsonb_array_elements_text($json -> 'a')"),
        ("arr", "regexp_matches($text, '[g-m]', 'g')"), ("json", "jsonb_path_query($json, '$.*')"), ("json", "jsonb_array_elements($json)"),
        ("int", "generate_subscripts($arr, 1)")]
FROM_SETS = [("unnest($arr)", [("@", "text", 2)]), ("jsonb_each_text($json)", [("key", "text", 2), ("value", "text", 2)]),
             ("unnest($arr) WITH ORDINALITY", [("ordinality", "int", 2)]), ("generate_series(1, length($text))", [("@", "int", 2)]),
             ("string_to_table($text, 'g')", [("@", "text", 2)]), ("jsonb_to_record($json) AS @@(k text, n int)", [("k", "text", 2), ("n", "int", 2)]),
             ("ROWS FROM (unnest($arr), generate_series(1, 2))", []), ("jsonb_populate_record(NULL::contact, $json)", []),
             ("regexp_matches($text, '[g-m]', 'g')", [("@", "arr", 2)]), ("json_to_recordset($json) AS @@(k text)", [("k", "text", 2)]),
             ("xmltable('/a' PASSING xmlelement(name a, $text) COLUMNS v text PATH '.')", [("v", "text", 2)])]


class Tape:
    """Numbers from a seed, or from a list (0 once it ends). `drawn` is what was used."""

    def __init__(self, seed=None, numbers=None):
        self.dice, self.numbers, self.drawn = random.Random(seed), numbers, []

    def draw(self, count):
        if self.numbers is None:
            got = self.dice.randrange(count)
        else:
            at = len(self.drawn)
            got = min(self.numbers[at] if at < len(self.numbers) else 0, count - 1)
        self.drawn.append(got)
        return got

    def pick(self, items):
        return items[self.draw(len(items))]

    def chance(self, percent):
        """Rarely true; never on a tape that has ended."""
        return self.draw(100) >= 100 - percent


class Query:
    """One query being written: `sql`, whether a tagged column was named, the features it uses."""

    def __init__(self, tape):
        self.tape, self.tagged, self.number, self.features, self.ctes = tape, False, 0, set(), []
        self.scopes, self.aggregate = [], False
        self.careful = not tape.chance(35)

    def expressions(self, kind):
        return SAFE[kind] if self.careful and SAFE[kind] else EXPRESSIONS[kind]

    def aggregates(self, kind):
        return SAFE_AGGREGATES[kind] if self.careful and kind in SAFE_AGGREGATES else AGGREGATES[kind]

    # ---- names ----

    def alias(self, prefix="t"):
        self.number += 1
        return f"{prefix}{self.number}"

    def column(self, kind):
        """A column of a type, as (sql); a literal where there is none."""
        found = [(alias, name, tagged) for alias, columns in self.scopes[-1] for name, of, tagged in columns
                 if kind == "any" or of == kind]
        if len(self.scopes) > 1 and (not found or self.tape.chance(15)):  # a column of the query around
            found += [(alias, name, tagged) for alias, columns in self.scopes[-2] for name, of, tagged in columns
                      if kind == "any" or of == kind]
        if not found:
            return self.tape.pick(LITERAL.get(kind, LITERAL["text"]))
        alias, name, tagged = self.tape.pick(found)
        self.tagged |= bool(tagged)
        return f"{alias}.{name}"

    # ---- expressions ----

    def fill(self, template, depth):
        out, at = [], 0
        while at < len(template):
            sign = template[at]
            word = ""
            if sign in "$#":
                end = at + 1
                while end < len(template) and template[end].isalpha():
                    end += 1
                word = template[at + 1:end]
            if word in SQL_TYPE or word == "any":
                out.append(self.column(word) if sign == "#" else self.expr(word, depth - 1))
                at += 1 + len(word)
            else:
                out.append(sign)
                at += 1
        sql = "".join(out)
        self.tagged |= "email" in template
        if "ORDER BY id_" in sql:
            sql = sql.replace("ORDER BY id_", "ORDER BY " + (self.column("int") if self.tape.chance(8) else self.first_id()))
        return sql

    def first_id(self):
        for alias, columns in self.scopes[-1]:
            for name, _, tagged in columns:
                if name == "id" and not tagged:
                    return f"{alias}.id"
        return "1"

    def expr(self, kind, depth):
        tape = self.tape
        if kind == "any":
            if tape.chance(12) and not self.aggregate:
                whole = self.whole()
                if whole:
                    return whole
            kind = tape.pick(TYPES) if tape.chance(40) else tape.pick(TYPES[:2])
            if depth <= 0:
                return self.column("any")
        if depth <= 0 or not tape.chance(38):
            if tape.chance(10):
                return tape.pick(LITERAL[kind])
            if kind == "bool":
                return self.fill(tape.pick(EXPRESSIONS["bool"][:12 if tape.chance(60) else 6]), 0)
            return self.column(kind)
        if kind == "text" and tape.chance(6):
            return self.scalar(kind, depth)
        template = tape.pick(self.expressions(kind))
        self.features.add("expression")
        return self.fill("(" + template + ")", depth)

    def scalar(self, kind, depth):
        """A subquery of one value."""
        body, _ = self.select(depth - 1, [kind], limit=1)
        self.features.add("subquery")
        return f"({body})"

    def whole(self):
        """A whole row."""
        alias, columns = self.tape.pick(self.scopes[-1])
        self.tagged |= any(tagged for _, _, tagged in columns) or not columns
        self.features.add("whole row")
        return self.tape.pick([alias, f"row_to_json({alias})", f"to_jsonb({alias})", f"({alias}).*::text", f"ROW({alias}.*)",
                               f"hash_record({alias})" if self.tape.chance(20) else f"{alias}::text"])

    # ---- FROM ----

    def source(self, depth, lateral):
        """(sql, alias, columns)."""
        tape, alias = self.tape, self.alias()
        roll = tape.draw(100)
        if roll < 62 or depth <= 0 or (roll >= 80 and not lateral and roll < 98):
            if self.ctes and tape.chance(60):
                name, columns = tape.pick(self.ctes)
            else:
                name = tape.pick(['cust', 'cust', 'pay', 'free', 'cust']) if not tape.chance(45) else tape.pick(NAMES)
                columns = RELATIONS[name]
            only = "ONLY " if tape.chance(4) and name in ("cust", "visits") else ""
            sample = ""
            return f"{only}{name} {alias}{sample}", alias, columns
        if roll < 80:
            body, columns = self.select(depth - 1, None)
            self.features.add("derived table")
            return f"({body}) {alias}", alias, columns
        if roll < 92 and lateral:
            template, columns = tape.pick(FROM_SETS)
            self.features.add("function in FROM")
            sql = self.fill(template.replace("@@", alias), depth - 1)
            named = [(alias if name == "@" else name, kind, tagged) for name, kind, tagged in columns]
            return ("LATERAL " if tape.chance(30) else "") + (sql if " AS " in template else f"{sql} {alias}"), alias, named
        if roll < 96 and lateral:
            body, columns = self.select(depth - 1, None)
            self.features.add("lateral")
            return f"LATERAL ({body}) {alias}", alias, columns
        self.features.add("values")
        self.scopes.append(list(self.scopes[-1]) if lateral and self.scopes else [])
        cells = self.expr("text", 1) if lateral else "'x'"
        self.scopes.pop()
        return f"{'LATERAL ' if lateral else ''}(VALUES ({cells}, 1), ('z', 2)) {alias}(a, b)", alias, [("a", "text", 2 if "." in cells else 0), ("b", "int", 0)]

    def from_clause(self, depth):
        """Fills the innermost scope; the text after FROM."""
        sql, alias, columns = self.source(depth, False)
        self.scopes[-1].append((alias, columns))
        while self.tape.chance(28) and len(self.scopes[-1]) < 3:
            other, alias, columns = self.source(depth - 1, True)
            left = self.scopes[-1][-1]
            join = self.tape.pick(["ON", "ON", ",", "LEFT", "USING", "NATURAL", "FULL", "CROSS", "RIGHT"])
            self.features.add("join")
            shared = [c for c in columns if c[0] in [l[0] for l in left[1]] and c[0] in ("id", "email", "region", "name")]
            lateral = other.startswith("LATERAL") or "(" in other.split(" ")[0]
            if join == "USING" and shared and len(self.scopes[-1]) == 1:
                name = self.tape.pick(shared)[0]
                self.tagged |= any(tagged for other, _, tagged in [*columns, *left[1]] if other == name)
                sql += f" JOIN {other} USING ({name})"
            elif join == "NATURAL" and len(self.scopes[-1]) == 1:
                both = {name for name, _, _ in columns} & {name for name, _, _ in left[1]}
                self.tagged |= any(tagged for name, _, tagged in [*columns, *left[1]] if name in both)
                sql += f" NATURAL JOIN {other}"
            elif join in (",", "CROSS", "NATURAL", "USING"):
                sql += f", {other}" if join == "," else f" CROSS JOIN {other}"
            else:
                kind = {"ON": "JOIN", "LEFT": "LEFT JOIN", "FULL": "LEFT JOIN" if lateral else "FULL JOIN", "RIGHT": "LEFT JOIN" if lateral else "RIGHT JOIN"}[join]
                self.scopes[-1].append((alias, columns))
                on = self.equal(left, (alias, columns)) if not self.tape.chance(30) else self.expr("bool", depth)
                self.scopes[-1].pop()
                sql += f" {kind} {other} ON {on}"
            self.scopes[-1].append((alias, columns))
        return sql

    def equal(self, left, right):
        pairs = [(l, r) for l in left[1] for r in right[1] if l[1] == r[1] and l[1] in ("int", "text")]
        if not pairs:
            return "true"
        l, r = self.tape.pick(pairs)
        self.tagged |= bool(l[2] or r[2])
        return f"{left[0]}.{l[0]} = {right[0]}.{r[0]}"

    # ---- SELECT ----

    def item(self, kind, depth):
        """One output: (sql, type, tagged: 0 no, 1 or 2 yes)."""
        before, self.tagged = self.tagged, False
        tape = self.tape
        if kind is None:
            own = [of for _, columns in self.scopes[-1] for _, of, _ in columns if of in LITERAL]
            kind = tape.pick(own) if own and not tape.chance(15) else tape.pick(TYPES)
        if self.aggregate:
            kind = kind if kind in AGGREGATES else "text"
            grouped = getattr(self, "groups", None)
            sql = tape.pick(grouped)[0] if grouped and kind == "text" and tape.chance(40) else None
            self.aggregate = False
            if sql is None:
                sql = self.fill(tape.pick(self.aggregates(kind)), depth)
            else:
                self.tagged = True
            self.aggregate = True
            self.features.add("aggregate")
        elif tape.chance(6):
            kind_, template = tape.pick(WINDOWS[:4] if self.careful else WINDOWS)
            self.features.add("window")
            kind, sql = kind_, self.fill(template, depth)
        elif tape.chance(4):
            kind_, template = tape.pick(SETS)
            self.features.add("set-returning")
            kind, sql = kind_, self.fill(template, depth)
        elif tape.chance(6):
            whole, kind = self.whole(), "json"
            sql = whole if whole.startswith(("row_to_json", "to_jsonb")) else f"{whole}"
            kind = "other"
        else:
            sql = self.expr(kind, depth)
        tagged, self.tagged = self.tagged, before or self.tagged
        return sql, kind, int(tagged)

    def select(self, depth, kinds, limit=None):
        """One SELECT: (sql, columns)."""
        tape = self.tape
        keep = self.aggregate, getattr(self, "groups", None)
        self.scopes.append([])
        source = self.from_clause(depth)
        self.aggregate, self.groups = False, None
        where = f" WHERE {self.expr('bool', depth)}" if tape.chance(35) else ""
        tail = ""
        grouping = tape.chance(18)
        if grouping:
            self.features.add("group by")
            key = self.column("text") if not tape.chance(20) else self.expr("text", 1)
            self.groups = [(key,)]
            tail += tape.pick([f" GROUP BY {key}", "", f" GROUP BY {key}", f" GROUP BY ROLLUP ({key})", f" GROUP BY GROUPING SETS (({key}), ())"])
            if not tail:
                self.groups = None
            self.aggregate = True
        star = kinds is None and not grouping and tape.chance(10)
        count = len(kinds) if kinds else 1 + tape.draw(3)
        items, columns = [], []
        for at in range(count):
            sql, kind, tagged = self.item(kinds[at] if kinds else None, depth)
            if kinds and kind != kinds[at]:
                sql = f"({sql})::text::{SQL_TYPE[kinds[at]]}"
                kind = kinds[at]
            name = f"c{at + 1}"
            if at == 0 and kinds is None and tape.chance(15):
                name = "email"
            items.append(f"{sql} AS {name}")
            columns.append((name, kind, tagged))
        if star:
            self.features.add("star")
            alias, found = tape.pick(self.scopes[-1])
            self.tagged |= not found or any(tagged for _, _, tagged in found)
            items, columns = [f"{alias}.*"], [c for c in found]
            if len(self.scopes[-1]) == 1 and tape.chance(50):
                items = ["*"]
        distinct = ""
        if not grouping and limit is None:
            if tape.chance(8):
                distinct = "DISTINCT "
                self.features.add("distinct")
            elif tape.chance(3):
                distinct = f"DISTINCT ON ({self.column('any')}) "
                self.features.add("distinct")
        if grouping and tape.chance(25):
            self.aggregate = False
            tail += f" HAVING {self.fill(tape.pick(self.aggregates('bool')), 1)}"
        if tape.chance(18) and not distinct:
            self.features.add("order by")
            if grouping:
                tail += f" ORDER BY {1 + tape.draw(len(items))}"
            else:
                tail += f" ORDER BY {self.expr('any', depth) if tape.chance(50) and not self.careful else 1 + tape.draw(len(items))}" + tape.pick(["", " DESC", " NULLS FIRST"])
        if limit:
            tail += f" LIMIT {limit}"
        elif tape.chance(8):
            self.features.add("limit")
            tail += tape.pick([" LIMIT 3", " LIMIT 2 OFFSET 1", " LIMIT ALL", " FETCH FIRST 2 ROWS ONLY"])
            if tape.chance(10):
                tail += f" OFFSET (SELECT {self.expr('int', 1)} % 3 FROM cust {self.alias('z')} LIMIT 1)" if "LIMIT 3" in tail else ""
        self.scopes.pop()
        self.aggregate, self.groups = keep
        return f"SELECT {distinct}{', '.join(items)} FROM {source}{where}{tail}", columns

    def query(self, depth=2):
        """A whole query: (sql, columns)."""
        tape, head = self.tape, ""
        if tape.chance(18):
            self.features.add("cte")
            roll = tape.draw(10)
            name = self.alias("w")
            if roll < 6:
                body, columns = self.select(depth - 1, None)
                head = f"WITH {name} AS {tape.pick(['', 'MATERIALIZED ', 'NOT MATERIALIZED '])}({body}) "
                self.ctes.append((name, columns))
            elif roll < 8:
                body, columns = self.select(depth - 1, ["text", "int"])
                more = tape.pick(["c1", "lower(c1)", "c1 || 'x'", "substr(c1, 2)", "(SELECT max(email) FROM pay)", "reverse(c1)"])
                head = (f"WITH RECURSIVE {name}(c1, c2, n) AS (SELECT q.*, 1 FROM ({body}) q UNION ALL "
                        f"SELECT {more}, c2, n + 1 FROM {name} WHERE n < {tape.pick(['3', '2', '(CASE WHEN length(c1) > 13 THEN 2 ELSE 3 END)'])}) ")
                self.tagged |= "email" in more
                self.ctes.append((name, [("c1", "text", 2), ("c2", "int", 2), ("n", "int", 0)]))
                self.features.add("recursive")
            else:
                change = self.change(name)
                head = f"WITH {name} AS ({change}) "
                self.ctes.append((name, [("id", "int", 0), ("email", "text", 1), ("label", "text", 0)]))
                self.features.add("data-modifying CTE")
        body, columns = self.select(depth, None)
        if tape.chance(12):
            self.features.add("set operation")
            kinds = [c[1] for c in columns]
            if all(kind in SQL_TYPE for kind in kinds) and "*" not in body.split(" FROM ")[0] and kinds:
                other, more = self.select(depth - 1, kinds)
                op = tape.pick(["UNION ALL", "UNION", "EXCEPT", "INTERSECT", "EXCEPT ALL"])
                if op != "UNION ALL":
                    self.tagged |= any(c[2] for c in columns)
                columns = [(a[0], a[1], a[2] or b[2]) for a, b in zip(columns, more)]
                body = f"({body}) {op} ({other})" + tape.pick(["", "", " ORDER BY 1", " LIMIT 3"])
        return head + body, columns

    def change(self, name=""):
        """A change of the scratch table that gives rows back."""
        tape = self.tape
        self.features.add("returning")
        back = tape.pick(["id, email, label", "*", "id, lower(email) AS email, label", "id, scratch.email, label || coalesce(email, '') AS label",
                          "id, (email > 'm')::text AS email, label", "id, scratch::text AS email, label"])
        if name and back == "*":
            back = "id, email, label"
        self.tagged = True
        roll = tape.draw(12)
        if roll < 3:
            return f"INSERT INTO scratch (id, label, email, n) VALUES (50, 'fifty', 'fifty@x', 5) RETURNING {back}"
        if roll < 6:
            text = tape.pick(["label || '!'", "name", "'k' || scratch.id", "c.email", "lower(c.email)", "scratch.email", "c.region || c.vc", "left(scratch.email, 6)",
                              "substr(c.email, 2, 8)", "coalesce(c.email, name)"])
            field = tape.pick(["label", "email"])
            return f"UPDATE scratch SET {field} = {text} FROM cust c WHERE c.id = scratch.id RETURNING {back.replace('id,', 'scratch.id,', 1).replace('*', 'scratch.*').replace('(email', '(scratch.email')}"\
                .replace("coalesce(email", "coalesce(scratch.email").replace("id, email", "id, scratch.email")
        if roll < 8:
            self.scopes.append([("scratch", RELATIONS["scratch"])])
            where = self.expr("bool", 1)
            self.scopes.pop()
            return f"DELETE FROM scratch WHERE {where} RETURNING {back}"
        if roll < 10:
            wrong = tape.chance(25)  # a value where none may be
            text = tape.pick(["c.name", "c.email", "left(c.email, 6)", "substr(c.email, 3, 8)", "lower(c.email)", "reverse(c.email)",
                              "coalesce(c.email, 'x')", "c.vc", "c.secret", "c.tel", "c.id::text", "split_part(c.email, '@', 1)", "nullif(c.email, 'x')"])
            where = tape.pick(["", " WHERE c.id > 4", " WHERE c.email IS NOT NULL"] + [" WHERE c.email > 'm'"] * wrong)
            number = tape.pick(["c.id", "7"] + ["c.sal", "c.id * 500", "length(c.email)"] * wrong)
            label = text if wrong and tape.chance(50) else "c.name"
            return (f"INSERT INTO scratch (id, label, email, n) SELECT c.id + {'0' if wrong and tape.chance(30) else '100'}, {label}, {text}, {number} "
                    f"FROM {tape.pick(['cust', 'ONLY cust'])} c{where} RETURNING {back}")
        return (f"INSERT INTO scratch (id, label, email, n) VALUES (2, 'two', 'x', 1) ON CONFLICT (id) DO "
                f"{tape.pick(['NOTHING', 'UPDATE SET label = excluded.label', 'UPDATE SET label = scratch.email', 'UPDATE SET n = length(scratch.email)', 'UPDATE SET email = scratch.email || scratch.label'])} RETURNING {back}")


MODES = ["simple", "extended", "binary", "portal", "prepared", "copy", "cursor", "execute", "change", "explain", "temp", "settings", "multi"]


def statement(tape, only=None):
    """(mode, list of SQL texts or one query, Query, output columns or None)."""
    mode = tape.pick(MODES + MODES[:5] + MODES[-2:]) if only is None else only
    query = Query(tape)
    if mode == "change":
        return mode, query.change(), query, None
    sql, columns = query.query(tape.pick([0, 0, 1, 1, 2, 3]))
    return mode, sql, query, columns

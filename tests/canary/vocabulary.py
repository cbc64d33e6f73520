"""What random statements are made of: relations, literals, and templates of expressions."""
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

-- Of every object a number that differs once its part of the catalog document may. Run as `stamps_query` says.
WITH ns AS (
  SELECT n.oid, n.nspname FROM pg_catalog.pg_namespace n
  WHERE n.nspname !~ '^pg_(temp|toast_temp)_' AND n.nspname <> 'pg_toast'
-- What a version of a row is: the transaction that wrote it and its place.
), class AS (
  SELECT c.oid, c.relkind, pg_catalog.hashtextextended(pg_catalog.concat(c.xmin, c.ctid), 1) AS stamp
  FROM pg_catalog.pg_class c JOIN ns ON ns.oid = c.relnamespace
  WHERE c.relkind = ANY (ARRAY['r', 'v', 'm', 'p', 'f', 'S', 'c', 'i', 'I']::pg_catalog."char"[])
-- A type's document names what a domain is made of.
), type AS (
  SELECT t.oid, t.typnamespace, t.typcategory, pg_catalog.hashtextextended(pg_catalog.concat(t.xmin, t.ctid, b.xmin, b.ctid), 2) AS stamp
  FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_type b ON b.oid = t.typbasetype WHERE t.oid >= 16384
-- A column's document names its type. Columns of the system's own relations are in `system`.
), attribute AS (
  SELECT a.attrelid AS oid, pg_catalog.sum(pg_catalog.hashtextextended(pg_catalog.concat(a.attnum, a.xmin, a.ctid, type.stamp), 3)) AS stamp
  FROM pg_catalog.pg_attribute a LEFT JOIN type ON type.oid = a.atttypid
  WHERE a.attnum > 0 AND a.attrelid >= 16384 GROUP BY a.attrelid
), shape AS (
  SELECT class.oid, class.relkind, pg_catalog.hashtextextended(pg_catalog.concat(class.oid, class.stamp, attribute.stamp), 4) AS stamp
  FROM class LEFT JOIN attribute ON attribute.oid = class.oid
), inherits AS (
  SELECT i.inhrelid AS oid, pg_catalog.sum(pg_catalog.hashtextextended(pg_catalog.concat(i.xmin, i.ctid), 5)) AS stamp
  FROM pg_catalog.pg_inherits i GROUP BY i.inhrelid
), referencing AS (
  SELECT k.confrelid AS oid, pg_catalog.sum(pg_catalog.hashtextextended(pg_catalog.concat(k.xmin, k.ctid), 6)) AS stamp
  FROM pg_catalog.pg_constraint k WHERE k.contype = 'f' GROUP BY k.confrelid
), rule AS (
  SELECT r.oid, r.ev_class, pg_catalog.hashtextextended(pg_catalog.concat(r.xmin, r.ctid), 7) AS stamp
  FROM pg_catalog.pg_rewrite r WHERE r.ev_class >= 16384
-- A view's text names what it stands on, by today's names.
), uses AS (
  SELECT DISTINCT rule.ev_class, d.refclassid, d.refobjid, d.refobjsubid
  FROM rule JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = rule.oid
), used AS (
  SELECT uses.ev_class AS oid,
    pg_catalog.sum(pg_catalog.hashtextextended(pg_catalog.concat_ws(' ', uses.refclassid::pg_catalog.oid, uses.refobjid, uses.refobjsubid, shape.stamp), 8)) AS stamp,
    pg_catalog.bool_or(uses.refclassid <> 'pg_catalog.pg_class'::pg_catalog.regclass AND uses.refobjid >= 16384) AS wide
  FROM uses LEFT JOIN shape ON uses.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND shape.oid = uses.refobjid
  GROUP BY uses.ev_class
), rules AS (
  SELECT rule.ev_class AS oid, pg_catalog.sum(rule.stamp) AS stamp FROM rule GROUP BY rule.ev_class
), proc AS (
  SELECT p.oid, p.pronamespace, pg_catalog.hashtextextended(pg_catalog.concat(p.xmin, p.ctid, l.xmin, l.ctid, EXISTS (
      SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid
      AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = 'e')), 9) AS stamp
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
  WHERE p.oid >= 16384
), operator AS (
  SELECT coalesce(pg_catalog.sum(pg_catalog.hashtextextended(pg_catalog.concat_ws(' ', o.xmin, o.ctid, l.stamp, r.stamp, proc.stamp), 10)), 0) AS stamp
  FROM pg_catalog.pg_operator o LEFT JOIN type l ON l.oid = o.oprleft LEFT JOIN type r ON r.oid = o.oprright
  LEFT JOIN proc ON proc.oid = o.oprcode::pg_catalog.oid WHERE o.oid >= 16384
-- A view that uses a function, a type or the like of a user may be written differently after many a change: it is
-- read again with every one of them.
), wide AS (
  SELECT pg_catalog.concat_ws(' ', (SELECT pg_catalog.sum(proc.stamp) FROM proc), (SELECT pg_catalog.sum(shape.stamp) FROM shape WHERE shape.oid >= 16384),
    (SELECT pg_catalog.sum(type.stamp) FROM type JOIN ns ON ns.oid = type.typnamespace), (SELECT operator.stamp FROM operator),
    (SELECT pg_catalog.sum(pg_catalog.hashtextextended(pg_catalog.concat(e.xmin, e.ctid), 11)) FROM pg_catalog.pg_enum e),
    (SELECT pg_catalog.sum(pg_catalog.hashtextextended(pg_catalog.concat(o.xmin, o.ctid), 12)) FROM pg_catalog.pg_collation o WHERE o.oid >= 16384),
    (SELECT pg_catalog.sum(pg_catalog.hashtextextended(pg_catalog.concat(o.xmin, o.ctid), 13)) FROM pg_catalog.pg_ts_config o WHERE o.oid >= 16384)) AS stamp
)
SELECT pg_catalog.json_build_object(
  'base', pg_catalog.concat_ws(' ', pg_catalog.current_setting('server_version_num'), pg_catalog.inet_server_addr(), pg_catalog.inet_server_port(), pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time()),
     (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())),
  'system', pg_catalog.concat_ws(' ', (SELECT pg_catalog.sum(shape.stamp) FROM shape WHERE shape.oid < 16384),
    (SELECT pg_catalog.concat(pg_catalog.count(*), ' ', pg_catalog.sum(a.xmin::pg_catalog.text::pg_catalog.int8)) FROM pg_catalog.pg_attribute a WHERE a.attrelid < 16384),
    (SELECT pg_catalog.concat(pg_catalog.count(*), ' ', pg_catalog.sum(t.xmin::pg_catalog.text::pg_catalog.int8)) FROM pg_catalog.pg_type t WHERE t.oid < 16384),
    (SELECT pg_catalog.concat(pg_catalog.count(*), ' ', pg_catalog.sum(p.xmin::pg_catalog.text::pg_catalog.int8)) FROM pg_catalog.pg_proc p WHERE p.oid < 16384),
    (SELECT pg_catalog.sum(inherits.stamp) FROM inherits WHERE inherits.oid < 16384),
    (SELECT pg_catalog.sum(referencing.stamp) FROM referencing WHERE referencing.oid < 16384),
    (SELECT pg_catalog.sum(proc.stamp) FROM proc JOIN ns ON ns.oid = proc.pronamespace AND ns.nspname = 'pg_catalog'),
    (SELECT pg_catalog.sum(pg_catalog.hashtextextended(pg_catalog.concat(o.xmin, o.ctid), 10)) FROM pg_catalog.pg_operator o JOIN ns ON ns.oid = o.oprnamespace AND ns.nspname = 'pg_catalog' WHERE o.oid >= 16384)),
  'schemas', (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(ns.oid::pg_catalog.int8, ns.nspname)) FROM ns),
  'relations', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_array(shape.oid::pg_catalog.int8,
      pg_catalog.hashtextextended(pg_catalog.concat_ws(' ', shape.stamp, 'i', inherits.stamp, 'k', referencing.stamp, 'r', rules.stamp, used.stamp,
        CASE WHEN used.wide THEN wide.stamp END), 14)))
    FROM shape LEFT JOIN inherits ON inherits.oid = shape.oid LEFT JOIN referencing ON referencing.oid = shape.oid
    LEFT JOIN rules ON rules.oid = shape.oid LEFT JOIN used ON used.oid = shape.oid CROSS JOIN wide
    WHERE shape.oid >= 16384), '[]'::pg_catalog.json),
  'functions', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_array(proc.oid::pg_catalog.int8, proc.stamp))
    FROM proc JOIN ns ON ns.oid = proc.pronamespace), '[]'::pg_catalog.json),
  'types', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_array(type.oid::pg_catalog.int8, type.stamp))
    FROM type JOIN ns ON ns.oid = type.typnamespace WHERE type.typcategory <> 'A'), '[]'::pg_catalog.json),
  'operators', (SELECT operator.stamp::pg_catalog.text FROM operator),
  'casts', (SELECT pg_catalog.concat(pg_catalog.sum(pg_catalog.hashtextextended(pg_catalog.concat_ws(' ', k.xmin, k.ctid, s.stamp, t.stamp, proc.stamp), 15)))
    FROM pg_catalog.pg_cast k LEFT JOIN type s ON s.oid = k.castsource LEFT JOIN type t ON t.oid = k.casttarget
    LEFT JOIN proc ON proc.oid = k.castfunc WHERE k.oid >= 16384)
)::pg_catalog.text

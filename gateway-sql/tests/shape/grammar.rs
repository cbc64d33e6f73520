//! Statements with literals in every position, valid or nearly so.

use super::words::*;

/// Choices in the order of their bytes; the first of each, once they are used up.
pub struct Choices<'a> {
    bytes: std::slice::Iter<'a, u8>,
}

impl<'a> Choices<'a> {
    /// These choices.
    pub fn of(bytes: &'a [u8]) -> Self {
        Choices { bytes: bytes.iter() }
    }

    fn roll(&mut self, sides: usize) -> usize {
        self.bytes.next().map_or(0, |&byte| usize::from(byte) % sides)
    }

    fn one_in(&mut self, sides: usize) -> bool {
        self.roll(sides) == sides - 1
    }

    /// One of them.
    pub fn of_these<'s>(&mut self, these: &[&'s str]) -> &'s str {
        these[self.roll(these.len())]
    }
}

struct Writer<'c, 'a> {
    choices: &'c mut Choices<'a>,
    out: String,
    depth: usize,
    /// One in so many tokens is of the unusual ones.
    wild: usize,
}

/// A statement that the choices make.
pub fn text(choices: &mut Choices<'_>) -> String {
    let wild = [2, 4, 8, 16, 32, 255][choices.roll(6)];
    let mut writer = Writer {
        choices,
        out: String::new(),
        depth: 0,
        wild,
    };
    writer.statement();
    if writer.choices.one_in(8) {
        writer.put(";");
        if writer.choices.one_in(4) {
            writer.statement();
        }
    }
    writer.out
}

impl Writer<'_, '_> {
    fn put(&mut self, token: &str) {
        if self.is_wild() && self.choices.one_in(20) {
            let stray = self.choices.of_these(&STRAY);
            self.out.push_str(stray);
            self.out.push(' ');
        }
        if self.is_wild() && self.choices.one_in(40) {
            return;
        }
        self.out.push_str(token);
        // Nothing but a space between most tokens: few texts are valid otherwise.
        let space = if self.is_wild() {
            self.choices.of_these(&SPACES)
        } else {
            " "
        };
        self.out.push_str(space);
    }

    fn is_wild(&mut self) -> bool {
        self.choices.one_in(self.wild)
    }

    fn literal(&mut self) {
        let wild = self.is_wild();
        self.one_of(if wild { &LITERALS } else { &PLAIN_LITERALS });
    }

    fn column(&mut self) {
        let wild = self.is_wild();
        self.one_of(if wild { &COLUMNS } else { &PLAIN_COLUMNS });
    }

    fn operator(&mut self) {
        let wild = self.is_wild();
        self.one_of(if wild { &OPERATORS } else { &PLAIN_OPERATORS });
    }

    fn function(&mut self) {
        let wild = self.is_wild();
        self.one_of(if wild { &FUNCTIONS } else { &PLAIN_FUNCTIONS });
    }

    fn table(&mut self) {
        let wild = self.is_wild();
        self.one_of(if wild { &TABLES } else { &["customers c"] });
    }

    fn one_of(&mut self, these: &[&str]) {
        let chosen = self.choices.of_these(these);
        self.put(chosen);
    }

    fn maybe(&mut self, sides: usize, part: impl FnOnce(&mut Self)) {
        if self.choices.one_in(sides) {
            part(self);
        }
    }

    fn list(&mut self, part: impl Fn(&mut Self)) {
        part(self);
        for _ in 0..self.choices.roll(3) {
            self.put(",");
            part(self);
        }
    }

    /// Seldom more than one.
    fn one_or_more(&mut self, part: impl Fn(&mut Self)) {
        part(self);
        if self.choices.one_in(6) {
            self.put(",");
            part(self);
        }
    }

    fn in_parentheses(&mut self, part: impl FnOnce(&mut Self)) {
        self.put("(");
        part(self);
        self.put(")");
    }

    fn statement(&mut self) {
        match self.choices.roll(10) {
            0..=4 => self.select(),
            5 => self.insert(),
            6 => self.update(),
            7 => self.delete(),
            8 => {
                self.put("WITH w AS");
                self.maybe(3, |w| w.put("MATERIALIZED"));
                self.in_parentheses(|w| match w.choices.roll(4) {
                    0 => w.delete(),
                    1 => w.update(),
                    _ => w.select(),
                });
                self.select();
            }
            _ => self.other(),
        }
    }

    /// Statements whose literals are no values.
    fn other(&mut self) {
        match self.choices.roll(8) {
            0 => self.put("SET search_path = 'x' , 'public'"),
            1 => self.put("SELECT set_config ( 'search_path' , 'x' , false )"),
            2 => self.put("PREPARE p AS SELECT 1 , 'x' FROM customers"),
            3 => self.put("EXPLAIN SELECT email FROM customers WHERE id = 1"),
            4 => self.put("COPY customers TO '/tmp/x' WITH ( DELIMITER ',' , NULL 'x' )"),
            5 => self.put("DECLARE c CURSOR FOR SELECT 1 , 'x'"),
            6 => self.put("CREATE TABLE n AS SELECT 1 , 'x' WHERE 1 = 2"),
            _ => self
                .put("MERGE INTO orders USING customers ON id = 1 WHEN MATCHED AND status = 'x' THEN DELETE"),
        }
    }

    fn select(&mut self) {
        self.depth += 1;
        if self.depth > 4 {
            self.put("SELECT 1");
            self.depth -= 1;
            return;
        }
        if self.choices.one_in(8) {
            self.put("VALUES");
            self.list(|w| w.in_parentheses(|w| w.list(Self::expr)));
        } else {
            self.put("SELECT");
            self.maybe(6, |w| {
                w.one_of(&[
                    "ALL",
                    "DISTINCT",
                    "DISTINCT ON ( 1 , 2 )",
                    "DISTINCT ON ( email )",
                ])
            });
            self.list(|w| {
                w.expr();
                w.maybe(4, |w| {
                    w.one_of(&["AS a", "AS \"1\"", "AS limit", "b", "AS \"'x'\"", "AS like"])
                });
            });
            self.maybe(1, Self::from);
            self.maybe(2, |w| {
                w.put("WHERE");
                w.condition();
            });
            self.maybe(5, |w| {
                w.put("GROUP BY");
                w.maybe(4, |w| w.one_of(&["ROLLUP", "CUBE", "DISTINCT"]));
                w.list(Self::expr);
                w.maybe(3, |w| {
                    w.put("HAVING");
                    w.condition();
                });
            });
            self.maybe(12, |w| {
                w.put("WINDOW win AS ( PARTITION BY email , 1 ORDER BY 2 ROWS 1 PRECEDING )")
            });
        }
        self.maybe(6, |w| {
            w.one_of(&["UNION", "UNION ALL", "EXCEPT", "INTERSECT"]);
            w.maybe(2, |w| w.in_parentheses(Self::select));
        });
        self.maybe(3, |w| {
            w.put("ORDER BY");
            w.list(|w| {
                w.expr();
                w.maybe(3, |w| w.one_of(&["DESC", "NULLS FIRST", "USING <"]));
            });
        });
        self.maybe(3, |w| {
            w.one_of(&[
                "LIMIT 1",
                "LIMIT 1 OFFSET 2",
                "OFFSET 3",
                "LIMIT ( 1 + 2 )",
                "LIMIT ALL",
                "FETCH FIRST 5 ROWS ONLY",
                "OFFSET 3 ROWS FETCH NEXT ( 2 ) ROWS WITH TIES",
                "LIMIT '1'",
                "LIMIT - 1",
            ])
        });
        self.maybe(20, |w| w.one_of(&["FOR UPDATE", "FOR SHARE OF c"]));
        self.depth -= 1;
    }

    fn from(&mut self) {
        self.put("FROM");
        self.one_or_more(|w| match w.choices.roll(13) {
            0..=6 => w.table(),
            7 => {
                w.in_parentheses(Self::select);
                w.put("AS s");
            }
            8 => {
                w.table();
                w.one_of(&["JOIN", "LEFT JOIN"]);
                w.put("orders j ON");
                w.condition();
            }
            9 => w.put("generate_series ( 1 , 2 ) WITH ORDINALITY AS g ( a , b )"),
            10 => {
                w.put("json_to_record ( '{}' ) AS ( a numeric ( 10 , 2 ) , b varchar ( 3 ) , d int [ 4 ] )")
            }
            11 => w.put("customers TABLESAMPLE bernoulli ( 10 ) REPEATABLE ( 1 )"),
            _ => w.put(
                "ROWS FROM ( generate_series ( 1 , 2 ) , unnest ( ARRAY [ 1 , 'x' ] ) AS ( a char ( 2 ) ) )",
            ),
        });
    }

    fn insert(&mut self) {
        self.put("INSERT INTO");
        self.one_of(&["tickets", "customers ( email , ssn )", "orders ( status )"]);
        self.maybe(12, |w| w.put("OVERRIDING SYSTEM VALUE"));
        if self.choices.one_in(3) {
            self.select();
        } else {
            self.put("VALUES");
            self.list(|w| w.in_parentheses(|w| w.list(Self::expr)));
        }
        self.maybe(4, |w| {
            w.put("ON CONFLICT ( id )");
            w.maybe(3, |w| w.put("WHERE status = 'x'"));
            w.put("DO");
            if w.choices.one_in(2) {
                w.put("UPDATE SET status =");
                w.expr();
            } else {
                w.put("NOTHING");
            }
        });
        self.returning();
    }

    fn update(&mut self) {
        self.put("UPDATE");
        self.one_of(&["customers c", "customers c", "tickets", "orders"]);
        self.put("SET");
        self.list(|w| match w.choices.roll(4) {
            0 => {
                w.put("( status , total ) = (");
                w.list(Self::expr);
                w.put(")");
            }
            1 => {
                w.put("tags [ 1 ] =");
                w.expr();
            }
            _ => {
                w.one_of(&["status", "email", "subject", "total"]);
                w.put("=");
                w.expr();
            }
        });
        self.maybe(5, Self::from);
        self.maybe(1, |w| {
            w.put("WHERE");
            w.condition();
        });
        self.returning();
    }

    fn delete(&mut self) {
        self.put("DELETE FROM");
        self.one_of(&["customers c", "customers c", "tickets", "orders"]);
        self.maybe(5, |w| w.put("USING customers u"));
        self.maybe(1, |w| {
            w.put("WHERE");
            w.condition();
        });
        self.returning();
    }

    fn returning(&mut self) {
        self.maybe(5, |w| {
            w.put("RETURNING");
            w.list(Self::expr);
        });
    }

    fn condition(&mut self) {
        self.depth += 1;
        match self.choices.roll(if self.depth > 6 { 3 } else { 16 }) {
            0 | 1 => {
                self.column();
                self.operator();
                self.literal();
            }
            2 => {
                self.literal();
                self.operator();
                self.literal();
            }
            3 => {
                self.expr();
                self.operator();
                self.expr();
            }
            4 | 5 => {
                self.condition();
                self.one_of(&["AND", "OR"]);
                self.condition();
            }
            6 => {
                self.put("NOT");
                self.condition();
            }
            7 => self.in_parentheses(Self::condition),
            8 | 9 => {
                self.expr();
                self.maybe(3, |w| w.put("NOT"));
                self.put("IN");
                self.in_parentheses(|w| {
                    if w.choices.one_in(5) {
                        w.select();
                    } else {
                        w.list(Self::expr);
                    }
                });
            }
            10 => {
                self.expr();
                self.one_of(&["BETWEEN", "NOT BETWEEN", "BETWEEN SYMMETRIC"]);
                self.literal();
                self.put("AND");
                self.literal();
            }
            11 => {
                self.expr();
                self.one_of(&["LIKE", "NOT LIKE", "ILIKE", "SIMILAR TO", "NOT ILIKE"]);
                self.literal();
                self.maybe(4, |w| w.put("ESCAPE '!'"));
            }
            12 => {
                self.expr();
                self.one_of(&[
                    "IS NULL",
                    "IS NOT NULL",
                    "IS DISTINCT FROM 1",
                    "IS NOT DISTINCT FROM ( 'x' )",
                    "IS TRUE",
                    "IS JSON OBJECT",
                    "IS DOCUMENT",
                    "ISNULL",
                ]);
            }
            13 => {
                self.put("EXISTS");
                self.in_parentheses(Self::select);
            }
            14 => {
                self.expr();
                self.one_of(&["= ANY", "<> ALL", "LIKE ANY", "> SOME"]);
                self.in_parentheses(Self::expr);
            }
            _ => {
                self.in_parentheses(|w| w.list(Self::expr));
                self.put("OVERLAPS");
                self.in_parentheses(|w| w.list(Self::expr));
            }
        }
        self.depth -= 1;
    }

    fn expr(&mut self) {
        self.depth += 1;
        let simple = self.depth > 6 || self.choices.roll(5) > 1;
        match self.choices.roll(if simple { 5 } else { 26 }) {
            0..=2 => self.literal(),
            3 | 4 => self.column(),
            5 => {
                self.one_of(&["-", "+", "@", "- -", "~"]);
                self.literal();
            }
            6 | 7 => {
                self.expr();
                self.operator();
                self.expr();
            }
            8 => self.in_parentheses(Self::expr),
            9 | 10 => {
                self.expr();
                self.put("::");
                self.one_of(&TYPES);
            }
            11 => {
                self.put("CAST (");
                self.expr();
                self.put("AS");
                self.one_of(&TYPES);
                self.put(")");
            }
            12 => {
                self.one_of(&TYPES);
                self.one_of(&["'x'", "'2020-01-01'", "'pg_class'"]);
            }
            13 => self.one_of(&[
                "date '2020-01-01'",
                "interval '1' day",
                "interval ( 3 ) '1'",
                "INTERVAL '1-2' YEAR TO MONTH",
                "time with time zone 'x'",
                "like 'x'",
                "timestamp ( 2 ) 'x'",
                "x . select 'a'",
                "bit ( 3 ) '101'",
                "a . limit '1'",
            ]),
            _ => self.special(),
        }
        self.depth -= 1;
    }

    /// Expressions with a syntax of their own.
    fn special(&mut self) {
        match self.choices.roll(12) {
            0 | 1 => {
                self.function();
                self.in_parentheses(|w| {
                    w.maybe(8, |w| w.one_of(&["DISTINCT", "VARIADIC", "a =>", "a :="]));
                    w.list(Self::expr);
                    w.maybe(8, |w| w.put("ORDER BY 1"));
                });
                self.maybe(6, |w| {
                    w.one_of(&[
                        "OVER ( ORDER BY 1 , 2 )",
                        "FILTER ( WHERE id = 1 )",
                        "OVER ( PARTITION BY 'x' ROWS BETWEEN 1 PRECEDING AND 2 FOLLOWING )",
                        "WITHIN GROUP ( ORDER BY 1 )",
                    ])
                });
            }
            2 => {
                self.put("CASE");
                self.maybe(2, Self::expr);
                self.put("WHEN");
                self.condition();
                self.put("THEN");
                self.expr();
                self.put("ELSE");
                self.expr();
                self.put("END");
            }
            3 => {
                self.put("ARRAY [");
                self.list(Self::expr);
                self.put("]");
            }
            4 => {
                self.expr();
                self.one_of(&[
                    "[ 1 ]",
                    "[ 1 : 2 ]",
                    "[ 'x' ]",
                    ". a",
                    "AT TIME ZONE 'x'",
                    "COLLATE \"C\"",
                    "AT LOCAL",
                ]);
            }
            5 => self.in_parentheses(Self::select),
            6 => self.one_of(&[
                "extract ( year FROM d )",
                "substring ( email FROM 1 FOR 2 )",
                "position ( 'a' IN email )",
                "trim ( both 'x' FROM email )",
                "overlay ( email PLACING 'x' FROM 1 )",
                "CURRENT_TIMESTAMP ( 3 )",
                "extract ( 'year' FROM d )",
                "normalize ( email , NFC )",
            ]),
            7 => self.one_of(&[
                "JSON_VALUE ( '{}' , '$.a' DEFAULT 1 ON EMPTY )",
                "JSON_OBJECT ( 'a' : 1 )",
                "XMLPARSE ( DOCUMENT '<a/>' )",
                "JSON_ARRAY ( 1 , 'x' )",
                "JSON ( '{}' )",
                "GROUPING ( id , email )",
            ]),
            8 => {
                self.put("ROW (");
                self.list(Self::expr);
                self.put(")");
            }
            9 => {
                self.in_parentheses(|w| w.list(Self::expr));
                self.maybe(3, |w| {
                    w.put("::");
                    w.one_of(&TYPES);
                });
            }
            10 => self.one_of(&[
                "'x'::regclass",
                "('customers')::regclass",
                "( 'x' ) [ 1 ]",
                "- 1 :: int",
                "(1).a",
                "1::numeric(10,2)",
                "'a' UESCAPE '!'",
                "a.b.c.limit",
                "'a'::x . in(1,2)",
                "x :: bit varying ( 3 )",
            ]),
            _ => self.condition(),
        }
    }
}

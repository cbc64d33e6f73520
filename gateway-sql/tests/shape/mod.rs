//! What must hold of any text that has a shape: with other literals in the place of those that were taken out it is the
//! same statement with other constants, and its analysis is the same wherever it is said to be that of the shape. Used
//! by a property test and by a fuzz target.

mod grammar;
mod tree;
mod words;

use std::sync::LazyLock;

use gateway_sql::{Analysis, Catalog, SessionState, StatementAnalysis, analyze, normalise, shape};
use pg_query::ParserOptions;

pub use grammar::{Choices, text};

/// Stands for a literal in a shape, followed by its class.
const TAKEN_OUT: char = '\u{1}';
/// Longer texts are not tried: what nests deeper than this needs a stack of its own.
const LONGEST: usize = 4000;

static CATALOG: LazyLock<Catalog> =
    LazyLock::new(|| Catalog::from_json(include_str!("../data/orders-catalog.json")).unwrap());

/// The body of the fuzz target: the first byte says whether the rest is a text or choices that a grammar makes one of;
/// the end of it chooses the other literals.
pub fn input(data: &[u8]) {
    let Some((&kind, rest)) = data.split_first() else {
        return;
    };
    let sql = if kind & 1 == 0 {
        String::from_utf8_lossy(rest).into_owned()
    } else {
        text(&mut Choices::of(rest))
    };
    let others: Vec<u8> = data.iter().rev().copied().collect();
    assert_alike(&sql, &mut Choices::of(&others));
}

/// Fails where the shape of `sql` gathers texts that are not alike. Returns whether there was one to compare, and
/// whether its analysis is shared.
pub fn assert_alike(sql: &str, choices: &mut Choices<'_>) -> (bool, bool) {
    let mut own = String::new();
    if sql.len() > LONGEST || !shape(sql, &mut own) {
        return (false, false);
    }
    let other = filled(&own, choices);
    let mut others = String::new();
    assert!(shape(&other, &mut others), "{other:?} has no shape, {sql:?} has");
    assert_eq!(own, others, "{sql:?} and {other:?}");
    let compare = || compare(sql, &other);
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .stack_size(256 << 20)
            .spawn_scoped(scope, compare);
        match thread.unwrap().join() {
            Ok(compared) => compared,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn compare(sql: &str, other: &str) -> (bool, bool) {
    let conforming = ParserOptions::DEFAULT;
    for options in [
        conforming,
        conforming | ParserOptions::DISABLE_STANDARD_CONFORMING_STRINGS,
    ] {
        match (pg_query::parse(sql, options), pg_query::parse(other, options)) {
            (Ok(one), Ok(two)) => {
                let (one, two) = (
                    tree::without_values(&one.protobuf),
                    tree::without_values(&two.protobuf),
                );
                assert!(one == two, "{sql:?} is {one}\n{other:?} is {two}");
            }
            (Err(_), Err(_)) => return (false, false),
            (one, two) => panic!("{sql:?} is {:?}, {other:?} is {:?}", one.map(drop), two.map(drop)),
        }
    }
    let session = SessionState::default();
    let (one, two) = (
        analyze(sql, &CATALOG, &session),
        analyze(other, &CATALOG, &session),
    );
    let shared = one.is_of_shape();
    assert_eq!(shared, two.is_of_shape(), "{sql:?} and {other:?}");
    if shared {
        assert_eq!(meaning(one), meaning(two), "{sql:?} and {other:?}");
        // One text without its literals stands for all of them in the audit.
        assert_eq!(normalise(sql), normalise(other), "{sql:?} and {other:?}");
    }
    (true, shared)
}

/// All of an analysis but where in the text it is, and what the literals are that meet columns.
fn meaning(analysis: Analysis) -> String {
    let placeless = |statement: StatementAnalysis| StatementAnalysis {
        location: 0,
        len: 0,
        matched: Vec::new(),
        ..statement
    };
    let statements: Vec<_> = analysis.statements.into_iter().map(placeless).collect();
    format!("{statements:?}")
}

const STRINGS: [&str; 22] = [
    "''",
    "'x'",
    "'a''b'",
    "''''",
    "' '",
    "'%'",
    "'_'",
    "'1'",
    "'-1'",
    "'((((['",
    "')'",
    "''';--'",
    "'é'",
    "'a\nb'",
    "'pg_class'",
    "'{}'",
    "'public.customers'",
    "'$1'",
    "'/*'",
    "'*/'",
    "'\"'",
    "'search_path'",
];
const INTS: [&str; 7] = ["0", "1", "2", "007", "10", "2147483646", "2147483647"];
const LONGS: [&str; 4] = ["2147483648", "3000000000", "999999999999999999", "004294967296"];
const NUMERICS: [&str; 5] = ["0.0", "1.5", "00.1", "2147483647.0", "99999999999999999999.5"];

/// A shape with other literals of the same classes.
fn filled(shape: &str, choices: &mut Choices<'_>) -> String {
    let mut parts = shape.split(TAKEN_OUT);
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str(match &part[..1] {
            "s" => choices.of_these(&STRINGS),
            "i" => choices.of_these(&INTS),
            "l" => choices.of_these(&LONGS),
            "n" => choices.of_these(&NUMERICS),
            class => panic!("class {class:?} in {shape:?}"),
        });
        text.push_str(&part[1..]);
    }
    text
}

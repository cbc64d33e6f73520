//! A small model of PostgreSQL: it obeys the protocol, and knows a handful of statements.

use std::collections::{BTreeSet, HashMap, VecDeque};

use bytes::{Buf, BytesMut};
use gateway_sql::{Catalog, Outdated, stamps_query};

use super::message::{frame, text};

type Failure = (&'static str, &'static str);

const ABORTED: Failure = ("25P02", "current transaction is aborted");
const SYNTAX: Failure = ("42601", "syntax error");
const NO_TABLE: Failure = ("42P01", "relation does not exist");
const NO_STATEMENT: Failure = ("26000", "prepared statement does not exist");
const NO_PORTAL: Failure = ("34000", "portal does not exist");

/// What is known of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Statement {
    Select { table: String, fails: bool },
    Insert { table: String },
    CopyIn { table: String },
    CopyOut { table: String },
    Begin,
    Commit,
    Rollback,
    Savepoint(String),
    RollbackTo(String),
    SetPath { path: Vec<String>, local: bool },
    Prepare { name: String, sql: String },
    Execute(String),
    Deallocate(Option<String>),
    Declare { name: String, sql: String },
    Fetch(String),
    CloseCursor(String),
    DiscardAll,
    CreateTable(String),
    Environment,
    Stamps,
    Structure,
    Nothing,
}

fn parse(sql: &str) -> Result<Statement, Failure> {
    let sql = sql.trim().trim_end_matches(';').trim();
    if Outdated::All
        .query(false)
        .is_some_and(|query| query.trim() == sql)
    {
        return Ok(Statement::Structure);
    }
    if sql == stamps_query().trim() {
        return Ok(Statement::Stamps);
    }
    let words: Vec<&str> = sql.split_whitespace().collect();
    let own = |name: &str| name.trim_matches('"').to_owned();
    Ok(match words.as_slice() {
        [] => Statement::Nothing,
        ["SELECT", first, ..] if first.starts_with("pg_catalog.json_build_object") => Statement::Environment,
        ["SELECT", what, "FROM", table] => Statement::Select {
            table: own(table),
            fails: *what == "1/0",
        },
        ["INSERT", "INTO", table, ..] => Statement::Insert { table: own(table) },
        ["COPY", table, "FROM", "STDIN"] => Statement::CopyIn { table: own(table) },
        ["COPY", table, "TO", "STDOUT"] => Statement::CopyOut { table: own(table) },
        ["BEGIN"] => Statement::Begin,
        ["COMMIT"] => Statement::Commit,
        ["ROLLBACK"] => Statement::Rollback,
        ["SAVEPOINT", name] => Statement::Savepoint(own(name)),
        ["ROLLBACK", "TO", name] => Statement::RollbackTo(own(name)),
        ["SET", "search_path", "TO", path @ ..] => Statement::SetPath {
            path: path
                .iter()
                .map(|name| name.trim_matches(',').to_owned())
                .collect(),
            local: false,
        },
        ["SET", "LOCAL", "search_path", "TO", path @ ..] => Statement::SetPath {
            path: path
                .iter()
                .map(|name| name.trim_matches(',').to_owned())
                .collect(),
            local: true,
        },
        ["PREPARE", name, "AS", ..] => Statement::Prepare {
            name: own(name),
            sql: sql
                .split_once(" AS ")
                .map(|(_, sql)| sql.to_owned())
                .unwrap_or_default(),
        },
        ["EXECUTE", name] => Statement::Execute(own(name)),
        ["DEALLOCATE", "ALL"] => Statement::Deallocate(None),
        ["DEALLOCATE", name] => Statement::Deallocate(Some(own(name))),
        ["DECLARE", name, "CURSOR", "FOR", ..] => Statement::Declare {
            name: own(name),
            sql: sql
                .split_once(" FOR ")
                .map(|(_, sql)| sql.to_owned())
                .unwrap_or_default(),
        },
        ["FETCH", "ALL", "FROM", name] => Statement::Fetch(own(name)),
        ["CLOSE", name] => Statement::CloseCursor(own(name)),
        ["DISCARD", "ALL"] => Statement::DiscardAll,
        ["CREATE", "TABLE", name, ..] => Statement::CreateTable(own(name)),
        _ => return Err(SYNTAX),
    })
}

impl Statement {
    /// Whether it may run in a failed transaction.
    fn is_exit(&self) -> bool {
        matches!(self, Self::Commit | Self::Rollback | Self::RollbackTo(_))
    }

    fn gives_rows(&self) -> bool {
        use Statement as S;
        matches!(
            self,
            S::Select { .. } | S::Execute(_) | S::Fetch(_) | S::Environment | S::Stamps | S::Structure
        )
    }
}

#[derive(Debug, Clone)]
struct Portal {
    text: String,
    statement: Statement,
    /// What it reads, as its plan has it.
    table: Option<String>,
    rows: Option<VecDeque<String>>,
    done: bool,
}

type Table = (String, String);

#[derive(Debug, Clone)]
struct Snapshot {
    path: Vec<String>,
    tables: BTreeSet<Table>,
}

#[derive(Debug)]
struct Transaction {
    start: Snapshot,
    /// What COMMIT leaves.
    session_path: Vec<String>,
    savepoints: Vec<(String, Snapshot, BTreeSet<String>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    None,
    Inside,
    Failed,
}

#[derive(Debug)]
struct CopyIn {
    simple: bool,
    rest: VecDeque<Statement>,
    rows: usize,
}

/// The model.
#[derive(Debug)]
pub struct Server {
    input: BytesMut,
    /// What it has sent and nobody has taken.
    pub output: BytesMut,
    statements: HashMap<String, String>,
    portals: HashMap<String, Portal>,
    tables: BTreeSet<Table>,
    path: Vec<String>,
    block: Block,
    transaction: Option<Transaction>,
    skipping: bool,
    copy: Option<CopyIn>,
    /// Texts of Query, and of statements that were executed, in order; not the gateway's own.
    pub ran: Vec<String>,
    /// Tables that were touched.
    pub touched: Vec<String>,
    /// Sync, Query and so on that were answered with ReadyForQuery.
    pub ready: usize,
}

/// Tables of the model; the digit is the count of rows.
pub const TABLES: &[(&str, &str)] = &[
    ("public", "t0"),
    ("public", "t3"),
    ("public", "t5"),
    ("public", "secret2"),
    ("public", "held3"),
    ("public", "budget5"),
    ("public", "x2"),
    ("other", "x2"),
];

/// The tables as the gateway gets to know them.
pub fn catalog<'a>(tables: impl Iterator<Item = (&'a str, &'a str)>) -> Catalog {
    let mut builder = Catalog::builder();
    for (schema, name) in tables {
        builder.table(schema, name, &["id"]);
    }
    builder.build()
}

impl Default for Server {
    fn default() -> Self {
        Self {
            input: BytesMut::new(),
            output: BytesMut::new(),
            statements: HashMap::new(),
            portals: HashMap::new(),
            tables: TABLES
                .iter()
                .map(|(s, n)| ((*s).to_owned(), (*n).to_owned()))
                .collect(),
            path: vec!["public".to_owned()],
            block: Block::None,
            transaction: None,
            skipping: false,
            copy: None,
            ran: Vec::new(),
            touched: Vec::new(),
            ready: 0,
        }
    }
}

impl Server {
    /// The structure of the database as everyone sees it now.
    pub fn catalog(&self) -> Catalog {
        let committed = self
            .transaction
            .as_ref()
            .map_or(&self.tables, |t| &t.start.tables);
        catalog(committed.iter().map(|(s, n)| (s.as_str(), n.as_str())))
    }

    /// Takes bytes and answers what is whole.
    pub fn take(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        while let Some(header) = self.input.get(..5) {
            let len = 1 + u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
            if self.input.len() < len {
                return;
            }
            let whole = self.input.copy_to_bytes(len);
            self.message(whole[0], &whole[5..]);
        }
    }

    fn put(&mut self, tag: u8, body: &[u8]) {
        self.output.extend_from_slice(&frame(tag, body));
    }

    fn error(&mut self, (code, what): Failure) {
        let body = format!("SERROR\0VERROR\0C{code}\0M{what}\0\0");
        self.put(b'E', body.as_bytes());
    }

    fn complete(&mut self, tag: &str) {
        self.put(b'C', format!("{tag}\0").as_bytes());
    }

    fn describe_row(&mut self) {
        let mut body = vec![0, 1];
        body.extend_from_slice(b"id\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0");
        self.put(b'T', &body);
    }

    fn row(&mut self, value: &str) {
        let mut body = vec![0, 1];
        body.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
        body.extend_from_slice(value.as_bytes());
        self.put(b'D', &body);
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            path: self.path.clone(),
            tables: self.tables.clone(),
        }
    }

    fn start(&mut self) {
        if self.transaction.is_none() {
            self.transaction = Some(Transaction {
                start: self.snapshot(),
                session_path: self.path.clone(),
                savepoints: Vec::new(),
            });
        }
    }

    fn commit(&mut self) {
        if let Some(transaction) = self.transaction.take() {
            self.path = transaction.session_path;
        }
        self.portals.clear();
        self.block = Block::None;
    }

    fn abort(&mut self) {
        if let Some(transaction) = self.transaction.take() {
            self.path = transaction.start.path;
            self.tables = transaction.start.tables;
        }
        self.portals.clear();
        self.block = Block::None;
    }

    fn fail(&mut self, failure: Failure) {
        self.error(failure);
        match self.block {
            Block::None => self.abort(),
            Block::Inside | Block::Failed => self.block = Block::Failed,
        }
    }

    fn ready(&mut self) {
        if self.block == Block::None {
            self.commit();
        }
        self.ready += 1;
        let status = match self.block {
            Block::None => b'I',
            Block::Inside => b'T',
            Block::Failed => b'E',
        };
        self.put(b'Z', &[status]);
    }

    fn resolve(&self, name: &str) -> Result<String, Failure> {
        let found = match name.split_once('.') {
            Some((schema, name)) => Some((schema.to_owned(), name.to_owned())),
            None => self
                .path
                .iter()
                .map(|schema| (schema.clone(), name.to_owned()))
                .find(|t| self.tables.contains(t)),
        };
        found
            .filter(|table| self.tables.contains(table))
            .map(|(schema, name)| format!("{schema}.{name}"))
            .ok_or(NO_TABLE)
    }

    /// What parse analysis resolves: utility statements are looked at when they run.
    fn analyse(&self, statement: &Statement) -> Result<Option<String>, Failure> {
        match statement {
            Statement::Select { table, .. } | Statement::Insert { table } => self.resolve(table).map(Some),
            Statement::Declare { sql, .. } => self.analyse(&parse(sql)?),
            _ => Ok(None),
        }
    }

    fn rows_of(table: &str) -> VecDeque<String> {
        let count = table
            .chars()
            .last()
            .and_then(|c| c.to_digit(10))
            .unwrap_or_default();
        (0..count).map(|n| format!("{table}/{n}")).collect()
    }

    fn message(&mut self, tag: u8, body: &[u8]) {
        if self.copy.is_some() {
            return self.copying(tag, body);
        }
        match tag {
            b'S' => {
                self.skipping = false;
                return self.ready();
            }
            _ if self.skipping => return,
            b'd' | b'c' | b'f' | b'H' | b'X' => return,
            b'Q' => return self.query(&text(body).0),
            _ => {}
        }
        let done = match tag {
            b'P' => self.parse(body),
            b'B' => self.bind(body),
            b'D' => self.describe(body),
            b'E' => self.execute(body),
            b'C' => {
                let (name, _) = text(&body[1..]);
                match body[0] {
                    b'S' => drop(self.statements.remove(&name)),
                    _ => drop(self.portals.remove(&name)),
                }
                self.put(b'3', b"");
                Ok(())
            }
            b'F' => {
                self.put(b'V', &[0xff; 4]);
                return self.ready();
            }
            _ => Err(("08P01", "invalid message")),
        };
        if let Err(failure) = done {
            self.fail(failure);
            self.skipping = true;
        }
    }

    fn query(&mut self, sql: &str) {
        self.statements.remove("");
        self.portals.remove("");
        let list: Result<VecDeque<Statement>, Failure> = sql
            .split(';')
            .filter(|part| !part.trim().is_empty())
            .map(parse)
            .collect();
        match list {
            Err(failure) => {
                self.fail(failure);
                self.ready();
            }
            Ok(list) => {
                self.ran.push(sql.to_owned());
                if list.is_empty() {
                    self.put(b'I', b"");
                }
                self.go_on(list);
            }
        }
    }

    /// Runs the statements of a Query.
    fn go_on(&mut self, mut list: VecDeque<Statement>) {
        while let Some(statement) = list.pop_front() {
            self.start();
            if let Statement::CopyIn { table } = &statement
                && self.block != Block::Failed
            {
                match self.resolve(table) {
                    Ok(table) => {
                        self.touched.push(table);
                        self.put(b'G', &[0, 0, 1, 0, 0]);
                        self.copy = Some(CopyIn {
                            simple: true,
                            rest: list,
                            rows: 0,
                        });
                        return;
                    }
                    Err(failure) => {
                        self.fail(failure);
                        break;
                    }
                }
            }
            let mut portal = Portal {
                text: String::new(),
                statement,
                table: None,
                rows: None,
                done: false,
            };
            if let Err(failure) = self.run(&mut portal, 0, true) {
                self.fail(failure);
                break;
            }
        }
        self.ready();
    }

    fn copying(&mut self, tag: u8, body: &[u8]) {
        let Some(mut copy) = self.copy.take() else { return };
        let failure = match tag {
            b'S' | b'H' => {
                self.copy = Some(copy);
                return;
            }
            b'd' if body.starts_with(b"bad") => ("22P04", "bad row"),
            b'd' => {
                copy.rows += 1;
                self.copy = Some(copy);
                return;
            }
            b'c' => {
                self.complete(&format!("COPY {}", copy.rows));
                if copy.simple {
                    self.go_on(copy.rest);
                }
                return;
            }
            b'f' => ("57014", "COPY from stdin failed"),
            _ => ("08P01", "unexpected message type during COPY from stdin"),
        };
        self.fail(failure);
        if copy.simple {
            self.ready();
        } else {
            self.skipping = true;
        }
    }

    fn parse(&mut self, body: &[u8]) -> Result<(), Failure> {
        let (name, rest) = text(body);
        let (sql, _) = text(rest);
        if name.is_empty() {
            self.statements.remove("");
        }
        if sql.split(';').filter(|part| !part.trim().is_empty()).count() > 1 {
            return Err((
                "42601",
                "cannot insert multiple commands into a prepared statement",
            ));
        }
        let statement = parse(&sql)?;
        self.start();
        if self.block == Block::Failed && !statement.is_exit() {
            return Err(ABORTED);
        }
        self.analyse(&statement)?;
        if self.statements.contains_key(&name) {
            return Err(("42P05", "prepared statement already exists"));
        }
        self.statements.insert(name, sql);
        self.put(b'1', b"");
        Ok(())
    }

    fn bind(&mut self, body: &[u8]) -> Result<(), Failure> {
        let (portal, rest) = text(body);
        let (name, _) = text(rest);
        let sql = self.statements.get(&name).cloned().ok_or(NO_STATEMENT)?;
        let statement = parse(&sql)?;
        self.start();
        if self.block == Block::Failed && !statement.is_exit() {
            return Err(ABORTED);
        }
        if !portal.is_empty() && self.portals.contains_key(&portal) {
            return Err(("42P03", "portal already exists"));
        }
        self.portals.remove("");
        let table = self.analyse(&statement)?;
        let bound = Portal {
            text: sql,
            statement,
            table,
            rows: None,
            done: false,
        };
        self.portals.insert(portal, bound);
        self.put(b'2', b"");
        Ok(())
    }

    fn describe(&mut self, body: &[u8]) -> Result<(), Failure> {
        let (name, _) = text(&body[1..]);
        self.start();
        let statement = if body[0] == b'S' {
            parse(self.statements.get(&name).ok_or(NO_STATEMENT)?)?
        } else {
            self.portals.get(&name).ok_or(NO_PORTAL)?.statement.clone()
        };
        if self.block == Block::Failed && statement.gives_rows() {
            return Err(ABORTED);
        }
        if body[0] == b'S' {
            self.put(b't', &[0, 0]);
        }
        if statement.gives_rows() {
            self.describe_row();
        } else {
            self.put(b'n', b"");
        }
        Ok(())
    }

    fn execute(&mut self, body: &[u8]) -> Result<(), Failure> {
        let (name, rest) = text(body);
        let max = i32::from_be_bytes([rest[0], rest[1], rest[2], rest[3]]);
        self.start();
        let mut portal = self.portals.get(&name).cloned().ok_or(NO_PORTAL)?;
        if portal.statement == Statement::Nothing {
            self.ran.push(portal.text);
            self.put(b'I', b"");
            return Ok(());
        }
        if self.block == Block::Failed && !portal.statement.is_exit() {
            return Err(ABORTED);
        }
        if !matches!(
            portal.statement,
            Statement::Environment | Statement::Stamps | Statement::Structure
        ) {
            self.ran.push(portal.text.clone());
        }
        if portal.done && !portal.statement.gives_rows() {
            return Err(("55000", "portal cannot be run"));
        }
        if let Statement::CopyIn { table } = &portal.statement {
            let table = self.resolve(table)?;
            self.touched.push(table);
            if let Some(known) = self.portals.get_mut(&name) {
                known.done = true;
            }
            self.put(b'G', &[0, 0, 1, 0, 0]);
            self.copy = Some(CopyIn {
                simple: false,
                rest: VecDeque::new(),
                rows: 0,
            });
            return Ok(());
        }
        let done = self.run(&mut portal, usize::try_from(max).unwrap_or_default(), false);
        if let Some(known) = self.portals.get_mut(&name) {
            known.rows = portal.rows;
            known.done = true;
        }
        done
    }

    fn give(&mut self, rows: &mut VecDeque<String>, max: usize, tag: &str) {
        let mut given = 0;
        while max == 0 || given < max {
            let Some(row) = rows.pop_front() else {
                return self.complete(&format!("{tag} {given}"));
            };
            self.row(&row);
            given += 1;
        }
        self.put(b's', b"");
    }

    fn run(&mut self, portal: &mut Portal, max: usize, simple: bool) -> Result<(), Failure> {
        use Statement as S;
        let statement = portal.statement.clone();
        if self.block == Block::Failed && !statement.is_exit() {
            return Err(ABORTED);
        }
        if portal.rows.is_none() {
            let rows = match &statement {
                S::Select { .. } | S::Environment | S::Stamps | S::Structure => self.open(portal)?,
                S::Execute(name) => {
                    let sql = self.statements.get(name).cloned().ok_or(NO_STATEMENT)?;
                    let mut inner = Portal {
                        statement: parse(&sql)?,
                        ..portal.clone()
                    };
                    inner.table = self.analyse(&inner.statement)?;
                    if !matches!(inner.statement, S::Select { .. }) {
                        return Err(("0A000", "EXECUTE of this is not in the model"));
                    }
                    self.open(&inner)?
                }
                S::Fetch(name) => {
                    let mut cursor = self.portals.remove(name).ok_or(NO_PORTAL)?;
                    let rows = match cursor.rows.take() {
                        Some(rows) => rows,
                        None if matches!(cursor.statement, S::Select { .. }) => self.open(&cursor)?,
                        None => return Err(("55000", "portal cannot be run")),
                    };
                    cursor.rows = Some(VecDeque::new());
                    self.portals.insert(name.clone(), cursor);
                    rows
                }
                _ => VecDeque::new(),
            };
            portal.rows = Some(rows);
        }
        if statement.gives_rows() {
            if simple {
                self.describe_row();
            }
            let mut rows = portal.rows.take().unwrap_or_default();
            self.give(
                &mut rows,
                max,
                if matches!(statement, S::Fetch(_)) {
                    "FETCH"
                } else {
                    "SELECT"
                },
            );
            portal.rows = Some(rows);
            return Ok(());
        }
        self.utility(&statement, portal.table.clone(), simple)
    }

    fn open(&mut self, portal: &Portal) -> Result<VecDeque<String>, Failure> {
        match &portal.statement {
            Statement::Select { table, fails } => {
                let table = match &portal.table {
                    Some(table) => table.clone(),
                    None => self.resolve(table)?,
                };
                if *fails {
                    return Err(("22012", "division by zero"));
                }
                self.touched.push(table.clone());
                Ok(Self::rows_of(&table))
            }
            Statement::Environment => {
                let path: Vec<String> = std::iter::once("pg_catalog".to_owned())
                    .chain(self.path.iter().cloned())
                    .collect();
                let answer = serde_json::json!({ "path": path, "set": self.path.join(", "), "user": "login", "temp": null });
                Ok(VecDeque::from([answer.to_string()]))
            }
            Statement::Stamps => {
                let answer = serde_json::json!({
                    "base": "model", "system": "", "schemas": [[2200, "public"]], "relations": [],
                    "functions": [], "types": [], "operators": "", "casts": "",
                });
                Ok(VecDeque::from([answer.to_string()]))
            }
            Statement::Structure => {
                let catalog = catalog(self.tables.iter().map(|(s, n)| (s.as_str(), n.as_str())));
                Ok(VecDeque::from([serde_json::to_string(&catalog).unwrap()]))
            }
            _ => Ok(VecDeque::new()),
        }
    }

    #[allow(
        clippy::too_many_lines,
        reason = "a table of what a model of the server does, one arm a statement"
    )]
    fn utility(
        &mut self,
        statement: &Statement,
        planned: Option<String>,
        simple: bool,
    ) -> Result<(), Failure> {
        use Statement as S;
        match statement {
            S::Insert { table } => {
                let table = match planned {
                    Some(table) => table,
                    None => self.resolve(table)?,
                };
                self.touched.push(table);
                self.complete("INSERT 0 1");
            }
            S::CopyOut { table } => {
                let table = self.resolve(table)?;
                self.touched.push(table.clone());
                self.put(b'H', &[0, 0, 1, 0, 0]);
                let rows = Self::rows_of(&table);
                for row in &rows {
                    self.put(b'd', row.as_bytes());
                }
                self.put(b'c', b"");
                self.complete(&format!("COPY {}", rows.len()));
            }
            S::Begin => {
                self.block = Block::Inside;
                self.complete("BEGIN");
            }
            S::Commit if self.block == Block::Failed => {
                self.abort();
                self.complete("ROLLBACK");
            }
            S::Commit => {
                self.commit();
                self.complete("COMMIT");
            }
            S::Rollback => {
                self.abort();
                self.complete("ROLLBACK");
            }
            S::Savepoint(name) => {
                if self.block != Block::Inside {
                    return Err(("25P01", "no transaction block"));
                }
                let (snapshot, portals) = (self.snapshot(), self.portals.keys().cloned().collect());
                if let Some(transaction) = &mut self.transaction {
                    transaction.savepoints.push((name.clone(), snapshot, portals));
                }
                self.complete("SAVEPOINT");
            }
            S::RollbackTo(name) => {
                if self.block == Block::None {
                    return Err(("25P01", "no transaction block"));
                }
                let Some(transaction) = &mut self.transaction else {
                    return Err(SYNTAX);
                };
                let Some(at) = transaction.savepoints.iter().rposition(|(own, ..)| own == name) else {
                    return Err(("3B001", "savepoint does not exist"));
                };
                transaction.savepoints.truncate(at + 1);
                let (_, snapshot, portals) = transaction.savepoints[at].clone();
                transaction.session_path.clone_from(&snapshot.path);
                self.path = snapshot.path;
                self.tables = snapshot.tables;
                self.portals.retain(|name, _| portals.contains(name));
                self.block = Block::Inside;
                self.complete("ROLLBACK");
            }
            S::SetPath { path, local } => {
                self.path.clone_from(path);
                if let Some(transaction) = &mut self.transaction
                    && !local
                {
                    transaction.session_path.clone_from(path);
                }
                self.complete("SET");
            }
            S::Prepare { name, sql } => {
                self.analyse(&parse(sql)?)?;
                if self.statements.contains_key(name) {
                    return Err(("42P05", "prepared statement already exists"));
                }
                self.statements.insert(name.clone(), sql.clone());
                self.complete("PREPARE");
            }
            S::Deallocate(None) => {
                self.statements.retain(|name, _| name.is_empty());
                self.complete("DEALLOCATE ALL");
            }
            S::Deallocate(Some(name)) => {
                self.statements.remove(name).ok_or(NO_STATEMENT)?;
                self.complete("DEALLOCATE");
            }
            S::Declare { name, sql } => {
                if self.block != Block::Inside {
                    return Err(("25P01", "no transaction block"));
                }
                if self.portals.contains_key(name) {
                    return Err(("42P03", "cursor already exists"));
                }
                let statement = parse(sql)?;
                let table = self.analyse(&statement)?;
                let portal = Portal {
                    text: format!("FETCH ALL FROM \"{name}\""),
                    statement,
                    table,
                    rows: None,
                    done: false,
                };
                self.portals.insert(name.clone(), portal);
                self.complete("DECLARE CURSOR");
            }
            S::CloseCursor(name) => {
                self.portals.remove(name).ok_or(NO_PORTAL)?;
                self.complete("CLOSE CURSOR");
            }
            S::DiscardAll => {
                if self.block != Block::None || !simple {
                    return Err(("25001", "DISCARD ALL cannot run inside a transaction block"));
                }
                self.statements.retain(|name, _| name.is_empty());
                self.portals.clear();
                self.path = vec!["public".to_owned()];
                if let Some(transaction) = &mut self.transaction {
                    transaction.session_path.clone_from(&self.path);
                }
                self.complete("DISCARD ALL");
            }
            S::CreateTable(name) => {
                let schema = self.path.first().cloned().unwrap_or_default();
                if !self.tables.insert((schema, name.clone())) {
                    return Err(("42P07", "relation already exists"));
                }
                self.complete("CREATE TABLE");
            }
            _ => return Err(("0A000", "not in this model")),
        }
        Ok(())
    }
}

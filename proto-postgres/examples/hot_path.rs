//! What one statement costs in the gateway itself, sockets apart: `hot_path CASE COUNT` takes COUNT statements through
//! parse, inspect, policy, audit event and rewrite, and the server's answer back.
//!
//! `bench/instructions.py` counts the processor instructions of two runs that differ in COUNT alone; their difference,
//! which hardly varies, is kept as a bound in `bench/instructions.toml`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use gateway_core::audit::{AuditError, AuditSink, Event, OperationEvent, Receipt};
use gateway_core::credentials::{Issuers, NoJournal};
use gateway_core::gateway::{Attempt, AuditOptions, Gateway, Judged, Parts, SessionScope};
use gateway_core::limits::Limits;
use gateway_core::machine::{Bound, Inspection, Outbound, Parsed, Peer, ProtocolSession};
use gateway_core::policy::{PolicyEngine, SchemaPart, Vocabulary};
use gateway_core::principal::{Authenticated, Principal, PrincipalKind};
use gateway_core::resource::{CredentialConfig, Resource};
use gateway_core::secret::Secret;
use gateway_core::services::{
    AuthError, Authenticator, NobodyApproves, Provable, SessionFilter, Store, StoreError, TokenRecord,
};
use gateway_core::session::{SessionId, SessionRecord};
use gateway_core::tls::TlsRequire;
use gateway_sql::Catalog;
use jiff::Timestamp;
use proto_postgres::session::{Changed, Provision, Session, Settings};
use proto_postgres::structure::Structure;
use proto_postgres::wire::frontend::{Bind, Execute, Parse, Query, Sync};

const POLICY: &str = r#"
@id("analysts") permit (principal, action in [Action::"connect", Action::"read"], resource in Resource::"bench");
"#;

/// Knows everybody, keeps nothing, and encodes what it is given, as the audit log does.
struct World;

impl AuditSink for World {
    fn append(&self, _: Timestamp, event: &Event, _: bool) -> Result<Receipt, AuditError> {
        let encoded = serde_json::to_vec(event).map_err(|e| AuditError::Encode(e.to_string()))?;
        std::hint::black_box(encoded);
        Ok(Receipt::Taken)
    }

    fn append_operation(
        &self,
        _: Timestamp,
        operation: &OperationEvent<'_>,
        _: bool,
    ) -> Result<Receipt, AuditError> {
        let mut encoded = Vec::new();
        operation.encode(&mut encoded)?;
        std::hint::black_box(encoded);
        Ok(Receipt::Taken)
    }
}

#[async_trait]
impl Authenticator for World {
    async fn authenticate(&self, _: &Secret) -> Result<Authenticated, AuthError> {
        Ok(Authenticated {
            principal: Arc::new(Principal::new("alice@example.com", PrincipalKind::Human)),
            credential_id: "none".to_owned(),
            expires: None,
            resources: None,
        })
    }

    async fn provable(&self, _: &str) -> Result<Option<Provable>, AuthError> {
        Ok(None)
    }

    async fn still_valid(&self, _: &str) -> Result<bool, AuthError> {
        Ok(true)
    }
}

#[async_trait]
impl Store for World {
    async fn insert_token(&self, _: &TokenRecord) -> Result<(), StoreError> {
        Ok(())
    }
    async fn token(&self, _: &str) -> Result<Option<TokenRecord>, StoreError> {
        Ok(None)
    }
    async fn tokens(&self) -> Result<Vec<TokenRecord>, StoreError> {
        Ok(Vec::new())
    }
    async fn revoke_token(&self, _: &str, _: Timestamp) -> Result<bool, StoreError> {
        Ok(false)
    }
    async fn put_session(&self, _: &SessionRecord) -> Result<(), StoreError> {
        Ok(())
    }
    async fn session(&self, _: SessionId) -> Result<Option<SessionRecord>, StoreError> {
        Ok(None)
    }
    async fn sessions(&self, _: SessionFilter, _: u32) -> Result<Vec<SessionRecord>, StoreError> {
        Ok(Vec::new())
    }
    async fn close_orphans(&self, _: Timestamp, _: &str) -> Result<u64, StoreError> {
        Ok(0)
    }
}

async fn scope() -> Result<SessionScope> {
    let dir = std::env::temp_dir().join(format!("hot-path-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join("bench.cedar"), POLICY)?;
    let vocabulary = Vocabulary::merge([
        gateway_core::policy::core_part(),
        SchemaPart::parse("gateway-sql", gateway_sql::VOCABULARY)?,
    ])?;
    let policy = PolicyEngine::open(&dir, Arc::new(vocabulary));
    std::fs::remove_dir_all(&dir)?;
    let resource = Resource {
        name: "bench".to_owned(),
        protocol: "postgres".to_owned(),
        address: "127.0.0.1:1".to_owned(),
        labels: BTreeMap::new(),
        credential: CredentialConfig::login_as("app"),
        audit: None,
        tags: Vec::new(),
        detect: Vec::new(),
        functions: Vec::new(),
        recording: None,
        settings: serde_json::Map::new(),
    };
    let parts = Parts {
        policy: Arc::new(policy?),
        audit: Arc::new(World),
        authenticator: Arc::new(World),
        credentials: Issuers::default(),
        leases: Arc::new(NoJournal),
        approvals: Arc::new(NobodyApproves),
        store: Arc::new(World),
        limits: Limits::default(),
        audit_options: AuditOptions {
            mode: None,
            literals: true,
        },
        tls_require: TlsRequire::default(),
        mask_key: gateway_core::mask::MaskKey::new(&[0; 32]),
        recorder: std::sync::Arc::new(gateway_core::recording::Unrecorded),
        now: Timestamp::now,
    };
    let gateway = Gateway::new(parts, BTreeMap::from([("bench".to_owned(), Arc::new(resource))]));
    let attempt = Attempt {
        peer: ([127, 0, 0, 1], 40_000).into(),
        protocol: "postgres",
        user: "alice@bench".to_owned(),
        resource: "bench".to_owned(),
        detail: None,
    };
    let who = gateway.authenticate(&attempt, &Secret::new("any")).await?;
    Ok(gateway
        .open_session(&attempt, who, |operation| operation.with("database", "bench"))
        .await?)
}

fn structure() -> Arc<Structure> {
    let mut builder = Catalog::builder();
    builder.table(
        "public",
        "pgbench_accounts",
        &["aid", "bid", "abalance", "filler"],
    );
    Arc::new(Structure::new(builder.build(), Arc::default()))
}

/// One session with its scope, without sockets.
struct Pair {
    scope: SessionScope,
    session: Session,
    out: Outbound,
    now: Instant,
    structure: Arc<Structure>,
}

impl Pair {
    fn client(&mut self, mut bytes: BytesMut) -> Result<()> {
        while !bytes.is_empty() {
            match self
                .session
                .parse(Peer::Client, &bytes, &mut self.out, self.now)?
            {
                Parsed::Forward(n) => {
                    self.out
                        .to_target
                        .extend_from_slice(bytes.get(..n).unwrap_or_default());
                    bytes.advance(n);
                }
                Parsed::Consumed(n) => bytes.advance(n),
                Parsed::Inspect { consumed, message } => {
                    bytes.advance(consumed);
                    self.message(message)?;
                }
                other => bail!("the client's messages stop at {other:?}"),
            }
        }
        self.out.to_target.clear();
        Ok(())
    }

    fn message(&mut self, mut message: <Session as ProtocolSession>::Message) -> Result<()> {
        loop {
            match self.session.inspect(&mut message, &mut self.out, self.now)? {
                Inspection::Needs(_) => {
                    self.session
                        .provide(Provision::Structure(Ok(self.structure.clone())));
                }
                Inspection::Ask(question) => {
                    let Judged::Now(ruling) = self.scope.judge(&question, Bound::default, self.now) else {
                        bail!("the ruling comes later");
                    };
                    self.session.rewrite(message, &ruling, &mut self.out)?;
                    return Ok(());
                }
                // The session's first statement: what names mean is asked of the server.
                Inspection::Wait => self.answer_own()?,
                Inspection::Refuse(denial, _) => bail!("refused: {}", denial.hint),
            }
        }
    }

    /// Answers the gateway's own question on the session's connection: search path, role, no temporary relations.
    fn answer_own(&mut self) -> Result<()> {
        let mut answer = BytesMut::new();
        frame(&mut answer, b'1', b"");
        frame(&mut answer, b'2', b"");
        let row = br#"{"path":["pg_catalog","public"],"set":"public","user":"app","temp":[]}"#;
        let mut body = BytesMut::from(&[0, 1][..]);
        body.extend_from_slice(&u32::try_from(row.len())?.to_be_bytes());
        body.extend_from_slice(row);
        frame(&mut answer, b'D', &body);
        frame(&mut answer, b'C', b"SELECT 1\0");
        frame(&mut answer, b'3', b"");
        frame(&mut answer, b'3', b"");
        frame(&mut answer, b'Z', b"I");
        self.target(&answer)
    }

    fn target(&mut self, answer: &BytesMut) -> Result<()> {
        let mut bytes = answer.clone();
        while !bytes.is_empty() {
            match self
                .session
                .parse(Peer::Target, &bytes, &mut self.out, self.now)?
            {
                Parsed::Forward(n) | Parsed::Consumed(n) => bytes.advance(n),
                other => bail!("the server's messages stop at {other:?}"),
            }
        }
        while let Some(outcome) = self.session.poll_outcome() {
            self.scope.outcome(&outcome, self.now);
        }
        self.out.to_client.clear();
        Ok(())
    }
}

fn frame(to: &mut BytesMut, tag: u8, body: &[u8]) {
    let len = u32::try_from(body.len().saturating_add(4)).unwrap_or(u32::MAX);
    to.extend_from_slice(&[tag]);
    to.extend_from_slice(&len.to_be_bytes());
    to.extend_from_slice(body);
}

/// The server's answer to a statement of so many rows.
fn answer(extended: &[u8], rows: usize) -> BytesMut {
    let mut answer = BytesMut::new();
    for tag in extended {
        frame(&mut answer, *tag, b"");
    }
    let mut description = BytesMut::from(&b"\0\x01abalance\0"[..]);
    description.extend_from_slice(&[
        0, 0, 0x40, 1, 0, 3, 0, 0, 0, 23, 0, 4, 0xff, 0xff, 0xff, 0xff, 0, 0,
    ]);
    frame(&mut answer, b'T', &description);
    for _ in 0..rows {
        frame(&mut answer, b'D', b"\0\x01\0\0\0\x01\x30");
    }
    frame(&mut answer, b'C', format!("SELECT {rows}\0").as_bytes());
    frame(&mut answer, b'Z', b"I");
    answer
}

fn run(case: &str, count: u32, pair: &mut Pair) -> Result<()> {
    let one = |message: &dyn Fn(&mut BytesMut) -> Result<(), proto_postgres::wire::EncodeError>| {
        let mut bytes = BytesMut::new();
        message(&mut bytes).map(|()| bytes)
    };
    let parameterised = b"SELECT abalance FROM pgbench_accounts WHERE aid = $1;";
    let parse = |name: &'static [u8]| Parse {
        statement: name,
        sql: parameterised,
        parameter_types: Vec::new(),
    };
    let bind = |name: &'static [u8], value: &'static [u8]| Bind {
        portal: b"",
        statement: name,
        parameter_formats: Vec::new(),
        parameters: vec![Some(value)],
        result_formats: Vec::new(),
    };
    let execute = Execute {
        portal: b"",
        max_rows: 0,
    };
    match case {
        "simple" => {
            let answer = answer(b"", 1);
            for number in 0..count {
                let sql = format!(
                    "SELECT abalance FROM pgbench_accounts WHERE aid = {};",
                    number % 100_000
                );
                let query = one(&|to| Query { sql: sql.as_bytes() }.encode(to))?;
                pair.client(query)?;
                pair.target(&answer)?;
            }
        }
        "rows" => {
            let answer = answer(b"", 1000);
            let query = one(&|to| {
                Query {
                    sql: b"SELECT abalance FROM pgbench_accounts",
                }
                .encode(to)
            })?;
            for _ in 0..count {
                pair.client(query.clone())?;
                pair.target(&answer)?;
            }
        }
        "extended" => {
            let answer = answer(b"12", 1);
            let burst = one(&|to| {
                parse(b"").encode(to)?;
                bind(b"", b"4711").encode(to)?;
                proto_postgres::wire::frontend::Describe {
                    target: proto_postgres::wire::frontend::Target::Portal,
                    name: b"",
                }
                .encode(to)?;
                execute.encode(to)?;
                Sync.encode(to)
            })?;
            for _ in 0..count {
                pair.client(burst.clone())?;
                pair.target(&answer)?;
            }
        }
        "prepared" => {
            let answer = answer(b"2", 1);
            let first = one(&|to| {
                parse(b"p").encode(to)?;
                Sync.encode(to)
            })?;
            pair.client(first)?;
            let mut parsed = BytesMut::new();
            frame(&mut parsed, b'1', b"");
            frame(&mut parsed, b'Z', b"I");
            pair.target(&parsed)?;
            let burst = one(&|to| {
                bind(b"p", b"4711").encode(to)?;
                proto_postgres::wire::frontend::Describe {
                    target: proto_postgres::wire::frontend::Target::Portal,
                    name: b"",
                }
                .encode(to)?;
                execute.encode(to)?;
                Sync.encode(to)
            })?;
            for _ in 0..count {
                pair.client(burst.clone())?;
                pair.target(&answer)?;
            }
        }
        other => bail!("no case `{other}`; there are simple, extended, prepared, rows"),
    }
    Ok(())
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let case = arguments.next().context("usage: hot_path CASE COUNT")?;
    let count: u32 = arguments
        .next()
        .ok_or_else(|| anyhow!("usage: hot_path CASE COUNT"))?
        .parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let settings = Settings {
        resource: "bench".to_owned(),
        database: "bench".to_owned(),
        login: "app".to_owned(),
        statement_bytes: 1 << 20,
        parameter_bytes: 1 << 20,
        withhold: false,
        detect: gateway_core::detect::Detectors::default(),
        mask_key: gateway_core::mask::MaskKey::new(&[0; 32]),
        nonce: "gateway".to_owned(),
        session: "session".to_owned(),
    };
    let parameters = [
        (b"client_encoding".to_vec(), b"UTF8".to_vec()),
        (b"server_encoding".to_vec(), b"UTF8".to_vec()),
        (b"standard_conforming_strings".to_vec(), b"on".to_vec()),
    ];
    let mut pair = Pair {
        scope: runtime.block_on(scope())?,
        session: Session::new(settings, &parameters, Changed(Arc::new(|| {}))),
        out: Outbound::default(),
        now: Instant::now(),
        structure: structure(),
    };
    run(&case, count, &mut pair)
}

//! Where commands are decided, audited and done: one desk a session.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_core::gateway::{Judged, Opening, SessionScope, Woken};
use gateway_core::machine::{Kill, Outcome, Question, Stage, Statement as Written};
use gateway_core::operation::Operations;
use gateway_core::resource::Resource;
use gateway_core::session::SessionId;
use gateway_core::verdict::{Decision, Denial, Obligations, Ruling};
use parking_lot::Mutex;
use pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use tokio::sync::mpsc;

use super::command::{Command, Constant, Statement, Value, View};
use super::table::{Cell, Column, Kind, Row};
use super::views::{self, ADMINISTER, KILL, Sight, VIEW};
use super::{Inner, told};

/// A command may take this long where policy says nothing: the trail may be large.
const COMMAND: Duration = Duration::from_secs(60);

/// Largest answer to a message, in bytes of its values.
pub(super) const ANSWER: usize = 16 << 20;

/// What a command gives.
pub(super) enum Answer {
    /// Rows; with `exhausted` the client is told that policy gives no more.
    Rows {
        columns: Vec<Column>,
        rows: Vec<Row>,
        exhausted: Option<Box<Decision>>,
    },
    /// A command tag.
    Done(&'static str),
    Begun,
    Ended(&'static str),
}

/// A session's desk.
pub(super) struct Desk {
    pub(super) scope: Mutex<SessionScope>,
    pub(super) inner: Arc<Inner>,
    /// What the client is told while it waits.
    pub(super) notices: mpsc::Sender<ErrorInfo>,
}

/// A command that may run.
pub(super) struct Permitted {
    act: Act,
    obligations: Obligations,
    ticket: u64,
}

/// What is to be done.
enum Act {
    Show(View, usize),
    Kill(SessionId),
    Rows(Vec<Column>, Vec<Row>),
    Plain(Answer),
}

impl Desk {
    /// Decides one statement and writes it down. Nothing is done yet.
    pub(super) async fn decide(
        &self,
        statement: &Statement,
        bound: &[Option<String>],
    ) -> PgWireResult<Permitted> {
        let own = self.inner.resource.clone();
        let free = |summary: &str| Arc::new(Operations::new(Vec::new(), summary));
        let gateway_only = || views::asks(ADMINISTER, &own.name);
        let value = |value: &Value| match value {
            Value::Literal(text) => Some(text.clone()),
            Value::Parameter(n) => bound.get(*n).cloned().flatten(),
        };
        let (resource, operations, act) = match &statement.command {
            Command::Show(view, limit) => {
                let limit = match limit {
                    Some(limit) => Some(number(value(limit))?),
                    None => None,
                };
                let operations = match view {
                    View::Policies | View::Metrics => gateway_only(),
                    _ => free(&format!("show {}", view.name())),
                };
                let limit = match view {
                    View::Audit => limit.unwrap_or(views::EVENTS).min(views::EVENTS_MOST),
                    _ => limit.unwrap_or(views::ROWS).min(views::ROWS),
                };
                (own, operations, Act::Show(*view, limit))
            }
            Command::Kill(id) => {
                let visible = match value(id) {
                    Some(id) => self.visible(&id).await,
                    None => None,
                };
                let Some((id, resource)) = visible else {
                    return Err(self.no_session(statement, bound));
                };
                let operations = views::asks(KILL, &resource.name);
                (resource, operations, Act::Kill(id))
            }
            Command::Setting(name, value) => {
                let columns = vec![Column::new(name, Kind::Text)];
                let rows = vec![vec![Cell::text(value.clone())]];
                (own, free("show setting"), Act::Rows(columns, rows))
            }
            Command::Select(items) => {
                let (columns, row) = self.constants(items);
                (own, free("select constants"), Act::Rows(columns, vec![row]))
            }
            Command::Begin => (own, free("begin"), Act::Plain(Answer::Begun)),
            Command::Commit => (own, free("commit"), Act::Plain(Answer::Ended("COMMIT"))),
            Command::Rollback => (own, free("rollback"), Act::Plain(Answer::Ended("ROLLBACK"))),
            Command::Nothing(tag) => (own, free("nothing"), Act::Plain(Answer::Done(tag))),
        };
        let question = Question {
            operations,
            statement: Some(written(statement, bound)),
            writes: matches!(act, Act::Kill(_)),
            stage: Stage::Run,
        };
        match self.rule(&resource, &question).await {
            Ruling::Run { obligations, ticket } => Ok(Permitted {
                act,
                obligations,
                ticket,
            }),
            Ruling::Refuse { decision, .. } => Err(told::refusal(&decision)),
        }
    }

    async fn rule(&self, resource: &Arc<Resource>, question: &Question) -> Ruling {
        loop {
            // The lock is never held while anything is waited for.
            let judged = self.scope.lock().judge_on(resource, question, Instant::now());
            let ruling = match judged {
                Judged::Now(ruling) => return ruling,
                Judged::Later(later) => later.await,
                Judged::Opening(before, opening) => match opening.await {
                    Opening::Ruled(ruling) => ruling,
                    Opening::Held(notice, woken) => {
                        // A client that does not read its notices still gets the answer.
                        let _ = self.notices.try_send(told::held(&notice));
                        match woken.await {
                            Woken::Ruled(ruling) => ruling,
                            Woken::Again => {
                                self.scope.lock().woken(before);
                                continue;
                            }
                        }
                    }
                },
            };
            self.scope.lock().ruled(&ruling);
            return ruling;
        }
    }

    /// The running session of that id, where this principal may see it, and the resource that decides over it.
    async fn visible(&self, id: &str) -> Option<(SessionId, Arc<Resource>)> {
        let id: SessionId = id.parse().ok()?;
        let gateway = self.scope.lock().gateway().clone();
        let record = match gateway.running_session(id).await {
            Ok(found) => found?,
            Err(error) => {
                tracing::warn!(%error, "the sessions of other gateways cannot be looked at");
                return None;
            }
        };
        let scope = self.scope.lock();
        let seen = Sight::new(&scope, VIEW).of(&record.resource);
        let resource = views::deciding(scope.gateway(), &self.inner.resource, &record.resource);
        seen.then_some((id, resource))
    }

    /// One answer, whether there is no such session, it has ended, or it may not be seen.
    fn no_session(&self, statement: &Statement, bound: &[Option<String>]) -> PgWireError {
        let hint = "SHOW SESSIONS lists the sessions that you may see; give the whole id";
        let denial = Denial::new("session-kill", hint);
        let ruling = self
            .scope
            .lock()
            .refuse_unasked(&denial, Some(written(statement, bound)));
        let detail = match ruling {
            Ruling::Refuse { decision, .. } => Some(decision.to_json()),
            Ruling::Run { .. } => None,
        };
        let message = "there is no such session that you may see";
        PgWireError::UserError(Box::new(told::info("ERROR", "42704", message, detail, hint)))
    }

    fn constants(&self, items: &[(String, Constant)]) -> (Vec<Column>, Row) {
        let cell = |constant: &Constant| match constant {
            Constant::Number(number) => (Kind::Int, Cell::Int(*number)),
            Constant::Text(text) => (Kind::Text, Cell::text(text.clone())),
            Constant::Null => (Kind::Text, Cell::Null),
            Constant::User => {
                let subject = self.scope.lock().who().principal.subject.clone();
                (Kind::Text, Cell::text(subject))
            }
        };
        items
            .iter()
            .map(|(name, constant)| {
                let (kind, cell) = cell(constant);
                (Column::new(name, kind), cell)
            })
            .unzip()
    }

    /// Does what was permitted, and writes down how it ended.
    pub(super) async fn run(&self, permitted: Permitted) -> PgWireResult<Answer> {
        let Permitted {
            act,
            obligations,
            ticket,
        } = permitted;
        let time = obligations.timeout.map_or(COMMAND, |time| time.min(COMMAND));
        let done = tokio::time::timeout(time, self.act(act)).await;
        let mut done = done.unwrap_or_else(|_| {
            let by = obligations.by.as_ref().and_then(|by| by.timeout.as_deref());
            let decision = self.scope.lock().out_of_time(ticket, by);
            Err(told::refusal(&decision))
        });
        if let Ok(Answer::Rows { rows, exhausted, .. }) = &mut done
            && let Some(most) = obligations.rows.and_then(|most| usize::try_from(most).ok())
            && rows.len() > most
        {
            rows.truncate(most);
            let denial = Denial {
                code: gateway_core::verdict::Code::BudgetExhausted,
                ..Denial::new(
                    "rows",
                    format!("policy gives {most} rows; ask for fewer with LIMIT"),
                )
            };
            *exhausted = Some(Box::new(denial.decision("")));
        }
        if let Ok(answer) = &done
            && answer.size() > ANSWER
        {
            done = Err(too_large());
        }
        let (rows, bytes) = match &done {
            Ok(answer @ Answer::Rows { rows, .. }) => (count(rows.len()), count(answer.size())),
            _ => (0, 0),
        };
        let error = match &done {
            Err(PgWireError::UserError(info)) => Some(info.code.clone()),
            Err(_) => Some("XX000".to_owned()),
            Ok(_) => None,
        };
        self.outcome(ticket, rows, bytes, error);
        done
    }

    /// Writes down that a permitted command is not done, because another one of its message was refused.
    pub(super) fn abandon(&self, permitted: &Permitted) {
        self.outcome(permitted.ticket, 0, 0, Some("57014".to_owned()));
    }

    fn outcome(&self, ticket: u64, rows: u64, bytes: u64, error: Option<String>) {
        let outcome = Outcome {
            ticket,
            rows,
            bytes,
            error,
        };
        self.scope.lock().outcome(&outcome, Instant::now());
    }

    async fn act(&self, act: Act) -> PgWireResult<Answer> {
        let (columns, rows) = match act {
            Act::Plain(answer) => return Ok(answer),
            Act::Kill(id) => {
                let (gateway, by) = {
                    let scope = self.scope.lock();
                    (scope.gateway().clone(), scope.who().principal.subject.clone())
                };
                let kill = Kill {
                    by: Some(by),
                    reason: None,
                };
                return match gateway.kill_session(id, kill).await {
                    Ok(true) => Ok(Answer::Done("KILL")),
                    Ok(false) => Err(told::error("42704", "the session has just ended", "")),
                    Err(error) => {
                        tracing::warn!(%error, "a session on another gateway cannot be ended");
                        Err(told::error(
                            "58000",
                            "the gateways' store cannot be asked now",
                            "",
                        ))
                    }
                };
            }
            Act::Rows(columns, rows) => (columns, rows),
            Act::Show(view, limit) => (views::columns(view), self.rows(view, limit).await?),
        };
        Ok(Answer::Rows {
            columns,
            rows,
            exhausted: None,
        })
    }

    async fn rows(&self, view: View, limit: usize) -> PgWireResult<Vec<Row>> {
        Ok(match view {
            View::Sessions => {
                let gateway = self.scope.lock().gateway().clone();
                let most = u32::try_from(views::ROWS).unwrap_or(u32::MAX);
                let all = gateway.running_sessions(most).await;
                views::sessions(&self.scope.lock(), all, limit)
            }
            View::Resources => views::resources(&self.scope.lock(), limit),
            View::Policies => views::policies((self.inner.sources.policies)(), limit),
            View::Metrics => views::metrics(&(self.inner.sources.metrics)(), limit),
            View::Help => views::help(),
            View::Audit => self.audit(limit).await?,
        })
    }

    async fn audit(&self, limit: usize) -> PgWireResult<Vec<Row>> {
        let (seen, own_seen) = self.searchable();
        if limit == 0 || (seen.is_empty() && !own_seen) {
            return Ok(Vec::new());
        }
        let busy = || told::error("53300", "the trail is being searched by others; try again", "");
        // Searches read the whole trail: few at a time. The permit lasts as long as the search, also where nobody waits.
        let permit = self
            .inner
            .searches
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| busy())?;
        let inner = self.inner.clone();
        let gateway = self.scope.lock().gateway().clone();
        let found = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            views::audit(&inner.sources.audit_dir, limit, |name| {
                if name != inner.resource.name && gateway.resource(name).is_some() {
                    seen.contains(name)
                } else {
                    own_seen
                }
            })
        });
        match found.await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(error)) => {
                tracing::error!(%error, "the audit trail can't be searched");
                Err(told::error(
                    "58030",
                    "the audit trail can't be read; the gateway's log says why",
                    "",
                ))
            }
            Err(error) => Err(PgWireError::ApiError(Box::new(error))),
        }
    }

    /// The names of the resources whose events may be seen, and whether those of the gateway itself may.
    fn searchable(&self) -> (std::collections::BTreeSet<String>, bool) {
        let scope = self.scope.lock();
        let mut sight = Sight::new(&scope, views::SEARCH);
        let own = sight.of(&self.inner.resource.name);
        let resources = scope.gateway().resources();
        let seen = resources.keys().filter(|name| sight.of(name)).cloned().collect();
        (seen, own)
    }
}

/// The statement for the trail and for approvers.
fn written(statement: &Statement, bound: &[Option<String>]) -> Written {
    Written {
        parameters: bound.to_vec().into(),
        ..Written::new(statement.text.clone(), statement.normalised())
    }
}

fn number(text: Option<String>) -> PgWireResult<usize> {
    let number = text.and_then(|text| text.trim().parse::<usize>().ok());
    number.ok_or_else(|| told::error("22023", "LIMIT must be a number that is not negative", ""))
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// What an answer that would not fit is.
pub(super) fn too_large() -> PgWireError {
    told::error(
        "54000",
        "the answer is larger than 16 MiB",
        "ask for fewer rows with LIMIT",
    )
}

impl Answer {
    /// Bytes of its values.
    pub(super) fn size(&self) -> usize {
        let cell = |cell: &Cell| match cell {
            Cell::Null => 0,
            Cell::Text(text) => text.len(),
            Cell::Int(_) | Cell::Time(_) => 8,
        };
        match self {
            Self::Rows { rows, .. } => rows.iter().flatten().map(cell).sum(),
            _ => 0,
        }
    }
}

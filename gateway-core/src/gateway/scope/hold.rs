//! Operations that people decide: from the verdict to the ruling.
//!
//! ```text
//!   hold ─▶ open ──▶ Waiting ─▶ the client is told, and waits ─▶ woken: the message is looked at and judged anew
//!            │ ▲                                                   │
//!            │ └───────────────────────────────────────────────────┘
//!            └────▶ Approved ─▶ claim ─▶ it runs
//! ```
//!
//! That people have approved something is never what lets it run: it is judged again, and only where the very same
//! operation would be held by the very same policies does it find the approval, and use it up.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{Opening, Woken, append, live};
use crate::audit::{Decided, Event};
use crate::gateway::Gateway;
use crate::machine::{Question, Statement};
use crate::principal::Authenticated;
use crate::resource::Resource;
use crate::services::{Answer, Held, Opened, Waiting};
use crate::session::SessionId;
use crate::verdict::{Decision, Denial, Ruling, Verdict};

/// How often an approval that somebody else uses up in the same moment is looked for again.
const TRIES: usize = 4;

/// A held operation with all that is needed once the session goes on with other things.
pub(super) struct Holding {
    pub(super) gateway: Arc<Gateway>,
    pub(super) entry: Arc<live::Entry>,
    pub(super) id: SessionId,
    pub(super) ticket: u64,
    pub(super) decided: Arc<Decided>,
    pub(super) durable: bool,
    pub(super) unaudited: Denial,
    pub(super) statement: Option<Statement>,
    pub(super) held: Held,
    /// Its event is in the trail already.
    pub(super) written: bool,
}

impl Holding {
    /// Opens an approval or joins one; where there is one that people have given, uses it up.
    pub(super) async fn open(mut self) -> Opening {
        let gateway = self.gateway.clone();
        let approvals = &gateway.parts.approvals;
        for _ in 0..TRIES {
            match approvals.open(self.held.clone()).await {
                Err(denial) => return Opening::Ruled(self.deny(&denial)),
                Ok(Opened::Waiting(waiting)) => {
                    return match self.write().await {
                        Ok(()) => self.wait(waiting),
                        Err(refusal) => Opening::Ruled(refusal),
                    };
                }
                Ok(Opened::Approved(id)) => {
                    if let Err(refusal) = self.write().await {
                        return Opening::Ruled(refusal);
                    }
                    match approvals.claim(id, self.held.clone()).await {
                        Ok(true) => {
                            return Opening::Ruled(Ruling::Run {
                                obligations: self.held.hold.obligations.clone(),
                                ticket: self.ticket,
                            });
                        }
                        // Another copy was faster, or what approved it counts no more: it is held afresh.
                        Ok(false) => {}
                        Err(denial) => return Opening::Ruled(self.deny(&denial)),
                    }
                }
            }
        }
        let hint = "others run the same operation at the same time; try again";
        Opening::Ruled(self.deny(&Denial::new(self.held.hold.operation.clone(), hint)))
    }

    /// Puts the operation into the trail, once.
    async fn write(&mut self) -> Result<(), Ruling> {
        if self.written {
            return Ok(());
        }
        let (statement, durable) = (self.statement.as_ref(), self.durable);
        let written = match append(
            &self.gateway,
            self.id,
            self.ticket,
            &self.decided,
            statement,
            durable,
        ) {
            Ok(receipt) => receipt.settled().await,
            Err(error) => Err(error),
        };
        written.map_err(|error| {
            tracing::error!(%error, session = %self.id, "an operation is refused");
            self.refuse(self.unaudited.decision(self.held.correlation.clone()))
        })?;
        self.written = true;
        Ok(())
    }

    /// Refuses it for a reason that is not policy's.
    fn deny(&self, denial: &Denial) -> Ruling {
        if self.written {
            self.gateway.note(&Event::Outcome {
                session: self.id,
                ticket: self.ticket,
                rows: 0,
                bytes: 0,
                micros: 0,
                error: Some(denial.hint.clone()),
            });
        } else {
            let held = &self.held;
            let verdict = Verdict::Deny(denial.clone());
            let (who, resource) = (&held.principal, &held.resource.name);
            let decided = Decided::new(who, resource, &held.operations, &verdict, &held.policy);
            let statement = self.statement.as_ref();
            if let Err(error) = append(&self.gateway, self.id, self.ticket, &decided, statement, false) {
                tracing::error!(%error, session = %self.id, "an audit event was lost");
            }
        }
        self.refuse(denial.decision(self.held.correlation.clone()))
    }

    fn refuse(&self, decision: Decision) -> Ruling {
        Ruling::Refuse {
            decision: Arc::new(decision),
            ticket: self.ticket,
        }
    }

    /// Waits for people: until they have decided, the window is over, or the client gives up.
    fn wait(self, waiting: Waiting) -> Opening {
        let window = self.held.hold.wait.unwrap_or(self.gateway.parts.limits.hold);
        let Waiting { notice, answer } = waiting;
        let told = Box::new(notice.clone());
        let given_up = self.entry.control.waits();
        let woken = async move {
            let decision = tokio::select! {
                biased;
                answer = answer => match answer {
                    Answer::Again => return Woken::Again,
                    Answer::Refused(decision) => decision,
                },
                Ok(()) = given_up => Decision { cancelled: true, ..notice },
                () = tokio::time::sleep(window) => notice,
            };
            self.gateway.note(&Event::Outcome {
                session: self.id,
                ticket: self.ticket,
                rows: 0,
                bytes: 0,
                micros: 0,
                error: Some(decision.word().to_owned()),
            });
            Woken::Ruled(self.refuse(decision))
        };
        Opening::Held(told, Box::pin(woken))
    }
}

/// What an approval binds: who, for whom, on what and as whom there, the exact operations, text and parameters, what
/// else the adapter says that the message's meaning hangs on, and the policies.
pub(super) fn digest(
    who: &Authenticated,
    resource: &Resource,
    detail: Option<&str>,
    question: &Question,
    bound: &[u8],
    policy: &str,
) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut part = |bytes: Option<&[u8]>| match bytes {
        Some(bytes) => {
            hash.update([1]);
            hash.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(bytes);
        }
        None => hash.update([0]),
    };
    part(Some(b"gateway approval 1"));
    part(Some(who.principal.subject.as_bytes()));
    part(Some(who.principal.kind.as_str().as_bytes()));
    part(who.principal.on_behalf_of.as_deref().map(str::as_bytes));
    part(Some(resource.name.as_bytes()));
    // Where each session has a login of its own, that one is made for who asks, and is bound with them.
    part(resource.credential.username().map(str::as_bytes));
    // The database or the target login that was asked for.
    part(detail.map(str::as_bytes));
    part(Some(policy.as_bytes()));
    // Plain strings, numbers and maps always encode.
    let asked: Vec<_> = question.operations.asked().collect();
    part(serde_json::to_vec(&asked).ok().as_deref());
    part(question.statement.as_ref().map(|s| s.text.exact.as_bytes()));
    for parameter in question.statement.iter().flat_map(|s| &*s.parameters) {
        part(parameter.as_deref().map(str::as_bytes));
    }
    part(Some(bound));
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::machine::Stage;
    use crate::operation::{Action, EntityRef, Object, Operation, Operations};
    use crate::principal::{Principal, PrincipalKind};
    use crate::resource::CredentialConfig;

    struct Asked {
        who: Authenticated,
        resource: Resource,
        detail: Option<&'static str>,
        question: Question,
        bound: Vec<u8>,
        policy: &'static str,
    }

    fn asked() -> Asked {
        let write = Operation::new(
            Action::new("write"),
            Object::new(EntityRef::new("Table", "db/public.t")),
        );
        Asked {
            who: Authenticated {
                principal: Arc::new(Principal::new("ann@x.test", PrincipalKind::Human)),
                credential_id: "tok".to_owned(),
                expires: None,
                resources: None,
            },
            resource: Resource {
                name: "db".to_owned(),
                protocol: "p".to_owned(),
                address: "h:1".to_owned(),
                labels: BTreeMap::new(),
                credential: CredentialConfig::login_as("app"),
                audit: None,
                tags: Vec::new(),
                detect: Vec::new(),
                functions: Vec::new(),
                recording: None,
                settings: serde_json::Map::new(),
            },
            detail: Some("orders"),
            question: Question {
                operations: Arc::new(Operations::new(vec![write], "write public.t")),
                statement: Some(Statement {
                    parameters: vec![Some("x".to_owned()), None].into(),
                    ..Statement::new("UPDATE t SET a = $1", "UPDATE t SET a = $1")
                }),
                writes: true,
                stage: Stage::Run,
            },
            bound: b"text".to_vec(),
            policy: "v1",
        }
    }

    fn of(asked: &Asked) -> [u8; 32] {
        let Asked {
            who,
            resource,
            detail,
            question,
            bound,
            policy,
        } = asked;
        digest(who, resource, *detail, question, bound, policy)
    }

    type Change = fn(&mut Asked);

    #[test]
    fn an_approval_binds_each_thing_that_it_is_given_for() {
        let changes: [(&str, Change); 13] = [
            ("the subject", |a| {
                a.who.principal = Arc::new(Principal::new("bob@x.test", PrincipalKind::Human));
            }),
            ("the kind", |a| {
                a.who.principal = Arc::new(Principal::new("ann@x.test", PrincipalKind::Agent));
            }),
            ("on whose behalf", |a| {
                let principal = Principal::clone(&a.who.principal);
                a.who.principal = Arc::new(Principal {
                    on_behalf_of: Some(String::new()),
                    ..principal
                });
            }),
            ("the resource", |a| a.resource.name = "db2".to_owned()),
            ("the target login", |a| {
                a.resource.credential = CredentialConfig::login_as("root");
            }),
            ("the database", |a| a.detail = Some("other")),
            ("no database", |a| a.detail = None),
            ("the operations", |a| {
                a.question.operations = Arc::new(Operations::new(Vec::new(), ""))
            }),
            ("the text", |a| {
                let statement = a.question.statement.as_mut().unwrap();
                statement.text = Statement::new("UPDATE t SET a = $1 ", "UPDATE t SET a = $1").text;
            }),
            ("a parameter", |a| {
                a.question.statement.as_mut().unwrap().parameters = vec![Some("y".to_owned()), None].into();
            }),
            ("NULL is no text", |a| {
                a.question.statement.as_mut().unwrap().parameters =
                    vec![Some("x".to_owned()), Some(String::new())].into();
            }),
            ("what the adapter binds", |a| a.bound = b"binary".to_vec()),
            ("the policies", |a| a.policy = "v2"),
        ];
        let plain = of(&asked());
        assert_eq!(plain, of(&asked()), "a retry has the same digest");
        for (what, change) in changes {
            let mut other = asked();
            change(&mut other);
            assert_ne!(of(&other), plain, "{what}");
        }
        // The session, the token and the groups are not bound: a retry may come from another connection.
        let mut later = asked();
        later.who.credential_id = "another".to_owned();
        assert_eq!(of(&later), plain);
    }
}

//! *Inspect*: what a message tries.

use std::sync::Arc;
use std::time::Instant;

use gateway_core::machine::{Fault, Inspection, Outbound, Parameters, Question, Stage, Statement};
use gateway_core::operation::{Operation, Operations};
use gateway_core::verdict::{Code, Denial};
use gateway_sql as sql;

use crate::analyzed::{Analyzed, translate};
use crate::session::{Improper, Message, Need, Session, Wrong};
use crate::wire::backend::TransactionStatus;
use crate::wire::frontend::Query;

/// What stands in the way of an analysis.
enum Ready {
    /// Nothing: this is it.
    Analyzed(Analyzed),
    /// Something has to come first.
    First(Inspection<Need>),
}

impl Session {
    pub(crate) fn inspect_message(
        &mut self,
        message: &mut Message,
        out: &mut Outbound,
        now: Instant,
    ) -> Result<Inspection<Need>, Fault> {
        if self.skipping {
            // An error has come while this waited: the server would skip it, and so it asks nothing. Nor may the
            // gateway ask something of its own now.
            return Ok(skipped());
        }
        match message {
            Message::Query {
                frame,
                sql,
                arrived,
                refreshed,
                analyzed,
            } => match self.analyze(sql, *arrived, refreshed, out, now) {
                Ready::First(first) => Ok(first),
                Ready::Analyzed(mut found) => {
                    if found.forbidden.is_some()
                        && let Some(masked) = mask_options(sql)
                        && let Ready::Analyzed(allowed) = self.analyze(&masked, now, &mut true, out, now)
                        && allowed.forbidden.is_none()
                    {
                        frame.clear();
                        let query = Query {
                            sql: masked.as_bytes(),
                        };
                        query.encode(frame).map_err(|e| Fault::client(e.to_string()))?;
                        *sql = masked;
                        found = allowed;
                    }
                    *analyzed = Some(found.clone());
                    Ok(self.ask(&found, Parameters::default(), Stage::Run))
                }
            },
            Message::Parse {
                sql,
                arrived,
                refreshed,
                analyzed,
                ..
            } => match self.analyze(sql, *arrived, refreshed, out, now) {
                Ready::First(first) => Ok(first),
                Ready::Analyzed(found) => {
                    *analyzed = Some(found.clone());
                    Ok(self.ask(
                        &found,
                        Parameters::default(),
                        Stage::Prepare { runs: found.calls },
                    ))
                }
            },
            Message::Bind {
                statement,
                parameters,
                arrived,
                refreshed,
                analyzed,
                ..
            } => {
                let Some(prepared) = self.names.statement(statement).cloned() else {
                    return Ok(unknown_name(message, Wrong::NoStatement));
                };
                match self.analyze(&prepared.sql, *arrived, refreshed, out, now) {
                    Ready::First(first) => Ok(first),
                    Ready::Analyzed(found) => {
                        let Some(meant) = self.meant_now(&prepared.meant, &found) else {
                            return Ok(refuse(
                                "what names mean has changed since this was prepared: prepare it again",
                            ));
                        };
                        let epoch = self.epoch();
                        self.names
                            .refresh_statement(statement, found.clone(), epoch, meant);
                        *analyzed = Some(found.clone());
                        Ok(self.ask(&found, parameters.clone(), Stage::Prepare { runs: found.calls }))
                    }
                }
            }
            Message::Execute {
                portal,
                analyzed,
                held,
                ..
            } => {
                if let Some(known) = self.names.portal(portal).cloned() {
                    let late = resolves_when_it_runs(&known.analyzed);
                    // What the server has planned when it was bound may still call another function, or read another
                    // view, once it has waited for people.
                    if late || *held && known.analyzed.names {
                        let text = known.analyzed.sql().clone();
                        let found = match self.analyze(&text, now, &mut true, out, now) {
                            Ready::First(first) => return Ok(first),
                            Ready::Analyzed(found) => found,
                        };
                        let same = found.operations == known.analyzed.operations;
                        let changed = if late { self.epoch() != known.epoch } else { !same };
                        if changed {
                            return Ok(refuse(
                                "what names mean has changed since this was bound: bind it again",
                            ));
                        }
                        *analyzed = Some(found.clone());
                        return Ok(self.ask(&found, known.parameters.clone(), Stage::Run));
                    }
                    *analyzed = Some(known.analyzed.clone());
                    return Ok(self.ask(&known.analyzed, known.parameters.clone(), Stage::Run));
                }
                if !self.state.cursors.contains_key(portal) {
                    return Ok(unknown_name(message, Wrong::NoPortal));
                }
                // A cursor that DECLARE has opened: executing its portal is what FETCH does.
                let fetch = format!("FETCH ALL FROM \"{}\"", portal.replace('"', "\"\""));
                match self.analyze(&Arc::from(fetch), now, &mut true, out, now) {
                    Ready::First(first) => Ok(first),
                    Ready::Analyzed(found) => {
                        *analyzed = Some(found.clone());
                        Ok(self.ask(&found, Parameters::default(), Stage::Run))
                    }
                }
            }
            Message::FunctionCall { oid, parameters, .. } => Ok(self.ask_function(*oid, parameters.clone())),
            Message::Improper(wrong) => Ok(improper(*wrong)),
        }
    }

    fn analyze(
        &mut self,
        text: &Arc<str>,
        arrived: Instant,
        refreshed: &mut bool,
        out: &mut Outbound,
        now: Instant,
    ) -> Ready {
        if std::mem::take(&mut self.structure_failed) {
            return Ready::First(refuse(
                "the structure of the database can't be read now; try again later",
            ));
        }
        if std::mem::take(&mut self.has_been_held) {
            // Others may have changed what names stand for while people decided: it is judged by how things are now.
            if self.private.is_none() {
                return Ready::First(Inspection::Needs(Need::Structure(Some(now))));
            }
            self.private_is_stale();
        }
        if self.own.is_asking() {
            return Ready::First(Inspection::Wait);
        }
        if std::mem::take(&mut self.own.failed) {
            return Ready::First(refuse(
                "what names mean in this session can't be read now; try again",
            ));
        }
        let fresh = self
            .structure
            .as_ref()
            .is_some_and(|structure| !structure.is_superseded());
        if fresh && self.structure_at.is_none() {
            self.structure_at = Some(now);
        }
        if self.private.is_none() && (!fresh || self.structure_is_old(now)) {
            return Ready::First(Inspection::Needs(Need::Structure(None)));
        }
        let Some(structure) = self.structure().cloned() else {
            return Ready::First(Inspection::Needs(Need::Structure(None)));
        };
        let analyzed = structure.cache.analyzed(
            text,
            &structure,
            &self.state,
            &self.shared,
            &self.settings.resource,
        );
        if self.names_are_unsettled() && refers_to_names(&analyzed) {
            self.flush(out);
            return Ready::First(Inspection::Wait);
        }
        let failed = self.transaction == TransactionStatus::Failed;
        if analyzed.names
            && let Some(question) = self.own_question()
        {
            if failed && self.pending.is_empty() {
                // Nothing can be asked of the server now, and nothing but the end of the transaction can run.
                if analyzed.statements.len() > 1 {
                    return Ready::First(refuse(
                        "the transaction has failed: send ROLLBACK by itself first",
                    ));
                }
                return Ready::Analyzed(analyzed);
            }
            if self.pending.is_empty() {
                self.ask_own(question, out);
            } else {
                self.flush(out);
            }
            return Ready::First(Inspection::Wait);
        }
        if (analyzed.unresolved || analyzed.copies_tags) && !*refreshed && self.private.is_none() {
            *refreshed = true;
            return Ready::First(Inspection::Needs(Need::Structure(Some(arrived))));
        }
        Ready::Analyzed(analyzed)
    }

    /// A function by its number: no text names it, so it asks what is not understood.
    fn ask_function(&self, oid: u32, parameters: Parameters) -> Inspection<Need> {
        if self.earlier_run_is_open() {
            return Inspection::Wait;
        }
        let unknown = sql::Operation {
            action: sql::Action::Unknown,
            object: sql::Object::Resource,
        };
        let mut operations = vec![translate(
            &unknown,
            &self.settings.resource,
            &self.settings.database,
        )];
        // What it gives back may be anything of the resource.
        let tags = self.structure().map(|structure| structure.tags.clone());
        let tags = tags.iter().flat_map(|tags| tags.all());
        operations.extend(tags.map(|tag| Operation::unmask(tag, &self.settings.resource)));
        let text: Arc<str> = format!("FunctionCall {oid}").into();
        Inspection::Ask(Question {
            operations: Arc::new(Operations::new(
                operations,
                format!("call function {oid} by FunctionCall"),
            )),
            statement: Some(Statement {
                parameters,
                ..Statement::new(text.clone(), text)
            }),
            writes: true,
            stage: Stage::Run,
        })
    }
}

/// Whether the server looks its names up when it runs, not when it was bound: all but what has a plan.
fn resolves_when_it_runs(analyzed: &Analyzed) -> bool {
    use sql::StatementKind as Kind;
    analyzed.names
        && !analyzed.statements.iter().all(|statement| {
            matches!(
                statement.kind,
                Kind::Select | Kind::Insert | Kind::Update | Kind::Delete | Kind::Merge
            )
        })
}

/// Whether its meaning can depend on prepared statements and cursors.
fn refers_to_names(analyzed: &Analyzed) -> bool {
    use sql::StatementKind as Kind;
    analyzed.statements.iter().any(|statement| {
        matches!(
            statement.kind,
            Kind::Execute | Kind::Fetch | Kind::Explain | Kind::CreateTableAs | Kind::Unknown
        )
    })
}

impl Session {
    /// What a text asks of policy.
    fn ask(&self, analyzed: &Analyzed, parameters: Parameters, stage: Stage) -> Inspection<Need> {
        if self.texts_revealed && analyzed.shows_texts {
            return refuse(
                "this shows the texts of the session's statements, and in one of them a token stands for its value",
            );
        }
        let runs = !matches!(stage, Stage::Prepare { runs: false });
        if runs && (analyzed.writes || analyzed.calls) && self.earlier_run_is_open() {
            return Inspection::Wait;
        }
        ask(analyzed, parameters, stage)
    }
}

fn ask(analyzed: &Analyzed, parameters: Parameters, stage: Stage) -> Inspection<Need> {
    let statement = Statement {
        text: analyzed.text().clone(),
        parameters,
    };
    if let Some(why) = &analyzed.forbidden {
        let denial = Denial::new(analyzed.operations.summary(), why.clone());
        return Inspection::Refuse(denial, Some(statement));
    }
    Inspection::Ask(Question {
        operations: analyzed.operations.clone(),
        statement: Some(statement),
        writes: analyzed.writes,
        stage,
    })
}

/// What a message asks that will not be forwarded, because it is skipped.
fn skipped() -> Inspection<Need> {
    Inspection::Ask(Question {
        operations: Arc::new(Operations::new(Vec::new(), "skipped")),
        statement: None,
        writes: false,
        stage: Stage::Prepare { runs: false },
    })
}

/// Options of foreign servers and user mappings can hold passwords and are never shown, but pg_dump asks for them
/// whatever it dumps: it gets none instead. `None`: the text does not ask in this way.
fn mask_options(text: &str) -> Option<Arc<str>> {
    const NONE: &str = "pg_options_to_table(NULL::pg_catalog.text[])";
    let asked = [
        "pg_options_to_table(srvoptions)",
        "pg_options_to_table(umoptions)",
    ];
    // The frame is made anew, and ASCII is the same in every encoding that is spoken here.
    if !text.is_ascii() || !asked.iter().any(|call| text.contains(call)) {
        return None;
    }
    Some(
        asked
            .iter()
            .fold(text.to_owned(), |text, call| text.replace(call, NONE))
            .into(),
    )
}

fn refuse(hint: &str) -> Inspection<Need> {
    Inspection::Refuse(Denial::new("statement", hint), None)
}

/// A message of the extended protocol that uses a name which stands for nothing: its refusal tells the server's code.
fn unknown_name(message: &mut Message, what: Wrong) -> Inspection<Need> {
    let wrong = Improper { what, simple: false };
    *message = Message::Improper(wrong);
    improper(wrong)
}

fn improper(improper: Improper) -> Inspection<Need> {
    let denial = Denial {
        code: Code::Malformed,
        rule: None,
        operation: "message".to_owned(),
        hint: improper.what.text(),
    };
    Inspection::Refuse(denial, None)
}

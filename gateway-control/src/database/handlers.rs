//! `pgwire`'s handlers: from messages to the desk, and from answers to messages.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Sink, stream};
use pgwire::api::portal::{Format, Portal};
use pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use pgwire::api::results::{FieldFormat, FieldInfo, QueryResponse, Response, Tag};
use pgwire::api::stmt::QueryParser;
use pgwire::api::store::PortalStore;
use pgwire::api::{ClientInfo, ClientPortalStore, Type};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::response::TransactionStatus;

use super::command::{self, Command, Constant, Statement};
use super::desk::{self, Answer, Desk};
use super::table::{self, Column, Kind};
use super::{told, views};

/// Parses statements for the extended protocol.
pub(super) struct Parser;

/// The columns that a command gives; `None`: no rows.
fn columns(command: &Command) -> Option<Vec<Column>> {
    match command {
        Command::Show(view, _) => Some(views::columns(*view)),
        Command::Setting(name, _) => Some(vec![Column::new(name, Kind::Text)]),
        Command::Select(items) => Some(
            items
                .iter()
                .map(|(name, constant)| {
                    let kind = match constant {
                        Constant::Number(_) => Kind::Int,
                        _ => Kind::Text,
                    };
                    Column::new(name, kind)
                })
                .collect(),
        ),
        _ => None,
    }
}

#[async_trait]
impl QueryParser for Parser {
    type Statement = Statement;

    async fn parse_sql<C>(
        &self,
        _: &C,
        sql: &str,
        _: &[Option<Type>],
    ) -> PgWireResult<Option<Self::Statement>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let mut statements = command::parse(sql).map_err(told::unknown)?;
        if statements.len() > 1 {
            let text = "cannot insert multiple commands into a prepared statement";
            return Err(told::error("42601", text, ""));
        }
        Ok(statements.pop())
    }

    fn get_parameter_types(&self, statement: &Self::Statement) -> PgWireResult<Vec<Type>> {
        let kind = match statement.command {
            Command::Kill(_) => Type::TEXT,
            _ => Type::INT8,
        };
        Ok(vec![kind; statement.parameters()])
    }

    fn get_result_schema(
        &self,
        statement: &Self::Statement,
        format: Option<&Format>,
    ) -> PgWireResult<Vec<FieldInfo>> {
        let columns = columns(&statement.command).unwrap_or_default();
        Ok(table::fields(&columns, format))
    }
}

/// A bound value as text: what clients send for a text, a number of any width, or a UUID.
fn parameter(portal: &Portal<Statement>, index: usize) -> PgWireResult<Option<String>> {
    let Some(value) = portal.parameters.get(index).and_then(Option::as_ref) else {
        return Ok(None);
    };
    let kind = portal.statement.parameter_types.get(index).cloned().flatten();
    let binary = table::format_of(&portal.parameter_format, index) == FieldFormat::Binary;
    let number = match (&portal.statement.statement.command, &kind) {
        (_, Some(kind)) => [Type::INT2, Type::INT4, Type::INT8].contains(kind),
        (Command::Kill(_), None) => false,
        (_, None) => true,
    };
    let wrong = || {
        told::error(
            "22P03",
            "a parameter has a type or length that is not used here",
            "",
        )
    };
    let decoded = if !binary {
        text(value)
    } else if kind == Some(Type::UUID) {
        uuid::Uuid::from_slice(value).ok().map(|id| id.to_string())
    } else if number {
        whole(value).map(|number| number.to_string())
    } else {
        text(value)
    };
    decoded.map(Some).ok_or_else(wrong)
}

fn text(value: &Bytes) -> Option<String> {
    std::str::from_utf8(value).ok().map(str::to_owned)
}

fn whole(value: &Bytes) -> Option<i64> {
    if let Ok(two) = <[u8; 2]>::try_from(value.as_ref()) {
        return Some(i64::from(i16::from_be_bytes(two)));
    }
    if let Ok(four) = <[u8; 4]>::try_from(value.as_ref()) {
        return Some(i64::from(i32::from_be_bytes(four)));
    }
    let eight = <[u8; 8]>::try_from(value.as_ref()).ok()?;
    Some(i64::from_be_bytes(eight))
}

/// In a failed transaction only its end is taken.
fn refuse_failed(status: TransactionStatus, first: Option<&Statement>) -> PgWireResult<()> {
    let ends = matches!(
        first.map(|statement| &statement.command),
        None | Some(Command::Commit | Command::Rollback)
    );
    if status == TransactionStatus::Error && !ends {
        let text = "current transaction is aborted, commands ignored until end of transaction block";
        return Err(told::error("25P02", text, ""));
    }
    Ok(())
}

fn response(answer: Answer, format: Option<&Format>, status: TransactionStatus) -> PgWireResult<Response> {
    Ok(match answer {
        Answer::Rows {
            columns,
            rows,
            exhausted,
        } => {
            let fields = Arc::new(table::fields(&columns, format));
            let mut out = Vec::with_capacity(rows.len());
            for row in &rows {
                out.push(Ok(table::encode(row, &fields)?));
            }
            out.extend(exhausted.map(|decision| Err(told::refusal(&decision))));
            Response::Query(QueryResponse::new(fields, stream::iter(out)))
        }
        Answer::Done(tag) => Response::Execution(Tag::new(tag)),
        Answer::Begun => Response::TransactionStart(Tag::new("BEGIN")),
        // As the server does it: the end of what failed is no commit.
        Answer::Ended(_) if status == TransactionStatus::Error => {
            Response::TransactionEnd(Tag::new("ROLLBACK"))
        }
        Answer::Ended(tag) => Response::TransactionEnd(Tag::new(tag)),
    })
}

#[async_trait]
impl SimpleQueryHandler for Desk {
    async fn do_query<C>(&self, client: &mut C, query: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let statements = command::parse(query).map_err(told::unknown)?;
        let status = client.transaction_status();
        refuse_failed(status, statements.first())?;
        if statements.is_empty() {
            return Ok(vec![Response::EmptyQuery]);
        }
        // All statements of a message are decided before the first is done.
        let mut permitted = Vec::with_capacity(statements.len());
        for statement in &statements {
            match self.decide(statement, &[]).await {
                Ok(one) => permitted.push(one),
                Err(refusal) => {
                    permitted.iter().for_each(|one| self.abandon(one));
                    return Err(refusal);
                }
            }
        }
        let mut answers = Vec::with_capacity(permitted.len());
        let mut permitted = permitted.into_iter();
        let mut size = 0_usize;
        while let Some(one) = permitted.next() {
            let done = self.run(one).await.and_then(|answer| {
                size = size.saturating_add(answer.size());
                if size > desk::ANSWER {
                    Err(desk::too_large())
                } else {
                    Ok(answer)
                }
            });
            match done {
                Ok(answer) => answers.push(response(answer, None, status)?),
                Err(error) => {
                    permitted.for_each(|one| self.abandon(&one));
                    let PgWireError::UserError(info) = error else {
                        return Err(error);
                    };
                    // What was done before it is told first.
                    answers.push(Response::Error(info));
                    break;
                }
            }
        }
        Ok(answers)
    }
}

#[async_trait]
impl ExtendedQueryHandler for Desk {
    type Statement = Statement;
    type QueryParser = Parser;

    fn query_parser(&self) -> Arc<Self::QueryParser> {
        Arc::new(Parser)
    }

    async fn do_query<C>(
        &self,
        client: &mut C,
        portal: &Portal<Self::Statement>,
        _: usize,
    ) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let statement = &portal.statement.statement;
        let status = client.transaction_status();
        refuse_failed(status, Some(statement))?;
        let needed = statement.parameters();
        if portal.parameters.len() != needed {
            let text = format!(
                "bind message supplies {} parameters, {needed} needed",
                portal.parameters.len()
            );
            return Err(told::error("08P01", text, ""));
        }
        let mut bound = Vec::with_capacity(needed);
        for index in 0..needed {
            bound.push(parameter(portal, index)?);
        }
        let permitted = self.decide(statement, &bound).await?;
        let answer = self.run(permitted).await?;
        response(answer, Some(&portal.result_column_format), status)
    }
}

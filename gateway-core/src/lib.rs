//! The words, the adapter seam and the pipeline of the gateway.
//!
//! ```text
//! accept ─▶ secure ─▶ authenticate ─▶ authorize connect ─▶ lease credential ─▶ dial target
//!                                                                                  │
//!   client ──parse──▶ inspect ──▶ decide ──▶ [hold ▶ approval] ──▶ rewrite ──▶ target
//!   client ◀────────────────── rewrite ◀── parse ◀──────────────────────────── target
//!                          every step ──▶ audit (durable before the operation is forwarded)
//! ```
//!
//! A protocol is a [`ProtocolAdapter`](adapter::ProtocolAdapter): a value in a registry that serves one connection a
//! call. Inside, a byte-stream protocol is a [`ProtocolSession`](machine::ProtocolSession), a machine without sockets or
//! clock with three verbs. Here one message goes through all three:
//!
//! ```
//! use std::convert::Infallible;
//! use std::sync::Arc;
//! use std::time::Instant;
//!
//! use gateway_core::machine::{
//!     Bound, End, Fault, Inspection, Outbound, Outcome, Parsed, Peer, ProtocolSession, Question, Stage,
//! };
//! use gateway_core::operation::{Action, EntityRef, Object, Operation, Operations};
//! use gateway_core::verdict::{Decision, Denial, Obligations, Ruling};
//!
//! /// A protocol of lines: `GET key` reads, the target answers with a line.
//! struct Lines;
//!
//! impl ProtocolSession for Lines {
//!     type Message = Vec<u8>;
//!     type Need = Infallible;
//!     type Provision = Infallible;
//!
//!     fn parse(&mut self, from: Peer, input: &[u8], _: &mut Outbound, _: Instant) -> Result<Parsed<Vec<u8>>, Fault> {
//!         let Some(end) = input.iter().position(|b| *b == b'\n') else {
//!             return if input.len() > 1024 { Err(Fault::client("sent too long a line")) } else { Ok(Parsed::Incomplete) };
//!         };
//!         let consumed = end + 1;
//!         Ok(match from {
//!             Peer::Client => Parsed::Inspect { consumed, message: input[..consumed].to_vec() },
//!             Peer::Target => Parsed::Forward(consumed),
//!         })
//!     }
//!
//!     fn inspect(&mut self, message: &mut Vec<u8>, _: &mut Outbound, _: Instant) -> Result<Inspection<Infallible>, Fault> {
//!         let text = String::from_utf8_lossy(message);
//!         let action = if text.starts_with("GET ") { Action::new("get") } else { Action::new("unknown") };
//!         let asked = Operation::new(action, Object::new(EntityRef::resource("lines-1")));
//!         Ok(Inspection::Ask(Question {
//!             operations: Arc::new(Operations::new(vec![asked], text.trim_end())),
//!             statement: None,
//!             writes: false,
//!             stage: Stage::Run,
//!         }))
//!     }
//!
//!     fn rewrite(&mut self, message: Vec<u8>, ruling: &Ruling, out: &mut Outbound) -> Result<(), Fault> {
//!         match ruling {
//!             Ruling::Run { .. } => out.to_target.extend_from_slice(&message),
//!             Ruling::Refuse { decision, .. } => {
//!                 out.to_client.extend_from_slice(format!("DENIED {}\n", decision.to_json()).as_bytes());
//!             }
//!         }
//!         Ok(())
//!     }
//!
//!     fn bound(&self, message: &Vec<u8>) -> Bound { Bound { exact: message.clone(), ..Bound::default() } }
//!     fn held(&mut self, _: &mut Vec<u8>, _: &Decision, _: &mut Outbound) {}
//!     fn is_void(&self, _: &Vec<u8>) -> bool { false }
//!     fn provide(&mut self, never: Infallible) { match never {} }
//!     fn out_of_time(&mut self, _: u64, _: Decision) {}
//!     fn poll_outcome(&mut self) -> Option<Outcome> { None }
//!     fn is_quiet(&self) -> bool { true }
//!     fn end(&mut self, _: &End, _: &mut Outbound) {}
//!     fn abandon(&mut self) {}
//! }
//!
//! let (mut session, mut out, now) = (Lines, Outbound::default(), Instant::now());
//! let mut input = b"GET a\nDEL a\n".as_slice();
//!
//! // Parse: what stands at the front?
//! let Parsed::Inspect { consumed, mut message } = session.parse(Peer::Client, input, &mut out, now)? else { panic!() };
//! input = &input[consumed..];
//! // Inspect: what does it try?
//! let Inspection::Ask(question) = session.inspect(&mut message, &mut out, now)? else { panic!() };
//! assert_eq!(question.operations.list()[0].action.as_str(), "get");
//! // Rewrite: policy (a closure would do) lets it run.
//! session.rewrite(message, &Ruling::Run { obligations: Obligations::default(), ticket: 1 }, &mut out)?;
//! assert_eq!(&out.to_target[..], b"GET a\n");
//!
//! // The next one is refused, and the target sees nothing of it.
//! let Parsed::Inspect { message, .. } = session.parse(Peer::Client, input, &mut out, now)? else { panic!() };
//! let decision = Arc::new(Denial::new("unknown lines-1", "only GET is permitted").decision("s/2"));
//! session.rewrite(message, &Ruling::Refuse { decision, ticket: 2 }, &mut out)?;
//! assert_eq!(&out.to_target[..], b"GET a\n");
//! assert!(out.to_client.starts_with(b"DENIED "));
//! # Ok::<(), Fault>(())
//! ```
//!
//! The driver ([`relay`]) does this for real, between two sockets, with backpressure, limits and drain; the pipeline
//! ([`gateway`]) decides, holds and audits. This crate names no protocol, no HTTP framework and no database.

pub mod adapter;
pub mod approval;
pub mod audit;
mod buffers;
pub mod credentials;
pub mod detect;
pub mod embed;
pub mod gateway;
pub mod half_open;
mod json_text;
pub mod limits;
pub mod listener;
pub mod machine;
pub mod mask;
pub mod meaning;
pub mod operation;
pub mod outbox;
pub mod own;
pub mod plain;
pub mod policy;
pub mod principal;
pub mod proxy;
pub mod recording;
pub mod relay;
pub mod resource;
pub mod sealing;
pub mod secret;
pub mod services;
pub mod session;
pub mod tls;
pub mod transport;
pub mod verdict;
pub mod whole;

/// The examples in the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

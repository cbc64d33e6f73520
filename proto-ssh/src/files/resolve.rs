//! Where paths lead on a target.

use std::collections::HashMap;

use crate::authority::Granted;
use crate::lane::reach;
use crate::pipe::{Item, Message};
use crate::scp::Base;
use crate::session::Session;
use crate::sftp::resolver::Resolver;
use crate::target::{Accepts, Unreachable};

/// Where the paths of a command lead, as the target says on a connection of its own: scp itself has no word for asking.
pub(crate) async fn resolve(session: &Session, paths: &[String]) -> Result<Vec<Base>, Unreachable> {
    let resolving = async {
        let target = reach(session, Accepts::default(), &Granted::default()).await?;
        let (_, half) = target.handle.channel_open_session().await?.split();
        half.request_subsystem(true, "sftp").await?;
        let wrong = |what: &dyn std::fmt::Display| Unreachable::Path(what.to_string());
        let mut resolver = Resolver::new();
        let mut tickets = Vec::new();
        for path in paths {
            tickets.push(resolver.ask(path.as_bytes(), true).map_err(|e| wrong(&e))?);
        }
        let mut found = HashMap::new();
        loop {
            let bytes = resolver.take_bytes();
            if !bytes.is_empty() {
                half.data_bytes(bytes).await?;
            }
            while let Some((ticket, resolved)) = resolver.poll() {
                let resolved = resolved.map_err(|e| wrong(&e))?;
                let base = Base {
                    path: resolved.path,
                    directory: resolved.directory,
                };
                found.insert(ticket, base);
            }
            if found.len() == tickets.len() {
                return Ok(tickets.iter().filter_map(|ticket| found.remove(ticket)).collect());
            }
            match target.down.pop().await {
                (Item::Data(0, data), _) => resolver.handle_target(&data).map_err(|e| wrong(&e))?,
                (Item::Message(Message::Close | Message::Eof | Message::Failure), _) => {
                    return Err(wrong(&"the target has no SFTP to resolve it with"));
                }
                _ => {}
            }
        }
    };
    let limit = session.gateway.limits().connect;
    tokio::time::timeout(limit, resolving)
        .await
        .unwrap_or(Err(Unreachable::Time))
}

//! What `SHOW` shows. Each row is shown only where policy permits it to this principal.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use gateway_core::audit::read::{AuditRow, Query, search_with};
use gateway_core::gateway::SessionScope;
use gateway_core::operation::{Action, truncate};
use gateway_core::own::GATEWAY;
use gateway_core::policy::ListedPolicy;
use gateway_core::session::SessionRecord;

use super::command::View;
use super::table::{Cell, Column, Kind, Row, TEXT_BYTES};
pub(super) use crate::asked::{ADMINISTER, KILL, SEARCH, VIEW, asks, deciding};

/// The most rows that one command shows.
pub(super) const ROWS: usize = 10_000;
/// So many events are shown where no limit is given, and the most that a limit may ask for.
pub(super) const EVENTS: usize = 100;
pub(super) const EVENTS_MOST: usize = 1_000;

/// Asks policy about resources, each once.
pub(super) struct Sight<'a> {
    scope: &'a SessionScope,
    action: Action,
    seen: HashMap<String, bool>,
}

impl<'a> Sight<'a> {
    pub(super) fn new(scope: &'a SessionScope, action: Action) -> Self {
        Self {
            scope,
            action,
            seen: HashMap::new(),
        }
    }

    /// Whether the principal may do it on the resource of that name, or on what decides over it.
    pub(super) fn of(&mut self, name: &str) -> bool {
        let resource = deciding(self.scope.gateway(), self.scope.resource(), name);
        if let Some(known) = self.seen.get(&resource.name) {
            return *known;
        }
        let may = self
            .scope
            .may(&resource, &asks(self.action.clone(), &resource.name));
        self.seen.insert(resource.name.clone(), may);
        may
    }
}

/// The columns of a view.
pub(super) fn columns(view: View) -> Vec<Column> {
    use Kind::{Int, Text, Time};
    let list: &[(&str, Kind)] = match view {
        View::Sessions => &[
            ("id", Text),
            ("principal", Text),
            ("kind", Text),
            ("on_behalf_of", Text),
            ("resource", Text),
            ("protocol", Text),
            ("detail", Text),
            ("peer", Text),
            ("started", Time),
            ("operations", Int),
            ("refused", Int),
            ("rows", Int),
            ("bytes", Int),
            ("gateway", Text),
        ],
        View::Resources => &[
            ("name", Text),
            ("protocol", Text),
            ("address", Text),
            ("labels", Text),
            ("sessions", Int),
        ],
        View::Policies => &[
            ("id", Text),
            ("effect", Text),
            ("place", Text),
            ("annotations", Text),
            ("text", Text),
        ],
        View::Audit => &[
            ("seq", Int),
            ("at", Time),
            ("kind", Text),
            ("session", Text),
            ("principal", Text),
            ("on_behalf_of", Text),
            ("resource", Text),
            ("operation", Text),
            ("statement", Text),
            ("verdict", Text),
            ("rules", Text),
            ("rows", Int),
            ("micros", Int),
            ("error", Text),
            ("detail", Text),
        ],
        View::Metrics => &[("name", Text), ("labels", Text), ("value", Text)],
        View::Help => &[("command", Text), ("what", Text)],
    };
    list.iter().map(|(name, kind)| Column::new(name, *kind)).collect()
}

/// `SHOW SESSIONS`: those that run, oldest first.
pub(super) fn sessions(scope: &SessionScope, all: Vec<SessionRecord>, limit: usize) -> Vec<Row> {
    let mut sight = Sight::new(scope, VIEW);
    all.into_iter()
        .filter(|record| sight.of(&record.resource))
        .take(limit)
        .map(session)
        .collect()
}

fn session(record: SessionRecord) -> Row {
    vec![
        Cell::text(record.id.to_string()),
        Cell::text(record.principal.subject),
        Cell::text(record.principal.kind.to_string()),
        Cell::option(record.principal.on_behalf_of),
        Cell::text(record.resource),
        Cell::text(record.protocol),
        Cell::option(record.detail),
        Cell::text(record.peer.to_string()),
        Cell::Time(record.started),
        Cell::count(record.operations),
        Cell::count(record.refused),
        Cell::count(record.rows),
        Cell::count(record.bytes),
        Cell::option(record.node),
    ]
}

/// `SHOW RESOURCES`: those that one may connect to or administers. The address is for who administers, the number of
/// sessions for who may see them.
pub(super) fn resources(scope: &SessionScope, limit: usize) -> Vec<Row> {
    let mut connects = Sight::new(scope, Action::CONNECT);
    let mut administers = Sight::new(scope, ADMINISTER);
    let mut views = Sight::new(scope, VIEW);
    let mut running: HashMap<String, u64> = HashMap::new();
    for record in scope.gateway().live().list() {
        let count = running.entry(record.resource).or_default();
        *count = count.saturating_add(1);
    }
    let configured = scope.gateway().resources();
    let mut rows = Vec::new();
    for resource in std::iter::once(scope.resource()).chain(configured.values()) {
        let name = &resource.name;
        let administered = administers.of(name);
        if rows.len() >= limit || !(administered || connects.of(name)) {
            continue;
        }
        let address = (administered && !resource.address.is_empty()).then(|| resource.address.clone());
        let sessions = running.get(name).copied().unwrap_or_default();
        rows.push(vec![
            Cell::text(name.clone()),
            Cell::text(resource.protocol.clone()),
            Cell::option(address),
            Cell::text(serde_json::to_string(&resource.labels).unwrap_or_default()),
            if views.of(name) {
                Cell::count(sessions)
            } else {
                Cell::Null
            },
        ]);
    }
    rows
}

/// `SHOW POLICIES`.
pub(super) fn policies(list: Vec<ListedPolicy>, limit: usize) -> Vec<Row> {
    list.into_iter()
        .take(limit)
        .map(|policy| {
            vec![
                Cell::text(policy.id),
                Cell::text(policy.effect),
                Cell::text(policy.place),
                Cell::text(serde_json::to_string(&policy.annotations).unwrap_or_default()),
                Cell::text(policy.text),
            ]
        })
        .collect()
}

/// The newest `limit` events that `may_see` lets pass, by the names of their resources; newest last. Reads the trail, and
/// blocks on the disk; keeps no more than is shown.
pub(super) fn audit(dir: &Path, limit: usize, may_see: impl Fn(&str) -> bool) -> io::Result<Vec<Row>> {
    let query = Query {
        limit: Some(limit),
        ..Query::default()
    };
    let mut keep = |row: &mut AuditRow| {
        for text in [&mut row.statement, &mut row.detail, &mut row.error]
            .into_iter()
            .flatten()
        {
            truncate(text, TEXT_BYTES);
            text.shrink_to_fit();
        }
        row.parameters = Vec::new();
        may_see(row.resource.as_deref().unwrap_or(GATEWAY))
    };
    let found = search_with(dir, &query, &mut keep)?;
    Ok(found.rows.into_iter().map(event).collect())
}

fn event(row: AuditRow) -> Row {
    let count = |number: Option<u64>| number.map_or(Cell::Null, Cell::count);
    vec![
        Cell::count(row.seq),
        Cell::Time(row.at),
        Cell::text(row.kind),
        Cell::option(row.session.map(|id| id.to_string())),
        Cell::option(row.principal),
        Cell::option(row.on_behalf_of),
        Cell::option(row.resource),
        Cell::option(row.operation),
        Cell::option(row.statement),
        Cell::option(row.verdict),
        Cell::text(row.rules.join(", ")),
        count(row.rows),
        count(row.micros),
        Cell::option(row.error),
        Cell::option(row.detail),
    ]
}

/// `SHOW METRICS`, from the text that collectors get.
pub(super) fn metrics(text: &str, limit: usize) -> Vec<Row> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' '))
        .take(limit)
        .map(|(series, value)| {
            let (name, labels) = match series.split_once('{') {
                Some((name, labels)) => (name, labels.strip_suffix('}').unwrap_or(labels)),
                None => (series, ""),
            };
            vec![Cell::text(name), Cell::text(labels), Cell::text(value)]
        })
        .collect()
}

/// `SHOW HELP`.
pub(super) fn help() -> Vec<Row> {
    [
        (
            "SHOW SESSIONS [LIMIT n]",
            "sessions that run, on resources whose `session-view` you have",
        ),
        (
            "SHOW RESOURCES [LIMIT n]",
            "resources that you may connect to or administer",
        ),
        (
            "SHOW POLICIES [LIMIT n]",
            "the policies in force; needs `administer` on the gateway",
        ),
        (
            "SHOW AUDIT [LIMIT n]",
            "the newest events of resources whose `audit-search` you have (100, at most 1000)",
        ),
        (
            "SHOW METRICS [LIMIT n]",
            "counters of this process; needs `administer` on the gateway",
        ),
        (
            "KILL '<session>'",
            "ends a session, the whole id as shown; needs `session-kill` on its resource",
        ),
        ("SHOW HELP", "this"),
    ]
    .into_iter()
    .map(|(command, what)| vec![Cell::text(command), Cell::text(what)])
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_split_into_name_labels_and_value() {
        let text = "# TYPE a counter\na{b=\"c d\",e=\"}\"} 7\nplain 1.5\n\n";
        assert_eq!(
            metrics(text, 10),
            [
                vec![Cell::text("a"), Cell::text("b=\"c d\",e=\"}\""), Cell::text("7")],
                vec![Cell::text("plain"), Cell::text(""), Cell::text("1.5")],
            ]
        );
        assert_eq!(metrics(text, 1).len(), 1);
    }
}

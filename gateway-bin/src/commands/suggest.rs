//! `gateway policy suggest`: the least privilege that covers what somebody used, from the audit trail.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use gateway_core::audit::Event;
use gateway_core::audit::read::{Follow, TrailRecord};
use gateway_core::operation::{Operation, Operations};
use gateway_core::policy::{PolicyEngine, Usage};
use gateway_core::principal::Principal;
use gateway_core::services::Policy as _;
use gateway_core::session::SessionId;
use gateway_core::verdict::Verdict;
use jiff::Timestamp;

use super::audit::time;
use super::tables::plain;
use crate::assemble;
use crate::cli::{Global, Suggest};
use crate::config::Config;

/// What the trail has of one subject.
#[derive(Default)]
struct Seen {
    usage: Usage,
    /// As it was last.
    principal: Option<Arc<Principal>>,
    /// What ran, each thing once, by resource.
    ran: BTreeMap<String, HashSet<Operation>>,
    sessions: HashSet<SessionId>,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

/// Runs the command.
pub(super) fn run(global: &Global, what: Suggest) -> anyhow::Result<ExitCode> {
    let config = Config::load(global)?;
    let engine = assemble::policies(&config)?;
    let now = Timestamp::now();
    let since = what.since.map(|text| time(&text, now)).transpose()?;
    let until = what.until.map(|text| time(&text, now)).transpose()?;
    let mut seen = Seen::default();
    let mut take = |record: TrailRecord<'_>| {
        let in_time =
            since.is_none_or(|since| record.at >= since) && until.is_none_or(|until| record.at <= until);
        if in_time && let Ok(event) = serde_json::from_str::<Event>(record.event) {
            seen.take(record.at, event, &what.subject, &what.resources);
        }
        Ok(true)
    };
    let dir = Config::audit_dir(&config.data_dir);
    Follow::after(&dir, 0).read(u64::MAX, &mut take)?;
    let Some(principal) = seen.principal.clone() else {
        bail!(
            "the audit trail has nothing that `{}` did there in that time",
            plain(&what.subject)
        );
    };
    let policies = seen.usage.policies(&principal.subject);
    println!("{}{policies}", seen.head(&principal, &engine));
    proven(&config, &engine, &seen, &principal, &policies)
}

impl Seen {
    fn take(&mut self, at: Timestamp, event: Event, subject: &str, resources: &[String]) {
        let concerns = |principal: &Principal, resource: &String| {
            principal.subject == subject && (resources.is_empty() || resources.contains(resource))
        };
        match event {
            Event::SessionStarted {
                session,
                principal,
                resource,
                rules,
                ..
            } if concerns(&principal, &resource) => {
                self.sessions.insert(session);
                self.usage.session(&resource, &rules);
                self.ran
                    .entry(resource.clone())
                    .or_default()
                    .insert(Operation::connect(&resource));
                self.met(at, principal);
            }
            Event::Operation {
                principal,
                resource,
                asked,
                verdict,
                rules,
                masked,
                ..
            } if concerns(&principal, &resource) => {
                self.usage.operation(&asked, &verdict, &rules, &masked);
                if verdict == "allow" {
                    let ran = asked.into_iter().filter(|one| {
                        !(one.reached || one.or_mask && masked.contains(&one.object.entity.id))
                    });
                    self.ran.entry(resource).or_default().extend(ran);
                }
                self.met(at, principal);
            }
            _ => {}
        }
    }

    fn met(&mut self, at: Timestamp, principal: Arc<Principal>) {
        self.first.get_or_insert(at);
        self.last = Some(at);
        self.principal = Some(principal);
    }

    /// What it is, and what would be lost, as comments.
    fn head(&self, principal: &Principal, engine: &PolicyEngine) -> String {
        let usage = &self.usage;
        let mut head = format!(
            "// What \"{}\" used from {} to {}: {} messages in {} sessions. The least that permits it, to be read before \
             it is taken.\n",
            plain(&principal.subject),
            self.first.unwrap_or_default(),
            self.last.unwrap_or_default(),
            usage.allowed(),
            usage.sessions(),
        );
        if usage.refused() > 0 {
            let _ = writeln!(
                head,
                "// {} messages were refused: they are not in it.",
                usage.refused()
            );
        }
        for (rule, times) in usage.held() {
            let _ = writeln!(
                head,
                "// Held for approval by \"{}\", {times} times: keep that rule, what it holds is not in this.",
                plain(rule)
            );
        }
        let unused: Vec<_> = engine
            .permits_of(principal)
            .into_iter()
            .filter(|permit| !usage.cites(&permit.id))
            .collect();
        for permit in &unused {
            let _ = writeln!(
                head,
                "// Would be lost, and was not used: \"{}\" ({}).",
                plain(&permit.id),
                plain(&permit.place)
            );
        }
        head.push_str(
            "// Of the permits that were used, all that they permit beside this would be lost, too. Forbids go on as they are.\n",
        );
        head
    }
}

/// Loads what is suggested, alone, and asks it for all that ran.
fn proven(
    config: &Config,
    engine: &PolicyEngine,
    seen: &Seen,
    principal: &Arc<Principal>,
    policies: &str,
) -> anyhow::Result<ExitCode> {
    let folder = Folder::new(policies)?;
    let alone = match PolicyEngine::open(&folder.0, engine.vocabulary().clone()) {
        Ok(alone) => alone,
        Err(errors) => bail!("what is suggested is no policy; please report this:\n{errors}"),
    };
    let (mut checked, mut missing) = (0_usize, Vec::new());
    for (name, ran) in &seen.ran {
        let Some(resource) = config.resources.get(name) else {
            eprintln!("note: `{}` is not in the configuration any more", plain(name));
            continue;
        };
        for operation in ran {
            checked = checked.saturating_add(1);
            let asked = Arc::new(Operations::new(vec![operation.clone()], ""));
            if !matches!(alone.decide(principal, resource, &asked), Verdict::Allow { .. }) {
                missing.push(format!("{} on {}", operation.action, operation.object.entity));
            }
        }
    }
    if missing.is_empty() {
        eprintln!("checked: these permits alone permit all {checked} different operations that ran");
        return Ok(ExitCode::SUCCESS);
    }
    missing.sort();
    missing.dedup();
    for one in missing.iter().take(20) {
        eprintln!("gateway: not permitted by these: {}", plain(one));
    }
    eprintln!(
        "gateway: {} kinds of operations that ran are not in it: write rules for them by hand",
        missing.len()
    );
    Ok(ExitCode::FAILURE)
}

/// A directory for one policy file, gone when dropped.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(policies: &str) -> anyhow::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let path = std::env::temp_dir().join(format!("gateway-suggest-{}", SessionId::generate()));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("`{}` cannot be made", path.display()))?;
        let folder = Self(path);
        std::fs::write(folder.0.join("suggested.cedar"), policies)?;
        Ok(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays is a copy of what was printed.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

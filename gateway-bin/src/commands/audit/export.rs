//! `gateway audit export`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use jiff::Timestamp;

use super::super::{must_exist, operator_on};
use super::time;
use crate::cli::{AuditExport, Global};
use crate::config::Config;
use crate::export::sink::{Remote, Sink, host_and_port, url};
use crate::export::{Batches, Format};

pub(super) async fn run(global: &Global, what: AuditExport) -> anyhow::Result<ExitCode> {
    let data_dir = operator_on(global)?;
    must_exist(&data_dir)?;
    let now = Timestamp::now();
    let since = what.since.as_deref().map(|text| time(text, now)).transpose()?;
    let until = what.until.as_deref().map(|text| time(text, now)).transpose()?;
    let mut sink = sink(what.format, what.to.as_deref(), what.ca)?;
    let dir = Config::audit_dir(&data_dir);
    if !dir.is_dir() {
        bail!("there is no audit trail in `{}`", dir.display());
    }
    let mut batches = Batches::after(&dir, what.after, what.format);
    let (mut cursor, mut count) = (what.after, 0usize);
    loop {
        let (back, batch) = tokio::task::spawn_blocking(move || {
            let batch = batches.next(u64::MAX);
            (batches, batch)
        })
        .await?;
        batches = back;
        let mut batch = batch?;
        let Some(last) = batch.last().map(|record| record.seq) else {
            break;
        };
        batch.retain(|record| {
            since.is_none_or(|since| record.at >= since) && until.is_none_or(|until| record.at <= until)
        });
        if !batch.is_empty() {
            sink.send(&batch)
                .await
                .with_context(|| format!("not exported; go on with `--after {cursor}`"))?;
            count = count.saturating_add(batch.len());
        }
        cursor = last;
    }
    if batches.skipped() > 0 {
        eprintln!(
            "note: {} records before them were dropped by retention",
            batches.skipped()
        );
    }
    eprintln!("{count} records; cursor {cursor}");
    Ok(ExitCode::SUCCESS)
}

fn sink(format: Format, to: Option<&str>, ca: Option<PathBuf>) -> anyhow::Result<Sink> {
    let Some(to) = to else {
        return Ok(Sink::Stdout(format));
    };
    match format {
        Format::Otlp if to.contains("://") => {
            let (tls, host, port, path) =
                url(to).with_context(|| format!("`{to}` must be like https://host:4318/v1/logs"))?;
            let remote = Remote { host, port, tls, ca };
            Ok(Sink::Otlp {
                remote,
                path,
                headers: Vec::new(),
            })
        }
        Format::Syslog if to.contains("://") || (host_and_port(to).is_some() && !to.contains('/')) => {
            let (tls, address) = match (to.strip_prefix("tls://"), to.strip_prefix("tcp://")) {
                (Some(address), _) => (true, address),
                (_, Some(address)) => (false, address),
                _ if to.contains("://") => {
                    bail!("`{to}` must be host:port, tls://host:port or tcp://host:port")
                }
                _ => (true, to),
            };
            let (host, port) =
                host_and_port(address).with_context(|| format!("`{address}` must be host:port"))?;
            let remote = Remote { host, port, tls, ca };
            Ok(Sink::Syslog { remote, open: None })
        }
        _ if to.contains("://") => bail!("`{to}`: only otlp goes to a URL; give a file"),
        format => Ok(Sink::File(PathBuf::from(to), format)),
    }
}

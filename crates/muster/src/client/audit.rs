//! `muster audit`.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use muster_core::clock::{Clock, Timestamp};

use super::failure::Failure;
use super::http::Call;
use super::output::{ListArgs, bytes};
use super::pages::Pages;
use super::session::{Common, Session};
use super::span::moment;
use super::table::{Column, column};

/// Options of `muster audit`: of several, all must fit.
#[derive(Args)]
pub(crate) struct AuditArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// Who acted, like user:admin
    #[arg(long, value_name = "WHO")]
    actor: Option<String>,
    /// What was asked, like PatchDevice
    #[arg(long, value_name = "OPERATION")]
    action: Option<String>,
    /// What was acted on, like device:d-1a2b-3c4d
    #[arg(long, value_name = "WHAT")]
    subject: Option<String>,
    /// Key of the fleet that it was in
    #[arg(long, value_name = "KEY")]
    in_fleet: Option<String>,
    /// Address that the request came from
    #[arg(long, value_name = "ADDRESS")]
    source_ip: Option<String>,
    /// Not before this moment, like 2025-06-09T14:10:44Z or 2h (ago)
    #[arg(long, value_name = "MOMENT")]
    since: Option<String>,
    /// Before this moment
    #[arg(long, value_name = "MOMENT")]
    until: Option<String>,
    /// Print all of it, oldest first, in a form for other programs
    #[arg(long, value_name = "FORMAT", value_parser = ["csv", "jsonl"], conflicts_with_all = ["limit", "json"])]
    export: Option<String>,
    /// Write the export into this file
    #[arg(long, value_name = "FILE", requires = "export")]
    output: Option<PathBuf>,
    #[command(flatten)]
    list: ListArgs,
}

const EVENTS: &[Column] = &[
    column("TIME", "time"),
    column("ACTOR", "actor"),
    column("ACTION", "action"),
    column("SUBJECT", "subject"),
    column("FLEET", "project_key"),
    column("FROM", "source_ip"),
];

impl AuditArgs {
    fn filtered<'a>(&self, call: Call<'a>, now: Timestamp) -> Call<'a> {
        let moment = |text: &String| moment(text, now);
        call.maybe("actor", self.actor.as_deref())
            .maybe("action", self.action.as_deref())
            .maybe("subject", self.subject.as_deref())
            .maybe("fleet", self.in_fleet.as_deref())
            .maybe("source_ip", self.source_ip.as_deref())
            .maybe("from", self.since.as_ref().map(moment).as_deref())
            .maybe("to", self.until.as_ref().map(moment).as_deref())
    }
}

pub(super) async fn run(args: &AuditArgs, session: &Session) -> Result<(), Failure> {
    let now = Clock::system().now();
    let Some(format) = &args.export else {
        let call = args.filtered(session.http.get(&["account", "audit-log"])?, now);
        return session.out.list(Pages::new(call, "events", args.list.limit()), EVENTS).await;
    };
    let call = args.filtered(session.http.get(&["account", "audit-log", "export"])?, now);
    export(call.query("format", format), args.output.as_ref()).await
}

/// Passes the export on as it comes: it may be larger than memory.
async fn export(call: Call<'_>, output: Option<&PathBuf>) -> Result<(), Failure> {
    let mut response = call.send().await?;
    let mut file = match output {
        Some(path) => Some(File::create(path).with_context(|| format!("cannot write {}", path.display()))?),
        None => None,
    };
    while let Some(part) = response.chunk().await.context("the server's answer broke off")? {
        match &mut file {
            Some(file) => file.write_all(&part).context("cannot write the export")?,
            None => bytes(&part)?,
        }
    }
    Ok(())
}

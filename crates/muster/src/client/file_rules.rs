//! `muster files rules`: which files of a fleet's devices people may reach.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use muster_core::file_rules::{FileRule, FileRules};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::commands::script;
use super::failure::Failure;
use super::files::{Remote, call};
use super::session::Session;
use super::table::{Column, column};

/// What can be done about files in general.
#[derive(Subcommand)]
pub(crate) enum FilesCommand {
    /// The fleet's rules: the first whose path matches decides
    Rules(RulesArgs),
}

/// Something about rules.
#[derive(Args)]
pub(crate) struct RulesArgs {
    #[command(subcommand)]
    command: RulesCommand,
}

/// What can be done with the rules.
#[derive(Subcommand)]
enum RulesCommand {
    /// Show the rules in their order
    Show,
    /// Replace all the rules
    Set {
        /// A rule, as none, read or write, a colon and a path with wildcards; in the rules' order
        #[arg(long = "rule", value_name = "ACCESS:PATH", required_unless_present = "from")]
        rules: Vec<String>,
        /// A file with the rules as JSON, as `show --json` prints them; - is standard input
        #[arg(long, value_name = "FILE", conflicts_with = "rules")]
        from: Option<PathBuf>,
    },
    /// Show which rule decides about a path, and what the device says
    Test {
        /// The path; of a device, links on the way are followed there
        #[arg(value_name = "[DEVICE:]/PATH")]
        path: String,
    },
}

/// As the API has them.
#[derive(Deserialize)]
struct RulesBody {
    file_rules: FileRules,
}

const RULES: &[Column] = &[column("ACCESS", "access"), column("PATH", "path")];
const TESTED: &[Column] = &[
    column("PATH", "path"),
    column("LEADS TO", "leads_to"),
    column("RULE", "rule"),
    column("RULE'S PATH", "rule_path"),
    column("ACCESS", "access"),
    column("DEVICE", "device"),
];

pub(super) async fn run(command: FilesCommand, session: &Session) -> Result<(), Failure> {
    let FilesCommand::Rules(RulesArgs { command }) = command;
    let out = &session.out;
    let path = [session.fleet()?, "file_rules"];
    match command {
        RulesCommand::Show => {
            let found = session.http.get(&path)?.value().await?;
            if out.is_json() {
                return out.object(&found, RULES);
            }
            out.items(found["file_rules"].as_array().map(Vec::as_slice).unwrap_or_default(), RULES)
        }
        RulesCommand::Set { rules, from } => {
            let body = match from {
                Some(_) => document(&script(None, from.as_ref())?.unwrap_or_default())?,
                None => json!({ "file_rules": rules.iter().map(|rule| one(rule)).collect::<Result<Vec<_>, _>>()? }),
            };
            let set = session.http.call(Method::PUT, &path)?.json(&body).value().await?;
            let count = set["file_rules"].as_array().map_or(0, Vec::len);
            out.done(&set, &format!("{count} rules from now on"))
        }
        RulesCommand::Test { path: tested } => {
            let rules: RulesBody = serde_json::from_value(session.http.get(&path)?.value().await?)
                .map_err(|error| Failure::Other(anyhow::anyhow!("the server's rules are none: {error}")))?;
            let decided = test(session, &rules.file_rules, &tested).await?;
            out.object(&decided, TESTED)
        }
    }
}

/// A document as it is; the server checks what is in it.
fn document(text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text).map_err(|error| Failure::Usage(format!("--from: {error}")))
}

fn one(rule: &str) -> Result<Value, Failure> {
    let (access, path) = rule.split_once(':').ok_or_else(|| Failure::Usage(format!("{rule:?} is not ACCESS:PATH")))?;
    Ok(json!({ "path": path, "access": access }))
}

/// Which rule decides. Where a device serves the path, it tells where that truly leads, and
/// that is what the rules are held against.
async fn test(session: &Session, rules: &FileRules, tested: &str) -> Result<Value, Failure> {
    if tested.starts_with('/') {
        return Ok(decided(rules, tested, tested, None));
    }
    let at: Remote = tested.parse().map_err(Failure::Usage)?;
    match call(session, Method::GET, &at, &[])?.query("limit", "1").value().await {
        Ok(page) => {
            let leads_to = page["file"]["name"].as_str().unwrap_or(&at.path);
            Ok(decided(rules, &at.path, leads_to, Some("serves it")))
        }
        // No rule, or nothing there: the device's own word is the answer.
        Err(Failure::Api { status: 403 | 404 | 409, message, .. }) => {
            Ok(decided(rules, &at.path, &at.path, Some(&message)))
        }
        Err(failure) => Err(failure),
    }
}

fn decided(rules: &FileRules, path: &str, leads_to: &str, device: Option<&str>) -> Value {
    let first: Option<(usize, &FileRule)> = rules.deciding(leads_to.as_bytes());
    json!({
        "path": path, "leads_to": leads_to, "device": device,
        "rule": first.map(|(at, _)| at + 1), "rule_path": first.map(|(_, rule)| &rule.path),
        "access": first.map_or_else(|| json!("none"), |(_, rule)| json!(rule.access)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_that_decides_is_told_by_its_place() {
        let rules: FileRules =
            serde_json::from_value(json!([one("none:/a/b*").unwrap(), one("read:/a/**").unwrap()])).unwrap();
        let told = |path: &str| {
            let told = decided(&rules, path, path, None);
            json!([told["rule"], told["rule_path"], told["access"]])
        };
        assert_eq!(told("/a/bc"), json!([1, "/a/b*", "none"]));
        assert_eq!(told("/a/c"), json!([2, "/a/**", "read"]));
        assert_eq!(told("/x"), json!([null, null, "none"]));
        assert_eq!(one("read").unwrap_err().exit_code(), 2);
    }
}

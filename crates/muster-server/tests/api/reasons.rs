//! Every reason that a target can have is listed for operators, and no other.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use muster_server::deploy::standing::STARTING;

/// Where reasons of targets are given.
const SOURCES: [&str; 4] = [
    "muster-core/src/target.rs",
    "muster-core/src/rollout/plan.rs",
    "muster-server/src/deploy/standing.rs",
    "muster-agent/src/run",
];

#[test]
fn the_published_reasons_are_those_of_the_code() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files: Vec<PathBuf> = Vec::new();
    SOURCES.iter().for_each(|source| collect(&crates.join(source), &mut files));
    let mut given: BTreeSet<String> =
        files.iter().flat_map(|file| reasons(&fs::read_to_string(file).unwrap())).collect();
    given.insert(STARTING.to_owned());
    let page = fs::read_to_string(crates.join("../docs/operating/deployments.md")).unwrap();
    let (listed, _) = page.split_once("## Deadlines").unwrap();
    let in_table = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
    let mut listed: BTreeSet<String> = listed.lines().filter_map(in_table).collect();
    listed.insert("running".to_owned());
    assert_eq!(given, listed);
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) {
    if path.is_dir() {
        let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| !path.ends_with("tests")).for_each(|path| collect(&path, files));
    } else {
        files.push(path.to_owned());
    }
}

/// The codes in `Reason::new("code", …)`, apart from those of the file's own tests.
fn reasons(source: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]").next().unwrap_or_default();
    let after = source.split("Reason::new(").skip(1);
    let code = |text: &str| Some(text.trim_start().strip_prefix('"')?.split_once('"')?.0.to_owned());
    after.filter_map(code).collect()
}

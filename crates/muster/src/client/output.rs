//! What a command prints: tables for people, JSON for programs.

use std::io::Write;
use std::num::NonZeroU64;

use clap::Args;
use serde_json::Value;

use super::failure::Failure;
use super::pages::Pages;
use super::table::{self, Canvas, Column};

/// Options of every list.
#[derive(Args)]
pub(crate) struct ListArgs {
    /// Print at most so many
    #[arg(long, value_name = "N")]
    limit: Option<NonZeroU64>,
}

impl ListArgs {
    pub(super) fn limit(&self) -> Option<u64> {
        self.limit.map(NonZeroU64::get)
    }
}

/// Standard output, and how it is wanted.
pub(super) struct Output {
    is_json: bool,
}

impl Output {
    pub(super) const fn new(is_json: bool) -> Self {
        Self { is_json }
    }

    /// Whether a program reads it.
    pub(super) const fn is_json(&self) -> bool {
        self.is_json
    }

    /// A list: every item of every page.
    pub(super) async fn list(&self, mut pages: Pages<'_>, columns: &[Column]) -> Result<(), Failure> {
        if self.is_json {
            return json_list(&mut pages).await;
        }
        let mut lines = Vec::new();
        while let Some(items) = pages.next().await? {
            lines.extend(items.iter().map(|item| table::cells(columns, item)));
        }
        line(&table::rows(columns, &lines, Canvas::of_stdout()))
    }

    /// Items that are all there.
    pub(super) fn items(&self, items: &[Value], columns: &[Column]) -> Result<(), Failure> {
        if self.is_json {
            let whole: Vec<String> = items.iter().map(Value::to_string).collect();
            return line(&if whole.is_empty() { "[]".to_owned() } else { format!("[\n{}\n]", whole.join(",\n")) });
        }
        let lines: Vec<_> = items.iter().map(|item| table::cells(columns, item)).collect();
        line(&table::rows(columns, &lines, Canvas::of_stdout()))
    }

    /// One object.
    pub(super) fn object(&self, object: &Value, columns: &[Column]) -> Result<(), Failure> {
        if self.is_json {
            line(&object.to_string())
        } else {
            line(&table::fields(columns, object, Canvas::of_stdout()))
        }
    }

    /// Something that was made, with a secret that is shown this once, last and by itself.
    pub(super) fn secret(&self, made: &Value, columns: &[Column]) -> Result<(), Failure> {
        self.object(made, columns)?;
        self.text(&format!("\nShown this once:\n{}", made["token"].as_str().unwrap_or_default()))
    }

    /// That something was done: in JSON, what the server answered, if anything.
    pub(super) fn done(&self, answer: &Value, sentence: &str) -> Result<(), Failure> {
        match (self.is_json, answer) {
            (true, Value::Null) => Ok(()),
            (true, answer) => line(&answer.to_string()),
            (false, _) => line(&table::printable(sentence)),
        }
    }

    /// A heading and a table below another one; nothing for programs, who have it all.
    pub(super) fn more(&self, heading: &str, items: &[Value], columns: &[Column]) -> Result<(), Failure> {
        if self.is_json || items.is_empty() {
            return Ok(());
        }
        line(&format!("\n{heading}"))?;
        self.items(items, columns)
    }

    /// Text for people alone, of several lines.
    pub(super) fn text(&self, text: &str) -> Result<(), Failure> {
        if self.is_json { Ok(()) } else { line(&table::printable_lines(text.trim_end_matches('\n'))) }
    }
}

impl Output {
    /// Text for people alone, on standard error: what is no result.
    pub(super) fn note(&self, text: &str) -> Result<(), Failure> {
        if !self.is_json {
            writeln!(std::io::stderr(), "{}", table::printable_lines(text.trim_end_matches('\n')))?;
        }
        Ok(())
    }
}

/// An array with an item on each line, printed while its pages come: memory for one page is enough.
async fn json_list(pages: &mut Pages<'_>) -> Result<(), Failure> {
    let mut separator = "[\n";
    while let Some(items) = pages.next().await? {
        for item in &items {
            bytes(format!("{separator}{item}").as_bytes())?;
            separator = ",\n";
        }
    }
    line(if separator == "[\n" { "[]" } else { "\n]" })
}

/// Prints a line.
pub(super) fn line(text: &str) -> Result<(), Failure> {
    bytes(format!("{text}\n").as_bytes())
}

/// Prints as it is.
pub(super) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes)?;
    Ok(stdout.flush()?)
}

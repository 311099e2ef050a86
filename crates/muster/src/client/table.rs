//! Tables for people, made of the API's JSON.

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use console::Term;
use serde_json::Value;

/// One column: its title, and where in an item its value stands.
#[derive(Clone, Copy)]
pub(super) struct Column {
    title: &'static str,
    /// Keys from the outside inwards, with dots between them.
    place: &'static str,
}

/// A column of that title for what stands at that place.
pub(super) const fn column(title: &'static str, place: &'static str) -> Column {
    Column { title, place }
}

/// What a table is drawn on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Canvas {
    /// In characters; without one, lines are as long as they need to be.
    pub(super) width: Option<u16>,
    pub(super) is_coloured: bool,
}

impl Canvas {
    /// A bare file or pipe.
    pub(super) const PLAIN: Self = Self { width: None, is_coloured: false };

    /// What standard output is.
    pub(super) fn of_stdout() -> Self {
        let terminal = Term::stdout();
        if !terminal.is_term() {
            return Self::PLAIN;
        }
        let is_coloured = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { width: terminal.size_checked().map(|(_, columns)| columns), is_coloured }
    }
}

/// A table with a line for each item, and a title for each column.
pub(super) fn rows(columns: &[Column], cells: &[Vec<String>], canvas: Canvas) -> String {
    let titles = columns.iter().map(|column| Cell::new(column.title).add_attribute(Attribute::Bold));
    let mut table = empty(canvas);
    table.set_header(titles);
    table.add_rows(cells.iter().map(|row| row.iter().map(|text| coloured(text))));
    finished(table)
}

/// A table with a line for each field of one item.
pub(super) fn fields(columns: &[Column], item: &Value, canvas: Canvas) -> String {
    let mut table = empty(canvas);
    for column in columns {
        table.add_row([Cell::new(column.title).add_attribute(Attribute::Bold), coloured(&text_at(item, column))]);
    }
    finished(table)
}

/// The texts of an item's line.
pub(super) fn cells(columns: &[Column], item: &Value) -> Vec<String> {
    columns.iter().map(|column| text_at(item, column)).collect()
}

fn empty(canvas: Canvas) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if let Some(width) = canvas.width {
        table.set_width(width);
    }
    if canvas.is_coloured {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table
}

fn finished(mut table: Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

fn coloured(text: &str) -> Cell {
    let colour = match text {
        "online" | "Succeeded" | "success" => Some(Color::Green),
        "Failed" | "failed" => Some(Color::Red),
        "Aborted" | "aborted" | "offline" => Some(Color::Yellow),
        "In Progress" | "in_progress" => Some(Color::Blue),
        _ => None,
    };
    let cell = Cell::new(text);
    if let Some(colour) = colour { cell.fg(colour) } else { cell }
}

fn text_at(item: &Value, column: &Column) -> String {
    let found = column.place.split('.').try_fold(item, |value, key| value.get(key));
    printable(&words(found.unwrap_or(&Value::Null)))
}

/// A value in words: lists with commas, a pair like an app and its version with `=`.
fn words(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Array(items) => items.iter().map(words).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => fields.values().map(words).collect::<Vec<_>>().join("="),
    }
}

/// `text` on one line, with nothing in it that a terminal would obey: much of what is
/// shown was said by devices.
pub(super) fn printable(text: &str) -> String {
    if !text.contains(is_obeyed) {
        return text.to_owned();
    }
    text.chars().map(|c| if is_obeyed(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// The same for a text of several lines.
pub(super) fn printable_lines(text: &str) -> String {
    text.split('\n').map(|line| printable(&line.replace('\t', "    "))).collect::<Vec<_>>().join("\n")
}

/// Control characters, and those that turn the direction of writing.
fn is_obeyed(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COLUMNS: &[Column] = &[column("NAME", "name"), column("STATE", "state"), column("TAGS", "tags.names")];

    fn drawn(items: &[Value], canvas: Canvas) -> String {
        let lines: Vec<_> = items.iter().map(|item| cells(COLUMNS, item)).collect();
        rows(COLUMNS, &lines, canvas)
    }

    #[test]
    fn a_line_for_each_item() {
        let items = [
            json!({"name": "one", "state": "online", "tags": {"names": ["a", "b c"]}}),
            json!({"name": "the second", "state": null, "tags": {"names": []}}),
        ];
        let expected = "NAME        STATE   TAGS\none         online  a, b c\nthe second  -";
        assert_eq!(drawn(&items, Canvas::PLAIN), expected);
    }

    #[test]
    fn a_line_for_each_field() {
        let item = json!({"name": "one", "state": true, "tags": {"names": [{"app_name": "fw", "version": "1.2"}]}});
        assert_eq!(fields(COLUMNS, &item, Canvas::PLAIN), "NAME   one\nSTATE  yes\nTAGS   fw=1.2");
    }

    #[test]
    fn colours_only_where_they_are_wanted() {
        let items = [json!({"name": "one", "state": "online"})];
        assert!(!drawn(&items, Canvas { width: Some(80), is_coloured: false }).contains('\u{1b}'));
        assert!(drawn(&items, Canvas { width: Some(80), is_coloured: true }).contains('\u{1b}'));
    }

    #[test]
    fn no_line_is_longer_than_the_terminal_is_wide() {
        let items = [json!({"name": "word ".repeat(40), "state": "x".repeat(60), "tags": {"names": ["a", "b"]}})];
        let drawn = drawn(&items, Canvas { width: Some(40), is_coloured: false });
        let longest = drawn.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(longest <= 40, "{longest} in\n{drawn}");
    }

    #[test]
    fn a_terminal_is_told_nothing_by_a_device() {
        assert_eq!(printable("a\u{1b}[2Jb\u{202e}c\n"), "a\\u{1b}[2Jb\\u{202e}c\\n");
        assert_eq!(printable_lines("a\tb\r\n\u{1b}c"), "a    b\\r\n\\u{1b}c");
    }
}

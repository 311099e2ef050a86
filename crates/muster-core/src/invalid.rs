//! How a bad word is refused: with the field and the value at fault.

use std::fmt;

/// What was wrong with one field of a request.
///
/// Its text is meant for the caller: it names the field, says what was expected
/// and shows the value, cut to a length that is safe to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Where the value stood: `device_filter.filters[0].operand`.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Invalid {
    /// A refusal of `field` because of `problem`.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }

    /// `field` names something that does not exist.
    pub fn unknown(field: impl Into<String>, what: &str, value: &str) -> Self {
        Self::new(field, format!("no {what} is called {}", quoted(value)))
    }

    /// `field` is required and was left out.
    pub fn missing(field: impl Into<String>) -> Self {
        Self::new(field, "is required")
    }

    /// The same refusal, for a value that stood below `outer`.
    #[must_use]
    pub fn within(mut self, outer: &str) -> Self {
        self.field = match self.field.as_str() {
            "" => outer.to_owned(),
            inner if inner.starts_with('[') => format!("{outer}{inner}"),
            inner => format!("{outer}.{inner}"),
        };
        self
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            return f.write_str(&self.problem);
        }
        write!(f, "{}: {}", self.field, self.problem)
    }
}

impl std::error::Error for Invalid {}

/// How many characters of a refused value are shown.
const SHOWN_CHARS_MAX: usize = 80;

/// `value` in quotes, with control characters escaped and its length bounded.
pub fn quoted(value: &str) -> String {
    let mut shown: String = value.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect();
    if value.chars().nth(SHOWN_CHARS_MAX).is_some() {
        shown.push('…');
    }
    format!("\"{shown}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_a_value_safely() {
        assert_eq!(quoted("a\u{0}b\n"), r#""a\0b\n""#);
        assert_eq!(quoted(&"x".repeat(500)).chars().count(), SHOWN_CHARS_MAX + 3);
    }

    #[test]
    fn nests_field_names() {
        let inner = Invalid::missing("operand").within("[2]").within("filters");
        assert_eq!(inner.to_string(), "filters[2].operand: is required");
    }
}

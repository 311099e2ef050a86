//! What a device says of itself, made fit for a row.

/// `text` without the one character that PostgreSQL refuses, and cut to
/// `chars_max`: a device cannot make a row that a database refuses or that grows
/// without bound, whatever it sends.
pub(crate) fn printable(text: &str, chars_max: usize) -> String {
    text.chars().filter(|c| *c != '\0').take(chars_max).collect()
}

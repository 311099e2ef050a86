//! What the Tag Service takes for a tag. Connect's API takes more: the Tag Service lists
//! such tags and deletes them, but makes none.

use crate::limits::{NAME_CHARS_MAX, TAG_HALF_CHARS_MAX};
use crate::names::Tag;

/// Why a key and a value are no tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagFault {
    /// There is no key.
    KeyEmpty,
    /// The key is too long, or holds other characters than the rules allow.
    KeyInvalid,
    /// So does the value.
    ValueInvalid,
}

/// Whether the Tag Service may make this tag: up to 65 characters in key and value, which
/// are letters and digits of any script, `-`, `_`, space, `/` and `.`.
pub fn check_new(tag: &Tag) -> Result<(), TagFault> {
    let is_allowed = |c: char| c.is_alphanumeric() || "-_ /.".contains(c);
    check(tag, TAG_HALF_CHARS_MAX, is_allowed)?;
    // A key of spaces alone is no name in Connect's API.
    if tag.key.trim().is_empty() { Err(TagFault::KeyInvalid) } else { Ok(()) }
}

/// Whether any tag of the account can be this one, whoever made it.
pub fn check_known(tag: &Tag) -> Result<(), TagFault> {
    check(tag, NAME_CHARS_MAX, |c| !c.is_control())
}

/// Whether the account can have this tag: as [`check_known`], and the pair is the only one with
/// its name in Connect's API.
pub fn check_namable(tag: &Tag) -> Result<(), TagFault> {
    check_known(tag)?;
    match tag.name() {
        Some(_) => Ok(()),
        None => Err(check_new(tag).err().unwrap_or(TagFault::KeyInvalid)),
    }
}

fn check(tag: &Tag, chars_max: usize, is_allowed: impl Fn(char) -> bool) -> Result<(), TagFault> {
    let is_good = |text: &str| text.chars().count() <= chars_max && text.chars().all(&is_allowed);
    if tag.key.is_empty() {
        return Err(TagFault::KeyEmpty);
    }
    if !is_good(&tag.key) {
        return Err(TagFault::KeyInvalid);
    }
    if is_good(&tag.value) { Ok(()) } else { Err(TagFault::ValueInvalid) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(key: &str, value: &str) -> Tag {
        Tag { key: key.to_owned(), value: value.to_owned() }
    }

    #[test]
    fn letters_of_any_script_and_some_signs_make_a_tag() {
        for (key, value) in
            [("k", ""), ("部门", "研发"), ("a b/c.d-e_f", "1"), ("é", "ß"), (&"字".repeat(65), &"v".repeat(65))]
        {
            assert_eq!(check_new(&tag(key, value)), Ok(()), "{key}={value}");
        }
        for (key, value, fault) in [
            ("", "v", TagFault::KeyEmpty),
            (" ", "v", TagFault::KeyInvalid),
            ("a@b", "v", TagFault::KeyInvalid),
            ("a=b", "", TagFault::KeyInvalid),
            ("a\n", "", TagFault::KeyInvalid),
            (&"字".repeat(66), "", TagFault::KeyInvalid),
            ("k", "a=b", TagFault::ValueInvalid),
            ("k", &"v".repeat(66), TagFault::ValueInvalid),
        ] {
            assert_eq!(check_new(&tag(key, value)), Err(fault), "{key}={value}");
        }
    }

    #[test]
    fn a_pair_that_another_name_means_cannot_be_named() {
        for (key, value) in [("a@b", ""), ("a", "b=c"), (&"k".repeat(66), "")] {
            assert_eq!(check_namable(&tag(key, value)), Ok(()), "{key}={value}");
        }
        for (key, fault) in [
            ("", TagFault::KeyEmpty),
            (" ", TagFault::KeyInvalid),
            ("a=b", TagFault::KeyInvalid),
            ("a\0", TagFault::KeyInvalid),
        ] {
            assert_eq!(check_namable(&tag(key, "")), Err(fault), "{key}");
        }
    }

    #[test]
    fn what_connect_made_is_known() {
        for (key, value) in [("a@b", "c=d"), (&"k".repeat(255), "")] {
            assert_eq!(check_known(&tag(key, value)), Ok(()), "{key}={value}");
        }
        assert_eq!(check_known(&tag("", "")), Err(TagFault::KeyEmpty));
        assert_eq!(check_known(&tag("a\0", "")), Err(TagFault::KeyInvalid));
        assert_eq!(check_known(&tag("k", &"v".repeat(256))), Err(TagFault::ValueInvalid));
    }
}

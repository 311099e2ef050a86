//! Names that people give, each with its own type, so that an unchecked string
//! can never reach a rule or a query.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::invalid::{Invalid, quoted};
use crate::limits::{
    ARTIFACT_FOLDERS_MAX, ARTIFACT_PATH_CHARS_MAX, DEVICE_USER_CHARS_MAX, FILE_NAME_CHARS_MAX, NAME_CHARS_MAX,
    PROJECT_KEY_CHARS_MAX, REPOSITORY_NAME_CHARS_MAX, SCRIPT_BYTES_MAX, TEXT_CHARS_MAX, VERSION_CHARS_MAX,
};

/// Declares a checked piece of text.
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `text`; the refusal says what is wrong and shows the value.
            pub fn parse(text: impl Into<String>) -> Result<Self, Invalid> {
                let text = text.into();
                let check: fn(&str) -> Result<(), String> = $check;
                match check(&text) {
                    Ok(()) => Ok(Self(text)),
                    Err(problem) => Err(Invalid::new("", format!("{} {problem}", quoted(&text)))),
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The name as an owned string.
            pub fn into_string(self) -> String {
                self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = Invalid;

            fn try_from(text: String) -> Result<Self, Invalid> {
                Self::parse(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked_text!(
    /// The name of an account.
    AccountName, name
);
checked_text!(
    /// The name with which a user logs in.
    UserName, name
);
checked_text!(
    /// The short name of a fleet in the paths of API v2: starts with a letter,
    /// then lower-case letters and digits, 2 to 32 characters.
    ProjectKey, project_key
);
/// Keys that no new fleet gets: each is a word that stands in their place in the
/// paths of API v2.
const RESERVED_PROJECT_KEYS: [&str; 1] = ["account"];

impl ProjectKey {
    /// Checks the key of a fleet that is to be made.
    pub fn parse_new(text: impl Into<String>) -> Result<Self, Invalid> {
        let key = Self::parse(text)?;
        if RESERVED_PROJECT_KEYS.contains(&key.as_str()) {
            return Err(Invalid::new("", format!("{} is reserved", quoted(key.as_str()))));
        }
        Ok(key)
    }
}

checked_text!(
    /// The name of a fleet; "project name" in API v1.
    FleetName, name
);
checked_text!(
    /// The name of a group of devices, unique in its fleet.
    GroupName, name
);
checked_text!(
    /// The name of a device. Not unique.
    DeviceName, name
);
checked_text!(
    /// The name of an app, unique in its account.
    AppName, name
);
checked_text!(
    /// A version of an app or of an agent.
    Version, version
);
checked_text!(
    /// The name of an update flow. Not unique.
    FlowName, name
);
checked_text!(
    /// The name of a step, shown in reports.
    StepName, name
);
checked_text!(
    /// Free text of a person: a description, a comment, a postal address. May be empty.
    Text, text
);
checked_text!(
    /// The name of a saved device filter, unique in its fleet.
    FilterName, name
);
checked_text!(
    /// The name of a saved command, unique in its fleet.
    CommandName, name
);
checked_text!(
    /// What a command runs: a script for `sh`.
    Script, script
);
checked_text!(
    /// The name of a user of a device.
    DeviceUser, device_user
);
checked_text!(
    /// The name of a role, unique in its account.
    RoleName, name
);
checked_text!(
    /// The name of a registry, unique in its account.
    RegistryName, name
);
checked_text!(
    /// The name of an artifact repository, unique in its account: letters, digits, `-`,
    /// `_` and `.`, and no word that has another meaning in its place.
    RepositoryName, repository_name
);
checked_text!(
    /// Where an artifact lies in its repository: names between slashes, none at either end.
    ArtifactPath, artifact_path
);

impl ArtifactPath {
    /// The folders that it lies in, the outermost first; none for what lies in the repository itself.
    pub fn folders(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').map(|(end, _)| &self.0[..end])
    }

    /// The last part.
    pub fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&self.0, |(_, name)| name)
    }
}

checked_text!(
    /// The name of a value of the data monitor, unique in its fleet.
    ParameterName, name
);
checked_text!(
    /// The path of a file or folder on a device.
    DevicePath, device_path
);
checked_text!(
    /// The name of a file that a device sent: one part of a path and no more, so that
    /// it is harmless wherever it is saved.
    FileName, file_name
);
checked_text!(
    /// A tag as API v1 and v2 name it; see [`Tag`] for its two halves.
    TagName, name
);
checked_text!(
    /// What kind of thing a resource of the Tag Service is: `DEVICE`, `BCC`, …
    ServiceType, name
);
checked_text!(
    /// Where a resource of the Tag Service is: for a device the key of its fleet.
    Region, name
);
checked_text!(
    /// Which of its kind and region a resource of the Tag Service is: for a device its uuid.
    ResourceId, name
);
checked_text!(
    /// A second name of a resource of the Tag Service. May be empty.
    #[derive(Default)]
    ResourceUuid, optional_name
);

fn name(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("is empty".to_owned());
    }
    bounded(text, NAME_CHARS_MAX, char::is_control)
}

fn optional_name(text: &str) -> Result<(), String> {
    bounded(text, NAME_CHARS_MAX, char::is_control)
}

fn version(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("is empty".to_owned());
    }
    bounded(text, VERSION_CHARS_MAX, char::is_control)
}

fn text(text: &str) -> Result<(), String> {
    bounded(text, TEXT_CHARS_MAX, |c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
}

fn device_path(text: &str) -> Result<(), String> {
    if !text.starts_with('/') {
        return Err("is not an absolute path".to_owned());
    }
    bounded(text, TEXT_CHARS_MAX, char::is_control)
}

fn script(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("is empty".to_owned());
    }
    if text.len() > SCRIPT_BYTES_MAX {
        return Err(format!("has {} bytes, at most {SCRIPT_BYTES_MAX} may be", text.len()));
    }
    if text.contains('\0') { Err("holds U+0000".to_owned()) } else { Ok(()) }
}

fn device_user(text: &str) -> Result<(), String> {
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'$');
    if starts_well && text.len() <= DEVICE_USER_CHARS_MAX && text.bytes().all(is_plain) {
        return Ok(());
    }
    Err(format!(
        "is not the name of a user: a letter, a digit or _, then also -, . and $, at most {DEVICE_USER_CHARS_MAX} in all"
    ))
}

fn file_name(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("is empty".to_owned());
    }
    if matches!(text, "." | "..") {
        return Err("names a folder".to_owned());
    }
    // Both systems' separators: whoever downloads it may have another one than the device.
    if text.contains(['/', '\\']) {
        return Err("holds a path separator".to_owned());
    }
    bounded(text, FILE_NAME_CHARS_MAX, char::is_control)
}

/// Words that stand in the place of a repository's name in the paths of Artifactory.
const RESERVED_REPOSITORY_NAMES: [&str; 3] = ["api", "ui", "webapp"];

fn repository_name(text: &str) -> Result<(), String> {
    let is_good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !starts_well || text.len() > REPOSITORY_NAME_CHARS_MAX || !text.bytes().all(is_good) {
        return Err(format!(
            "is not the name of a repository: a letter or digit, then letters, digits, -, _ and ., \
             at most {REPOSITORY_NAME_CHARS_MAX} in all"
        ));
    }
    if RESERVED_REPOSITORY_NAMES.contains(&text.to_ascii_lowercase().as_str()) {
        return Err("is reserved".to_owned());
    }
    Ok(())
}

fn artifact_path(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    if text.split('/').count() > ARTIFACT_FOLDERS_MAX + 1 {
        return Err(format!("lies in more than {ARTIFACT_FOLDERS_MAX} folders"));
    }
    for part in text.split('/') {
        match part {
            "" => return Err("holds an empty name between slashes".to_owned()),
            "." | ".." => return Err(format!("holds {part:?}, which is no name")),
            _ => {}
        }
        if part.trim() != part {
            return Err("holds a name that begins or ends with white space".to_owned());
        }
        // What Artifactory refuses in a name, and what other systems cannot save.
        if let Some(c) = part.chars().find(|c| "\\:|?*\"<>".contains(*c)) {
            return Err(format!("holds the character {c}"));
        }
        if part.chars().count() > FILE_NAME_CHARS_MAX {
            return Err(format!("holds a name of more than {FILE_NAME_CHARS_MAX} characters"));
        }
    }
    bounded(text, ARTIFACT_PATH_CHARS_MAX, char::is_control)
}

fn project_key(text: &str) -> Result<(), String> {
    let starts_well = text.starts_with(|c: char| c.is_ascii_lowercase());
    let is_plain = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if starts_well && is_plain && (2..=PROJECT_KEY_CHARS_MAX).contains(&text.len()) {
        return Ok(());
    }
    Err(format!(
        "is not a project key: a letter, then lower-case letters and digits, 2 to {PROJECT_KEY_CHARS_MAX} in all"
    ))
}

fn bounded(text: &str, chars_max: usize, is_forbidden: impl Fn(char) -> bool) -> Result<(), String> {
    let chars = text.chars().count();
    if chars > chars_max {
        return Err(format!("is too long: {chars} characters, at most {chars_max} are allowed"));
    }
    match text.chars().find(|c| is_forbidden(*c)) {
        Some(c) => Err(format!("holds the control character U+{:04X}", u32::from(c))),
        None => Ok(()),
    }
}

/// A tag in the account's one catalogue: a key and a value that may be empty.
///
/// Its Connect name is the key when the value is empty, else `key=value`. A name
/// is split at its first `=` when both sides are non-empty, so each name means
/// one pair and each pair has one name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag {
    /// Never empty.
    pub key: String,
    /// Empty for a plain tag.
    pub value: String,
}

/// Keys of the tag that the Tag Service never deletes, while its value is empty.
const DEFAULT_TAG_KEYS: [&str; 2] = ["Default tag", "默认标签"];

impl Tag {
    /// The Connect name of this pair. None where that name means another pair, or is no
    /// name: no tag can have this key and this value.
    pub fn name(&self) -> Option<TagName> {
        TagName::parse(self.to_string()).ok().filter(|name| Self::from(name) == *self)
    }

    /// Whether this is the default tag, which the Tag Service never deletes.
    pub fn is_default(&self) -> bool {
        self.value.is_empty() && DEFAULT_TAG_KEYS.contains(&self.key.as_str())
    }
}

impl From<&TagName> for Tag {
    fn from(name: &TagName) -> Self {
        match name.as_str().split_once('=') {
            Some((key, value)) if !key.is_empty() && !value.is_empty() => {
                Self { key: key.to_owned(), value: value.to_owned() }
            }
            _ => Self { key: name.as_str().to_owned(), value: String::new() },
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if self.value.is_empty() { Ok(()) } else { write!(f, "={}", self.value) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_bad_names_and_says_why() {
        for (text, why) in [
            ("", "is empty"),
            (" \u{a0}", "is empty"),
            ("a\u{0}", "U+0000"),
            ("a\nb", "U+000A"),
            (&"é".repeat(256), "256 characters, at most 255"),
        ] {
            let refusal = DeviceName::parse(text).unwrap_err().to_string();
            assert!(refusal.contains(why), "{refusal}");
        }
        assert!(DeviceName::parse("'; DROP TABLE devices; --").is_ok(), "odd, but a name");
    }

    #[test]
    fn text_may_have_lines_but_no_nul() {
        assert!(Text::parse("").is_ok());
        assert!(Text::parse("two\nlines\t").is_ok());
        assert!(Text::parse("\u{0}").is_err());
    }

    #[test]
    fn a_path_on_a_device_is_absolute() {
        assert!(DevicePath::parse("/home/path/to/file").is_ok());
        for bad in ["", "file", "./file", "/a\nb", "/a\0", &"/a".repeat(3_000)] {
            assert!(DevicePath::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_file_name_is_one_part_of_a_path() {
        for good in ["syslog", ".hidden", "a b.log", "…", "...", "é\".txt"] {
            assert!(FileName::parse(good).is_ok(), "{good:?}");
        }
        for (bad, why) in [
            ("", "is empty"),
            (" ", "is empty"),
            (".", "names a folder"),
            ("..", "names a folder"),
            ("../x", "path separator"),
            ("a/b", "path separator"),
            ("C:\\x", "path separator"),
            ("a\nb", "U+000A"),
            ("a\0", "U+0000"),
            (&"é".repeat(256), "256 characters, at most 255"),
        ] {
            let refusal = FileName::parse(bad).unwrap_err().to_string();
            assert!(refusal.contains(why), "{refusal}");
        }
    }

    #[test]
    fn repositories_have_plain_names() {
        for good in ["generic-local", "a", "0.x_y-z", "connect-demo-generic"] {
            assert!(RepositoryName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".a", "-a", "a b", "a/b", "é", "api", "API", &"a".repeat(65)] {
            assert!(RepositoryName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_artifact_lies_below_its_repository() {
        for good in ["a", "a/b.tar.gz", "a b/é", "..a/b..", ".hidden/…"] {
            assert!(ArtifactPath::parse(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("", "is empty"),
            ("/a", "empty name"),
            ("a/", "empty name"),
            ("a//b", "empty name"),
            ("a/../b", "\"..\""),
            ("./a", "\".\""),
            ("a/ b", "white space"),
            ("a\\b", "the character \\"),
            ("a:b", "the character :"),
            ("a\u{7}", "U+0007"),
            (&"a/".repeat(33), "more than 32 folders"),
            (&"a".repeat(256), "more than 255 characters"),
        ] {
            let refusal = ArtifactPath::parse(bad).unwrap_err().to_string();
            assert!(refusal.contains(why), "{bad}: {refusal}");
        }
        let path = ArtifactPath::parse("a/b/c.bin").unwrap();
        assert_eq!((path.folders().collect::<Vec<_>>(), path.name()), (vec!["a", "a/b"], "c.bin"));
        assert_eq!(ArtifactPath::parse("c.bin").unwrap().folders().count(), 0);
    }

    #[test]
    fn project_keys_follow_the_documented_form() {
        for good in ["ab", "demo", "a1234567890123456789012345678901"] {
            assert!(ProjectKey::parse(good).is_ok(), "{good}");
        }
        assert_eq!(ProjectKey::parse_new("account").unwrap_err().to_string(), "\"account\" is reserved");
        assert!(ProjectKey::parse_new("accounts").is_ok());
        for bad in ["", "a", "1a", "Demo", "de-mo", "a12345678901234567890123456789012", "démo"] {
            assert!(ProjectKey::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tag_splits_at_the_first_equals_sign() {
        let tag = |name: &str| Tag::from(&TagName::parse(name).unwrap());
        assert_eq!(tag("London"), Tag { key: "London".into(), value: String::new() });
        assert_eq!(tag("site=a=b"), Tag { key: "site".into(), value: "a=b".into() });
        assert_eq!(tag("=b"), Tag { key: "=b".into(), value: String::new() });
        assert_eq!(tag("a="), Tag { key: "a=".into(), value: String::new() });
    }

    #[test]
    fn a_pair_whose_name_means_another_has_none() {
        let tag = |key: &str, value: &str| Tag { key: key.into(), value: value.into() };
        assert_eq!(tag("a", "b=c").name().unwrap().as_str(), "a=b=c");
        assert_eq!(tag("a", "").name().unwrap().as_str(), "a");
        for pair in [tag("a=b", ""), tag("a=b", "c"), tag("", "a"), tag("", ""), tag(" ", ""), tag("a\n", "")] {
            assert_eq!(pair.name(), None, "{pair:?}");
        }
        assert!(tag("Default tag", "").is_default() && tag("默认标签", "").is_default());
        assert!(!tag("Default tag", "x").is_default() && !tag("default tag", "").is_default());
    }

    proptest! {
        #[test]
        fn name_and_pair_map_one_to_one(name in "[a-c= ]{1,6}") {
            prop_assume!(!name.trim().is_empty());
            let tag = Tag::from(&TagName::parse(name.clone()).unwrap());
            prop_assert_eq!(tag.to_string(), name.clone());
            prop_assert_eq!(tag.name().map(TagName::into_string), Some(name));
        }
    }
}

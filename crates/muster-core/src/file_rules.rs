//! Which files of a fleet's devices people may read and write: an ordered list, of which
//! the first rule that matches a path decides. What no rule matches is not served.

use serde::{Deserialize, Serialize};

use crate::invalid::{Invalid, quoted};
use crate::limits::{FILE_PATTERN_BYTES_MAX, FILE_RULES_MAX};

/// What a rule lets people do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileAccess {
    /// Nothing.
    None,
    /// List and read.
    Read,
    /// List, read, write, make and delete.
    Write,
}

impl FileAccess {
    /// Every one, the narrower first.
    pub const ALL: [Self; 3] = [Self::None, Self::Read, Self::Write];

    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRule {
    /// An absolute path; `*` and `?` stand for characters of one name, `**` as a whole
    /// part of the path for any parts, or none.
    pub path: String,
    /// What it lets people do.
    pub access: FileAccess,
}

/// The rules of a fleet, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FileRules(Vec<FileRule>);

/// What a fleet without rules of its own lets people read.
const DEFAULT: &str = "/var/log/**";

impl Default for FileRules {
    fn default() -> Self {
        Self(vec![FileRule { path: DEFAULT.to_owned(), access: FileAccess::Read }])
    }
}

impl FileRules {
    /// Checked rules.
    pub fn new(rules: Vec<FileRule>) -> Result<Self, Invalid> {
        if rules.len() > FILE_RULES_MAX {
            return Err(Invalid::new("", format!("has {} rules, and at most {FILE_RULES_MAX} are kept", rules.len())));
        }
        for (at, rule) in rules.iter().enumerate() {
            check_pattern(&rule.path).map_err(|problem| Invalid::new(format!("[{at}].path"), problem))?;
        }
        Ok(Self(rules))
    }

    /// The rules in their order.
    pub fn as_slice(&self) -> &[FileRule] {
        &self.0
    }

    /// What may be done with an absolute path in which no part is `..` or a link.
    pub fn access(&self, path: &[u8]) -> FileAccess {
        self.deciding(path).map_or(FileAccess::None, |(_, rule)| rule.access)
    }

    /// The rule that decides about such a path, and how many stand before it.
    pub fn deciding(&self, path: &[u8]) -> Option<(usize, &FileRule)> {
        let parts: Vec<&[u8]> = parts(path).collect();
        self.0.iter().enumerate().find(|(_, rule)| {
            let pattern: Vec<&[u8]> = self::parts(rule.path.as_bytes()).collect();
            matches(&pattern, &parts)
        })
    }
}

fn check_pattern(pattern: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("{} {why}", quoted(pattern)));
    if pattern.len() > FILE_PATTERN_BYTES_MAX {
        return wrong(&format!("has more than {FILE_PATTERN_BYTES_MAX} bytes"));
    }
    if !pattern.starts_with('/') {
        return wrong("is no absolute path");
    }
    if pattern.chars().any(char::is_control) {
        return wrong("has a control character in it");
    }
    match pattern.split('/').find(|part| matches!(*part, "." | "..") || (part.contains("**") && *part != "**")) {
        Some(part) => wrong(&format!("has the part {}, which matches nothing", quoted(part))),
        None => Ok(()),
    }
}

fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty())
}

/// Whether a list of things with wildcards matches one without: the places at which the
/// pattern may stand, one after the other, so that no pattern takes long.
fn walk<P: Copy, T: Copy>(pattern: &[P], text: &[T], is_any: impl Fn(P) -> bool, fits: impl Fn(P, T) -> bool) -> bool {
    let mut places = vec![false; pattern.len() + 1];
    places[0] = true;
    let skip = |places: &mut Vec<bool>| {
        for at in 0..pattern.len() {
            if places[at] && is_any(pattern[at]) {
                places[at + 1] = true;
            }
        }
    };
    skip(&mut places);
    for thing in text {
        let mut next = vec![false; pattern.len() + 1];
        for at in 0..pattern.len() {
            if places[at] && is_any(pattern[at]) {
                next[at] = true;
            } else if places[at] && fits(pattern[at], *thing) {
                next[at + 1] = true;
            }
        }
        skip(&mut next);
        places = next;
    }
    places[pattern.len()]
}

fn matches(pattern: &[&[u8]], path: &[&[u8]]) -> bool {
    walk(pattern, path, |part| part == b"**", name_matches)
}

fn name_matches(pattern: &[u8], name: &[u8]) -> bool {
    walk(pattern, name, |byte| byte == b'*', |one, other| one == b'?' || one == other)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(rules: &[(&str, FileAccess)]) -> FileRules {
        let rule = |(path, access): &(&str, FileAccess)| FileRule { path: (*path).to_owned(), access: *access };
        FileRules::new(rules.iter().map(rule).collect()).unwrap()
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        use FileAccess::{None, Read, Write};
        let rules = rules(&[("/a/secret*", None), ("/a/in/**", Write), ("/a/**", Read), ("/x/?.txt", Read)]);
        for (path, expected) in [
            ("/a", Read),
            ("/a/b/c", Read),
            ("/a/secret.txt", None),
            ("/a/b/secret.txt", Read),
            ("/a/in", Write),
            ("//a//in/b/", Write),
            ("/a/inn", Read),
            ("/ab", None),
            ("/", None),
            ("/x/a.txt", Read),
            ("/x/ab.txt", None),
            ("/x/a/b.txt", None),
        ] {
            assert_eq!(rules.access(path.as_bytes()), expected, "{path}");
        }
        assert_eq!(rules.access(b"/a/in/\xff"), Write);
    }

    #[test]
    fn by_default_logs_can_be_read_and_nothing_else() {
        let rules = FileRules::default();
        assert_eq!(FileRules::new(rules.as_slice().to_vec()).unwrap(), rules);
        for path in ["/var/log", "/var/log/a/b.log"] {
            assert_eq!(rules.access(path.as_bytes()), FileAccess::Read, "{path}");
        }
        for path in ["/", "/etc/shadow", "/etc/hosts", "/root/.ssh/id", "/var/lib/muster-agent/identity", "/var/logs"] {
            assert_eq!(rules.access(path.as_bytes()), FileAccess::None, "{path}");
        }
    }

    #[test]
    fn wrong_patterns_are_named() {
        let long = format!("/{}", "a".repeat(FILE_PATTERN_BYTES_MAX));
        for wrong in ["", "a", "/a/../b", "/a/./b", "/a/**b", "/a\0", &long] {
            let rule = FileRule { path: wrong.to_owned(), access: FileAccess::Read };
            assert_eq!(FileRules::new(vec![rule]).unwrap_err().field, "[0].path", "{wrong}");
        }
        let rule = FileRule { path: "/a".to_owned(), access: FileAccess::Read };
        assert!(FileRules::new(vec![rule; FILE_RULES_MAX + 1]).is_err());
    }

    proptest! {
        #[test]
        fn a_path_without_wildcards_matches_itself_alone(a in "(/[a-z.]{1,4}){1,4}", b in "(/[a-z.]{1,4}){1,4}") {
            prop_assume!(check_pattern(&a).is_ok());
            let rules = rules(&[(&a, FileAccess::Read)]);
            prop_assert_eq!(rules.access(b.as_bytes()) == FileAccess::Read, a == b);
            prop_assert_eq!(rules.access(a.as_bytes()), FileAccess::Read);
        }

        #[test]
        fn many_wildcards_take_no_time(path in "(/[ab]{1,20}){1,20}") {
            let pattern = "/**".repeat(40) + "/" + &"*a".repeat(60) + "c";
            prop_assert_eq!(rules(&[(&pattern, FileAccess::Read)]).access(path.as_bytes()), FileAccess::None);
        }
    }
}

//! The values that stand in a `with`. Each may also be a text that refers to an
//! input; what the input holds is looked at on the device.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::invalid::quoted;

/// Longest path on a device.
const PATH_BYTES_MAX: usize = 4_096;

fn refers(text: &str) -> bool {
    text.contains("${{")
}

/// Makes a checked text: its name, what it must be, its test, its pattern in the schema.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $must:literal, $check:expr, $pattern:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                let check: fn(&str) -> bool = $check;
                if text.contains('\0') || !(refers(&text) || check(&text)) {
                    return Err(serde::de::Error::custom(format!("{} is not {}", quoted(&text), $must)));
                }
                Ok(Self(text))
            }
        }

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "description": concat!("Must be ", $must, "."),
                    "type": "string",
                    "pattern": concat!("\\$\\{\\{|", $pattern),
                })
            }
        }
    };
}

text!(
    /// A text that is not empty.
    Text,
    "a text",
    |text| !text.trim().is_empty(),
    "\\S"
);
text!(
    /// Where something stands on the device.
    DevicePath,
    "an absolute path without \"..\"",
    |text| text.starts_with('/') && text.len() <= PATH_BYTES_MAX && text.split('/').all(|part| part != ".."),
    "^/(?!([\\s\\S]*/)?\\.\\.(/|$))"
);
text!(
    /// Who may do what with a file.
    Mode,
    "a mode of three or four octal digits, in quotes",
    |text| matches!(text.len(), 3 | 4) && text.bytes().all(|byte| matches!(byte, b'0'..=b'7')),
    "^[0-7]{3,4}$"
);
text!(
    /// Whom a file belongs to.
    Owner,
    "a user, or a user and a group, as USER:GROUP",
    |text| {
        let is_name = |name: &str| {
            !name.is_empty()
                && !name.starts_with('-')
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        };
        text.splitn(2, ':').all(is_name)
    },
    "^[A-Za-z0-9_.][A-Za-z0-9_.-]*(:[A-Za-z0-9_.][A-Za-z0-9_.-]*)?$"
);
text!(
    /// The name of a package of Debian.
    PackageName,
    "the name of a package: lower-case letters, digits, \"+\", \"-\" and \".\"",
    |text| {
        let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
        text.len() > 1 && text.bytes().all(is_inner) && text.as_bytes()[0].is_ascii_alphanumeric()
    },
    "^[a-z0-9][a-z0-9+.-]+$"
);
text!(
    /// The version of a package of Debian.
    PackageVersion,
    "the version of a package",
    |text| {
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.:~".contains(&byte);
        text.bytes().all(is_inner) && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
    },
    "^[A-Za-z0-9][A-Za-z0-9+.:~-]*$"
);
text!(
    /// What is taken out of a repository.
    GitRef,
    "a branch, a tag or a commit",
    |text| {
        let is_inner = |byte: u8| byte.is_ascii_graphic() && !b"~^:?*[\\".contains(&byte);
        !text.is_empty() && !text.starts_with('-') && !text.contains("..") && text.bytes().all(is_inner)
    },
    "^(?!-)(?!.*\\.\\.)[!-)+-9;->@-Z\\]_-}]+$"
);

text!(
    /// Where an image stands in a registry, perhaps with the registry's host before it.
    ImagePath,
    "the path of an image: words of lower-case letters, digits, \".\", \"_\" and \"-\", with \"/\" between them",
    |text| {
        let is_edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
        let is_word =
            |word: &str| is_edge(word.bytes().next()) && is_edge(word.bytes().last()) && word.bytes().all(is_inner);
        let is_host = |word: &str| {
            let (host, port) = word.split_once(':').unwrap_or((word, "0"));
            is_word(&host.to_ascii_lowercase()) && port.parse::<u16>().is_ok()
        };
        let is_path = |path: &str| path.split('/').all(is_word);
        text.len() <= IMAGE_PATH_BYTES_MAX
            && (is_path(text) || text.split_once('/').is_some_and(|(host, path)| is_host(host) && is_path(path)))
    },
    "^([A-Za-z0-9.-]+(:[0-9]+)?/)?[a-z0-9]([a-z0-9._-]*[a-z0-9])?(/[a-z0-9]([a-z0-9._-]*[a-z0-9])?)*$"
);
text!(
    /// A tag of an image, or its digest.
    ImageTag,
    "the tag of an image, or sha256: and its digest",
    |text| match text.strip_prefix("sha256:") {
        Some(digest) => digest.len() == 64 && digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')),
        None => is_plain_name(text) && text.len() <= 128,
    },
    "^([A-Za-z0-9_][A-Za-z0-9_.-]{0,127}|sha256:[0-9a-f]{64})$"
);
text!(
    /// The name of a container.
    ContainerName,
    "the name of a container: letters, digits, \"_\", \".\" and \"-\"",
    |text| is_plain_name(text) && !text.starts_with('_') && (2..=128).contains(&text.len()),
    "^[A-Za-z0-9][A-Za-z0-9_.-]{1,127}$"
);
text!(
    /// The name of a project of compose.
    ProjectName,
    "the name of a project: lower-case letters, digits, \"_\" and \"-\"",
    |text| {
        let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        text.bytes().next().is_some_and(is_letter)
            && text.bytes().all(|byte| is_letter(byte) || b"_-".contains(&byte))
            && text.len() <= 128
    },
    "^[a-z0-9][a-z0-9_-]{0,127}$"
);
text!(
    /// When a container is started again.
    Restart,
    "one of no, always, unless-stopped, on-failure and on-failure:TIMES",
    |text| {
        matches!(text, "no" | "always" | "unless-stopped" | "on-failure")
            || text.strip_prefix("on-failure:").is_some_and(|times| times.parse::<u16>().is_ok_and(|times| times > 0))
    },
    "^(no|always|unless-stopped|on-failure(:[1-9][0-9]{0,4})?)$"
);
text!(
    /// A port of the device that leads into a container.
    PortMapping,
    "a port: [[ADDRESS:]PORT:]PORT[/tcp|/udp|/sctp]",
    |text| ports(text).is_some(),
    "^(([0-9.]+|\\[[0-9a-fA-F:.]+\\]):)?([0-9]*:)?[0-9]+(/(tcp|udp|sctp))?$"
);
text!(
    /// A folder of the device, or a volume, that a container sees.
    VolumeMapping,
    "a volume: SOURCE:PATH or SOURCE:PATH:OPTIONS, with an absolute path",
    |text| {
        let mut parts = text.split(':');
        let (source, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let is_source = source.starts_with('/') || is_plain_name(source);
        is_source && path.starts_with('/') && parts.next().is_none_or(|options| !options.is_empty()) && parts.next().is_none()
    },
    "^(/[^:]*|[A-Za-z0-9_][A-Za-z0-9_.-]*):/[^:]*(:[^:]+)?$"
);
text!(
    /// A device that a container may use.
    DeviceMapping,
    "a device: /dev/NAME, or with its path in the container and rwm after it",
    |text| {
        let mut parts = text.split(':');
        let is_path = |part: Option<&str>| part.is_none_or(|path| path.starts_with('/'));
        let is_rights = |part: Option<&str>| {
            part.is_none_or(|rights| !rights.is_empty() && rights.bytes().all(|byte| b"rwm".contains(&byte)))
        };
        is_path(parts.next()) && is_path(parts.next()) && is_rights(parts.next()) && parts.next().is_none()
    },
    "^/[^:]*(:/[^:]*(:[rwm]{1,3})?)?$"
);
text!(
    /// A capability of Linux.
    Capability,
    "a capability: its name in capitals",
    |text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'),
    "^[A-Z_]+$"
);
text!(
    /// A host and its address.
    HostAddress,
    "a host and its address: NAME:ADDRESS",
    |text| {
        let (name, address) = text.split_once(':').unwrap_or_default();
        let is_address = address == "host-gateway" || address.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        !name.is_empty() && !name.contains(char::is_whitespace) && is_address
    },
    "^[^\\s:]+:(host-gateway|\\[?[0-9A-Fa-f:.]+\\]?)$"
);
text!(
    /// An amount of memory.
    ByteSize,
    "an amount of memory: a number, and b, k, m or g after it",
    |text| bytes(text).is_some(),
    "^[1-9][0-9]{0,11}[bkmgBKMG]?$"
);

impl Mode {
    /// The mode's bits.
    pub fn bits(&self) -> Result<u32, String> {
        u32::from_str_radix(&self.0, 8).map_err(|_| format!("{} is no mode", quoted(&self.0)))
    }
}

/// Yes or no: a boolean, its word in quotes, or a reference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Flag {
    /// Known.
    Is(bool),
    /// An input's reference.
    Refers(String),
}

impl Flag {
    /// Whether it says yes.
    pub fn is_set(&self) -> bool {
        *self == Self::Is(true)
    }
}

impl Default for Flag {
    fn default() -> Self {
        Self::Is(false)
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::Bool(is_set) => Ok(Self::Is(is_set)),
            serde_json::Value::String(text) if text == "true" => Ok(Self::Is(true)),
            serde_json::Value::String(text) if text == "false" => Ok(Self::Is(false)),
            serde_json::Value::String(text) if refers(&text) => Ok(Self::Refers(text)),
            other => Err(serde::de::Error::custom(format!("{other} is neither true nor false"))),
        }
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Flag {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Flag".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [{ "type": "boolean" }, { "type": "string", "pattern": "^(true|false)$|\\$\\{\\{" }],
        })
    }
}

/// A whole number above 0: itself, its digits in quotes, or a reference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Count {
    /// Known.
    Is(u32),
    /// An input's reference.
    Refers(String),
}

impl Count {
    /// The number; `None` for a reference.
    pub fn get(&self) -> Option<u32> {
        match self {
            Self::Is(count) => Some(*count),
            Self::Refers(_) => None,
        }
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let count = match &value {
            serde_json::Value::String(text) if refers(text) => return Ok(Self::Refers(text.clone())),
            serde_json::Value::String(text) => text.parse().ok(),
            number => number.as_u64().and_then(|number| u32::try_from(number).ok()),
        };
        let count = count.filter(|count| *count > 0);
        count
            .map(Self::Is)
            .ok_or_else(|| serde::de::Error::custom(format!("{value} is no whole number from 1 to {}", u32::MAX)))
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Count {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Count".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [
                { "type": "integer", "minimum": 1, "maximum": u32::MAX },
                { "type": "string", "pattern": "^0*[1-9][0-9]{0,8}$|\\$\\{\\{" },
            ],
        })
    }
}

/// Longest path of an image.
const IMAGE_PATH_BYTES_MAX: usize = 255;

fn is_plain_name(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.bytes().next().is_some_and(is_letter) && text.bytes().all(|byte| is_letter(byte) || b".-".contains(&byte))
}

/// A port of a container and what leads to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The device's address; empty for all of them.
    pub address: String,
    /// The device's port; `None` for one that the engine chooses.
    pub device: Option<u16>,
    /// The container's port.
    pub container: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
}

fn ports(text: &str) -> Option<Ports> {
    let (rest, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (before, container) = rest.rsplit_once(':').map_or((None, rest), |(before, port)| (Some(before), port));
    let (address, device) = match before {
        None => ("", ""),
        Some(before) => before.rsplit_once(':').unwrap_or(("", before)),
    };
    let address = address.trim_start_matches('[').trim_end_matches(']');
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let is_known =
        matches!(protocol, "tcp" | "udp" | "sctp") && (address.is_empty() || address.parse::<IpAddr>().is_ok());
    let device = if device.is_empty() { Some(None) } else { port(device).map(Some) };
    let (address, protocol) = (address.to_owned(), protocol.to_owned());
    is_known.then_some(Ports { address, device: device?, container: port(container)?, protocol })
}

fn bytes(text: &str) -> Option<u64> {
    let (digits, factor) = match text.chars().last()?.to_ascii_lowercase() {
        'b' => (&text[..text.len() - 1], 1),
        'k' => (&text[..text.len() - 1], 1 << 10),
        'm' => (&text[..text.len() - 1], 1 << 20),
        'g' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    // What the engine takes is a signed number.
    digits.parse::<u64>().ok()?.checked_mul(factor).filter(|bytes| (1..=i64::MAX as u64).contains(bytes))
}

impl PortMapping {
    /// What it says; `None` for a reference.
    pub fn get(&self) -> Option<Ports> {
        ports(&self.0)
    }
}

impl ByteSize {
    /// The bytes; `None` for a reference.
    pub fn get(&self) -> Option<u64> {
        bytes(&self.0)
    }
}

/// A command: a text, of which the words are as a shell would split it, or its words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Words {
    /// One text.
    Text(String),
    /// Its words.
    List(Vec<String>),
}

impl Words {
    /// Its words. Errors say what is wrong with the text's quotes.
    pub fn get(&self) -> Result<Vec<String>, String> {
        match self {
            Self::Text(text) => split(text),
            Self::List(words) => Ok(words.clone()),
        }
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let custom = |problem: String| serde::de::Error::custom(problem);
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) if refers(&text) => Ok(Self::Text(text)),
            serde_json::Value::String(text) => match split(&text).map_err(custom)?.is_empty() {
                true => Err(custom("the command is empty".to_owned())),
                false => Ok(Self::Text(text)),
            },
            serde_json::Value::Array(words) if !words.is_empty() => {
                let words = words.into_iter().map(|word| match word {
                    serde_json::Value::String(word) if !word.contains('\0') => Ok(word),
                    other => Err(custom(format!("{other} is no text"))),
                });
                words.collect::<Result<_, _>>().map(Self::List)
            }
            other => Err(custom(format!("{other} is neither a command nor its words"))),
        }
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Words {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Words".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A command; its words are as a shell would split it, or given as a list.",
            "anyOf": [
                { "type": "string", "pattern": "\\S" },
                { "type": "array", "items": { "type": "string" }, "minItems": 1 },
            ],
        })
    }
}

/// The words of a command, with the quotes and the backslashes of a shell and nothing else of it.
fn split(text: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut chars) = (Vec::new(), None::<String>, text.chars());
    while let Some(c) = chars.next() {
        match c {
            '\0' => return Err("the command holds a zero byte".to_owned()),
            '\'' | '"' => quote(c, &mut chars, word.get_or_insert_default())?,
            '\\' => word.get_or_insert_default().push(chars.next().ok_or("the command ends with a backslash")?),
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// What stands between quotes.
fn quote(mark: char, chars: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), String> {
    let open = || format!("a quote of the command is not closed: {mark}");
    loop {
        match chars.next().ok_or_else(open)? {
            c if c == mark => return Ok(()),
            '\\' if mark == '"' => match chars.next().ok_or_else(open)? {
                c @ ('"' | '\\' | '$' | '`') => word.push(c),
                c => word.extend(['\\', c]),
            },
            c => word.push(c),
        }
    }
}

/// How many processors: a number, its digits in quotes, or a reference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Cpus(String);

impl Cpus {
    /// Thousand-millionths of a processor; `None` for a reference.
    pub fn nano(&self) -> Option<u64> {
        nano_cpus(&self.0)
    }
}

/// By its digits: a binary fraction would not be exact.
fn nano_cpus(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    if part.is_empty() || part.len() > 9 || whole.len() > 6 {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let part: u64 = format!("{part:0<9}").parse().ok()?;
    Some(whole * 1_000_000_000 + part).filter(|nano| *nano > 0)
}

impl<'de> Deserialize<'de> for Cpus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        if refers(&text) || nano_cpus(&text).is_some() {
            return Ok(Self(text));
        }
        Err(serde::de::Error::custom(format!("{text} is no number of processors, as 1.5")))
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Cpus {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Cpus".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [
                { "type": "number", "exclusiveMinimum": 0, "maximum": 999_999 },
                { "type": "string", "pattern": "^[0-9]{1,6}(\\.[0-9]{1,9})?$|\\$\\{\\{" },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_split_as_a_shell_would() {
        let cases: [(&str, &[&str]); 6] = [
            ("echo hello", &["echo", "hello"]),
            ("  a\t'b c'\n\"d 'e\" ", &["a", "b c", "d 'e"]),
            ("a\\ b 'c'd\"e\" ''", &["a b", "cde", ""]),
            (r#""a\"b\n" '\n'"#, &["a\"b\\n", "\\n"]),
            ("sh -c 'echo $X; exit 1'", &["sh", "-c", "echo $X; exit 1"]),
            ("", &[]),
        ];
        for (text, words) in cases {
            assert_eq!(split(text).unwrap(), words, "{text}");
        }
        for open in ["'a", "a \"b", "a\\", "\"a\\"] {
            assert!(split(open).is_err(), "{open}");
        }
    }

    #[test]
    fn ports_are_read() {
        let of = |text| ports(text).map(|ports| (ports.address, ports.device, ports.container, ports.protocol));
        let tcp = |address: &str, device, container| Some((address.to_owned(), device, container, "tcp".to_owned()));
        assert_eq!(of("8080:80"), tcp("", Some(8080), 80));
        assert_eq!(of("80"), tcp("", None, 80));
        assert_eq!(of("127.0.0.1:8080:80"), tcp("127.0.0.1", Some(8080), 80));
        assert_eq!(of("127.0.0.1::80"), tcp("127.0.0.1", None, 80));
        assert_eq!(of("[::1]:8080:80"), tcp("::1", Some(8080), 80));
        assert_eq!(of("53:53/udp"), Some((String::new(), Some(53), 53, "udp".to_owned())));
        for wrong in ["", "a:80", "80:", "0", "70000", "1:2:3:4", "80/http", "8080:80-90"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes_and_processors_are_read() {
        let sizes = ["512m", "1G", "100", "3k", "7b"].map(bytes);
        assert_eq!(sizes, [Some(512 << 20), Some(1 << 30), Some(100), Some(3 << 10), Some(7)]);
        assert_eq!(["", "m", "0", "-1", "1.5g", "99999999999g"].map(bytes), [None; 6]);
        assert_eq!(["1.5", "2", "0.000000001"].map(nano_cpus), [Some(1_500_000_000), Some(2_000_000_000), Some(1)]);
        assert_eq!(["0", "", ".", "1.", "-1", "1e3", "NaN"].map(nano_cpus), [None; 7]);
    }

    #[test]
    fn images_are_checked() {
        let path = |text: &str| serde_json::from_value::<ImagePath>(text.into()).is_ok();
        for right in
            ["till", "platform-url/a/b", "registry.example.com:5000/a_b/c.d", "Host.example/a", "${{ inputs.x }}"]
        {
            assert!(path(right), "{right}");
        }
        for wrong in ["", "a//b", "/a", "a/", "a:tag", "A/B", "a@sha256:1", "a/../b", "h:99999/a", "a b"] {
            assert!(!path(wrong), "{wrong}");
        }
        let tag = |text: &str| serde_json::from_value::<ImageTag>(text.into()).is_ok();
        assert!(tag("1.0") && tag(&format!("sha256:{}", "a".repeat(64))));
        assert!(!tag("sha256:a") && !tag("a b") && !tag("-a") && !tag(""));
    }
}

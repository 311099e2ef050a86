//! The values that stand in a `with`. Each may also be a text that refers to an
//! input; what the input holds is looked at on the device.

use std::fmt;

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

//! The data monitor: values that devices send under names made beforehand.

use serde_json::Value;

use crate::invalid::Invalid;
use crate::limits::TEXT_CHARS_MAX;

/// A value of the data monitor: a string, a number or a truth value. It keeps its type.
#[derive(Clone, Debug, PartialEq)]
pub struct MonitorValue(Value);

impl MonitorValue {
    /// Checks what was sent.
    pub fn parse(value: Value) -> Result<Self, Invalid> {
        match &value {
            Value::String(text) if text.chars().count() > TEXT_CHARS_MAX => {
                Err(Invalid::new("", format!("is too long: at most {TEXT_CHARS_MAX} characters are allowed")))
            }
            Value::String(_) | Value::Number(_) | Value::Bool(_) => Ok(Self(value)),
            Value::Null => Err(Invalid::new("", "null is neither a string, a number, true nor false")),
            Value::Array(_) => Err(Invalid::new("", "a list is neither a string, a number, true nor false")),
            Value::Object(_) => Err(Invalid::new("", "an object is neither a string, a number, true nor false")),
        }
    }

    /// The value.
    pub fn as_json(&self) -> &Value {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn takes_plain_values_and_keeps_their_type() {
        for good in [json!(""), json!("7"), json!(7), json!(7.0), json!(false)] {
            assert_eq!(MonitorValue::parse(good.clone()).unwrap().as_json().to_string(), good.to_string());
        }
        for bad in [json!(null), json!([]), json!({}), json!("x".repeat(4_097))] {
            assert!(MonitorValue::parse(bad.clone()).is_err(), "{bad}");
        }
    }
}

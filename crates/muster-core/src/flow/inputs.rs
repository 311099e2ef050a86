//! Inputs: what a deployment fills into a flow, and where.
//!
//! A flow's text refers to an input as `${{ inputs.NAME }}`, with any spacing
//! inside the braces. The value takes the place of the reference, letter for
//! letter; a command that must not trust a value reads it from the environment
//! variable [`env_name`] instead.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::flow::Flow;
use crate::invalid::{Invalid, quoted};
use crate::limits::{INPUT_VALUE_CHARS_MAX, NAME_CHARS_MAX};

/// An input that a document declares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Its name: letters, digits, `-` and `_`.
    pub name: String,
    /// Used when a deployment gives no value; without one the deployment must.
    #[serde(default)]
    pub default: Option<String>,
}

/// The value of each input of one deployment.
pub type InputValues = BTreeMap<String, String>;

/// Whether `name` may name an input.
pub fn is_input_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_CHARS_MAX
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

/// The environment variable in which a step finds an input: `INPUT_` and the
/// name in capitals, with `_` for what a variable's name cannot hold.
pub fn env_name(input: &str) -> String {
    let tail = input.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    "INPUT_".chars().chain(tail).collect()
}

const OPEN: &str = "${{";
const CLOSE: &str = "}}";

/// A piece of a text: itself, or a reference to an input.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    Text(&'a str),
    Input(&'a str),
}

fn pieces(text: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(OPEN) {
        let (inside, behind) = after.split_once(CLOSE).ok_or_else(|| "has \"${{\" without \"}}\"".to_owned())?;
        let name = inside.trim().strip_prefix("inputs.").filter(|name| is_input_name(name));
        let name =
            name.ok_or_else(|| format!("{} is not of the form ${{{{ inputs.NAME }}}}", quoted(inside.trim())))?;
        found.extend([Piece::Text(before), Piece::Input(name)]);
        rest = behind;
    }
    found.push(Piece::Text(rest));
    Ok(found)
}

/// `text` with every reference replaced by its value.
///
/// Errors when a reference is malformed or has no value: a checked flow with the
/// values from [`Flow::input_values`] has neither.
pub fn fill(text: &str, values: &InputValues) -> Result<String, String> {
    let mut filled = String::with_capacity(text.len());
    for piece in pieces(text)? {
        filled.push_str(match piece {
            Piece::Text(text) => text,
            Piece::Input(name) => values.get(name).ok_or_else(|| format!("input {} has no value", quoted(name)))?,
        });
    }
    Ok(filled)
}

impl Flow {
    /// Checks that every reference in the flow names a declared input.
    pub(super) fn check_references(&self) -> Result<(), Invalid> {
        for (place, text) in self.templates() {
            let found = pieces(text).map_err(|problem| Invalid::new(place.clone(), problem))?;
            let undeclared = found.into_iter().find_map(|piece| match piece {
                Piece::Input(name) if !self.inputs.iter().any(|input| input.name == name) => Some(name),
                _ => None,
            });
            if let Some(name) = undeclared {
                let problem =
                    format!("refers to the input {}, which on.workflow-dispatch.inputs does not declare", quoted(name));
                return Err(Invalid::new(place, problem));
            }
        }
        Ok(())
    }

    /// The value of every input, from what a deployment gives and from defaults.
    ///
    /// Errors when a value is missing, names no input, or holds what no process
    /// can be given.
    pub fn input_values(&self, given: &InputValues) -> Result<InputValues, Invalid> {
        let is_declared = |name: &String| self.inputs.iter().any(|input| input.name == *name);
        if let Some(name) = given.keys().find(|name| !is_declared(name)) {
            return Err(Invalid::new(
                "parameters_mapping",
                format!("the flow {} has no input {}", quoted(self.name.as_str()), quoted(name)),
            ));
        }
        self.inputs.iter().map(|input| Ok((input.name.clone(), input.value(given)?))).collect()
    }
}

impl Input {
    fn value(&self, given: &InputValues) -> Result<String, Invalid> {
        let field = || format!("parameters_mapping.{}", self.name);
        let value = given.get(&self.name).or(self.default.as_ref());
        let value =
            value.ok_or_else(|| Invalid::new(field(), "is required: the flow declares it without a default"))?;
        if value.contains('\0') {
            return Err(Invalid::new(field(), "holds the control character U+0000"));
        }
        if value.chars().count() > INPUT_VALUE_CHARS_MAX {
            return Err(Invalid::new(field(), format!("is longer than {INPUT_VALUE_CHARS_MAX} characters")));
        }
        Ok(value.clone())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values(pairs: &[(&str, &str)]) -> InputValues {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn fills_every_spacing() {
        let values = values(&[("a", "1"), ("b-c", "${{ inputs.a }}")]);
        let filled = fill("${{inputs.a }}/${{ inputs.b-c }}/${{inputs.a}}", &values);
        assert_eq!(filled.unwrap(), "1/${{ inputs.a }}/1", "a value is never read again");
    }

    #[test]
    fn leaves_shell_expansions_alone() {
        let shell = "echo ${HOME} $(date) ${x:-{{}}";
        assert_eq!(fill(shell, &values(&[])).unwrap(), shell);
    }

    #[test]
    fn refuses_what_is_no_reference() {
        for text in ["${{ secrets.x }}", "${{ inputs. }}", "${{ inputs.a b }}", "${{ inputs.a", "${{}}"] {
            assert!(fill(text, &values(&[("a", "1")])).is_err(), "{text}");
        }
        assert!(fill("${{ inputs.b }}", &values(&[])).unwrap_err().contains("\"b\""));
    }

    #[test]
    fn names_environment_variables() {
        assert_eq!(env_name("input-1-name"), "INPUT_INPUT_1_NAME");
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,40}|(\\$\\{\\{|\\}\\}|inputs\\.a| ){0,12}") {
            let _ = fill(&text, &values(&[("a", "1")]));
        }
    }
}

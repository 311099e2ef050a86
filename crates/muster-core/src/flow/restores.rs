//! What a failed update puts back: read from the flow alone, before anything runs.
//!
//! The agent's own plan is `restoration` in its `run/plan.rs`, which decides; this tells a
//! person beforehand.

use super::actions::BuiltIn;
use super::inputs::{InputValues, fill};
use super::{Action, Flow, Step, Trigger};
use crate::invalid::Invalid;

/// Which failures set something off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// None.
    Never,
    /// The step's own.
    ThisStep,
    /// That of a later step.
    LaterStep,
    /// The step's own, and that of a later step.
    ThisOrLaterStep,
}

impl When {
    const fn of(is_own: bool, is_later: bool) -> Self {
        match (is_own, is_later) {
            (true, true) => Self::ThisOrLaterStep,
            (true, false) => Self::ThisStep,
            (false, true) => Self::LaterStep,
            (false, false) => Self::Never,
        }
    }

    /// A stable word for programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::ThisStep => "this_step_failure",
            Self::LaterStep => "later_step_failure",
            Self::ThisOrLaterStep => "any_step_failure",
        }
    }

    const fn in_words(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::ThisStep => "when this step fails",
            Self::LaterStep => "when a later step fails",
            Self::ThisOrLaterStep => "when this or a later step fails",
        }
    }
}

/// What becomes of one step when the update fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restore {
    /// The step.
    pub step: String,
    /// What is put back as it was: paths, and things that are none.
    pub puts_back: Vec<String>,
    /// When it is.
    pub puts_back_when: When,
    /// The command that runs then.
    pub command: Option<String>,
    /// When it does.
    pub command_when: When,
}

impl Restore {
    /// One sentence for people.
    pub fn in_words(&self) -> String {
        let put_back = match self.puts_back_when {
            When::Never => "nothing is put back".to_owned(),
            when => format!("{} put back {}", self.puts_back.join(", "), when.in_words()),
        };
        match &self.command {
            Some(command) => {
                format!("{put_back}; {:?} runs {}", first_line(command), self.command_when.in_words())
            }
            None => put_back,
        }
    }
}

fn first_line(command: &str) -> String {
    let mut lines = command.trim().lines();
    let first = lines.next().unwrap_or_default().to_owned();
    if lines.next().is_some() { format!("{first} …") } else { first }
}

/// What becomes of each step when the update fails, in the order of the steps, with its
/// inputs filled in. Errors name the place in the flow of what those values make wrong.
pub fn restores(flow: &Flow, values: &InputValues) -> Result<Vec<Restore>, Invalid> {
    let step =
        |(i, step): (usize, &Step)| restore(step, values).map_err(|refusal| refusal.within(&format!("steps[{i}]")));
    flow.steps.iter().enumerate().map(step).collect()
}

/// The flow's own rollback command, with its inputs filled in.
pub fn rollback(flow: &Flow, values: &InputValues) -> Result<Option<String>, Invalid> {
    flow.rollback.as_deref().map(|command| filled("on-failure.run", command, values)).transpose()
}

fn restore(step: &Step, values: &InputValues) -> Result<Restore, Invalid> {
    let is_later = step.on_failure.trigger == Trigger::AnyStepFailure;
    let is_own = !step.on_failure.is_ignored;
    let (puts_back, is_undone_at_once) = match &step.action {
        Action::Run(_) => (Vec::new(), false),
        Action::Uses { name, with } => {
            let action = BuiltIn::filled(name, with, values).map_err(|refusal| refusal.within("with"))?;
            (changes(&action), !matches!(action, BuiltIn::Script(_)))
        }
    };
    let is_reverted = step.is_revertible();
    let puts_back_when = match puts_back.is_empty() {
        true => When::Never,
        false => When::of(is_undone_at_once || (is_reverted && is_own), is_reverted && is_later),
    };
    let command = step.on_failure.run.as_deref();
    Ok(Restore {
        step: step.name.as_str().to_owned(),
        puts_back: if puts_back_when == When::Never { Vec::new() } else { puts_back },
        puts_back_when,
        command: command.map(|command| filled("on-failure.run", command, values)).transpose()?,
        command_when: if command.is_some() { When::of(is_own, is_later) } else { When::Never },
    })
}

fn filled(place: &str, command: &str, values: &InputValues) -> Result<String, Invalid> {
    fill(command, values).map_err(|problem| Invalid::new(place, problem))
}

/// What an action saves before it changes it.
fn changes(action: &BuiltIn) -> Vec<String> {
    let one = |text: String| vec![text];
    match action {
        BuiltIn::AgentUpdate(_) => one("the agent before".to_owned()),
        BuiltIn::DebianPackage(with) => match (&with.package, &with.device_path, &with.artifact) {
            (Some(name), ..) => one(format!("the package {name}")),
            (_, Some(path), _) => one(format!("the package of {path}")),
            (.., Some(path)) => one(format!("the package of {path}")),
            (None, None, None) => Vec::new(),
        },
        BuiltIn::Docker(with) => one(format!("the container {}", with.container())),
        BuiltIn::DockerCompose(with) => one(format!("the containers of {}", with.device_path)),
        BuiltIn::DownloadArtifact(with) => one(with.device_path.as_str().to_owned()),
        BuiltIn::File(with) => one(with.device_path.as_str().to_owned()),
        BuiltIn::Git(with) => one(format!("the clone in {}", with.device_path)),
        BuiltIn::Script(with) => with.changes.iter().map(|path| path.as_str().to_owned()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::yaml::parse;

    fn words(steps: &str) -> Vec<String> {
        let document = format!(
            "flows:\n  F:\n    steps:\n{steps}on:\n  workflow-dispatch:\n    inputs:\n      where: {{default: /etc/app}}\n"
        );
        let flow = parse(&document).unwrap().remove(0);
        let values = flow.input_values(&InputValues::new()).unwrap();
        let told = restores(&flow, &values).unwrap();
        told.iter().map(|restore| format!("{}: {}", restore.step, restore.in_words())).collect()
    }

    #[test]
    fn tells_what_each_step_puts_back_and_when() {
        let file = "      - name: conf\n        uses: connect/file\n        with:\n          device-path: ${{ inputs.where }}.conf\n          content: x\n";
        let script = "      - name: convert\n        uses: connect/script\n        with:\n          script: ./x\n          changes: [/srv/a, /srv/b]\n";
        let on_failure = |words: &str| format!("          on-failure: {{{words}}}\n");
        let run = "      - name: go\n        run: \"true\"\n";
        let cases = [
            (run.to_owned(), "go: nothing is put back"),
            (
                format!("{run}        on-failure: {{run: 'undo a', revert-all-files: true}}\n"),
                "go: nothing is put back; \"undo a\" runs when this step fails",
            ),
            (file.to_owned(), "conf: /etc/app.conf put back when this step fails"),
            (
                format!("{file}{}", on_failure("revert-all-files: true, trigger-revert: any-step-failure")),
                "conf: /etc/app.conf put back when this or a later step fails",
            ),
            (script.to_owned(), "convert: nothing is put back"),
            (
                format!("{script}{}", on_failure("revert-all-files: true")),
                "convert: /srv/a, /srv/b put back when this step fails",
            ),
        ];
        for (steps, expected) in cases {
            assert_eq!(words(&steps), [expected], "{steps}");
        }
    }

    #[test]
    fn names_the_place_that_a_value_makes_wrong() {
        let document = "flows:\n  F:\n    steps:\n      - name: conf\n        uses: connect/file\n        with:\n          device-path: ${{ inputs.p }}\n          content: x\non:\n  workflow-dispatch:\n    inputs:\n      p: {}\n";
        let flow = parse(document).unwrap().remove(0);
        let values = InputValues::from([("p".to_owned(), "not absolute".to_owned())]);
        let refusal = restores(&flow, &values).unwrap_err();
        assert_eq!(refusal.field, "steps[0].with.device-path");
    }
}

//! What a step wrote down before it changed a container: `docker.json` in `saved-N`.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::files::{read_json, write_json};

/// The step's own words for later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Where the engine listens.
    pub(super) socket: PathBuf,
    /// The run, and the step's place in it: the labels of what it makes.
    pub(super) run: String,
    pub(super) step: u32,
    /// The container's name.
    pub(super) name: String,
    /// The new image, by its digest, and whether it was there before.
    pub(super) image: String,
    pub(super) was_image_here: bool,
    /// The container of that name before, if there was one.
    pub(super) previous: Option<Previous>,
    /// Whether the image of the container before is to be removed in the end.
    pub(super) is_image_dropped: bool,
    /// Whether anything was changed.
    pub(super) is_changing: bool,
    /// Whether it was, or is being, put back.
    pub(super) is_undoing: bool,
}

/// A container as it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Previous {
    pub(super) id: String,
    pub(super) image_id: String,
    pub(super) is_running: bool,
    pub(super) is_paused: bool,
    pub(super) restart: Value,
    /// The run that made it, when a step of this agent did.
    pub(super) run: Option<String>,
}

impl Previous {
    /// The container that the engine describes so.
    pub(super) fn of(found: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Self {
            id: text(&found["Id"]),
            image_id: text(&found["Image"]),
            is_running: found["State"]["Running"] == true,
            is_paused: found["State"]["Paused"] == true,
            restart: found["HostConfig"]["RestartPolicy"].clone(),
            run: found["Config"]["Labels"][RUN_LABEL].as_str().map(ToOwned::to_owned),
        }
    }
}

/// Marks what a step made: its run, its place in it, and the container's name.
pub(super) const RUN_LABEL: &str = "muster.run";
pub(super) const STEP_LABEL: &str = "muster.step";
pub(super) const NAME_LABEL: &str = "muster.container";

impl Record {
    pub(super) fn read(saved: &Path) -> io::Result<Option<Self>> {
        read_json(&file(saved))
    }

    pub(super) fn write(&self, saved: &Path) -> io::Result<()> {
        write_json(&file(saved), self)
    }

    /// The name under which the container before stands aside.
    pub(super) fn aside(&self) -> String {
        format!("{}.muster-{}.{}", self.name, self.run, self.step)
    }

    /// The labels of what the step makes.
    pub(super) fn labels(&self) -> [(&'static str, String); 3] {
        [(RUN_LABEL, self.run.clone()), (STEP_LABEL, self.step.to_string()), (NAME_LABEL, self.name.clone())]
    }

    /// Whether the container of these labels was made by this step, or by a later one of
    /// the same run, for the same name.
    pub(super) fn is_own_or_later(&self, labels: &Value) -> bool {
        let step = labels[STEP_LABEL].as_str().and_then(|step| step.parse::<u32>().ok());
        labels[RUN_LABEL] == *self.run && labels[NAME_LABEL] == *self.name && step.is_some_and(|step| step >= self.step)
    }
}

fn file(saved: &Path) -> PathBuf {
    saved.join("docker.json")
}

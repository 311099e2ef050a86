//! What the client keeps between two commands: for each profile a server, a token
//! and a fleet, in one file that only its owner can read.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use muster_core::token::Secret;
use muster_link::ServerPin;
use serde::{Deserialize, Serialize, Serializer};

/// The profile that is meant when none is named.
pub(super) const DEFAULT_PROFILE: &str = "default";

/// One server, as somebody.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Profile {
    /// Address of the server.
    pub(super) url: String,
    /// The key that the server must have, where no authority vouches for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) server_pin: Option<ServerPin>,
    /// What proves who asks.
    #[serde(serialize_with = "exposed")]
    pub(super) token: Secret,
    /// Key of the fleet that is meant when none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fleet: Option<String>,
}

fn exposed<S: Serializer>(token: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(token.expose())
}

/// Everything in the file.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Profiles {
    /// By name.
    #[serde(default)]
    pub(super) profiles: BTreeMap<String, Profile>,
}

/// Where the file is.
pub(super) struct ProfileFile(PathBuf);

impl ProfileFile {
    /// `$XDG_CONFIG_HOME/muster/client.toml`, or the same under `~/.config`.
    pub(super) fn of_environment() -> anyhow::Result<Self> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let config = set("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
        let config = config.or_else(|| Some(set("HOME")?.join(".config")));
        let config = config.context("neither XDG_CONFIG_HOME nor HOME says where settings are kept")?;
        Ok(Self(config.join("muster/client.toml")))
    }

    /// The profiles; none if there is no file.
    pub(super) fn load(&self) -> anyhow::Result<Profiles> {
        let text = match std::fs::read_to_string(&self.0) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Profiles::default()),
            read => read.with_context(|| format!("cannot read {}", self.0.display()))?,
        };
        // The parser's own message would show the line, and the line may be a token's.
        match toml::from_str(&text) {
            Ok(profiles) => Ok(profiles),
            Err(error) => bail!("{} is damaged: {}", self.0.display(), error.message()),
        }
    }

    /// Replaces the file as a whole: another command sees the old one or the new one.
    pub(super) fn save(&self, profiles: &Profiles) -> anyhow::Result<()> {
        let folder = self.0.parent().context("the file of the profiles has no folder")?;
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.with_context(|| format!("cannot make {}", folder.display()))?;
        let text = toml::to_string(profiles).context("cannot write the profiles")?;
        let next = self.0.with_extension(format!("toml.{}", std::process::id()));
        let written = write_private(&next, &text).and_then(|()| std::fs::rename(&next, &self.0));
        if written.is_err() {
            let _ = std::fs::remove_file(&next);
        }
        written.with_context(|| format!("cannot write {}", self.0.display()))
    }
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    // What a killed command left behind is of no use to anybody.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn profile(token: &str) -> Profile {
        Profile {
            url: "http://host".to_owned(),
            server_pin: None,
            token: Secret::received(token),
            fleet: Some("demo".to_owned()),
        }
    }

    fn file(folder: &tempfile::TempDir) -> ProfileFile {
        ProfileFile(folder.path().join("config/muster/client.toml"))
    }

    #[test]
    fn is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder);
        assert!(file.load().unwrap().profiles.is_empty());
        let mut profiles = Profiles::default();
        profiles.profiles.insert("default".to_owned(), profile("secret"));
        profiles.profiles.insert("the other".to_owned(), Profile { fleet: None, ..profile("other") });
        file.save(&profiles).unwrap();
        let read = file.load().unwrap().profiles;
        assert_eq!(read.keys().collect::<Vec<_>>(), ["default", "the other"]);
        assert_eq!(read["default"].token.expose(), "secret");
        assert_eq!((read["default"].fleet.as_deref(), read["the other"].fleet.as_deref()), (Some("demo"), None));
    }

    #[test]
    fn only_its_owner_can_read_it_even_if_it_was_open_before() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder);
        file.save(&Profiles::default()).unwrap();
        std::fs::set_permissions(&file.0, PermissionsExt::from_mode(0o644)).unwrap();
        file.save(&Profiles::default()).unwrap();
        assert_eq!(std::fs::metadata(&file.0).unwrap().permissions().mode() & 0o777, 0o600);
        let beside: Vec<_> = std::fs::read_dir(file.0.parent().unwrap()).unwrap().collect();
        assert_eq!(beside.len(), 1);
    }

    #[test]
    fn a_token_is_in_no_message() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder);
        assert!(!format!("{:?}", profile("secret")).contains("secret"));
        file.save(&Profiles::default()).unwrap();
        for text in
            ["[profiles.default]\ntoken = secret", "token = \"secret\"", "[profiles.default]\ntoken = \"secret\""]
        {
            std::fs::write(&file.0, text).unwrap();
            let problem = format!("{:#}", file.load().unwrap_err());
            assert!(problem.contains("is damaged") && !problem.contains("secret"), "{problem}");
        }
    }
}

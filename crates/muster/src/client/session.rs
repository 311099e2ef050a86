//! One command's view of the world: which server, as whom, in which fleet, and how
//! the answer is wanted.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use muster_core::token::Secret;
use muster_link::ServerPin;
use reqwest::Url;

use super::failure::Failure;
use super::http::{Http, server_url};
use super::output::Output;
use super::profile::{DEFAULT_PROFILE, Profile, ProfileFile};

/// Options of every command of the client.
#[derive(Args)]
pub(crate) struct Common {
    /// Address of the server; by default where this profile logged in
    #[arg(long, global = true, value_name = "URL", env = "MUSTER_URL", help_heading = CONNECTION)]
    url: Option<String>,
    /// Key of the server, as it prints it at its start, in place of certificate authorities
    #[arg(long, global = true, value_name = "sha256//BASE64", env = "MUSTER_SERVER_PIN", help_heading = CONNECTION)]
    server_pin: Option<ServerPin>,
    /// A file with an access token; by default that of this profile's login, or $MUSTER_TOKEN
    #[arg(long, global = true, value_name = "FILE", help_heading = CONNECTION)]
    token_file: Option<PathBuf>,
    /// Key of the fleet; by default that of this profile's login
    #[arg(long, global = true, value_name = "KEY", env = "MUSTER_FLEET", help_heading = CONNECTION)]
    fleet: Option<String>,
    /// Which login to use
    #[arg(long, global = true, value_name = "NAME", env = "MUSTER_PROFILE", help_heading = CONNECTION)]
    profile: Option<String>,
    /// Print JSON: exactly the API's, lists as one array
    #[arg(long, global = true)]
    json: bool,
}

const CONNECTION: &str = "Connection";
const TOKEN_ENV: &str = "MUSTER_TOKEN";

impl Common {
    /// The same options, for a program that this one starts. What stands in the
    /// environment is there anyway.
    pub(super) fn again(&self) -> Vec<OsString> {
        let pin = self.server_pin.as_ref().map(ToString::to_string);
        let options = [
            ("--url", self.url.clone().map(OsString::from)),
            ("--server-pin", pin.map(OsString::from)),
            ("--token-file", self.token_file.clone().map(PathBuf::into_os_string)),
            ("--fleet", self.fleet.clone().map(OsString::from)),
            ("--profile", self.profile.clone().map(OsString::from)),
        ];
        let given = options.into_iter().filter_map(|(name, value)| Some([name.into(), value?]));
        given.flatten().collect()
    }

    /// Name of the profile that is meant.
    pub(super) fn profile_name(&self) -> &str {
        self.profile.as_deref().unwrap_or(DEFAULT_PROFILE)
    }
}

/// What a command works with.
pub(super) struct Session {
    pub(super) http: Http,
    pub(super) out: Output,
    fleet: Option<String>,
}

impl Session {
    /// From the options, else the environment, else the profile.
    pub(super) fn open(common: &Common) -> Result<Self, Failure> {
        let mut profiles = ProfileFile::of_environment()?.load()?;
        let profile = profiles.profiles.remove(common.profile_name());
        if profile.is_none() && common.profile.is_some() {
            let name = common.profile_name();
            return Err(Failure::NotLoggedIn(format!("there is no profile {name:?}; muster login --profile {name}")));
        }
        let url = common.url.as_deref().or(profile.as_ref().map(|profile| profile.url.as_str()));
        let url = url.ok_or_else(|| Failure::NotLoggedIn("not logged in: muster login URL".to_owned()))?;
        let token = token(common, profile.as_ref(), url)?;
        // The fleet and the pin of a login are those of that login's server.
        let own = profile.as_ref().filter(|profile| is_same_server(&profile.url, url));
        let http = Http::new(url, common.server_pin.or(own.and_then(|profile| profile.server_pin)), Some(token))?;
        let own_fleet = own.and_then(|profile| profile.fleet.clone());
        Ok(Self { http, out: Output::new(common.json), fleet: common.fleet.clone().or(own_fleet) })
    }

    /// Key of the fleet that is meant.
    pub(super) fn fleet(&self) -> Result<&str, Failure> {
        let missing =
            || Failure::Usage("which fleet? --fleet KEY, or $MUSTER_FLEET, or muster login --fleet KEY".to_owned());
        self.fleet.as_deref().ok_or_else(missing)
    }
}

fn token(common: &Common, profile: Option<&Profile>, url: &str) -> Result<Secret, Failure> {
    if let Some(path) = &common.token_file {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        return secret(&text, &path.display().to_string());
    }
    if let Some(text) = std::env::var_os(TOKEN_ENV).filter(|text| !text.is_empty()) {
        return secret(&text.to_string_lossy(), TOKEN_ENV);
    }
    match profile {
        // A token goes to the server that gave it, and to no other.
        Some(profile) if is_same_server(&profile.url, url) => Ok(Secret::received(profile.token.expose())),
        _ => Err(Failure::NotLoggedIn(format!("not logged in to {url}: muster login {url}"))),
    }
}

/// A token without the line's end that files and pipes have.
pub(super) fn secret(text: &str, from: &str) -> Result<Secret, Failure> {
    let text = text.trim();
    if text.is_empty() || text.contains(|c: char| c.is_control() || c.is_whitespace() || !c.is_ascii()) {
        return Err(Failure::Usage(format!("{from} holds no token")));
    }
    Ok(Secret::received(text))
}

fn is_same_server(one: &str, other: &str) -> bool {
    let whole = |text: &str| server_url(text).ok().map(|url: Url| url.as_str().trim_end_matches('/').to_owned());
    whole(one).is_some_and(|one| Some(one) == whole(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_the_same_under_each_spelling() {
        assert!(is_same_server("http://host:80", "http://host/"));
        assert!(!is_same_server("http://host", "http://host:8080"));
        assert!(!is_same_server("http://host/a", "http://host/b"));
        assert!(!is_same_server("nonsense", "nonsense"));
    }

    #[test]
    fn a_token_is_one_word() {
        assert_eq!(secret("abc\n", "x").unwrap().expose(), "abc");
        for text in ["", "\n", "two words", "a\u{0}b", "schlüssel"] {
            let problem = secret(text, "the file").unwrap_err().to_string();
            assert_eq!(problem, "the file holds no token");
        }
    }
}

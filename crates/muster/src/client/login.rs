//! `muster login`, `logout`, `whoami`.

use clap::Args;
use muster_core::token::Secret;
use muster_link::ServerPin;
use serde_json::{Value, json};

use super::failure::Failure;
use super::http::Http;
use super::output::{Output, line};
use super::profile::{DEFAULT_PROFILE, Profile, ProfileFile};
use super::prompt::{all_of_stdin, password};
use super::session::{Session, secret};
use super::table::{Column, column};

/// Options of `muster login`.
#[derive(Args)]
pub(crate) struct LoginArgs {
    /// Address of the server, like https://muster.example.com
    url: String,
    /// Key of the server, as it prints it at its start, in place of certificate authorities
    #[arg(long, value_name = "sha256//BASE64", env = "MUSTER_SERVER_PIN")]
    server_pin: Option<ServerPin>,
    /// Name of the user
    #[arg(long, value_name = "NAME", required_unless_present = "token_stdin", conflicts_with = "token_stdin")]
    user: Option<String>,
    /// Read the password from standard input, and do not ask for it
    #[arg(long, requires = "user")]
    password_stdin: bool,
    /// Read an access token from standard input, and make no new one
    #[arg(long)]
    token_stdin: bool,
    /// Key of the fleet that is meant when none is named; by default the only one that the user sees
    #[arg(long, value_name = "KEY")]
    fleet: Option<String>,
    /// Name under which the login is kept, beside others
    #[arg(long, value_name = "NAME", env = "MUSTER_PROFILE", default_value = DEFAULT_PROFILE)]
    profile: String,
}

/// Options of `muster logout`.
#[derive(Args)]
pub(crate) struct LogoutArgs {
    /// Which login to end
    #[arg(long, value_name = "NAME", env = "MUSTER_PROFILE", default_value = DEFAULT_PROFILE)]
    profile: String,
    /// Forget the login without a word to the server: its token stays valid
    #[arg(long)]
    forget: bool,
}

/// Proves who asks, and keeps the token.
pub(super) async fn log_in(args: &LoginArgs) -> Result<(), Failure> {
    let token = match &args.user {
        Some(user) => exchange_password(args, user).await?,
        None => secret(&all_of_stdin()?, "standard input")?,
    };
    let me = me(&Http::new(&args.url, args.server_pin, Some(Secret::received(token.expose())))?).await?;
    let fleet = default_fleet(args, &me)?;
    let sentence = format!(
        "logged in to {} as {}{}",
        args.url,
        me["user"].as_str().unwrap_or_default(),
        fleet.as_ref().map(|key| format!(", fleet {key}")).unwrap_or_default()
    );
    let file = ProfileFile::of_environment()?;
    let mut profiles = file.load()?;
    profiles
        .profiles
        .insert(args.profile.clone(), Profile { url: args.url.clone(), server_pin: args.server_pin, token, fleet });
    file.save(&profiles)?;
    line(&sentence)
}

async fn exchange_password(args: &LoginArgs, user: &str) -> Result<Secret, Failure> {
    let http = Http::new(&args.url, args.server_pin, None)?;
    let password = password(args.password_stdin, &format!("Password of {user}"))?;
    let body = json!({ "user": user, "password": password.expose(), "description": "muster login" });
    let answer = http.post(&["account", "login"])?.json(&body).value().await?;
    secret(answer["token"].as_str().unwrap_or_default(), "the server's answer")
}

async fn me(http: &Http) -> Result<Value, Failure> {
    http.get(&["account", "me"])?.value().await
}

/// The fleet that was asked for, if the user sees it; else the only one there is.
fn default_fleet(args: &LoginArgs, me: &Value) -> Result<Option<String>, Failure> {
    let keys: Vec<&str> =
        me["fleets"].as_array().into_iter().flatten().filter_map(|fleet| fleet["project_key"].as_str()).collect();
    match (&args.fleet, keys.as_slice()) {
        (Some(key), keys) if !keys.contains(&key.as_str()) => {
            Err(Failure::Usage(format!("--fleet {key}: you see no such fleet, only {}", keys.join(", "))))
        }
        (Some(key), _) => Ok(Some(key.clone())),
        (None, [only]) => Ok(Some((*only).to_owned())),
        (None, _) => Ok(None),
    }
}

/// Revokes the token and forgets it. One that is invalid already is only forgotten.
pub(super) async fn log_out(args: &LogoutArgs) -> Result<(), Failure> {
    let file = ProfileFile::of_environment()?;
    let mut profiles = file.load()?;
    let profile = profiles.profiles.remove(&args.profile);
    let profile = profile.ok_or_else(|| Failure::NotLoggedIn("not logged in".to_owned()))?;
    if !args.forget {
        let http = Http::new(&profile.url, profile.server_pin, Some(profile.token))?;
        match http.post(&["account", "logout"])?.value().await {
            Ok(_) | Err(Failure::Api { status: 401, .. }) => {}
            Err(failure) => return Err(failure),
        }
    }
    file.save(&profiles)?;
    line(&format!("logged out of {}", profile.url))
}

const ME: &[Column] = &[
    column("USER", "user"),
    column("ADMINISTRATOR", "is_admin"),
    column("TOKEN", "token.token_id"),
    column("DESCRIPTION", "token.description"),
    column("EXPIRES", "token.expires_time"),
];
const OWN_FLEETS: &[Column] =
    &[column("FLEET", "project_key"), column("NAME", "name"), column("PERMISSIONS", "permissions")];

/// Shows who bears the token.
pub(super) async fn who_am_i(session: &Session) -> Result<(), Failure> {
    let me = me(&session.http).await?;
    let out: &Output = &session.out;
    out.object(&me, ME)?;
    out.more("Fleets", me["fleets"].as_array().map_or(&[], Vec::as_slice), OWN_FLEETS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fleet_is_the_one_asked_for_or_the_only_one() {
        let me =
            |keys: &[&str]| json!({"fleets": keys.iter().map(|key| json!({"project_key": key})).collect::<Vec<_>>()});
        let mut args = LoginArgs {
            url: "http://host".to_owned(),
            server_pin: None,
            user: None,
            password_stdin: false,
            token_stdin: true,
            fleet: None,
            profile: DEFAULT_PROFILE.to_owned(),
        };
        let chosen = |args: &LoginArgs, keys: &[&str]| default_fleet(args, &me(keys)).map_err(|e| e.to_string());
        assert_eq!(chosen(&args, &["one"]), Ok(Some("one".to_owned())));
        assert_eq!(chosen(&args, &["one", "two"]), Ok(None));
        assert_eq!(chosen(&args, &[]), Ok(None));
        args.fleet = Some("two".to_owned());
        assert_eq!(chosen(&args, &["one", "two"]), Ok(Some("two".to_owned())));
        assert!(chosen(&args, &["one"]).unwrap_err().contains("no such fleet"));
    }
}

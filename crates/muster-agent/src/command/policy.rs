//! Whether the device runs remote commands, and as whom.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use muster_core::invalid::quoted;
use muster_core::names::DeviceUser;
use muster_core::target::Reason;
use muster_link::capability;
use nix::unistd::{User, geteuid};

/// What remote commands may be run through this device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandPolicy {
    /// None.
    Off,
    /// As any user; as the agent's own where none is named.
    Any,
    /// As one of these; as the first where none is named.
    Users(Vec<String>),
}

impl FromStr for CommandPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "any" => Ok(Self::Any),
            names => {
                let user = |name: &str| DeviceUser::parse(name).map(DeviceUser::into_string);
                let users = names.split(',').map(user).collect::<Result<_, _>>();
                users.map(Self::Users).map_err(|refusal| refusal.to_string())
            }
        }
    }
}

impl fmt::Display for CommandPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Any => f.write_str("any"),
            Self::Users(users) => f.write_str(&users.join(",")),
        }
    }
}

impl CommandPolicy {
    /// What the server is told that the device can do.
    pub fn capabilities(&self) -> Option<String> {
        (*self != Self::Off).then(|| capability::REMOTE_COMMANDS.to_owned())
    }

    /// As whom a command runs that names `user`, which may be empty: empty for the agent's
    /// own user. Else why it does not run.
    pub fn user(&self, user: &str) -> Result<String, Reason> {
        match self {
            Self::Off => Err(Reason::new("refused_by_device", "The device was told to run no remote commands.")),
            Self::Any => Ok(user.to_owned()),
            Self::Users(users) if user.is_empty() => Ok(users.first().cloned().unwrap_or_default()),
            Self::Users(users) if users.iter().any(|allowed| allowed == user) => Ok(user.to_owned()),
            Self::Users(_) => {
                let text = format!("The device runs no remote commands as the user {}.", quoted(user));
                Err(Reason::new("user_not_allowed", text))
            }
        }
    }
}

/// Whether this process can become `user`: the name again, or empty where it is that user
/// already. Else why not.
pub fn reachable(user: String) -> Result<String, Reason> {
    if user.is_empty() {
        return Ok(user);
    }
    let found = match User::from_name(&user) {
        Ok(found) => found,
        Err(error) => {
            let text = format!("The users of the device cannot be read: {error}.");
            return Err(Reason::new("no_such_user", text));
        }
    };
    match found {
        None => Err(Reason::new("no_such_user", format!("The device has no user {}.", quoted(&user)))),
        Some(found) if found.uid == geteuid() => Ok(String::new()),
        Some(_) if geteuid().is_root() => Ok(user),
        Some(_) => {
            let text = format!("The agent is not root, so it cannot run a command as the user {}.", quoted(&user));
            Err(Reason::new("user_not_allowed", text))
        }
    }
}

/// Makes this process one of `user`, for good, and then the program that is named: how a
/// step runner starts a command as somebody else. Answers only when that fails.
pub fn become_user(user: &str, program: &[std::ffi::OsString]) -> anyhow::Result<Infallible> {
    use std::os::unix::process::CommandExt;

    use anyhow::Context;

    let found = User::from_name(user).context("cannot read the users")?.context("there is no such user")?;
    let name = std::ffi::CString::new(user)?;
    nix::unistd::initgroups(&name, found.gid).context("cannot take the user's groups")?;
    nix::unistd::setgid(found.gid).context("cannot take the user's group")?;
    nix::unistd::setuid(found.uid).context("cannot become the user")?;
    let (program, args) = program.split_first().context("there is no program")?;
    let error = std::process::Command::new(program)
        .args(args)
        .env("HOME", &found.dir)
        .env("SHELL", &found.shell)
        .env("USER", user)
        .env("LOGNAME", user)
        .exec();
    Err(error).context("cannot start the program")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_who_may_and_who_does_by_default() {
        let policy: CommandPolicy = "pi,deploy".parse().unwrap();
        assert_eq!(policy.user("").unwrap(), "pi");
        assert_eq!(policy.user("deploy").unwrap(), "deploy");
        assert_eq!(policy.user("root").unwrap_err().code, "user_not_allowed");
        assert_eq!(policy.to_string(), "pi,deploy");
        assert!("pi,".parse::<CommandPolicy>().is_err() && "a b".parse::<CommandPolicy>().is_err());
    }

    #[test]
    fn off_is_off_and_any_is_any() {
        assert_eq!(CommandPolicy::Off.user("").unwrap_err().code, "refused_by_device");
        assert_eq!((CommandPolicy::Off.capabilities(), CommandPolicy::Any.user("x")), (None, Ok("x".to_owned())));
    }

    #[test]
    fn nobody_becomes_whom_the_device_does_not_know() {
        assert_eq!(reachable("no-such-user-here".to_owned()).unwrap_err().code, "no_such_user");
        assert_eq!(reachable(String::new()), Ok(String::new()));
    }
}

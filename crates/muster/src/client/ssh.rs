//! `muster ssh`: OpenSSH, with a stream of the API in place of a network.

use std::ffi::OsString;
use std::num::NonZeroU16;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::Context;
use clap::Args;

use super::failure::Failure;
use super::session::{Common, Session};

/// OpenSSH's client, to a device.
#[derive(Args)]
pub(crate) struct SshArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// The device, and whom to be there
    #[arg(value_name = "[USER@]DEVICE")]
    device: String,
    /// The port of its sshd
    #[arg(long, short, default_value = "22")]
    port: NonZeroU16,
    /// What ssh is told besides: its options, then a command
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    more: Vec<OsString>,
}

/// Becomes ssh; returns only when that cannot be.
pub(super) fn run(args: &SshArgs) -> Result<(), Failure> {
    // Whoever is not logged in hears it from here, and not from the middle of ssh.
    Session::open(&args.common)?.fleet()?;
    let own = std::env::current_exe().context("cannot find this program")?;
    let device = args.device.rsplit_once('@').map_or(args.device.as_str(), |(_, device)| device);
    let words = [own.into_os_string(), "tunnel".into(), "--stdio".into()];
    let last = ["--".into(), device.into(), args.port.to_string().into()];
    let proxy: Vec<OsString> = words.into_iter().chain(args.common.again()).chain(last).collect();
    let mut ssh = Command::new("ssh");
    ssh.arg("-o").arg(proxy_command(&proxy)?);
    // Its key is known by its own name, whatever the way to it.
    ssh.arg("-o").arg(format!("HostKeyAlias={device}"));
    // ssh takes options behind the host too, up to the command.
    let problem = ssh.arg(&args.device).args(&args.more).exec();
    Err(anyhow::Error::new(problem).context("cannot start ssh; is OpenSSH's client installed?").into())
}

/// The option by which ssh starts that program in place of a connection.
fn proxy_command(words: &[OsString]) -> Result<String, Failure> {
    let quoted: Option<Vec<String>> = words.iter().map(|word| word.to_str().map(quoted)).collect();
    let quoted = quoted.ok_or_else(|| Failure::Usage("an option is not text".to_owned()))?;
    Ok(format!("ProxyCommand={}", quoted.join(" ")))
}

/// As a shell reads it, and ssh, to which a per cent sign is special.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''").replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_shell_and_ssh_would_read_is_quoted() {
        let words = ["/a b/muster", "--profile", "it's 5%"].map(OsString::from);
        assert_eq!(proxy_command(&words).unwrap(), r"ProxyCommand='/a b/muster' '--profile' 'it'\''s 5%%'");
    }
}

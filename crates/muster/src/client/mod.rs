//! The command line as a client: everything the public API can do, over HTTP.
//!
//! A noun of the API is a command and a file; what they share is `session` (which
//! server, as whom), `http` and `pages` (calls), `output` and `table` (answers).

mod access;
mod apps;
mod audit;
mod commands;
mod deploy;
mod deployments;
mod device_changes;
mod device_stream;
mod devices;
mod failure;
mod file_rules;
mod files;
mod filter;
mod filters;
mod fleets;
mod flows;
mod generate;
mod groups;
mod http;
mod login;
mod outcome;
mod output;
mod pages;
mod pairing_tokens;
mod preview;
mod profile;
mod progress;
mod prompt;
mod registries;
mod roles;
mod run;
mod run_watch;
mod send_folder;
mod session;
mod sessions;
mod span;
mod ssh;
mod table;
mod tags;
mod terminal;
mod tokens;
mod tunnel;
mod tunnels;
mod users;
mod watch;

use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Command, Subcommand};

use failure::Failure;
use session::{Common, Session};

/// Commands that call a server.
#[derive(Subcommand)]
pub(crate) enum ClientCommand {
    /// Log in to a server, and remember it
    Login(login::LoginArgs),
    /// Revoke the token of a login, and forget it
    Logout(login::LogoutArgs),
    /// Show who is logged in, where, and what they may do
    Whoami(Alone),
    /// Deploy a flow: show what would happen, ask, and follow it to its end
    Deploy(Box<deploy::DeployArgs>),
    /// Run a command on devices, and print what it puts out
    Run(Box<run::RunArgs>),
    /// Saved commands of a fleet, and what was run
    Commands(Noun<commands::CommandsCommand>),
    /// A port of a device, here
    Tunnel(tunnel::TunnelArgs),
    /// OpenSSH's client, to a device
    Ssh(ssh::SshArgs),
    /// Copy files and folders to a device, or from one
    Cp(files::CopyArgs),
    /// List what lies in a folder of a device
    Ls(files::ListArgs),
    /// Print a file of a device
    Cat(files::CatArgs),
    /// Which files of a fleet's devices people may reach
    Files(Noun<file_rules::FilesCommand>),
    /// Devices of a fleet
    Devices(Noun<devices::DevicesCommand>),
    /// Groups of a fleet
    Groups(Noun<groups::GroupsCommand>),
    /// Tags of the account
    Tags(Noun<tags::TagsCommand>),
    /// Apps of the account, and their versions
    Apps(Noun<apps::AppsCommand>),
    /// Update flows of a fleet
    Flows(Noun<flows::FlowsCommand>),
    /// Deployments of a fleet
    Deployments(Noun<deployments::DeploymentsCommand>),
    /// Saved device filters of a fleet, and what a filter would match
    Filters(Noun<filters::FiltersCommand>),
    /// Pairing tokens of a fleet, which enrol devices
    PairingTokens(Noun<pairing_tokens::PairingTokensCommand>),
    /// Open a terminal on a device
    Terminal(terminal::TerminalArgs),
    /// Remote sessions on devices of a fleet, and what terminals showed
    Sessions(Noun<sessions::SessionsCommand>),
    /// Port tunnels to devices of a fleet
    Tunnels(Noun<tunnels::TunnelsCommand>),
    /// Fleets of the account
    Fleets(Noun<fleets::FleetsCommand>),
    /// Access tokens and user tokens
    Tokens(Noun<tokens::TokensCommand>),
    /// Users of the account
    Users(Noun<users::UsersCommand>),
    /// Roles of the account
    Roles(Noun<roles::RolesCommand>),
    /// Access grants of a fleet: what a role holds back, for a while
    Access(Noun<access::AccessCommand>),
    /// Registries that updates come from
    Registries(Noun<registries::RegistriesCommand>),
    /// The account's audit log
    Audit(audit::AuditArgs),
    /// Print what a shell needs to complete this program's commands
    Completions(generate::CompletionsArgs),
    /// Write the manual pages
    Man(generate::ManArgs),
}

/// A noun with its verbs.
#[derive(Args)]
pub(crate) struct Noun<C: Subcommand> {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: C,
}

/// A command that is asked nothing more.
#[derive(Args)]
pub(crate) struct Alone {
    #[command(flatten)]
    common: Common,
}

/// Does the command; `program` is the whole command line's definition.
pub(crate) fn run(command: ClientCommand, program: Command) -> ExitCode {
    match begin(command, program) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::ReaderGone) => ExitCode::SUCCESS,
        Err(failure @ Failure::Ended(_)) => ExitCode::from(failure.exit_code()),
        Err(failure) => {
            eprintln!("muster: {}", table::printable_lines(&failure.to_string()));
            ExitCode::from(failure.exit_code())
        }
    }
}

fn begin(command: ClientCommand, program: Command) -> Result<(), Failure> {
    // One call after the other: the calling thread is enough.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let done = runtime.block_on(dispatch(command, program));
    // Whoever reads standard input waits for it in a thread, perhaps for ever.
    runtime.shutdown_background();
    done
}

async fn dispatch(command: ClientCommand, program: Command) -> Result<(), Failure> {
    use ClientCommand as C;
    match command {
        C::Login(args) => login::log_in(&args).await,
        C::Logout(args) => login::log_out(&args).await,
        C::Whoami(args) => login::who_am_i(&Session::open(&args.common)?).await,
        C::Deploy(args) => deploy::run(&args).await,
        C::Run(args) => run::run(&args).await,
        C::Commands(noun) => commands::run(noun.command, &Session::open(&noun.common)?).await,
        C::Tunnel(args) => tunnel::run(&args).await,
        C::Ssh(args) => ssh::run(&args),
        C::Cp(args) => files::copy(&args).await,
        C::Ls(args) => files::list(&args).await,
        C::Cat(args) => files::cat(&args).await,
        C::Files(noun) => file_rules::run(noun.command, &Session::open(&noun.common)?).await,
        C::Devices(noun) => devices::run(noun.command, &Session::open(&noun.common)?).await,
        C::Groups(noun) => groups::run(noun.command, &Session::open(&noun.common)?).await,
        C::Tags(noun) => tags::run(noun.command, &Session::open(&noun.common)?).await,
        C::Apps(noun) => apps::run(noun.command, &Session::open(&noun.common)?).await,
        C::Flows(noun) => flows::run(noun.command, &Session::open(&noun.common)?).await,
        C::Deployments(noun) => deployments::run(noun.command, &Session::open(&noun.common)?).await,
        C::Filters(noun) => filters::run(noun.command, &Session::open(&noun.common)?).await,
        C::PairingTokens(noun) => pairing_tokens::run(noun.command, &Session::open(&noun.common)?).await,
        C::Terminal(args) => terminal::run(&args, &Session::open(&args.common)?).await,
        C::Sessions(noun) => sessions::run(noun.command, &Session::open(&noun.common)?).await,
        C::Tunnels(noun) => tunnels::run(noun.command, &Session::open(&noun.common)?).await,
        C::Fleets(noun) => fleets::run(noun.command, &Session::open(&noun.common)?).await,
        C::Tokens(noun) => tokens::run(noun.command, &Session::open(&noun.common)?).await,
        C::Users(noun) => users::run(noun.command, &Session::open(&noun.common)?).await,
        C::Roles(noun) => roles::run(noun.command, &Session::open(&noun.common)?).await,
        C::Access(noun) => access::run(noun.command, &Session::open(&noun.common)?).await,
        C::Registries(noun) => registries::run(noun.command, &Session::open(&noun.common)?).await,
        C::Audit(args) => audit::run(&args, &Session::open(&args.common)?).await,
        C::Completions(args) => generate::completions(&args, program),
        C::Man(args) => generate::man(&args, program),
    }
}

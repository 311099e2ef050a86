//! The published table, made from the operations and the rules.

use std::sync::LazyLock;

use muster_core::access::{BUILT_IN_ROLES, Credential, Operation, Permission, Requirement};
use muster_server::router::openapi_document;
use serde_json::Value;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Anon,
    Viewer,
    Operator,
    Admin,
    Neighbour,
    Stranger,
    Device,
}

pub(crate) const WHO: [Who; 7] =
    [Who::Anon, Who::Viewer, Who::Operator, Who::Admin, Who::Neighbour, Who::Stranger, Who::Device];

/// What happens to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    /// It is done, and answered with that status.
    Done(u16),
    /// It is refused with that status.
    Refused(u16),
    /// The WebSocket opens, and the handshake on it is refused.
    NotWelcome,
}

/// The rules, in one place.
pub(crate) fn expected(operation: Operation, who: Who) -> Cell {
    let done = Cell::Done(success(operation));
    if is_of_account(operation) && operation.credential() == Credential::AccessToken {
        return expected_of_account(operation, who, done);
    }
    match operation.credential() {
        Credential::None => done,
        Credential::Password if matches!(who, Who::Anon | Who::Device) => Cell::Refused(401),
        Credential::Password => done,
        Credential::DeviceKey if who == Who::Device => done,
        Credential::DeviceKey => Cell::NotWelcome,
        Credential::Grant if who == Who::Device => done,
        Credential::Grant => Cell::Refused(401),
        Credential::PairingToken if who == Who::Device => done,
        Credential::PairingToken => Cell::Refused(401),
        Credential::DeviceToken if who == Who::Device => done,
        Credential::DeviceToken => Cell::Refused(400),
        // Without a signature nobody is anybody.
        Credential::AccessKey if matches!(who, Who::Anon | Who::Device) => Cell::Refused(403),
        Credential::AccessKey if who == Who::Stranger || is_allowed_in_account(operation, who) => done,
        Credential::AccessKey => Cell::Refused(403),
        Credential::UserToken if is_allowed(operation, who) => done,
        Credential::UserToken => Cell::Refused(400),
        Credential::AccessToken => match who {
            Who::Anon | Who::Device => Cell::Refused(401),
            Who::Neighbour | Who::Stranger => Cell::Refused(404),
            Who::Viewer if is_part_of_grant(operation) => Cell::Refused(404),
            // Who may do everything has nothing to ask for.
            Who::Admin if operation.requirement() == Requirement::HeldBack => Cell::Refused(409),
            _ if is_allowed(operation, who) => done,
            _ => Cell::Refused(403),
        },
    }
}

/// Whether it is for those alone who asked for an access grant or may answer it.
fn is_part_of_grant(operation: Operation) -> bool {
    matches!(operation.requirement(), Requirement::GrantAnswerer | Requirement::GrantParty)
}

/// Whether it acts on the caller's account as a whole.
fn is_of_account(operation: Operation) -> bool {
    operation.path().starts_with("/api/v2/account/")
}

/// A stranger acts on an account of their own, in which nothing of this one exists. What
/// belongs to somebody is tried on a token of the operator.
fn expected_of_account(operation: Operation, who: Who, done: Cell) -> Cell {
    let is_named = operation.path().contains('{');
    match (operation.requirement(), who) {
        (_, Who::Anon | Who::Device) => Cell::Refused(401),
        (_, Who::Stranger) if is_named => Cell::Refused(404),
        (_, Who::Stranger | Who::Admin) => done,
        (_, Who::Neighbour) if operation.path().contains("{project_key}") => Cell::Refused(404),
        (Requirement::OwnerOrAdmin, Who::Operator) => done,
        (Requirement::OwnerOrAdmin, _) => Cell::Refused(404),
        (Requirement::Admin, _) | (Requirement::AnyFleet(_), Who::Viewer) => Cell::Refused(403),
        _ => done,
    }
}

/// A neighbour is an operator, if in another fleet.
fn is_allowed_in_account(operation: Operation, who: Who) -> bool {
    is_allowed(operation, if who == Who::Neighbour { Who::Operator } else { who })
}

fn is_allowed(operation: Operation, who: Who) -> bool {
    let held = match who {
        Who::Admin => &Permission::ALL,
        Who::Viewer => role("viewer"),
        Who::Operator => role("operator"),
        Who::Anon | Who::Neighbour | Who::Stranger | Who::Device => return false,
    };
    match operation.requirement() {
        Requirement::Credential
        | Requirement::View
        | Requirement::User
        | Requirement::Account
        | Requirement::SeeArtifacts
        | Requirement::HeldBack => true,
        Requirement::GrantAnswerer | Requirement::GrantParty => held.contains(&Permission::RemoteAccess),
        Requirement::Either(one, other) => held.contains(&one) || held.contains(&other),
        Requirement::Fleet(permission) | Requirement::AnyFleet(permission) | Requirement::Artifacts(permission) => {
            held.contains(&permission)
        }
        Requirement::Admin | Requirement::OwnerOrAdmin => who == Who::Admin,
    }
}

fn role(name: &str) -> &'static [Permission] {
    BUILT_IN_ROLES.iter().find(|(role, _)| *role == name).unwrap().1
}

/// The operation as the OpenAPI document has it.
pub(crate) fn documented(operation: Operation) -> Value {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(openapi_document);
    DOCUMENT["paths"][operation.place()][operation.method().to_lowercase()].clone()
}

/// The status of a success: the first that the document lists.
fn success(operation: Operation) -> u16 {
    let documented = documented(operation);
    let statuses = documented["responses"].as_object().unwrap().keys();
    statuses.map(|status| status.parse().unwrap()).filter(|status| *status < 400).min().unwrap()
}

const HEAD: &str = "\
# Who may do what

Every operation of the server, and what happens when each kind of caller asks for
it in the fleet `demo`. This page is made from the table of operations in
`crates/muster-core/src/access.rs`, and every cell of it is tried against a running
server. After a change of the table, make it anew:

    MUSTER_UPDATE_DOCS=1 cargo test -p muster-server --test api published

| caller | who that is |
|---|---|
| anon | bears no token |
| viewer | a user with the role `viewer` in the fleet |
| operator | a user with the role `operator` in the fleet |
| admin | an administrator of the account |
| neighbour | a user with the role `operator` in another fleet of the account, and none in this one |
| stranger | an administrator of another account |
| device | a device of the fleet: it holds its own key, its device token and the fleet's pairing token |

What an account's fleets share lies below `/api/v2/account`: there the stranger acts in
their own account, in which nothing of this one exists. To delete a group needs more
than the table says where something is done to its devices: `modify_devices` to move
them, `register_and_move_devices` to delete them. Saved filters are written with
`deploy`: they say where updates go, so whoever may not send updates may not change
them under those who do. Files that a device has sent are read with `remote_access`:
what a log holds is as sensitive as what a terminal shows.

A repository of artifacts is for one fleet, or all fleets of the account share it. The
table has one of the fleet `demo`; one that is shared is read with a role in any fleet,
written with `deploy` in any, and is not for tokens of some fleets only. What devices sent
when they were asked lies in a repository of its own, which needs `remote_access`. A device
bears no token: it is given a signed address for just what it needs, which ends by itself.

The numbers are HTTP statuses; those in bold mean that it was done. A fleet that a
caller has no role in does not exist for them: 404. API v1 knows 200 and 400 only.
`refused` means that the WebSocket opens, and the device is refused in the handshake.

The Tag Service (`/v1/tag`, `/v1/resource`) is asked with a signature: each caller has an
access key of their own with the policy `TAGFullControlAccessPolicy`, and acts on the tags
of their own account. What is tagged in these attempts is no device.

What stands below `/api/v2/account` acts on the caller's own account: a stranger does
it in theirs, and finds nothing there that has a name in this one. What only its owner
or an administrator may see, a token for instance, is here the operator's; for others
it does not exist. Whatever a user may, a token with a scope may within that scope
only, and it never acts as an administrator.

What a role holds back, its users have under an access grant only: without one they get 403
with the code `grant_needed`. An access grant may be for some devices; under such a one only
operations on one of them can be done. In these attempts it is asked for by a user whose
role holds `remote_access` back, and viewer and operator have a role that holds
`edit_remote_commands` back.

A role in the fleet is enough to look at it. What else is needed is a permission;
the role `operator` has";

/// The page.
pub(crate) fn markdown() -> String {
    let permissions: Vec<String> = role("operator").iter().map(|it| format!("`{}`", it.as_str())).collect();
    let mut page = format!("{HEAD}\n{}.\n\n", permissions.join(", "));
    page += "| operation | call | needs | anon | viewer | operator | admin | neighbour | stranger | device |\n";
    page += "|---|---|---|---|---|---|---|---|---|---|\n";
    for operation in Operation::ALL {
        let cells: Vec<String> = WHO.iter().map(|who| shown(expected(*operation, *who))).collect();
        let (name, method, path) = (operation.name(), operation.method(), operation.path());
        page += &format!("| {name} | `{method} {path}` | {} | {} |\n", needs(*operation), cells.join(" | "));
    }
    page
}

fn shown(cell: Cell) -> String {
    match cell {
        Cell::Done(status) => format!("**{status}**"),
        Cell::Refused(status) => status.to_string(),
        Cell::NotWelcome => "refused".to_owned(),
    }
}

fn needs(operation: Operation) -> String {
    match (operation.credential(), operation.requirement()) {
        (Credential::None, _) => "nothing".to_owned(),
        (Credential::Password, _) => "a password".to_owned(),
        (Credential::AccessKey, Requirement::Account) => "an access key".to_owned(),
        (_, Requirement::User) => "a token".to_owned(),
        (_, Requirement::OwnerOrAdmin) => "its owner, or an administrator".to_owned(),
        (Credential::PairingToken, _) => "a pairing token".to_owned(),
        (Credential::DeviceKey, _) => "the device's key".to_owned(),
        (Credential::DeviceToken, _) => "a device token".to_owned(),
        (Credential::Grant, _) => "a grant that came with an instruction".to_owned(),
        (_, Requirement::Credential) => "a token".to_owned(),
        (_, Requirement::View) => "a role".to_owned(),
        (_, Requirement::Fleet(permission)) => format!("`{}`", permission.as_str()),
        (_, Requirement::Either(one, other)) => format!("`{}` or `{}`", one.as_str(), other.as_str()),
        (_, Requirement::Account) => "a user of the account".to_owned(),
        (_, Requirement::AnyFleet(permission)) => format!("`{}` in any fleet", permission.as_str()),
        (_, Requirement::Admin) => "an administrator".to_owned(),
        (_, Requirement::SeeArtifacts) => "a role, or a signed address".to_owned(),
        (_, Requirement::HeldBack) => "a role that holds it back".to_owned(),
        (_, Requirement::GrantAnswerer) => "all that it lets go, and not to have asked".to_owned(),
        (_, Requirement::GrantParty) => "to have asked, or to may answer".to_owned(),
        (_, Requirement::Artifacts(permission)) => format!("`{}`, or a signed address", permission.as_str()),
    }
}

//! The documented permissions, and the roles that are made of them.

/// What a user may be allowed to do in a fleet. Seeing a fleet needs no
/// permission of its own: a role in it is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Permission {
    /// Create, rename and delete groups.
    ManageGroups,
    /// Create and modify remote commands.
    EditRemoteCommands,
    /// Create update flows, deploy them, abort deployments.
    Deploy,
    /// Change devices: their details, tags, apps, group and update trigger.
    ModifyDevices,
    /// Register devices, and move them between fleets.
    RegisterAndMoveDevices,
    /// Open terminals and port tunnels.
    RemoteAccess,
    /// Run remote commands.
    RunRemoteCommands,
    /// Watch terminals of others, and replay their recordings. Muster's own.
    WatchSessions,
}

impl Permission {
    /// Every permission.
    pub const ALL: [Self; 8] = [
        Self::ManageGroups,
        Self::EditRemoteCommands,
        Self::Deploy,
        Self::ModifyDevices,
        Self::RegisterAndMoveDevices,
        Self::RemoteAccess,
        Self::RunRemoteCommands,
        Self::WatchSessions,
    ];

    /// How the permission is stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ManageGroups => "manage_groups",
            Self::EditRemoteCommands => "edit_remote_commands",
            Self::Deploy => "deploy",
            Self::ModifyDevices => "modify_devices",
            Self::RegisterAndMoveDevices => "register_and_move_devices",
            Self::RemoteAccess => "remote_access",
            Self::RunRemoteCommands => "run_remote_commands",
            Self::WatchSessions => "watch_sessions",
        }
    }

    /// The permission of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|permission| permission.as_str() == name)
    }
}

/// Roles that every account has from the start. An administrator needs none.
pub const BUILT_IN_ROLES: [(&str, &[Permission]); 2] = [
    ("viewer", &[]),
    (
        "operator",
        &[Permission::Deploy, Permission::ModifyDevices, Permission::RemoteAccess, Permission::RunRemoteCommands],
    ),
];

/// What a role gives: some of it at any time, some only under an access grant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleRights {
    /// At any time, in the order of [`Permission::ALL`].
    pub permissions: Vec<Permission>,
    /// Under an access grant only, in the same order. Nothing stands in both.
    pub needs_grant: Vec<Permission>,
}

impl From<&[Permission]> for RoleRights {
    fn from(permissions: &[Permission]) -> Self {
        Self { permissions: permissions.to_vec(), needs_grant: Vec::new() }
    }
}

impl RoleRights {
    /// A permission that is both given and held back.
    pub fn contradiction(&self) -> Option<Permission> {
        self.needs_grant.iter().copied().find(|permission| self.permissions.contains(permission))
    }
}

/// Whether every account has a role of that name, which nobody can change.
pub fn is_built_in(role: &str) -> bool {
    BUILT_IN_ROLES.iter().any(|(name, _)| *name == role)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_round_trip() {
        for permission in Permission::ALL {
            assert_eq!(Permission::from_name(permission.as_str()), Some(permission));
        }
    }
}

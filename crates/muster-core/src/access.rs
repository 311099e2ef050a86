//! Who may do what: the documented permissions, the roles made of them, and the
//! table of every operation.

mod permission;

pub use permission::{BUILT_IN_ROLES, Permission, RoleRights, is_built_in};

/// What a caller must bear for an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// Nothing.
    None,
    /// An account token in the body (API v1).
    UserToken,
    /// An access token in the `Authorization` header (API v2).
    AccessToken,
    /// The name and the password of a user, in the body.
    Password,
    /// A signature made with an access key (the Tag Service).
    AccessKey,
    /// A pairing token.
    PairingToken,
    /// A device token in the body (the Agent API), and nothing else.
    DeviceToken,
    /// The private key of a device.
    DeviceKey,
    /// A grant that came with an instruction to a device.
    Grant,
}

/// What a caller must be allowed, in the fleet that is acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// The credential alone.
    Credential,
    /// Any role in the fleet.
    View,
    /// A role with this permission.
    Fleet(Permission),
    /// A role with one of these permissions.
    Either(Permission, Permission),
    /// Any user of the account whose token is for all its fleets: what those share.
    Account,
    /// A role with this permission in any fleet of the account.
    AnyFleet(Permission),
    /// An administrator of the account.
    Admin,
    /// Any user of the account, with a role or without.
    User,
    /// The user whom the thing belongs to, or an administrator of the account.
    OwnerOrAdmin,
    /// Any role in the fleet of an artifact repository, or in any fleet for one that all
    /// fleets share; or a signed address for just this.
    SeeArtifacts,
    /// A role with this permission in the fleet of an artifact repository, or in any fleet
    /// for one that all fleets share; or, to store, a signed address for just this.
    Artifacts(Permission),
    /// A role in the fleet that holds back what is asked for.
    HeldBack,
    /// All that an access grant lets go, without needing one; and not to be who asked for it.
    GrantAnswerer,
    /// The user who asked for an access grant, or one who may answer it.
    GrantParty,
}

/// Declares every operation of the server in one table: the router, the access
/// checks, the OpenAPI document and `docs/access.md` are held against it.
macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident, $method:literal $path:literal, $credential:ident, $requirement:expr;)*) => {
        /// Everything that a caller can ask of the server.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Operation {
            $($(#[$doc])* $name,)*
        }

        impl Operation {
            /// Every operation, in the order of the published table.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name, which is its `operationId` and its action in the audit log.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// Its HTTP method.
            pub const fn method(self) -> &'static str {
                match self { $(Self::$name => $method,)* }
            }

            /// Its path.
            pub const fn path(self) -> &'static str {
                match self { $(Self::$name => $path,)* }
            }

            /// Its path without the flag that tells it from others of the same path and method.
            pub fn place(self) -> &'static str {
                self.path().split('?').next().unwrap_or_default()
            }

            /// The operation of that name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|operation| operation.name() == name)
            }

            /// What a caller must bear.
            pub const fn credential(self) -> Credential {
                match self { $(Self::$name => Credential::$credential,)* }
            }

            /// What a caller must be allowed.
            pub const fn requirement(self) -> Requirement {
                match self { $(Self::$name => $requirement,)* }
            }
        }
    };
}

use Permission::{
    Deploy, EditRemoteCommands, ManageGroups, ModifyDevices, RegisterAndMoveDevices, RemoteAccess, RunRemoteCommands,
    WatchSessions,
};
use Requirement::{
    Account, Admin, AnyFleet, Artifacts, Credential as Bearer, Either, Fleet, GrantAnswerer, GrantParty, HeldBack,
    OwnerOrAdmin, SeeArtifacts, User, View,
};

operations! {
    /// Take a tag off every device that a filter matches.
    DeleteDeviceTags, "DELETE" "/v1/device_tags", UserToken, Fleet(ModifyDevices);
    /// Take an app off every device that a filter matches.
    DeleteDeviceApps, "DELETE" "/v1/device_apps", UserToken, Fleet(ModifyDevices);
    /// Details of one or many devices.
    GetDevicesDetails, "GET" "/v1/devices_details", UserToken, View;
    /// Change the details of one device.
    ChangeDevicesDetails, "POST" "/v1/devices_details", UserToken, Fleet(ModifyDevices);
    /// Whether one device is online.
    GetDeviceState, "GET" "/v1/get_device_state", UserToken, View;
    /// Which devices are online.
    GetDevicesState, "GET" "/v1/get_devices_state", UserToken, View;
    /// Hold a device's updates back, or let them through.
    SetUpdateTrigger, "POST" "/v1/set_update_trigger", UserToken, Fleet(ModifyDevices);
    /// Deploy an update flow to every device that a filter matches.
    DeployUpdate, "POST" "/v2/deploy_update", UserToken, Fleet(Deploy);
    /// The same, the older way.
    DeployUpdateV1, "POST" "/v1/deploy_update", UserToken, Fleet(Deploy);
    /// Send values of a device to the data monitor.
    SendAppMonitor, "POST" "/v1/send_app_monitor", UserToken, Fleet(ModifyDevices);
    /// The last values of a device in the data monitor.
    GetAppMonitorDetails, "GET" "/v1/app_monitor_details", UserToken, View;
    /// Send a file of a device, as its log.
    SendLogFile, "POST" "/v1/send_log_file", UserToken, Fleet(ModifyDevices);

    /// Register a device that has no agent.
    RegisterDevice, "POST" "/v1/agent/register_device", UserToken, Fleet(RegisterAndMoveDevices);
    /// How often a device without an agent must report.
    GetProjectParameters, "GET" "/v1/agent/project_parameters", DeviceToken, Bearer;
    /// A device without an agent says how it is.
    SendDeviceStatus, "POST" "/v1/agent/device_status", DeviceToken, Bearer;

    /// A fleet's devices, page by page.
    ListDevices, "GET" "/api/v2/{project_key}/devices", AccessToken, View;
    /// One device.
    GetDevice, "GET" "/api/v2/{project_key}/devices/{device_uuid}", AccessToken, View;
    /// Change one device.
    PatchDevice, "PATCH" "/api/v2/{project_key}/devices/{device_uuid}", AccessToken, Fleet(ModifyDevices);
    /// Move a device into another fleet.
    MoveDevice, "POST" "/api/v2/{project_key}/devices/{device_uuid}/move", AccessToken, Fleet(RegisterAndMoveDevices);
    /// Delete one device.
    DeleteDevice, "DELETE" "/api/v2/{project_key}/devices/{device_uuid}", AccessToken, Fleet(RegisterAndMoveDevices);
    /// Delete every device that a filter matches.
    DeleteDevices, "POST" "/api/v2/{project_key}/devices/delete", AccessToken, Fleet(RegisterAndMoveDevices);
    /// The devices that were deleted from a fleet, page by page.
    ListDeletedDevices, "GET" "/api/v2/{project_key}/deleted-devices", AccessToken, View;
    /// Let a deleted device come back.
    ForgetDeletedDevice, "POST" "/api/v2/{project_key}/deleted-devices/{device_uuid}/forget", AccessToken, Fleet(RegisterAndMoveDevices);
    /// Ask a device for files.
    RequestDeviceLogs, "POST" "/api/v2/{project_key}/devices/{device_uuid}/logs", AccessToken, Fleet(RemoteAccess);
    /// The files that a device has sent: their names and sizes, page by page.
    ListDeviceFiles, "GET" "/api/v2/{project_key}/devices/{device_uuid}/files", AccessToken, View;
    /// A file that a device has sent. Needs `remote_access`: what a log holds is as
    /// sensitive as what a terminal shows.
    GetDeviceFile, "GET" "/api/v2/{project_key}/devices/{device_uuid}/files/{file_name}", AccessToken, Fleet(RemoteAccess);
    /// Delete a file that a device has sent.
    DeleteDeviceFile, "DELETE" "/api/v2/{project_key}/devices/{device_uuid}/files/{file_name}", AccessToken, Fleet(RemoteAccess);
    /// Open a tunnel to a port of a device.
    CreatePortTunnel, "POST" "/api/v2/{project_key}/port_tunnel", AccessToken, Fleet(RemoteAccess);
    /// A fleet's port tunnels.
    ListPortTunnels, "GET" "/api/v2/{project_key}/port_tunnel", AccessToken, Fleet(RemoteAccess);
    /// One port tunnel.
    GetPortTunnel, "GET" "/api/v2/{project_key}/port_tunnel/{port_tunnel_id}", AccessToken, Fleet(RemoteAccess);
    /// End a port tunnel.
    DeletePortTunnel, "DELETE" "/api/v2/{project_key}/port_tunnel/{port_tunnel_id}", AccessToken, Fleet(RemoteAccess);
    /// Save a command.
    CreateRemoteCommand, "POST" "/api/v2/{project_key}/remote_commands", AccessToken, Fleet(EditRemoteCommands);
    /// A fleet's saved commands, page by page.
    ListRemoteCommands, "GET" "/api/v2/{project_key}/remote_commands", AccessToken, View;
    /// One saved command.
    GetRemoteCommand, "GET" "/api/v2/{project_key}/remote_commands/{command_name}", AccessToken, View;
    /// Change a saved command.
    PatchRemoteCommand, "PATCH" "/api/v2/{project_key}/remote_commands/{command_name}", AccessToken, Fleet(EditRemoteCommands);
    /// Delete a saved command.
    DeleteRemoteCommand, "DELETE" "/api/v2/{project_key}/remote_commands/{command_name}", AccessToken, Fleet(EditRemoteCommands);
    /// Run a saved command, or a script, on every device that a filter matches. A script
    /// needs `edit_remote_commands` as well, and so does another user or time limit than
    /// the saved ones.
    CreateCommandRun, "POST" "/api/v2/{project_key}/command_runs", AccessToken, Fleet(RunRemoteCommands);
    /// A fleet's runs of commands, page by page.
    ListCommandRuns, "GET" "/api/v2/{project_key}/command_runs", AccessToken, Fleet(RunRemoteCommands);
    /// One run of a command: how many of its devices stand how.
    GetCommandRun, "GET" "/api/v2/{project_key}/command_runs/{run_id}", AccessToken, Fleet(RunRemoteCommands);
    /// The devices of a run, with how each ended, page by page.
    ListCommandRunDevices, "GET" "/api/v2/{project_key}/command_runs/{run_id}/devices", AccessToken, Fleet(RunRemoteCommands);
    /// What a command has put out on one device.
    GetCommandOutput, "GET" "/api/v2/{project_key}/command_runs/{run_id}/devices/{device_uuid}/output", AccessToken, Fleet(RunRemoteCommands);
    /// Abort a run of a command on every device that has not ended.
    AbortCommandRun, "POST" "/api/v2/{project_key}/command_runs/{run_id}/abort", AccessToken, Fleet(RunRemoteCommands);
    /// Ask for an access grant: for what one's role holds back.
    RequestAccess, "POST" "/api/v2/{project_key}/access_grants", AccessToken, HeldBack;
    /// The access grants that the caller asked for or may answer, page by page.
    ListAccessGrants, "GET" "/api/v2/{project_key}/access_grants", AccessToken, View;
    /// One access grant.
    GetAccessGrant, "GET" "/api/v2/{project_key}/access_grants/{access_grant_id}", AccessToken, GrantParty;
    /// Approve an access grant that another user asked for.
    ApproveAccess, "POST" "/api/v2/{project_key}/access_grants/{access_grant_id}/approve", AccessToken, GrantAnswerer;
    /// Refuse an access grant that another user asked for.
    DenyAccess, "POST" "/api/v2/{project_key}/access_grants/{access_grant_id}/deny", AccessToken, GrantAnswerer;
    /// Take an access grant back, or what one has asked for.
    RevokeAccess, "POST" "/api/v2/{project_key}/access_grants/{access_grant_id}/revoke", AccessToken, GrantParty;
    /// Bytes to and from a port of a device, over the caller's own connection.
    OpenDeviceStream, "GET" "/api/v2/{project_key}/devices/{device_uuid}/stream", AccessToken, Fleet(RemoteAccess);
    /// A terminal on a device.
    OpenTerminal, "GET" "/api/v2/{project_key}/devices/{device_uuid}/terminal", AccessToken, Fleet(RemoteAccess);
    /// What lies at a path of a device.
    GetDevicePath, "GET" "/api/v2/{project_key}/devices/{device_uuid}/file_system", AccessToken, Fleet(RemoteAccess);
    /// Delete a file, a link or an empty folder of a device.
    DeleteDevicePath, "DELETE" "/api/v2/{project_key}/devices/{device_uuid}/file_system", AccessToken, Fleet(RemoteAccess);
    /// Make a folder on a device.
    CreateDeviceFolder, "POST" "/api/v2/{project_key}/devices/{device_uuid}/file_system/folder", AccessToken, Fleet(RemoteAccess);
    /// The bytes of a file of a device.
    ReadDeviceFile, "GET" "/api/v2/{project_key}/devices/{device_uuid}/file_system/content", AccessToken, Fleet(RemoteAccess);
    /// The size and the tag of a file of a device.
    HeadDeviceFile, "HEAD" "/api/v2/{project_key}/devices/{device_uuid}/file_system/content", AccessToken, Fleet(RemoteAccess);
    /// Write a file on a device.
    WriteDeviceFile, "PUT" "/api/v2/{project_key}/devices/{device_uuid}/file_system/content", AccessToken, Fleet(RemoteAccess);
    /// A folder of a device as an archive.
    GetDeviceArchive, "GET" "/api/v2/{project_key}/devices/{device_uuid}/file_system/archive", AccessToken, Fleet(RemoteAccess);
    /// Which files of a fleet's devices people may reach.
    GetFileRules, "GET" "/api/v2/{project_key}/file_rules", AccessToken, View;
    /// Change which files of a fleet's devices people may reach.
    ReplaceFileRules, "PUT" "/api/v2/{project_key}/file_rules", AccessToken, Admin;
    /// A fleet's remote sessions, page by page.
    ListRemoteSessions, "GET" "/api/v2/{project_key}/remote_sessions", AccessToken, Either(RemoteAccess, WatchSessions);
    /// One remote session.
    GetRemoteSession, "GET" "/api/v2/{project_key}/remote_sessions/{session_id}", AccessToken, Either(RemoteAccess, WatchSessions);
    /// End a remote session, whoever opened it.
    EndRemoteSession, "DELETE" "/api/v2/{project_key}/remote_sessions/{session_id}", AccessToken, Fleet(RemoteAccess);
    /// The recording of a terminal. Needs a permission of its own: whatever was shown is in it.
    GetSessionRecording, "GET" "/api/v2/{project_key}/remote_sessions/{session_id}/recording", AccessToken, Fleet(WatchSessions);
    /// What a terminal shows, from its begin on and while it does.
    WatchSession, "GET" "/api/v2/{project_key}/remote_sessions/{session_id}/watch", AccessToken, Fleet(WatchSessions);
    /// Send values of a device to the data monitor.
    SendMonitor, "POST" "/api/v2/{project_key}/monitor/{device_uuid}", AccessToken, Fleet(ModifyDevices);
    /// The names of a fleet's values in the data monitor, page by page.
    ListAppParameters, "GET" "/api/v2/{project_key}/app-parameters", AccessToken, View;
    /// Make a name for values in the data monitor.
    CreateAppParameter, "POST" "/api/v2/{project_key}/app-parameters", AccessToken, Fleet(ModifyDevices);
    /// Delete a name of the data monitor with all its values.
    DeleteAppParameter, "DELETE" "/api/v2/{project_key}/app-parameters/{name}", AccessToken, Fleet(ModifyDevices);
    /// Create update flows from a YAML document.
    CreateUpdateFlows, "POST" "/api/v2/{project_key}/update-flows", AccessToken, Fleet(Deploy);
    /// A fleet's update flows, page by page.
    ListUpdateFlows, "GET" "/api/v2/{project_key}/update-flows", AccessToken, View;
    /// The YAML document of an update flow.
    GetUpdateFlow, "GET" "/api/v2/{project_key}/update-flows/{update_flow_uuid}", AccessToken, View;
    /// Deploy an update flow to every device that a filter matches.
    CreateDeployment, "POST" "/api/v2/{project_key}/deployments", AccessToken, Fleet(Deploy);
    /// What a deployment would do, before it is made.
    PreviewDeployment, "POST" "/api/v2/{project_key}/deployments/preview", AccessToken, View;
    /// The devices of a preview, with what would become of each.
    PreviewDeploymentDevices, "POST" "/api/v2/{project_key}/deployments/preview/devices", AccessToken, View;
    /// A fleet's deployments, page by page.
    ListDeployments, "GET" "/api/v2/{project_key}/deployments", AccessToken, View;
    /// One deployment.
    GetDeployment, "GET" "/api/v2/{project_key}/deployments/{deployment_uuid}", AccessToken, View;
    /// Where each device of a deployment stands.
    ListDeploymentDevices, "GET" "/api/v2/{project_key}/deployments/{deployment_uuid}/devices", AccessToken, View;
    /// Where one device of a deployment stands, with its steps.
    GetDeploymentDevice, "GET" "/api/v2/{project_key}/deployments/{deployment_uuid}/devices/{device_uuid}", AccessToken, View;
    /// Abort a deployment.
    AbortDeployment, "POST" "/api/v2/{project_key}/deployments/{deployment_uuid}/abort", AccessToken, Fleet(Deploy);
    /// Pause a deployment: no further device begins.
    PauseDeployment, "POST" "/api/v2/{project_key}/deployments/{deployment_uuid}/pause", AccessToken, Fleet(Deploy);
    /// Let a paused deployment go on.
    ResumeDeployment, "POST" "/api/v2/{project_key}/deployments/{deployment_uuid}/resume", AccessToken, Fleet(Deploy);
    /// Try a deployment again on the devices on which it failed.
    RetryFailedDeployment, "POST" "/api/v2/{project_key}/deployments/{deployment_uuid}/retry_failed", AccessToken, Fleet(Deploy);
    /// Abort a deployment on one device.
    AbortDeploymentDevice, "POST" "/api/v2/{project_key}/deployments/{deployment_uuid}/devices/{device_uuid}/abort", AccessToken, Fleet(Deploy);

    /// The fleets that the caller sees, page by page.
    ListFleets, "GET" "/api/v2/account/fleets", AccessToken, Account;
    /// Create a fleet with its first groups.
    CreateFleet, "POST" "/api/v2/account/fleets", AccessToken, Admin;
    /// One fleet.
    GetFleet, "GET" "/api/v2/account/fleets/{project_key}", AccessToken, View;
    /// Change the name or the heartbeat of a fleet.
    PatchFleet, "PATCH" "/api/v2/account/fleets/{project_key}", AccessToken, Admin;
    /// Delete a fleet, and its devices where that is asked for.
    DeleteFleet, "DELETE" "/api/v2/account/fleets/{project_key}", AccessToken, Admin;
    /// A fleet's groups, page by page.
    ListGroups, "GET" "/api/v2/{project_key}/groups", AccessToken, View;
    /// Create a group in a fleet.
    CreateGroup, "POST" "/api/v2/{project_key}/groups", AccessToken, Fleet(ManageGroups);
    /// One group.
    GetGroup, "GET" "/api/v2/{project_key}/groups/{group_name}", AccessToken, View;
    /// Rename a group.
    PatchGroup, "PATCH" "/api/v2/{project_key}/groups/{group_name}", AccessToken, Fleet(ManageGroups);
    /// Delete a group. What is done to its devices needs, beside this, what it needs by
    /// itself: to move them `modify_devices`, to delete them `register_and_move_devices`.
    DeleteGroup, "DELETE" "/api/v2/{project_key}/groups/{group_name}", AccessToken, Fleet(ManageGroups);
    /// Create an app in the account.
    CreateApp, "POST" "/api/v2/{project_key}/apps", AccessToken, Fleet(ModifyDevices);
    /// The account's apps, page by page.
    ListApps, "GET" "/api/v2/account/apps", AccessToken, Account;
    /// Create an app in the account, without naming a fleet.
    CreateAccountApp, "POST" "/api/v2/account/apps", AccessToken, AnyFleet(ModifyDevices);
    /// One app.
    GetApp, "GET" "/api/v2/account/apps/{app_name}", AccessToken, Account;
    /// Rename an app.
    PatchApp, "PATCH" "/api/v2/account/apps/{app_name}", AccessToken, Admin;
    /// Delete an app from the catalogue, and from devices where that is asked for.
    DeleteApp, "DELETE" "/api/v2/account/apps/{app_name}", AccessToken, Admin;
    /// The known versions of an app, page by page.
    ListAppVersions, "GET" "/api/v2/account/apps/{app_name}/versions", AccessToken, Account;
    /// Make a version of an app known.
    CreateAppVersion, "POST" "/api/v2/account/apps/{app_name}/versions", AccessToken, AnyFleet(ModifyDevices);
    /// Delete a version of an app from the catalogue, and from devices where that is asked for.
    DeleteAppVersion, "DELETE" "/api/v2/account/apps/{app_name}/versions/{version}", AccessToken, Admin;
    /// The account's tags, page by page.
    ListTags, "GET" "/api/v2/account/tags", AccessToken, Account;
    /// Create a tag in the account.
    CreateTag, "POST" "/api/v2/account/tags", AccessToken, AnyFleet(ModifyDevices);
    /// One tag.
    GetTag, "GET" "/api/v2/account/tags/{tag_name}", AccessToken, Account;
    /// Rename a tag; devices keep it.
    PatchTag, "PATCH" "/api/v2/account/tags/{tag_name}", AccessToken, Admin;
    /// Delete a tag from the catalogue and from everything in the account that bears it.
    DeleteTag, "DELETE" "/api/v2/account/tags/{tag_name}", AccessToken, Admin;
    /// Let everything that bears a tag bear another one, and delete the first.
    MergeTag, "POST" "/api/v2/account/tags/{tag_name}/merge", AccessToken, Admin;
    /// How many devices and other resources tags would leave if they were deleted.
    PreviewTagDeletion, "POST" "/api/v2/account/tag-deletions/preview", AccessToken, Admin;
    /// A fleet's saved device filters, page by page.
    ListFilters, "GET" "/api/v2/{project_key}/filters", AccessToken, View;
    /// Save a device filter. Needs `deploy`: a saved filter says where updates go, so
    /// whoever may not send them may not change it under those who do.
    CreateFilter, "POST" "/api/v2/{project_key}/filters", AccessToken, Fleet(Deploy);
    /// What a device filter matches, and what a deployment to it would do.
    DryRunFilter, "POST" "/api/v2/{project_key}/filters/dry-run", AccessToken, View;
    /// One saved device filter.
    GetFilter, "GET" "/api/v2/{project_key}/filters/{filter_name}", AccessToken, View;
    /// Replace a saved device filter.
    ReplaceFilter, "PUT" "/api/v2/{project_key}/filters/{filter_name}", AccessToken, Fleet(Deploy);
    /// Delete a saved device filter.
    DeleteFilter, "DELETE" "/api/v2/{project_key}/filters/{filter_name}", AccessToken, Fleet(Deploy);

    /// A fleet's pairing tokens, page by page.
    ListPairingTokens, "GET" "/api/v2/{project_key}/pairing-tokens", AccessToken, Fleet(RegisterAndMoveDevices);
    /// Make a pairing token for a fleet.
    CreatePairingToken, "POST" "/api/v2/{project_key}/pairing-tokens", AccessToken, Fleet(RegisterAndMoveDevices);
    /// One pairing token of a fleet.
    GetPairingToken, "GET" "/api/v2/{project_key}/pairing-tokens/{token_id}", AccessToken, Fleet(RegisterAndMoveDevices);
    /// Revoke a pairing token.
    RevokePairingToken, "DELETE" "/api/v2/{project_key}/pairing-tokens/{token_id}", AccessToken, Fleet(RegisterAndMoveDevices);
    /// Make a successor of a pairing token; both work until the rotation ends.
    RotatePairingToken, "POST" "/api/v2/{project_key}/pairing-tokens/{token_id}/rotate", AccessToken, Fleet(RegisterAndMoveDevices);
    /// End a rotation: the old pairing token is revoked.
    CompletePairingTokenRotation, "POST" "/api/v2/{project_key}/pairing-tokens/{token_id}/complete-rotation", AccessToken, Fleet(RegisterAndMoveDevices);
    /// Take a rotation back: the new pairing token is revoked.
    AbortPairingTokenRotation, "POST" "/api/v2/{project_key}/pairing-tokens/{token_id}/abort-rotation", AccessToken, Fleet(RegisterAndMoveDevices);

    /// Exchange a password for an access token.
    LogIn, "POST" "/api/v2/account/login", Password, Bearer;
    /// Revoke the token that is borne.
    LogOut, "POST" "/api/v2/account/logout", AccessToken, User;
    /// Who bears the token, and what they may do.
    GetMe, "GET" "/api/v2/account/me", AccessToken, User;
    /// Change one's own password.
    ChangePassword, "PUT" "/api/v2/account/password", AccessToken, User;
    /// One's own access tokens, or all of the account's for an administrator.
    ListTokens, "GET" "/api/v2/account/tokens", AccessToken, User;
    /// Make an access token for oneself, or as an administrator for anybody.
    CreateToken, "POST" "/api/v2/account/tokens", AccessToken, User;
    /// One access token.
    GetToken, "GET" "/api/v2/account/tokens/{token_id}", AccessToken, OwnerOrAdmin;
    /// Revoke an access token.
    RevokeToken, "DELETE" "/api/v2/account/tokens/{token_id}", AccessToken, OwnerOrAdmin;
    /// One's own access keys, or all of the account's for an administrator.
    ListAccessKeys, "GET" "/api/v2/account/access_keys", AccessToken, User;
    /// Make an access key for oneself, or as an administrator for anybody.
    CreateAccessKey, "POST" "/api/v2/account/access_keys", AccessToken, User;
    /// One access key, without its secret.
    GetAccessKey, "GET" "/api/v2/account/access_keys/{access_key_id}", AccessToken, OwnerOrAdmin;
    /// Revoke an access key.
    RevokeAccessKey, "DELETE" "/api/v2/account/access_keys/{access_key_id}", AccessToken, OwnerOrAdmin;
    /// The account's users, page by page.
    ListUsers, "GET" "/api/v2/account/users", AccessToken, Admin;
    /// Make a user.
    CreateUser, "POST" "/api/v2/account/users", AccessToken, Admin;
    /// One user.
    GetUser, "GET" "/api/v2/account/users/{name}", AccessToken, Admin;
    /// Change a user: password, roles, administrator or not.
    PatchUser, "PATCH" "/api/v2/account/users/{name}", AccessToken, Admin;
    /// Delete a user; their tokens end at once.
    DeleteUser, "DELETE" "/api/v2/account/users/{name}", AccessToken, Admin;
    /// The account's roles, page by page.
    ListRoles, "GET" "/api/v2/account/roles", AccessToken, User;
    /// Make a role.
    CreateRole, "POST" "/api/v2/account/roles", AccessToken, Admin;
    /// One role.
    GetRole, "GET" "/api/v2/account/roles/{name}", AccessToken, User;
    /// Change what a role permits.
    PatchRole, "PATCH" "/api/v2/account/roles/{name}", AccessToken, Admin;
    /// Delete a role that nobody has.
    DeleteRole, "DELETE" "/api/v2/account/roles/{name}", AccessToken, Admin;
    /// The account's registries, page by page.
    ListRegistries, "GET" "/api/v2/account/registries", AccessToken, Admin;
    /// Store where updates come from, with the secret for it.
    CreateRegistry, "POST" "/api/v2/account/registries", AccessToken, Admin;
    /// One registry, without its secret.
    GetRegistry, "GET" "/api/v2/account/registries/{name}", AccessToken, Admin;
    /// Change a registry.
    PatchRegistry, "PATCH" "/api/v2/account/registries/{name}", AccessToken, Admin;
    /// Delete a registry with its secret.
    DeleteRegistry, "DELETE" "/api/v2/account/registries/{name}", AccessToken, Admin;
    /// The account's audit log, page by page.
    ListAuditLog, "GET" "/api/v2/account/audit-log", AccessToken, Admin;
    /// The whole audit log, or what a filter leaves of it, as one file.
    ExportAuditLog, "GET" "/api/v2/account/audit-log/export", AccessToken, Admin;

    /// Create tags; those that exist are skipped.
    TagServiceCreate, "PUT" "/v1/tag?create", AccessKey, AnyFleet(ModifyDevices);
    /// Delete tags, and take them off everything; those that do not exist are skipped.
    TagServiceDelete, "PUT" "/v1/tag?delete", AccessKey, Admin;
    /// Take every tag off one resource.
    TagServiceUntag, "PUT" "/v1/tag?deleteTagAssociation", AccessKey, AnyFleet(ModifyDevices);
    /// Replace all tags of resources.
    TagServiceAssign, "POST" "/v1/tag?createAndAssign", AccessKey, AnyFleet(ModifyDevices);
    /// The tags of the account.
    TagServiceList, "GET" "/v1/tag", AccessKey, Account;
    /// The resources under tags.
    TagServiceListResources, "GET" "/v1/tag/tagResources", AccessKey, Account;
    /// Tags with their resources, and resources with their tags.
    TagServiceQuery, "POST" "/v1/tag/queryFullList", AccessKey, Account;
    /// Put a tag on resources.
    TagServiceBind, "POST" "/v1/resource", AccessKey, AnyFleet(ModifyDevices);
    /// Take a tag off resources.
    TagServiceUnbind, "PUT" "/v1/resource", AccessKey, AnyFleet(ModifyDevices);

    /// The artifact repositories that the caller sees, page by page.
    ListRepositories, "GET" "/api/v2/account/repositories", AccessToken, Account;
    /// Make an artifact repository, for a fleet or for all.
    CreateRepository, "POST" "/api/v2/account/repositories", AccessToken, Admin;
    /// One artifact repository.
    GetRepository, "GET" "/api/v2/account/repositories/{name}", AccessToken, SeeArtifacts;
    /// Delete an artifact repository, and its artifacts where that is asked for.
    DeleteRepository, "DELETE" "/api/v2/account/repositories/{name}", AccessToken, Admin;

    /// An artifact, or a part of it.
    GetArtifact, "GET" "/artifactory/{repository}/{path}", AccessToken, SeeArtifacts;
    /// What an artifact is, without its content.
    HeadArtifact, "HEAD" "/artifactory/{repository}/{path}", AccessToken, SeeArtifacts;
    /// Store an artifact, in the place of an earlier one.
    StoreArtifact, "PUT" "/artifactory/{repository}/{path}", AccessToken, Artifacts(Deploy);
    /// Delete an artifact, or a folder with all that lies in it.
    DeleteArtifact, "DELETE" "/artifactory/{repository}/{path}", AccessToken, Artifacts(Deploy);
    /// What is known of a repository: what lies in it.
    GetRepositoryInfo, "GET" "/artifactory/api/storage/{repository}", AccessToken, SeeArtifacts;
    /// What is known of an artifact or a folder.
    GetArtifactInfo, "GET" "/artifactory/api/storage/{repository}/{path}", AccessToken, SeeArtifacts;
    /// Whether the artifact repositories can be used.
    PingArtifactory, "GET" "/artifactory/api/system/ping", None, Bearer;

    /// Enrol a device with a pairing token.
    EnrollDevice, "POST" "/link/v1/enroll", PairingToken, Bearer;
    /// The control link of a device.
    OpenControlLink, "GET" "/link/v1/control", DeviceKey, Bearer;
    /// What a device needs of a registry of the account, fetched for it.
    FetchFromRegistry, "GET" "/link/v1/registries/{registry}/{path}", Grant, Bearer;
    /// What a device needs of a Git server of the account, fetched for it.
    CloneFromRegistry, "POST" "/link/v1/registries/{registry}/{path}", Grant, Bearer;
    /// A carrier of streams of a device, for connections through its port tunnels.
    OpenStream, "GET" "/link/v1/stream", DeviceKey, Bearer;

    /// Whether the server can serve.
    GetHealth, "GET" "/healthz", None, Bearer;
    /// The OpenAPI document.
    GetOpenapi, "GET" "/api/openapi.json", None, Bearer;
    /// The JSON Schema of flow documents.
    GetFlowSchema, "GET" "/api/flow.schema.json", None, Bearer;
    /// The way to the reference page.
    GetDocs, "GET" "/api/docs", None, Bearer;
    /// The reference page and its files.
    GetDocsFile, "GET" "/api/docs/{file}", None, Bearer;
}

impl Operation {
    /// Whether it acts on devices and nothing else, and asks of each of them whether it may:
    /// such an operation can be done under an access grant for some devices. Every other
    /// needs a grant for the whole fleet.
    pub const fn checks_its_device(self) -> bool {
        matches!(
            self,
            Self::PatchDevice
                | Self::DeleteDevice
                | Self::SendMonitor
                | Self::RequestDeviceLogs
                | Self::GetDeviceFile
                | Self::DeleteDeviceFile
                | Self::CreatePortTunnel
                | Self::ListPortTunnels
                | Self::GetPortTunnel
                | Self::DeletePortTunnel
                | Self::OpenDeviceStream
                | Self::OpenTerminal
                | Self::GetDevicePath
                | Self::DeleteDevicePath
                | Self::CreateDeviceFolder
                | Self::ReadDeviceFile
                | Self::HeadDeviceFile
                | Self::WriteDeviceFile
                | Self::GetDeviceArchive
                | Self::ListRemoteSessions
                | Self::GetRemoteSession
                | Self::EndRemoteSession
                | Self::GetSessionRecording
                | Self::WatchSession
                | Self::CreateCommandRun
                | Self::ListCommandRuns
                | Self::GetCommandRun
                | Self::ListCommandRunDevices
                | Self::GetCommandOutput
                | Self::AbortCommandRun
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_and_places_are_unique() {
        let names: HashSet<_> = Operation::ALL.iter().map(|op| op.name()).collect();
        let places: HashSet<_> = Operation::ALL.iter().map(|op| (op.method(), op.path())).collect();
        assert_eq!((names.len(), places.len()), (Operation::ALL.len(), Operation::ALL.len()));
    }
}

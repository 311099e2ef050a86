//! Every bound, named with its unit. What an operator may change stands in the
//! server's configuration, which takes its defaults from here.

use std::time::Duration;

/// Longest name of a device, group, tag, app, flow, fleet or user.
pub const NAME_CHARS_MAX: usize = 255;
/// Longest project key.
pub const PROJECT_KEY_CHARS_MAX: usize = 32;
/// Longest description, comment or postal address.
pub const TEXT_CHARS_MAX: usize = 4_096;
/// Longest version of an app or an agent.
pub const VERSION_CHARS_MAX: usize = 128;

/// Largest request body.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Most groups, and most filters, in one device filter.
pub const FILTER_ITEMS_MAX: usize = 100;
/// Most operations in one PATCH, and most tags or apps in one operation.
pub const PATCH_ITEMS_MAX: usize = 1_000;
/// Most tags and apps in all operations of one PATCH together: each is a statement or
/// two of one transaction, for which every other writer of a SQLite database waits.
pub const PATCH_ITEMS_TOTAL_MAX: usize = 2_000;
/// How many of the matching devices a dry run of a device filter shows.
pub const DRY_RUN_SAMPLE: u64 = 20;

/// How many of the devices that share a reason the preview of a deployment shows.
pub const PREVIEW_SAMPLE: u64 = 10;

/// Page of API v1 when the caller names none.
pub const V1_PAGE_DEFAULT: u64 = 20;
/// Largest page of API v1.
pub const V1_PAGE_MAX: u64 = 50;
/// Page of API v2 when the caller names none.
pub const V2_PAGE_DEFAULT: u64 = 100;
/// Largest page of API v2.
pub const V2_PAGE_MAX: u64 = 1_000;
/// Most tags that v2's device list shows for one device.
pub const LISTED_TAGS_MAX: usize = 100;
/// How many of a device's newest updates the APIs show.
pub const SHOWN_UPDATES_MAX: u64 = 5;

/// Most flows in one document.
pub const FLOWS_MAX: usize = 50;
/// Most steps in one flow.
pub const FLOW_STEPS_MAX: usize = 100;
/// Most inputs of one document.
pub const FLOW_INPUTS_MAX: usize = 100;
/// Longest value given for an input.
pub const INPUT_VALUE_CHARS_MAX: usize = 32_768;

/// Kept of each output stream of a step; what lies between head and tail is left out.
pub const STEP_OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// How long a step may run unless its flow says otherwise.
pub const STEP_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60 * 60);
/// The longest time limit that a flow may ask for.
pub const STEP_TIMEOUT_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How long a new agent has to reach the server unless its flow says otherwise, and at most: in minutes.
pub const AGENT_HEALTH_MINUTES_DEFAULT: u32 = 5;
/// The longest that a flow may ask for.
pub const AGENT_HEALTH_MINUTES_MAX: u32 = 60;
/// How many times a new agent is started that does not reach the server.
pub const AGENT_TRIAL_STARTS_MAX: u32 = 3;
/// Most reasons for which a device says that it is degraded.
pub const DEGRADED_REASONS_MAX: usize = 20;
/// Longest of these, in characters.
pub const DEGRADED_REASON_CHARS_MAX: usize = 500;
/// From the signal that ends a step's processes to the one that they cannot ignore.
pub const STEP_KILL_GRACE: Duration = Duration::from_secs(5);

/// How long a device may stay pending in a deployment.
pub const PENDING_DEADLINE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Added to the sum of a flow's step limits: starting, reporting, reconnecting.
pub const RUN_DEADLINE_SLACK: Duration = Duration::from_secs(60 * 60);
/// How long a device may take to confirm an abort.
pub const ABORT_DEADLINE: Duration = Duration::from_secs(60 * 60);

/// Most waves that a rollout may name.
pub const ROLLOUT_WAVES_MAX: usize = 20;
/// Most devices that a wave or a budget of a rollout may count.
pub const ROLLOUT_DEVICES_MAX: u64 = 10_000_000;
/// Most minutes that a rollout may wait for anything: a year.
pub const ROLLOUT_MINUTES_MAX: u64 = 365 * 24 * 60;

/// Most update windows of a fleet.
pub const UPDATE_WINDOWS_MAX: usize = 20;
/// The longest update window: a week.
pub const UPDATE_WINDOW_MINUTES_MAX: u64 = 7 * 24 * 60;
/// How often a deployment that follows its filter looks for devices that came later.
pub const FOLLOW_PERIOD: Duration = Duration::from_secs(60);
/// How soon a device is asked again that said not now.
pub const ASK_AGAIN_AFTER: Duration = Duration::from_secs(5 * 60);
/// The shortest deadline that a fleet, a flow or a deployment may set.
pub const DEADLINE_MIN: Duration = Duration::from_secs(60);
/// The longest.
pub const DEADLINE_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Time between two keepalives of a device, unless its fleet says otherwise.
pub const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(25);
/// The shortest time between two keepalives that a fleet may ask for.
pub const HEARTBEAT_MIN: Duration = Duration::from_secs(5);
/// The longest time between two keepalives that a fleet may ask for.
pub const HEARTBEAT_MAX: Duration = Duration::from_secs(60 * 60);
/// A device is offline when this many heartbeats have been missed.
pub const HEARTBEATS_MISSED_MAX: u32 = 3;

/// Largest message on the control link, in either direction.
pub const LINK_MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// How long either side waits for the other's part of the handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// Network addresses, and MAC addresses, that a device may report.
pub const ADDRESSES_MAX: usize = 32;

/// Shortest password that a person may choose.
pub const PASSWORD_CHARS_MIN: usize = 12;
/// Longest password: hashing takes time for every character.
pub const PASSWORD_CHARS_MAX: usize = 1_024;
/// How long a login lasts unless it asks for something else.
pub const LOGIN_DEFAULT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The longest login.
pub const LOGIN_MAX: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// The longest life of a token that ends by itself: ten years.
pub const TOKEN_LIFE_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);
/// Passwords that one server hashes at once; each takes 19 MiB and one processor.
pub const PASSWORDS_AT_ONCE_MAX: usize = 2;
/// Most fleets that the scope of a token may name.
pub const SCOPE_FLEETS_MAX: usize = 100;
/// Most roles that one user may have, over all fleets.
pub const USER_ROLES_MAX: usize = 1_000;
/// Most devices that one pairing token may be limited to.
pub const PAIRING_USES_MAX: u32 = 10_000_000;
/// Longest address of a registry.
pub const URL_CHARS_MAX: usize = 2_048;
/// Longest secret of a registry.
pub const REGISTRY_SECRET_BYTES_MAX: usize = 16 * 1024;
/// Capabilities that an agent may announce.
pub const CAPABILITIES_MAX: usize = 32;
/// Most values in one call to the data monitor.
pub const MONITOR_VALUES_MAX: usize = 100;
/// Values of the data monitor that are kept of each parameter of a device, and that one call shows.
pub const MONITOR_RECORDS_MAX: u64 = 100;
/// How long a device may take to open a port tunnel.
pub const TUNNEL_ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a port tunnel lasts, unless the configuration says otherwise.
pub const TUNNEL_LIFETIME_DEFAULT: Duration = Duration::from_secs(2 * 60 * 60);
/// The longest that a port tunnel may last.
pub const TUNNEL_LIFETIME_MAX: Duration = Duration::from_secs(12 * 60 * 60);
/// How long nothing may move in a connection through a port tunnel, unless the configuration says otherwise.
pub const STREAM_IDLE_DEFAULT: Duration = Duration::from_secs(60 * 60);
/// The same, once one of its sides has ended.
pub const STREAM_HALF_CLOSED_IDLE: Duration = Duration::from_secs(5 * 60);
/// Terminals at once on a device.
pub const TERMINALS_MAX: usize = 16;
/// The most columns, and the most rows, of a terminal.
pub const TERMINAL_CHARS_MAX: u16 = 1_000;
/// How long nobody may type in a terminal, unless the configuration says otherwise.
pub const TERMINAL_IDLE_DEFAULT: Duration = Duration::from_secs(30 * 60);
/// How long what runs in a terminal has to end by itself when the terminal ends.
pub const TERMINAL_KILL_GRACE: Duration = Duration::from_millis(300);
/// Bytes of a recording, after which it says that it ends and the terminal goes on.
pub const RECORDING_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How long sessions and port tunnels are kept that are over, unless the configuration says otherwise.
pub const SESSIONS_KEPT_DEFAULT: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// Days that recordings are kept, unless the configuration says otherwise.
pub const RECORDING_DAYS_DEFAULT: u64 = 90;
/// Who may watch terminals of one server at once.
pub const WATCHERS_MAX: usize = 256;
/// How long a watcher may take nothing before it is dropped.
pub const WATCHER_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections at once through one port tunnel, unless the configuration says otherwise.
pub const TUNNEL_CONNECTIONS_DEFAULT: usize = 1_000;
/// Connections at once through all port tunnels of one server, unless the configuration says otherwise.
pub const SERVER_CONNECTIONS_DEFAULT: usize = 10_000;
/// Carriers of streams that one agent holds at once.
pub const CARRIERS_MAX: usize = 4_096;
/// Carriers that a device is asked to dial with one message.
pub const CARRIERS_AT_ONCE_MAX: usize = 32;
/// Carriers that wait for a connection, of each device with an open port tunnel.
pub const READY_CARRIERS_MIN: usize = 2;
/// Carriers that are kept, after the connections that they were dialled for.
pub const READY_CARRIERS_MAX: usize = 64;
/// How long a carrier waits for a connection.
pub const READY_CARRIER_IDLE: Duration = Duration::from_secs(50);
/// How long a device may take to dial a carrier, and a caller's connection waits for one.
pub const CARRIER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long an agent may take to reach the target of a connection.
pub const STREAM_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The newest port tunnels of a fleet, which its list shows.
pub const LISTED_TUNNELS_MAX: u64 = 1_000;
/// Longest name of a file that a device sends.
pub const FILE_NAME_CHARS_MAX: usize = 255;
/// Largest file that a device may send.
pub const DEVICE_FILE_BYTES_MAX: usize = 20 * 1024 * 1024;
/// Files that are kept of a device; the oldest give way.
pub const DEVICE_FILES_MAX: u64 = 30;
/// Largest part of a form that stands beside a file.
pub const FORM_PART_BYTES_MAX: usize = 16 * 1024;
/// Largest form: a file of twice its limit and what stands around it. What is too much of
/// it is read and thrown away, since a client that is still sending would otherwise see
/// its connection break, and not the answer.
pub const FORM_BYTES_MAX: usize = 2 * DEVICE_FILE_BYTES_MAX + 64 * 1024;
/// How long a form may take to arrive.
pub const FORM_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Tags of an account beyond which the Tag Service makes no more, unless the configuration
/// says otherwise. Connect's API knows no such limit.
pub const ACCOUNT_TAGS_DEFAULT: u32 = 200;
/// Longest key, and longest value, of a tag that the Tag Service makes.
pub const TAG_HALF_CHARS_MAX: usize = 65;
/// Most tags in one call of the Tag Service, and of one resource in it.
pub const TAGS_AT_ONCE_MAX: usize = 1_000;
/// Most resources in one call that changes their tags.
pub const RESOURCES_AT_ONCE_MAX: usize = 1_000;
/// Most tags of all resources together in one call: each is a row of one transaction.
pub const ASSIGNED_TAGS_MAX: usize = 10_000;
/// Most resource ids, regions or service types in one query of the Tag Service.
pub const QUERIED_RESOURCES_MAX: usize = 200;
/// Rows that a list of the Tag Service reads at once; it has no pages, and is sent as it is read.
pub const STREAMED_ROWS: u64 = 1_000;

/// Longest name of an artifact repository.
pub const REPOSITORY_NAME_CHARS_MAX: usize = 64;
/// Most artifact repositories of one account.
pub const REPOSITORIES_MAX: u64 = 1_000;
/// Longest path of an artifact in its repository.
pub const ARTIFACT_PATH_CHARS_MAX: usize = 1_024;
/// Most folders that an artifact may lie in, one within the other.
pub const ARTIFACT_FOLDERS_MAX: usize = 32;
/// Largest artifact, unless the configuration says otherwise.
pub const ARTIFACT_BYTES_MAX: u64 = 10 * 1024 * 1024 * 1024;
/// What uploads of artifacts leave free on the server's disk, unless the configuration says otherwise.
pub const ARTIFACT_FREE_BYTES_MIN: u64 = 1024 * 1024 * 1024;
/// How long an artifact may take to arrive.
pub const ARTIFACT_UPLOAD_TIMEOUT: Duration = Duration::from_secs(6 * 60 * 60);
/// Uploads of artifacts that one server takes at once; each holds a few parts of its file in memory.
pub const ARTIFACT_UPLOADS_MAX: usize = 32;
/// Files, and folders, that the information about a folder of artifacts shows.
pub const LISTED_ARTIFACTS_MAX: u64 = 10_000;
/// How long what no artifact has any more stays in the storage: a device that was sent for it may fetch it still.
pub const BLOB_GRACE: Duration = Duration::from_secs(48 * 60 * 60);
/// How long a device may use what it was given to fetch an artifact.
pub const ARTIFACT_GRANT_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a device may take to send the files that it was asked for; it need not be online when it is asked.
pub const FILE_REQUEST_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// Most requests for files that one device has not answered yet.
pub const FILE_REQUESTS_MAX: u64 = 16;
/// Most bytes that a device sends for one request.
pub const UPLOAD_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// Most files and folders that a device sends for one request.
pub const UPLOAD_ENTRIES_MAX: u64 = 100_000;
/// Most folders, one within the other, that a device looks into for one request.
pub const UPLOAD_DEPTH_MAX: usize = 64;
/// Largest request that a device sends to a Git server through this one.
pub const REGISTRY_REQUEST_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What one server fetches of registries for devices at once; others wait.
pub const REGISTRY_FETCHES_MAX: usize = 128;
/// How long a registry may take to begin its answer, and to go on with it.
pub const REGISTRY_SILENCE_MAX: Duration = Duration::from_secs(60);
/// How often a registry may lead elsewhere.
pub const REGISTRY_REDIRECTS_MAX: usize = 5;
/// How long the address works under which files of a device can be fetched.
pub const DOWNLOAD_GRANT_LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Most rules about the files of one fleet's devices.
pub const FILE_RULES_MAX: usize = 100;
/// Longest pattern of such a rule.
pub const FILE_PATTERN_BYTES_MAX: usize = 512;
/// Longest path of a file on a device.
pub const DEVICE_PATH_BYTES_MAX: usize = 4_095;
/// Largest file that is written on a device with one call.
pub const DEVICE_WRITE_BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;
/// What a file that is written on a device leaves free on its disk.
pub const DEVICE_FREE_BYTES_MIN: u64 = 1024 * 1024;
/// Longest message that server and device say to each other about files.
pub const FILE_MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a device may take for the SHA-256 of a file; less than it may be silent.
pub const FILE_DIGEST_TIME_MAX: Duration = Duration::from_secs(45);
/// How long a device, or a caller, may be silent while a file of a device is moved.
pub const FILE_SILENCE_MAX: Duration = Duration::from_secs(60);

/// Longest script of a remote command.
pub const SCRIPT_BYTES_MAX: usize = 64 * 1024;
/// Longest name of a user of a device.
pub const DEVICE_USER_CHARS_MAX: usize = 32;
/// Kept of the output of a remote command on one device; what lies between head and tail is left out.
pub const COMMAND_OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// Characters of the head, and of the tail, of the output that a list shows for each device.
pub const SHOWN_OUTPUT_CHARS_MAX: usize = 1_024;
/// How long a remote command may run unless it says otherwise.
pub const COMMAND_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// The longest time limit that a remote command may have.
pub const COMMAND_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a device may take to begin a remote command, unless its run says otherwise.
pub const COMMAND_EXPIRY_DEFAULT: Duration = Duration::from_secs(60 * 60);
/// The longest that a run of a remote command may wait for a device.
pub const COMMAND_EXPIRY_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How long after that a device that was told may still say that it has begun.
pub const COMMAND_START_GRACE: Duration = Duration::from_secs(2 * 60);
/// How long after its time limit a device may still say how a remote command ended.
pub const COMMAND_RUN_SLACK: Duration = Duration::from_secs(60 * 60);
/// How long a device may take to confirm the abort of a remote command.
pub const COMMAND_ABORT_DEADLINE: Duration = Duration::from_secs(10 * 60);
/// Remote commands that run at once on one device; others wait.
pub const COMMANDS_AT_ONCE_MAX: usize = 4;
/// Remote commands that may wait on one device; it refuses others.
pub const WAITING_COMMANDS_MAX: usize = 256;
/// How often at most a device says what a remote command has put out.
pub const COMMAND_OUTPUT_PERIOD: Duration = Duration::from_secs(1);
/// Most bytes of output that it says at a time, and those are the last ones.
pub const COMMAND_CHUNK_BYTES_MAX: usize = 8 * 1024;
/// Most saved commands of a fleet.
pub const SAVED_COMMANDS_MAX: u64 = 1_000;
/// Characters of a script that the audit log shows; of a longer one it has the SHA-256 as well.
pub const AUDITED_SCRIPT_CHARS_MAX: usize = 1_024;
/// How long runs of remote commands are kept, unless the configuration says otherwise.
pub const COMMAND_RUNS_KEPT_DEFAULT: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// How long an access grant holds at most, unless the fleet says otherwise.
pub const ACCESS_GRANT_LIFE_DEFAULT: Duration = Duration::from_secs(8 * 60 * 60);
/// The longest that a fleet may allow.
pub const ACCESS_GRANT_LIFE_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The shortest that can be asked for, or that a fleet may allow at most.
pub const ACCESS_GRANT_LIFE_MIN: Duration = Duration::from_secs(5);
/// How long a request for an access grant waits for an answer.
pub const ACCESS_GRANT_ANSWER_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);
/// Most devices that one access grant names.
pub const ACCESS_GRANT_DEVICES_MAX: usize = 100;
/// Most requests of one user in one fleet that wait for an answer.
pub const ACCESS_GRANTS_PENDING_MAX: u64 = 20;

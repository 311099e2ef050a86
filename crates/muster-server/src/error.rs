//! Why an operation was not done. The faces turn it into their own status codes
//! and bodies; nothing here knows HTTP.

use std::time::Duration;

use muster_core::access::Permission;
use muster_core::invalid::{Invalid, quoted};
use muster_core::tag_rules::TagFault;
use muster_store::{AsStoreError, StoreError};

/// What an operation answers.
pub type Result<T, E = OpError> = std::result::Result<T, E>;

/// Why an operation was not done. Nothing was changed, whichever it is.
#[derive(Debug, thiserror::Error)]
pub enum OpError {
    /// A field of the request is wrong.
    #[error("{0}")]
    Invalid(#[from] Invalid),
    /// The caller bears no good credential.
    #[error("{0}")]
    Unauthenticated(String),
    /// The caller may see what it asked for, but not do this to it.
    #[error("this needs the permission {} in the fleet", .0.as_str())]
    Forbidden(Permission),
    /// The caller holds that permission in no fleet, and one would do.
    #[error("this needs the permission {} in a fleet of the account", .0.as_str())]
    ForbiddenAnywhere(Permission),
    /// The caller's role holds that permission back until there is an access grant.
    #[error("{}", grant_needed(*permission, project_key, *gap))]
    GrantNeeded {
        /// The permission.
        permission: Permission,
        /// The fleet in which to ask for it.
        project_key: String,
        /// What is missing.
        gap: GrantGap,
    },
    /// Only an administrator of the account may do this.
    #[error("only an administrator of the account may do this")]
    NotAdmin,
    /// The caller may not do this, for the reason given.
    #[error("{0}")]
    Refused(&'static str),
    /// There is no such thing, or the caller may not see it.
    #[error("no {what} {name} was found")]
    NotFound {
        /// `device`, `deployment`, …
        what: &'static str,
        /// As the caller named it, in quotes.
        name: String,
    },
    /// There is no such thing yet, or never will be; the reason.
    #[error("{0}")]
    NotYet(String),
    /// What is to be stored has no room; whose limit it is.
    #[error("{0}")]
    NoRoom(String),
    /// A registry refused what this server asked of it, or what was asked is nothing that a
    /// registry is asked; trying again is of no use.
    #[error("{0}")]
    RegistryRefused(String),
    /// A registry cannot be reached, or does not do its part; trying again may help.
    #[error("{0}")]
    RegistryFailed(String),
    /// The name is taken.
    #[error("{0}")]
    Conflict(Invalid),
    /// What is asked for stands in the way of itself at the moment; the code says how.
    #[error("{problem}")]
    NotNow {
        /// A stable word for programs; listed in `docs/api.md`.
        code: &'static str,
        /// What stands in the way.
        problem: Invalid,
    },
    /// Other things need what would be deleted.
    #[error("{0}")]
    InUse(String),
    /// The device that asks was deleted.
    #[error("the device was deleted from its project; stop registering and reporting")]
    Deleted,
    /// The device that asks knows the parameters of its project as they were once.
    #[error("the project's parameters have changed; fetch them again")]
    ParametersChanged,
    /// Something in the request is too large.
    #[error("{field}: is larger than {bytes_max} bytes")]
    TooLarge {
        /// Where it stood.
        field: &'static str,
        /// The limit.
        bytes_max: usize,
    },
    /// A tag is missing that this call does not make.
    #[error("a tag is missing, and its key or value breaks the rules for a new one")]
    TagRule(TagFault),
    /// The account would have more tags than it may.
    #[error("an account has at most {tags_max} tags")]
    TagQuota {
        /// How many it may have.
        tags_max: u32,
    },
    /// Too many calls.
    #[error("too many calls; try again in {} s", whole_seconds(*.0))]
    RateLimited(Duration),
    /// The database cannot be reached at the moment.
    #[error("the server cannot reach its database; try again")]
    Unavailable,
    /// The database went away while the change was made.
    #[error("the database did not say whether it made the change; look before you try again")]
    Unconfirmed,
    /// A fault of the server.
    #[error("internal error")]
    Internal(String),
}

/// Why what was let go for a user is not enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantGap {
    /// Nothing was.
    Everything,
    /// Some devices were, and it is not for one of those, or for the fleet as a whole.
    Elsewhere,
    /// Some devices were, and so many others are meant as well.
    Devices(u64),
}

fn grant_needed(permission: Permission, project_key: &str, gap: GrantGap) -> String {
    let permission = permission.as_str();
    let why = match gap {
        GrantGap::Everything => "your role has it only under an access grant".to_owned(),
        GrantGap::Elsewhere => {
            "your access grant is for some devices only, and not for all that this would act on".to_owned()
        }
        GrantGap::Devices(1) => "your access grant is not for one of the devices that this would act on".to_owned(),
        GrantGap::Devices(number) => {
            format!("your access grant is not for {number} of the devices that this would act on")
        }
    };
    format!(
        "this needs the permission {permission} in the fleet, and {why}; ask for one with \
         POST /api/v2/{project_key}/access_grants or `muster access request`"
    )
}

/// The seconds after which a wait is over: rounded up, so that whoever waits them has waited enough.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

impl OpError {
    /// The name is taken.
    pub fn taken(field: &str, what: &str, name: &str) -> Self {
        Self::Conflict(Invalid::new(field, format!("{what} {} exists already", quoted(name))))
    }

    /// There is no such thing, or the caller may not see it.
    pub fn not_found(what: &'static str, name: &str) -> Self {
        Self::NotFound { what, name: quoted(name) }
    }
}

/// Keeps a store error whole until [`muster_store::Store::write`] has decided
/// whether to repeat the work.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The store's.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operation's own.
    #[error(transparent)]
    Op(#[from] OpError),
}

impl WorkError {
    /// A row that this transaction has just written is not there.
    pub(crate) fn lost(table: &'static str) -> Self {
        StoreError::Corrupt { table, problem: "what has just been written is missing".to_owned() }.into()
    }
}

impl AsStoreError for WorkError {
    fn as_store_error(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            Self::Op(_) => None,
        }
    }
}

impl From<Invalid> for WorkError {
    fn from(invalid: Invalid) -> Self {
        Self::Op(invalid.into())
    }
}

impl From<WorkError> for OpError {
    fn from(error: WorkError) -> Self {
        match error {
            WorkError::Store(error) => error.into(),
            WorkError::Op(error) => error,
        }
    }
}

impl From<StoreError> for OpError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Invalid(invalid) => Self::Invalid(invalid),
            error if error.is_unavailable() => {
                tracing::warn!(%error, "the database cannot be reached");
                Self::Unavailable
            }
            StoreError::Unconfirmed(error) => {
                tracing::warn!(%error, "the database went away during a commit");
                Self::Unconfirmed
            }
            error => Self::Internal(error.to_string()),
        }
    }
}

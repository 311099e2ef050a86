//! Access grants: what a role holds back is let go by another user, for a while.
//!
//! A role gives some permissions at any time, and holds others back. Whoever has such a
//! role asks for an access grant; another user approves it. It ends by itself.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::access::Permission;
use crate::clock::Timestamp;
use crate::ids::RowId;

/// How an access grant stands. The numbers are those in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub enum GrantStatus {
    /// Somebody asked for it.
    Pending = 0,
    /// Another user approved it, and it holds.
    Approved = 1,
    /// It held until its time was over.
    Expired = 2,
    /// A person took it back: who approved it, or who had asked for it.
    Revoked = 3,
    /// Another user refused it.
    Denied = 4,
    /// Nobody answered in time.
    Lapsed = 5,
}

impl GrantStatus {
    /// Every status, in the order of its number.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Approved, Self::Expired, Self::Revoked, Self::Denied, Self::Lapsed];

    /// The number in the database.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// The status with that number in the database.
    pub fn from_code(code: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.code() == code)
    }

    /// The word of API v2.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Denied => "denied",
            Self::Lapsed => "lapsed",
        }
    }

    /// The status of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.word() == word)
    }

    /// Nothing changes it any more.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Approved)
    }

    /// What becomes of it when its time is over.
    pub const fn when_overdue(self) -> Self {
        match self {
            Self::Pending => Self::Lapsed,
            Self::Approved => Self::Expired,
            other => other,
        }
    }
}

/// Where an access grant stands, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantState {
    /// The user who asked for it.
    pub asker: RowId,
    /// How it stands.
    pub status: GrantStatus,
    /// When it stops to stand so by itself, while it is not final.
    pub ends_at: Timestamp,
}

/// What is done to an access grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantEvent {
    /// It is to hold from now on, for so long.
    Approve(Duration),
    /// It is refused.
    Deny,
    /// It is taken back.
    Revoke,
}

/// Who does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantActor {
    /// The user.
    pub user: RowId,
    /// Whether they have all that it lets go, without needing a grant themselves.
    pub may_answer: bool,
}

/// Why nothing was done to an access grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantRefusal {
    /// Nobody answers what they asked for themselves.
    OwnRequest,
    /// Nobody answers for what they do not have.
    NotTheirs,
    /// It stands so, and that cannot be done to it any more.
    Stands(GrantStatus),
}

impl GrantState {
    /// What time alone has made of it.
    #[must_use]
    pub fn at(self, now: Timestamp) -> Self {
        if self.ends_at > now { self } else { Self { status: self.status.when_overdue(), ..self } }
    }

    /// Whether it lets anything go.
    pub fn holds(self, now: Timestamp) -> bool {
        self.at(now).status == GrantStatus::Approved
    }

    /// What becomes of it when `actor` does that to it.
    pub fn apply(self, event: GrantEvent, actor: GrantActor, now: Timestamp) -> Result<Self, GrantRefusal> {
        let state = self.at(now);
        let is_asker = actor.user == self.asker;
        match event {
            _ if !is_asker && !actor.may_answer => Err(GrantRefusal::NotTheirs),
            GrantEvent::Approve(_) | GrantEvent::Deny if is_asker => Err(GrantRefusal::OwnRequest),
            GrantEvent::Approve(duration) if state.status == GrantStatus::Pending => {
                Ok(Self { status: GrantStatus::Approved, ends_at: now.after(duration), ..state })
            }
            GrantEvent::Deny if state.status == GrantStatus::Pending => {
                Ok(Self { status: GrantStatus::Denied, ..state })
            }
            GrantEvent::Revoke if !state.status.is_final() => Ok(Self { status: GrantStatus::Revoked, ..state }),
            _ => Err(GrantRefusal::Stands(state.status)),
        }
    }
}

/// Which devices of a fleet a permission is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All of them, and what belongs to the fleet as a whole.
    Fleet,
    /// These, and nothing else.
    Devices(BTreeSet<RowId>),
}

impl Reach {
    /// Whether it is for that device.
    pub fn has(&self, device_id: RowId) -> bool {
        match self {
            Self::Fleet => true,
            Self::Devices(devices) => devices.contains(&device_id),
        }
    }

    /// What one of the two is for.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Devices(mut devices), Self::Devices(more)) => {
                devices.extend(more);
                Self::Devices(devices)
            }
            _ => Self::Fleet,
        }
    }
}

/// What a user misses for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// A role with the permission.
    Permission,
    /// An access grant for a permission that their role holds back.
    Grant,
}

/// What a user may do in a fleet: by their roles, and by what was let go for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// What roles give at any time.
    pub free: BTreeSet<Permission>,
    /// What roles hold back.
    pub held_back: BTreeSet<Permission>,
    /// What access grants let go that hold now.
    pub let_go: Vec<(Permission, Reach)>,
}

impl Held {
    /// What an administrator may do.
    pub fn everything() -> Self {
        Self { free: Permission::ALL.into(), ..Self::default() }
    }

    /// What is left of it within the scope of a token.
    #[must_use]
    pub fn within(mut self, allows: impl Fn(Permission) -> bool) -> Self {
        self.free.retain(|permission| allows(*permission));
        self.held_back.retain(|permission| allows(*permission));
        self
    }

    /// What of the fleet the user may do that to. A grant lets go what a role holds back,
    /// and nothing else: it ends with the role.
    pub fn reach_of(&self, needed: Permission) -> Result<Reach, Missing> {
        if self.free.contains(&needed) {
            return Ok(Reach::Fleet);
        }
        if !self.held_back.contains(&needed) {
            return Err(Missing::Permission);
        }
        let let_go = self.let_go.iter().filter(|(permission, _)| *permission == needed);
        let_go.map(|(_, reach)| reach.clone()).reduce(Reach::and).ok_or(Missing::Grant)
    }

    /// Whether the user may answer whoever asks for these: nobody gives what they do not
    /// have themselves, and without needing a grant.
    pub fn may_answer(&self, permissions: &[Permission]) -> bool {
        permissions.iter().all(|permission| self.free.contains(permission))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event() -> impl Strategy<Value = GrantEvent> {
        prop_oneof![
            (1_u64..100).prop_map(|seconds| GrantEvent::Approve(Duration::from_secs(seconds))),
            Just(GrantEvent::Deny),
            Just(GrantEvent::Revoke),
        ]
    }

    fn permissions() -> impl Strategy<Value = BTreeSet<Permission>> {
        proptest::sample::subsequence(Permission::ALL.to_vec(), 0..=7).prop_map(|held| held.into_iter().collect())
    }

    fn reach() -> impl Strategy<Value = Reach> {
        prop_oneof![Just(Reach::Fleet), proptest::collection::btree_set(1_i64..5, 0..4).prop_map(Reach::Devices)]
    }

    fn held() -> impl Strategy<Value = Held> {
        let let_go = proptest::collection::vec((proptest::sample::select(Permission::ALL.to_vec()), reach()), 0..5);
        (permissions(), permissions(), let_go).prop_map(|(free, held_back, let_go)| Held { free, held_back, let_go })
    }

    proptest! {
        /// Users 0 and 1, of whom 0 asks, do anything at any moment: it holds only since an
        /// approval by 1, and only for as long as that said.
        #[test]
        fn holds_only_by_another_user_and_only_for_its_time(
            steps in proptest::collection::vec((event(), 0_i64..2, any::<bool>(), 0_i64..40_000), 0..20),
        ) {
            let mut now = Timestamp::from_millis(1_000_000);
            let mut state =
                GrantState { asker: 0, status: GrantStatus::Pending, ends_at: now.after(Duration::from_secs(60)) };
            let mut approved_until = None;
            for (event, user, may_answer, passed_ms) in steps {
                now = Timestamp::from_millis(now.as_millis() + passed_ms);
                let before = state.at(now);
                match state.apply(event, GrantActor { user, may_answer }, now) {
                    Ok(after) => {
                        prop_assert!(!before.status.is_final(), "what is over stays over");
                        prop_assert!(may_answer || user == 0, "done by one who may not");
                        if let GrantEvent::Approve(duration) = event {
                            prop_assert!(user == 1 && may_answer, "approved by whoever asked");
                            prop_assert_eq!(before.status, GrantStatus::Pending);
                            approved_until = Some(now.after(duration));
                        } else {
                            approved_until = None;
                        }
                        state = after;
                    }
                    Err(_) => prop_assert_eq!(state.at(now), before),
                }
                prop_assert_eq!(state.holds(now), approved_until.is_some_and(|until| until > now));
                if let Some(until) = approved_until {
                    prop_assert!(!state.holds(until), "it ends at its end");
                }
            }
        }

        #[test]
        fn what_no_role_has_no_grant_gives(held in held(), needed in proptest::sample::select(Permission::ALL.to_vec())) {
            let granted: Vec<_> = held.let_go.iter().filter(|(permission, _)| *permission == needed).collect();
            match held.reach_of(needed) {
                Ok(reach) if held.free.contains(&needed) => prop_assert_eq!(reach, Reach::Fleet),
                Ok(reach) => {
                    prop_assert!(held.held_back.contains(&needed) && !granted.is_empty());
                    for device in 0..6 {
                        let is_granted = granted.iter().any(|(_, reach)| reach.has(device));
                        prop_assert_eq!(reach.has(device), is_granted, "device {}", device);
                    }
                }
                Err(Missing::Grant) => prop_assert!(held.held_back.contains(&needed) && granted.is_empty()),
                Err(Missing::Permission) => {
                    prop_assert!(!held.free.contains(&needed) && !held.held_back.contains(&needed));
                }
            }
        }

        #[test]
        fn whoever_needs_a_grant_answers_none(held in held(), needed in proptest::sample::select(Permission::ALL.to_vec())) {
            prop_assert_eq!(held.may_answer(&[needed]), held.free.contains(&needed));
        }

        #[test]
        fn a_scope_only_takes_away(held in held(), scope in permissions()) {
            let within = held.clone().within(|permission| scope.contains(&permission));
            for permission in Permission::ALL {
                if scope.contains(&permission) {
                    prop_assert_eq!(within.reach_of(permission), held.reach_of(permission));
                } else {
                    prop_assert_eq!(within.reach_of(permission), Err(Missing::Permission));
                }
            }
        }
    }

    #[test]
    fn statuses_round_trip() {
        for status in GrantStatus::ALL {
            assert_eq!(GrantStatus::from_code(status.code()), Some(status));
            assert_eq!(GrantStatus::from_word(status.word()), Some(status));
            assert_eq!(status.when_overdue() == status, status.is_final());
        }
    }
}

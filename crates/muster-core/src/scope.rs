//! The scope of a token: the most that it may do, of what its user may.

use std::collections::BTreeSet;

use crate::access::Permission;
use crate::ids::RowId;

/// What a token may do at most. Its user's own rights bound it as well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Only in these fleets, by their rows; `None` for all of them.
    pub fleets: Option<BTreeSet<RowId>>,
    /// Only with these permissions; `None` for all of them.
    pub permissions: Option<BTreeSet<Permission>>,
}

impl Scope {
    /// Whether it bounds nothing. Only then does an administrator's token act as one.
    pub fn is_everything(&self) -> bool {
        self.fleets.is_none() && self.permissions.is_none()
    }

    /// Whether it reaches into that fleet.
    pub fn allows_fleet(&self, fleet_id: RowId) -> bool {
        self.fleets.as_ref().is_none_or(|fleets| fleets.contains(&fleet_id))
    }

    /// Whether it has that permission.
    pub fn allows(&self, permission: Permission) -> bool {
        self.permissions.as_ref().is_none_or(|permissions| permissions.contains(&permission))
    }

    /// Whether it reaches nowhere that `outer` does not.
    pub fn is_within(&self, outer: &Self) -> bool {
        is_within(self.fleets.as_ref(), outer.fleets.as_ref())
            && is_within(self.permissions.as_ref(), outer.permissions.as_ref())
    }
}

fn is_within<T: Ord>(inner: Option<&BTreeSet<T>>, outer: Option<&BTreeSet<T>>) -> bool {
    match (inner, outer) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(inner), Some(outer)) => inner.is_subset(outer),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scope() -> impl Strategy<Value = Scope> {
        let fleets = proptest::option::of(proptest::collection::btree_set(1..4_i64, 0..3));
        let permissions = proptest::option::of(proptest::sample::subsequence(Permission::ALL.to_vec(), 0..8));
        (fleets, permissions)
            .prop_map(|(fleets, held)| Scope { fleets, permissions: held.map(|held| held.into_iter().collect()) })
    }

    proptest! {
        #[test]
        fn what_lies_within_never_allows_more(inner in scope(), outer in scope()) {
            prop_assert!(inner.is_within(&inner) && inner.is_within(&Scope::default()));
            if inner.is_within(&outer) {
                for fleet in 0..6 {
                    prop_assert!(!inner.allows_fleet(fleet) || outer.allows_fleet(fleet));
                }
                for permission in Permission::ALL {
                    prop_assert!(!inner.allows(permission) || outer.allows(permission));
                }
                prop_assert!(!inner.is_everything() || outer.is_everything());
            }
        }
    }
}

//! Which of the devices that could start do so, where those that share a tag must not
//! all be at it at once. The store says the same in one statement, which must agree.

use std::collections::HashMap;

use crate::ids::RowId;

/// A device that could start now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The device's row.
    pub device_id: RowId,
    /// Its tags of the key that the budget is for.
    pub tag_ids: Vec<RowId>,
}

/// The devices that start: of `candidates`, in their order, at most `at_most`, and so
/// many of each tag that no more than `each_tag_max` of its devices are at it.
///
/// A device with a tag of which enough are at it steps aside first, so that it keeps
/// no other from its place; the rest have a place each among the devices of each of
/// their tags. The first of them is always let through. `in_progress` counts the devices of
/// each tag that any deployment of the fleet is at.
pub fn choose(
    candidates: &[Candidate],
    in_progress: &HashMap<RowId, u64>,
    each_tag_max: u64,
    at_most: u64,
) -> Vec<RowId> {
    let mut places: HashMap<RowId, u64> = in_progress.clone();
    let is_full = |tag: &RowId| in_progress.get(tag).is_some_and(|count| *count >= each_tag_max);
    let mut chosen = Vec::new();
    for candidate in candidates.iter().filter(|candidate| !candidate.tag_ids.iter().any(is_full)) {
        let mut fits = true;
        for tag in &candidate.tag_ids {
            let place = places.entry(*tag).or_default();
            *place += 1;
            fits &= *place <= each_tag_max;
        }
        if fits {
            chosen.push(candidate.device_id);
        }
    }
    chosen.truncate(usize::try_from(at_most).unwrap_or(usize::MAX));
    chosen
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(device_id: RowId, tag_ids: &[RowId]) -> Candidate {
        Candidate { device_id, tag_ids: tag_ids.to_vec() }
    }

    #[test]
    fn leaves_enough_of_each_site() {
        let candidates = [candidate(1, &[7]), candidate(2, &[7]), candidate(3, &[8]), candidate(4, &[])];
        assert_eq!(choose(&candidates, &HashMap::new(), 1, 9), [1, 3, 4]);
        assert_eq!(choose(&candidates, &HashMap::from([(7, 1)]), 1, 9), [3, 4]);
        assert_eq!(choose(&candidates, &HashMap::new(), 2, 2), [1, 2]);
    }

    #[test]
    fn one_that_steps_aside_keeps_no_other_from_its_place() {
        let candidates = [candidate(1, &[7, 8]), candidate(2, &[8])];
        assert_eq!(choose(&candidates, &HashMap::from([(7, 1)]), 1, 9), [2]);
    }

    proptest! {
        #[test]
        fn never_above_the_budget_and_never_nobody_without_need(
            tags in proptest::collection::vec(proptest::collection::btree_set(0i64..5, 0..3), 1..30),
            at_it in proptest::collection::hash_map(0i64..5, 0u64..4, 0..5),
            each_max in 1u64..4,
            at_most in 1u64..10,
        ) {
            let candidates: Vec<Candidate> = (0..).zip(&tags)
                .map(|(id, tags)| candidate(id, &tags.iter().copied().collect::<Vec<_>>())).collect();
            let chosen = choose(&candidates, &at_it, each_max, at_most);
            prop_assert_eq!(&chosen, &choose(&candidates, &at_it, each_max, at_most));
            prop_assert!(chosen.len() as u64 <= at_most);
            let of = |id: RowId| &candidates[usize::try_from(id).unwrap()].tag_ids;
            for tag in 0..5 {
                let new = chosen.iter().filter(|id| of(**id).contains(&tag)).count() as u64;
                let before = at_it.get(&tag).copied().unwrap_or(0);
                prop_assert!(new == 0 || before + new <= each_max);
            }
            let free = |candidate: &&Candidate| {
                candidate.tag_ids.iter().all(|tag| at_it.get(tag).copied().unwrap_or(0) < each_max)
            };
            prop_assert_eq!(chosen.is_empty(), candidates.iter().find(free).is_none());
        }
    }
}

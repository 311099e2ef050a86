//! What the book tells the server, and what it keeps.

use super::*;
use crate::run::book::{Book, SETTLED_RUNS_KEPT, UNSTORED_RUNS_KEPT, WAITING_RUNS_MAX};
use crate::run::effect::{Effect, Input};
use crate::run::entry::Entry;

fn reported(effects: &[Effect]) -> Vec<i64> {
    let seq = |effect: &Effect| if let Effect::Report { seq, .. } = effect { Some(*seq) } else { None };
    effects.iter().filter_map(seq).collect()
}

fn over(book: &mut Book, attempt: u32, index: u32) -> Vec<Effect> {
    book.handle(Input::StepOver { run: run_id(attempt), index, outcome: Some(Box::new(exited(0))) }, NOW)
}

fn one_step(attempt: u32) -> Input {
    Input::Instructed(Box::new(instruction(attempt, &json!([step("a")]), None)))
}

/// A book in which run 1 is over, and of its three reports the first is stored.
fn one_over() -> Book {
    let mut book = Book::default();
    book.handle(Input::LinkUp, NOW);
    assert_eq!(reported(&book.handle(one_step(1), NOW)), [1]);
    assert_eq!(reported(&over(&mut book, 1, 0)), [2, 3]);
    assert_eq!(reported(&book.handle(Input::Acked(run_id(1), 1), NOW)), [0; 0]);
    book
}

#[test]
fn repeats_from_the_first_that_is_not_stored() {
    let mut book = one_over();
    assert_eq!(reported(&book.handle(Input::LinkDown, NOW)), [0; 0]);
    assert_eq!(reported(&book.handle(Input::LinkUp, NOW)), [2, 3]);
    assert_eq!(reported(&book.handle(one_step(1), NOW)), [1, 2, 3], "the server seems to know nothing");
    book.handle(Input::Acked(run_id(1), 3), NOW);
    assert_eq!(reported(&book.handle(Input::LinkUp, NOW)), [0; 0]);
    assert_eq!(reported(&book.handle(Input::Aborted(run_id(1)), NOW)), [3]);
    assert_eq!(reported(&book.handle(one_step(1), NOW)), [1, 2, 3]);
}

#[test]
fn journals_an_acknowledgement_once_and_no_further_than_it_can_go() {
    let mut book = one_over();
    assert_eq!(book.handle(Input::Acked(run_id(1), 1), NOW), []);
    let entry = Entry::Acked { seq: 99 };
    assert_eq!(book.handle(Input::Acked(run_id(1), 99), NOW), [Effect::Append { run: run_id(1), entry }]);
    assert_eq!(book.find(&run_id(1)).unwrap().acked(), 3);
    assert_eq!(book.handle(Input::Acked(run_id(7), 1), NOW), [], "of a run that nobody knows");
}

#[test]
fn is_never_far_ahead_of_the_server() {
    let mut book = Book::default();
    book.handle(Input::LinkUp, NOW);
    let steps: Vec<Value> = (0..20).map(|i| step(&format!("s{i}"))).collect();
    let mut sent = reported(&book.handle(Input::Instructed(Box::new(instruction(1, &json!(steps), None))), NOW));
    (0..20).for_each(|index| sent.extend(reported(&over(&mut book, 1, index))));
    assert_eq!(sent, (1..=8).collect::<Vec<i64>>());
    for seq in 1..=22 {
        sent.extend(reported(&book.handle(Input::Acked(run_id(1), seq), NOW)));
        assert_eq!(sent.len() as i64, (seq + 8).min(22));
    }
}

#[test]
fn keeps_the_newest_settled_runs() {
    let mut book = Book::default();
    let kept = u32::try_from(SETTLED_RUNS_KEPT).unwrap();
    for attempt in 1..=kept + 3 {
        book.handle(Input::Aborted(run_id(attempt)), NOW);
        let effects = book.handle(Input::Acked(run_id(attempt), 1), NOW);
        let removed = (attempt > kept).then(|| Effect::Remove { run: run_id(attempt - kept) });
        assert_eq!(effects.into_iter().find(|effect| matches!(effect, Effect::Remove { .. })), removed);
    }
    assert!(book.find(&run_id(3)).is_none() && book.find(&run_id(4)).is_some());
}

#[test]
fn takes_no_more_runs_than_may_wait() {
    let mut book = Book::default();
    let most = u32::try_from(WAITING_RUNS_MAX).unwrap();
    for attempt in 1..=most {
        assert!(!book.handle(one_step(attempt), NOW).is_empty());
    }
    assert_eq!(book.handle(one_step(most + 1), NOW), []);
}

fn launches(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Launch { .. }))
}

fn reboots(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Reboot { .. }))
}

/// A book whose run 1 has ended, and wants a reboot.
fn reboot_wanted() -> Book {
    let mut book = Book::default();
    let mut first = instruction(1, &json!([step("a")]), None);
    first.flow.is_reboot_wanted = true;
    book.handle(Input::Instructed(Box::new(first)), NOW);
    assert!(!reboots(&over(&mut book, 1, 0)));
    book
}

#[test]
fn reboots_once_when_the_server_has_everything() {
    let mut book = reboot_wanted();
    let expected = [
        Effect::Append { run: run_id(1), entry: Entry::Acked { seq: 3 } },
        Effect::Append { run: run_id(1), entry: Entry::RebootStarted { at: NOW } },
        Effect::Reboot { run: run_id(1) },
    ];
    assert_eq!(book.handle(Input::Acked(run_id(1), 3), NOW), expected);
    assert_eq!(book.handle(Input::Acked(run_id(1), 3), NOW), []);
}

#[test]
fn nothing_begins_while_a_reboot_is_under_way() {
    let mut book = reboot_wanted();
    let effects = book.handle(one_step(2), NOW);
    assert!(reboots(&effects) && !launches(&effects), "the server asks for the next, so it has done with the first");
    assert!(!launches(&book.handle(Input::LinkUp, NOW)));
    assert!(launches(&book.handle(Input::RebootOver, NOW)), "the reboot did not come, so life goes on");
}

#[test]
fn does_not_keep_what_nobody_acknowledges_for_ever() {
    let mut book = Book::default();
    let kept = u32::try_from(UNSTORED_RUNS_KEPT).unwrap();
    for attempt in 1..=kept + 1 {
        book.handle(Input::Aborted(run_id(attempt)), NOW);
    }
    assert!(book.find(&run_id(1)).is_none() && book.find(&run_id(2)).is_some());
}

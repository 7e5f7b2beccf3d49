//! Every transition of the sync machine, as tables.

use super::{Action, Event, Machine, Verdict};

/// Feeds events and compares the actions they lead to.
fn check(name: &str, script: &[(Event, Action)]) {
    let mut machine = Machine::new();
    for (number, (event, expected)) in script.iter().enumerate() {
        let (action, next) = machine.step(*event);
        assert_eq!(action, *expected, "{name}: step {number} after {event:?} from {machine:?}");
        machine = next;
    }
}

const CHECKPOINT: Event = Event::Checkpoint { id: 7 };
const ACKNOWLEDGE: Action = Action::Acknowledge { id: 7 };

#[test]
fn a_checkpoint_is_sealed_committed_acknowledged_applied_in_that_order() {
    check(
        "checkpoint then end",
        &[
            (CHECKPOINT, Action::Seal),
            (Event::Sealed, Action::Commit),
            (Event::Committed, ACKNOWLEDGE),
            (Event::Acknowledged, Action::Apply),
            (Event::Applied, Action::Pull),
            (Event::Ended, Action::Seal),
            (Event::Sealed, Action::Commit),
            (Event::Committed, Action::Apply),
            (Event::Applied, Action::StopSource),
            (Event::Ended, Action::Collect),
            (Event::Collected, Action::Finish(Verdict::Succeeded)),
            (Event::Cancel, Action::Finish(Verdict::Succeeded)),
        ],
    );
}

#[test]
fn a_failed_connector_keeps_its_checkpoints_and_nothing_after_them() {
    check(
        "failure while extracting",
        &[
            (Event::SourceFailed, Action::Apply),
            (Event::Applied, Action::StopSource),
            (Event::Ended, Action::Collect),
            (Event::Collected, Action::Finish(Verdict::SourceFailed)),
        ],
    );
    check(
        "dies while its checkpoint is acknowledged",
        &[
            (CHECKPOINT, Action::Seal),
            (Event::Sealed, Action::Commit),
            (Event::Committed, ACKNOWLEDGE),
            (Event::SourceFailed, Action::Apply),
            (Event::Applied, Action::StopSource),
        ],
    );
}

#[test]
fn drain_waits_for_the_next_durable_checkpoint() {
    check(
        "drain while extracting",
        &[
            (Event::Drain, Action::Pull),
            (CHECKPOINT, Action::Seal),
            (Event::Sealed, Action::Commit),
            (Event::Committed, Action::Apply),
            (Event::Applied, Action::StopSource),
            (Event::Ended, Action::Collect),
            (Event::Collected, Action::Finish(Verdict::Drained)),
        ],
    );
    check(
        "drain while applying needs no further checkpoint",
        &[
            (CHECKPOINT, Action::Seal),
            (Event::Sealed, Action::Commit),
            (Event::Committed, ACKNOWLEDGE),
            (Event::Acknowledged, Action::Apply),
            (Event::Drain, Action::Apply),
            (Event::Applied, Action::StopSource),
            (Event::Ended, Action::Collect),
            (Event::Collected, Action::Finish(Verdict::Drained)),
        ],
    );
    check(
        "a connector that ends by itself while draining has succeeded",
        &[
            (Event::Drain, Action::Pull),
            (Event::Ended, Action::Seal),
            (Event::Sealed, Action::Commit),
            (Event::Committed, Action::Apply),
            (Event::Applied, Action::StopSource),
            (Event::Ended, Action::Collect),
            (Event::Collected, Action::Finish(Verdict::Succeeded)),
        ],
    );
}

#[test]
fn cancel_drops_the_open_window_but_settles_a_commit_in_flight() {
    check(
        "while extracting",
        &[(Event::Cancel, Action::StopSource), (Event::Ended, Action::Finish(Verdict::Cancelled))],
    );
    check(
        "while sealing",
        &[
            (CHECKPOINT, Action::Seal),
            (Event::Cancel, Action::StopSource),
            (Event::Ended, Action::Finish(Verdict::Cancelled)),
        ],
    );
    check(
        "while committing",
        &[
            (CHECKPOINT, Action::Seal),
            (Event::Sealed, Action::Commit),
            (Event::Cancel, Action::Commit),
            (Event::Committed, Action::Apply),
            (Event::Applied, Action::StopSource),
            (Event::Ended, Action::Finish(Verdict::Cancelled)),
        ],
    );
    check(
        "while applying",
        &[
            (CHECKPOINT, Action::Seal),
            (Event::Sealed, Action::Commit),
            (Event::Committed, ACKNOWLEDGE),
            (Event::Acknowledged, Action::Apply),
            (Event::Cancel, Action::StopSource),
            (Event::SourceFailed, Action::Finish(Verdict::Cancelled)),
        ],
    );
    check(
        "while acknowledging",
        &[
            (CHECKPOINT, Action::Seal),
            (Event::Sealed, Action::Commit),
            (Event::Committed, ACKNOWLEDGE),
            (Event::Cancel, Action::StopSource),
            (Event::Ended, Action::Finish(Verdict::Cancelled)),
        ],
    );
    check(
        "while collecting: the sync had already ended well",
        &[
            (Event::Ended, Action::Seal),
            (Event::Sealed, Action::Commit),
            (Event::Committed, Action::Apply),
            (Event::Applied, Action::StopSource),
            (Event::Ended, Action::Collect),
            (Event::Cancel, Action::Finish(Verdict::Succeeded)),
        ],
    );
    check(
        "cancel outranks drain",
        &[(Event::Drain, Action::Pull), (Event::Cancel, Action::StopSource), (Event::Drain, Action::StopSource)],
    );
}

#[test]
fn a_lost_slot_or_a_failed_step_stops_the_sync_at_once() {
    for (event, verdict) in [(Event::Fenced, Verdict::Fenced), (Event::StepFailed, Verdict::StepFailed)] {
        let steps = [CHECKPOINT, Event::Sealed, Event::Committed, Event::Acknowledged, Event::Applied];
        for passed in 0..=steps.len() {
            let mut machine = Machine::new();
            for step in &steps[..passed] {
                machine = machine.step(*step).1;
            }
            let (action, machine) = machine.step(event);
            assert_eq!(action, Action::StopSource, "{event:?} after {passed} steps");
            assert_eq!(machine.step(Event::Ended).0, Action::Finish(verdict), "{event:?} after {passed} steps");
        }
    }
}

#[test]
fn a_failure_while_collecting_garbage_does_not_undo_a_success() {
    check(
        "collect fails",
        &[
            (Event::Ended, Action::Seal),
            (Event::Sealed, Action::Commit),
            (Event::Committed, Action::Apply),
            (Event::Applied, Action::StopSource),
            (Event::Ended, Action::Collect),
            (Event::StepFailed, Action::Finish(Verdict::Succeeded)),
        ],
    );
}

#[test]
fn no_sequence_of_events_acknowledges_before_a_commit() {
    let events = [
        CHECKPOINT,
        Event::Ended,
        Event::SourceFailed,
        Event::Sealed,
        Event::Committed,
        Event::Acknowledged,
        Event::Applied,
        Event::Collected,
        Event::Fenced,
        Event::StepFailed,
        Event::Drain,
        Event::Cancel,
    ];
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..20_000 {
        let (mut machine, mut asked) = (Machine::new(), Action::Pull);
        for _ in 0..24 {
            let event = events[random.usize(..events.len())];
            let (action, next) = machine.step(event);
            if matches!(action, Action::Acknowledge { .. }) && !matches!(asked, Action::Acknowledge { .. }) {
                assert_eq!((asked, event), (Action::Commit, Event::Committed), "from {machine:?}");
            }
            if matches!(asked, Action::Finish(_)) {
                assert_eq!(action, asked, "a finished sync stays finished");
            }
            (machine, asked) = (next, action);
        }
    }
}

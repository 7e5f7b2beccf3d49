//! Every transition of the lease, as tables.

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp(seconds * 1_000_000)
}

fn holder(agent_id: &str, generation: u64) -> Holder {
    Holder { agent_id: agent_id.to_owned(), generation }
}

fn world(candidate: Option<&str>, holder: Presence) -> World {
    World { candidate: candidate.map(str::to_owned), holder }
}

fn queued(last: Option<Holder>, not_before: i64) -> Lease {
    let floor = last.as_ref().map_or(0, |last| last.generation);
    Lease::Queued { last, floor, since: at(0), not_before: at(not_before) }
}

fn offer(generation: u64, since: i64, sent_at: i64) -> Lease {
    Lease::Offered { holder: holder("a", generation), since: at(since), sent_at: at(sent_at) }
}

fn held_until(generation: u64, expires_at: i64, absent: bool) -> Lease {
    Lease::Held { holder: holder("a", generation), expires_at: at(expires_at), absent }
}

fn lapsed(generation: u64, since: i64) -> Lease {
    Lease::Lapsed { holder: holder("a", generation), since: at(since) }
}

const DAY: i64 = 24 * 60 * 60;

fn b_offered(generation: u64, now: i64) -> Lease {
    Lease::Offered { holder: holder("b", generation), since: at(now), sent_at: at(now) }
}

fn requeued(now: i64) -> Lease {
    Lease::Queued { last: Some(holder("a", 3)), floor: 3, since: at(now), not_before: at(now) }
}

fn lost() -> Action {
    Action::LeaseLost(holder("a", 3))
}

#[test]
fn a_lease_that_is_renewed_lasts_for_three_days() {
    let mut lease = held_until(3, 30, false);
    for now in (10..=3 * DAY).step_by(10) {
        let (actions, ticked) = lease.tick(&world(Some("b"), Presence::Online), at(now));
        assert_eq!(actions, [], "after {now} s");
        let (actions, renewed) = ticked.hear(&holder("a", 3), Event::Alive, at(now));
        assert_eq!(actions, [Action::Grant(holder("a", 3))], "after {now} s");
        lease = renewed;
    }
    assert_eq!(lease, held_until(3, 3 * DAY + 30, false));
}

#[test]
fn time_passes_before_an_offer_is_answered() {
    use Presence::{Gone, Offline, Online};
    for (name, lease, world, now, actions, next) in [
        (
            "first offer",
            queued(None, 0),
            world(Some("a"), Gone),
            1,
            vec![Action::Offer(holder("a", 1))],
            offer(1, 1, 1),
        ),
        ("nobody", queued(None, 0), world(None, Gone), 1, vec![], queued(None, 0)),
        ("not yet", queued(None, 9), world(Some("a"), Gone), 8, vec![], queued(None, 9)),
        (
            "nobody for a day",
            queued(None, 0),
            world(None, Gone),
            DAY,
            vec![Action::Fail(Code::NoEligibleAgent)],
            Lease::Ended,
        ),
        (
            "next generation",
            queued(Some(holder("a", 3)), 0),
            world(Some("b"), Online),
            1,
            vec![lost(), Action::Offer(holder("b", 4))],
            b_offered(4, 1),
        ),
        ("offer waits", offer(3, 0, 0), world(Some("b"), Online), 4, vec![], offer(3, 0, 0)),
        (
            "offer again",
            offer(3, 0, 0),
            world(Some("b"), Online),
            5,
            vec![Action::Offer(holder("a", 3))],
            offer(3, 0, 5),
        ),
        ("offline gets no resend", offer(3, 0, 0), world(None, Offline), 9, vec![], offer(3, 0, 0)),
        (
            "no answer, another",
            offer(3, 0, 25),
            world(Some("b"), Offline),
            30,
            vec![lost(), Action::Offer(holder("b", 4))],
            b_offered(4, 30),
        ),
        ("no answer, nobody else", offer(3, 0, 58), world(None, Online), 60, vec![], offer(3, 0, 58)),
        ("offered to a revoked one", offer(3, 0, 0), world(None, Gone), 1, vec![], requeued(1)),
    ] {
        assert_eq!(lease.tick(&world, at(now)), (actions, next), "{name}");
    }
}

#[test]
fn time_passes_while_an_attempt_is_held() {
    use Presence::{Gone, Offline, Online};
    for (name, lease, world, now, actions, next) in [
        ("held", held_until(3, 30, false), world(Some("b"), Offline), 29, vec![], held_until(3, 30, false)),
        ("expired, kept", held_until(3, 30, false), world(None, Offline), 30, vec![], lapsed(3, 30)),
        (
            "expired, moved",
            held_until(3, 30, false),
            world(Some("b"), Offline),
            30,
            vec![lost(), Action::Offer(holder("b", 4))],
            b_offered(4, 30),
        ),
        ("expired and unknown to its agent", held_until(3, 30, true), world(None, Online), 30, vec![], requeued(30)),
        (
            "unknown to its agent, not expired",
            held_until(3, 30, true),
            world(None, Online),
            29,
            vec![],
            held_until(3, 30, true),
        ),
        ("revoked at once", held_until(3, 30, false), world(None, Gone), 2, vec![], requeued(2)),
        ("kept", lapsed(3, 0), world(None, Offline), 600, vec![], lapsed(3, 0)),
        (
            "kept, then another comes",
            lapsed(3, 0),
            world(Some("b"), Offline),
            600,
            vec![lost(), Action::Offer(holder("b", 4))],
            b_offered(4, 600),
        ),
        (
            "kept a day",
            lapsed(3, 0),
            world(None, Offline),
            DAY,
            vec![lost(), Action::Fail(Code::LeaseLost)],
            Lease::Ended,
        ),
        ("ended", Lease::Ended, world(Some("b"), Online), 1, vec![], Lease::Ended),
    ] {
        assert_eq!(lease.tick(&world, at(now)), (actions, next), "{name}");
    }
}

#[test]
fn agents_speak() {
    let grant = || vec![Action::Grant(holder("a", 3))];
    let stale = |agent, generation| vec![Action::LeaseLost(holder(agent, generation))];
    let wait = Duration::from_secs(60);
    for (name, lease, from, event, actions, next) in [
        ("accepts", offer(3, 0, 0), ("a", 3), Event::Accepted, grant(), held_until(3, 40, false)),
        ("accepts again", held_until(3, 12, false), ("a", 3), Event::Accepted, grant(), held_until(3, 40, false)),
        ("lists what we only offered", offer(3, 0, 0), ("a", 3), Event::Alive, grant(), held_until(3, 40, false)),
        ("renews", held_until(3, 12, true), ("a", 3), Event::Alive, grant(), held_until(3, 40, false)),
        ("comes back", lapsed(3, 0), ("a", 3), Event::Alive, grant(), held_until(3, 40, false)),
        ("accepts late", offer(4, 0, 0), ("a", 3), Event::Accepted, stale("a", 3), offer(4, 0, 0)),
        ("renews late", offer(4, 0, 0), ("a", 3), Event::Alive, stale("a", 3), offer(4, 0, 0)),
        ("claims a higher one", offer(3, 0, 0), ("a", 9), Event::Alive, stale("a", 9), offer(3, 0, 0)),
        ("claims another's", held_until(3, 30, false), ("b", 3), Event::Alive, stale("b", 3), held_until(3, 30, false)),
        (
            "refuses",
            offer(3, 0, 0),
            ("a", 3),
            Event::Refused { retry_after: wait },
            vec![],
            Lease::Queued { last: Some(holder("a", 3)), floor: 3, since: at(10), not_before: at(70) },
        ),
        (
            "refuses late",
            held_until(3, 30, false),
            ("a", 3),
            Event::Refused { retry_after: wait },
            vec![],
            held_until(3, 30, false),
        ),
        ("does not list it", held_until(3, 30, false), ("a", 3), Event::Absent, vec![], held_until(3, 30, true)),
        (
            "does not list what ran out",
            lapsed(3, 0),
            ("a", 3),
            Event::Absent,
            vec![],
            Lease::Queued { last: Some(holder("a", 3)), floor: 3, since: at(10), not_before: at(10) },
        ),
        ("does not list an offer", offer(3, 0, 0), ("a", 3), Event::Absent, vec![], offer(3, 0, 0)),
        ("ends", held_until(3, 30, false), ("a", 3), Event::Outcome, vec![Action::Count], Lease::Ended),
        ("ended while away", lapsed(3, 0), ("a", 3), Event::Outcome, vec![Action::Count], Lease::Ended),
        (
            "ended before its acceptance came",
            offer(3, 0, 0),
            ("a", 3),
            Event::Outcome,
            vec![Action::Count],
            Lease::Ended,
        ),
        ("ends late", offer(4, 0, 0), ("a", 3), Event::Outcome, vec![], offer(4, 0, 0)),
        ("ends twice", Lease::Ended, ("a", 3), Event::Outcome, vec![], Lease::Ended),
        ("lives on after the end", Lease::Ended, ("a", 3), Event::Alive, stale("a", 3), Lease::Ended),
    ] {
        assert_eq!(lease.hear(&holder(from.0, from.1), event, at(10)), (actions, next), "{name}");
    }
}

#[test]
fn cancelling() {
    let lost = || Action::LeaseLost(holder("a", 3));
    let cancel = || vec![Action::Cancel(holder("a", 3))];
    for (lease, now, actions, next) in [
        (queued(None, 99), 0, vec![Action::EndCancelled], Lease::Ended),
        (offer(3, 0, 0), 0, vec![lost(), Action::EndCancelled], Lease::Ended),
        (held_until(3, 30, false), 59, cancel(), held_until(3, 30, false)),
        (held_until(3, 30, false), 60, vec![lost(), Action::EndCancelled], Lease::Ended),
        (lapsed(3, 0), 59, cancel(), lapsed(3, 0)),
        (lapsed(3, 0), 60, vec![lost(), Action::EndCancelled], Lease::Ended),
        (Lease::Ended, 99, vec![], Lease::Ended),
    ] {
        assert_eq!(lease.tick_cancelled(at(0), at(now)), (actions, next));
    }
}

/// Whatever happens in whatever order, a generation never falls, is never given to two agents, and an outcome counts
/// at most once.
#[test]
fn generations_only_rise() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..2_000 {
        let mut lease = Lease::queued(0, at(0));
        let (mut given, mut counted, mut now) = (Vec::<Holder>::new(), 0, 0);
        for _ in 0..60 {
            now += random.i64(0..40);
            let speaker = holder(random.choice(["a", "b"]).expect("two"), random.u64(0..6));
            let event = random.choice([Event::Accepted, Event::Alive, Event::Absent, Event::Outcome]).expect("four");
            let presence = random.choice([Presence::Online, Presence::Offline, Presence::Gone]).expect("three");
            let candidate = random.bool().then(|| random.choice(["a", "b"]).expect("two"));
            let (actions, next) = if random.bool() {
                lease.hear(&speaker, event, at(now))
            } else {
                lease.tick(&world(candidate, presence), at(now))
            };
            lease = next;
            for action in actions {
                match action {
                    Action::Offer(holder) if given.last() != Some(&holder) => {
                        assert_eq!(holder.generation, given.last().map_or(0, |last| last.generation) + 1);
                        given.push(holder);
                    }
                    Action::Count => counted += 1,
                    _ => {}
                }
            }
        }
        assert!(counted <= 1);
    }
}

#[test]
fn a_later_sync_of_a_connection_is_offered_above_every_generation_before_it() {
    let (actions, lease) =
        Lease::queued(7, at(0)).tick(&World { candidate: Some("a".to_owned()), holder: Presence::Online }, at(1));
    assert_eq!(actions, [Action::Offer(holder("a", 8))]);
    assert_eq!(lease.generation(), 8);
}

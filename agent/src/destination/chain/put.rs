//! The PUT rule of DELIVERY §4: how a put-if-absent of a chain entry ends when answers get lost.
//! `Rule` decides, purely; `put` asks the store. An unanswered write is neither success nor failure: the slot is read and
//! compared. The same bytes go out on every try, so it does not matter which try lands, nor how late.

use bytes::Bytes;
use object_store::path::Path;

use crate::destination::error::Error;
use crate::destination::store::{Created, Store, backoff, classify};
use crate::failpoint;

/// How a put ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    Mine,
    /// The slot holds other bytes.
    Lost,
}

/// The crash points around one put: before it is sent, and once it is answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Points {
    pub(crate) before: &'static str,
    pub(crate) after: &'static str,
}

/// What the store said to a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Created,
    Taken,
    Unknown,
    Refused,
}

/// What the slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Mine,
    Other,
    Absent,
    Unknown,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Put,
    Look,
    LookLater,
    Done(Put),
    /// The store will not take it; nothing of ours is in the slot as far as we can see.
    GiveUp,
}

#[derive(Debug, Default, Clone, Copy)]
struct Rule {
    refused: bool,
}

impl Rule {
    fn answered(&mut self, answer: Answer) -> Next {
        match answer {
            Answer::Created => Next::Done(Put::Mine),
            Answer::Taken => Next::Look,
            Answer::Unknown => Next::LookLater,
            Answer::Refused => {
                self.refused = true;
                Next::Look
            }
        }
    }

    fn seen(&self, seen: Seen) -> Next {
        match (seen, self.refused) {
            (Seen::Mine, _) => Next::Done(Put::Mine),
            (Seen::Other, _) => Next::Done(Put::Lost),
            (Seen::Absent | Seen::Unknown, true) => Next::GiveUp,
            (Seen::Absent, false) => Next::Put,
            (Seen::Unknown, false) => Next::LookLater,
        }
    }
}

/// Puts `bytes` into a slot. Asks until it knows; dropping the future is how a caller cancels.
pub(crate) async fn put(store: &Store, slot: &Path, bytes: &Bytes, points: Points) -> Result<Put, Error> {
    let mut rule = Rule::default();
    let mut next = Next::Put;
    let mut attempt = 0;
    let mut refusal = None;
    loop {
        next = match next {
            Next::Put => {
                if attempt > 0 {
                    tokio::time::sleep(backoff(attempt)).await;
                }
                attempt += 1;
                failpoint::hit(points.before);
                let answer = store.create(slot, bytes.clone()).await;
                failpoint::hit(points.after);
                rule.answered(match answer {
                    Created::Mine => Answer::Created,
                    Created::Taken => Answer::Taken,
                    Created::Unknown(error) => {
                        tracing::warn!(slot = %slot, %error, "put of a chain entry was not answered");
                        Answer::Unknown
                    }
                    Created::Refused(error) => {
                        refusal = Some(error);
                        Answer::Refused
                    }
                })
            }
            Next::LookLater => {
                attempt += 1;
                tokio::time::sleep(backoff(attempt)).await;
                Next::Look
            }
            Next::Look => rule.seen(look(store, slot, bytes).await),
            Next::Done(put) => return Ok(put),
            Next::GiveUp => {
                let source = refusal.take().expect("only a refusal leads to giving up");
                return Err(classify(slot, source));
            }
        };
    }
}

async fn look(store: &Store, slot: &Path, bytes: &Bytes) -> Seen {
    match store.get(slot).await {
        Ok(Some(found)) if found == *bytes => Seen::Mine,
        Ok(Some(_)) => Seen::Other,
        Ok(None) => Seen::Absent,
        Err(_) => Seen::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_has_one_next_step() {
        let cases = [
            (Answer::Created, Next::Done(Put::Mine)),
            (Answer::Taken, Next::Look),
            (Answer::Unknown, Next::LookLater),
            (Answer::Refused, Next::Look),
        ];
        for (answer, want) in cases {
            assert_eq!(Rule::default().answered(answer), want, "{answer:?}");
        }
    }

    #[test]
    fn every_sight_of_the_slot_has_one_next_step() {
        let cases = [
            (Seen::Mine, false, Next::Done(Put::Mine)),
            (Seen::Mine, true, Next::Done(Put::Mine)),
            (Seen::Other, false, Next::Done(Put::Lost)),
            (Seen::Other, true, Next::Done(Put::Lost)),
            (Seen::Absent, false, Next::Put),
            (Seen::Absent, true, Next::GiveUp),
            (Seen::Unknown, false, Next::LookLater),
            (Seen::Unknown, true, Next::GiveUp),
        ];
        for (seen, refused, want) in cases {
            assert_eq!(Rule { refused }.seen(seen), want, "{seen:?} refused={refused}");
        }
    }
}

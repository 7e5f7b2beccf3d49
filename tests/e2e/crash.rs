//! The crash matrix: the real binaries die at each named point of the delivery protocol (DELIVERY §10), start again, and
//! the independent oracle finds every row once. Every test arms one point at a seeded pass and fails unless it was hit.

use std::time::Duration;

use inshore_tests::stack::{SCHEMA, SYNC, Stack};
use inshore_tests::{oracle, prove, seed, shop, wait};

const ROWS: u64 = 1_500;
const SEEDS_PROVE: u64 = 5;

/// Which sync the point is armed for.
#[derive(Clone, Copy)]
enum When {
    First,
    /// Once there is a chain to read and tables to change.
    Second,
}

/// The point is passed about ten times (once per checkpoint) or once, by its place.
fn check(point: &str, when: When, passes: u64) {
    let seeds = if prove() { SEEDS_PROVE } else { 1 };
    let mut hits = 0;
    for seed in seed()..seed() + seeds {
        hits += crash_once(point, when, 1 + fastrand::Rng::with_seed(seed).u64(..passes), seed);
    }
    println!("{point}: hit {hits} times over {seeds} seeds");
    assert_eq!(hits, seeds, "{point} was not hit by every seed");
}

/// One run: returns how often the point was hit.
fn crash_once(point: &str, when: When, pass: u64, seed: u64) -> u64 {
    let what = format!("{point} at pass {pass}, seed {seed}");
    let mut stack = Stack::start();
    let (connection, database) = stack.shop(ROWS, seed);
    match when {
        When::First => crash_in_a_sync(&mut stack, &connection, point, pass),
        When::Second => drop(stack.sync(&connection)),
    }
    oracle::assert_exact(&stack.lake, SCHEMA, &database, &what);
    shop::change(&database, seed);
    match when {
        When::First => drop(stack.sync(&connection)),
        When::Second => crash_in_a_sync(&mut stack, &connection, point, pass),
    }
    oracle::assert_exact(&stack.lake, SCHEMA, &database, &format!("{what}, second sync"));
    stack.agent.hits().len() as u64
}

/// Starts the agent with the point armed, syncs, sees the crash, and lets the product settle it.
fn crash_in_a_sync(stack: &mut Stack, connection: &str, point: &str, pass: u64) {
    stack.agent.kill();
    stack.agent.arm(&[(point, pass)]);
    let rest = stack.rest.clone();
    stack.agent.start(&rest);
    let sync = rest.sync(connection);
    wait::until(&format!("the crash at {point}, pass {pass}"), SYNC, || (!stack.agent.hits().is_empty()).then_some(()));
    recover(stack);
    settle(stack, connection, &sync);
}

/// Starts the agent again where the point killed the agent itself; a dead job it notices alone.
fn recover(stack: &mut Stack) {
    let deadline = std::time::Instant::now() + Duration::from_millis(500);
    while std::time::Instant::now() < deadline && !stack.agent.has_ended() {
        std::thread::sleep(Duration::from_millis(20));
    }
    if stack.agent.has_ended() {
        stack.agent.kill();
        let rest = stack.rest.clone();
        stack.agent.start(&rest);
    }
}

/// The run ends; where it ended as failed or put off, the next one must succeed.
fn settle(stack: &mut Stack, connection: &str, sync: &str) {
    let run = stack.rest.wait(connection, sync, SYNC);
    if run["status"] != "succeeded" {
        stack.sync(connection);
    }
}

macro_rules! points {
    ($($name:ident $point:literal $when:ident $passes:literal;)*) => {
        $(#[test]
        fn $name() {
            check($point, When::$when, $passes);
        })*
    };
}

points! {
    crash_p1_before_the_inbox_is_synced "P1" First 1;
    crash_p2_after_the_inbox_before_the_answer "P2" First 1;
    crash_p3_while_reading_the_chain "P3" Second 1;
    crash_p4_claim_about_to_be_put "P4" First 1;
    crash_p4b_claim_put_answer_not_noted "P4b" First 1;
    crash_p5_claim_durable "P5" First 1;
    crash_p6_data_file_about_to_be_written "P6" First 8;
    crash_p7_some_files_written "P7" First 8;
    crash_p8_all_files_written_before_the_commit "P8" First 8;
    crash_p9_commit_about_to_be_put "P9" First 8;
    crash_p9b_commit_put_answer_not_noted "P9b" First 8;
    crash_p10_commit_durable_nothing_noted "P10" First 8;
    crash_p11_commit_durable_not_acknowledged "P11" First 8;
    crash_p12_between_two_tables "P12" First 4;
    crash_p13_table_commit_about_to_be_put "P13" First 8;
    crash_p13b_table_commit_put_answer_lost "P13b" First 8;
    crash_p14_applied_before_the_outbox "P14" First 1;
    crash_p15_outcome_sent_not_acknowledged "P15" First 1;
}

#[test]
fn crash_p20_the_state_directory_is_deleted_and_the_agent_enrols_again() {
    let seeds = if prove() { SEEDS_PROVE } else { 1 };
    for seed in seed()..seed() + seeds {
        let mut stack = Stack::start();
        let database = shop::database(&stack.source());
        shop::generate(&database, ROWS, seed);
        // References, not sealed values: a new agent cannot open what was sealed to the old one.
        let secret = stack.agent.dir.join("database");
        inshore_tests::agent::write_secret(&secret, &database.display().to_string());
        let reference = format!("${{file:{}}}", secret.display());
        let rows = stack.agent.dir.join("rows");
        inshore_tests::agent::write_secret(&rows, "150");
        let rows = format!("${{file:{}}}", rows.display());
        let connection = stack.connection(&shop::package(), &[("database", &reference), ("checkpoint_rows", &rows)]);
        let rest = stack.rest.clone();
        let sync = rest.sync(&connection);
        let pass = 1 + fastrand::Rng::with_seed(seed).u64(..6);
        wait::until("some checkpoints", SYNC, || {
            let run = rest.get(&format!("/v1/connections/{connection}/syncs/{sync}")).data();
            (run["checkpoints"].as_u64() >= Some(pass) || run["status"] != "running" && run["status"] != "queued")
                .then_some(())
        });
        stack.agent.kill_tree();
        std::fs::remove_dir_all(stack.agent.dir.join("state")).expect("the state directory goes");
        assert_eq!(rest.delete(&format!("/v1/hybrid-deployment-agents/{}", stack.agent.id)).status, 200);
        stack.agent.id = inshore_tests::agent::enrol_again(&rest, &stack.group, &stack.agent.dir);
        stack.agent.start(&rest);
        stack.sync(&connection);
        oracle::assert_exact(&stack.lake, SCHEMA, &database, &format!("P20, seed {seed}"));
    }
}

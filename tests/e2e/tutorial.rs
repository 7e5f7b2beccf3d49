//! The pages for beginners: every block of shell in them runs, in order, and prints what the page says.

use std::path::Path;
use std::process::{Command, Stdio};

use inshore_tests::debug::Run;
use inshore_tests::{cache, root, stage};

/// A block of shell and the lines that its page shows below it.
struct Step {
    shell: String,
    lines: Vec<String>,
}

fn steps(page: &str) -> Vec<Step> {
    let text = std::fs::read_to_string(root().join(page)).expect("the page");
    let mut steps: Vec<Step> = Vec::new();
    let mut parts = text.split("\n```");
    parts.next();
    for part in parts.step_by(2) {
        let (language, body) = part.split_once('\n').expect("a block has lines");
        match language {
            "sh" => steps.push(Step { shell: body.to_owned(), lines: Vec::new() }),
            "text" => {
                let step = steps.last_mut().expect("shell comes first");
                step.lines.extend(body.lines().filter(|line| !line.trim().is_empty()).map(plain));
            }
            other => panic!("{page}: a block of {other:?}"),
        }
    }
    steps
}

/// Clock times and durations differ from run to run.
fn plain(line: &str) -> String {
    let line = line.trim_end();
    let line = match line.split_once(' ') {
        Some((clock, rest)) if clock.len() == 12 && clock.matches(':').count() == 2 => rest,
        _ => line,
    };
    match line.rsplit_once(", ") {
        Some((head, time)) if time.ends_with(" s") && head.contains("checkpoint") => head.to_owned(),
        _ => line.to_owned(),
    }
}

fn run(shell: &str, folder: &Path) -> Run {
    let path = format!("{}:{}", stage().join("usr/bin").display(), std::env::var("PATH").unwrap_or_default());
    let output = Command::new("bash")
        .args(["-eu", "-o", "pipefail", "-c", &format!("exec 2>&1\n{shell}")])
        .current_dir(folder)
        .env("PATH", path)
        .env("XDG_CACHE_HOME", cache())
        .stdin(Stdio::null())
        .output();
    Run::of(output.expect("bash starts"))
}

fn check(page: &str, folder: &Path) {
    for step in steps(page) {
        let run = run(&step.shell, folder);
        assert_eq!(run.exit, Some(0), "{page}:\n{}\n{}", step.shell, run.data);
        let said: Vec<String> = run.data.lines().map(plain).collect();
        for line in &step.lines {
            assert!(
                said.iter().any(|said| said.contains(line.as_str())),
                "{page}:\n{}\n{line:?} is not in\n{}",
                step.shell,
                run.data
            );
        }
    }
}

#[test]
fn the_tutorial_does_what_it_says() {
    let folder = tempfile::tempdir().expect("a folder");
    check("docs/tutorial.md", folder.path());
}

#[test]
fn the_troubleshooting_page_does_what_it_says() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(run("inshore init hello", folder.path()).exit, Some(0));
    check("docs/troubleshooting.md", folder.path());
}

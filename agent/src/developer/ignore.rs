//! The rules of one `.gitignore`: which names below its folder do not belong to the package. Tested against git itself.

/// The rules of one file, in its order.
#[derive(Debug, Default)]
pub(super) struct Rules(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    /// The pattern between its slashes. `**` stands for any number of folders.
    segments: Vec<String>,
    /// Takes back what an earlier rule ignored.
    keeps: bool,
    folders_only: bool,
}

impl Rules {
    pub(super) fn parse(text: &str) -> Self {
        Self(text.trim_start_matches('\u{feff}').lines().filter_map(Rule::parse).collect())
    }

    /// Whether `path`, below the file's own folder, is ignored; `None` when no rule speaks of it. The last one wins.
    pub(super) fn ignores(&self, path: &[&str], is_folder: bool) -> Option<bool> {
        let speaks = |rule: &&Rule| (is_folder || !rule.folders_only) && matches_path(&rule.segments, path);
        self.0.iter().rev().find(speaks).map(|rule| !rule.keeps)
    }
}

impl Rule {
    fn parse(line: &str) -> Option<Self> {
        let line = without_trailing_spaces(line.trim_end_matches('\r'));
        if line.starts_with('#') {
            return None;
        }
        let (keeps, pattern) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest));
        let (folders_only, pattern) = pattern.strip_suffix('/').map_or((false, pattern), |rest| (true, rest));
        let anchored = pattern.contains('/');
        let pattern = pattern.strip_prefix('/').unwrap_or(pattern);
        if pattern.is_empty() {
            return None;
        }
        let mut segments: Vec<String> = pattern.split('/').map(str::to_owned).collect();
        if !anchored {
            segments.insert(0, "**".to_owned());
        }
        Some(Self { segments, keeps, folders_only })
    }
}

/// A space at the end counts only behind a backslash.
fn without_trailing_spaces(line: &str) -> &str {
    let trimmed = line.trim_end_matches(' ');
    let kept = if trimmed.ends_with('\\') && trimmed.len() < line.len() { trimmed.len() + 1 } else { trimmed.len() };
    line.get(..kept).unwrap_or(trimmed)
}

fn matches_path(pattern: &[String], path: &[&str]) -> bool {
    match (pattern, path) {
        ([], []) => true,
        // Behind the last slash `**` stands for what is inside, which is something.
        ([only], rest) if only == "**" => !rest.is_empty(),
        ([first, more @ ..], path) if first == "**" => (0..=path.len()).any(|skip| matches_path(more, &path[skip..])),
        ([first, more @ ..], [name, rest @ ..]) => matches_name(first, name) && matches_path(more, rest),
        _ => false,
    }
}

/// Shell matching of one name: `*`, `?`, `[a-z]`, `[!a-z]`, backslash. Goes back to the last star only, so it is quick.
fn matches_name(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut next) = (0, 0);
    let mut star = None;
    while next < name.len() {
        if pattern.get(at) == Some(&'*') {
            star = Some((at, next));
            at += 1;
            continue;
        }
        if let Some(length) = one(&pattern[at..], name[next]) {
            at += length;
            next += 1;
        } else if let Some((of_star, taken)) = star {
            star = Some((of_star, taken + 1));
            (at, next) = (of_star + 1, taken + 1);
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|rest| *rest == '*')
}

/// How much of the pattern stands for this one character.
fn one(pattern: &[char], character: char) -> Option<usize> {
    match pattern {
        ['?', ..] => Some(1),
        ['\\', literal, ..] => (*literal == character).then_some(2),
        ['[', ..] => class(pattern, character),
        [literal, ..] => (*literal == character).then_some(1),
        [] => None,
    }
}

/// `[abc]`, `[a-z]`, `[!a]`. One that is never closed matches nothing.
fn class(pattern: &[char], character: char) -> Option<usize> {
    let negated = matches!(pattern.get(1), Some('!' | '^'));
    let start = if negated { 2 } else { 1 };
    let mut at = start;
    let mut found = false;
    loop {
        let mut low = *pattern.get(at)?;
        if low == ']' && at > start {
            return (found != negated).then_some(at + 1);
        }
        if low == '\\' {
            at += 1;
            low = *pattern.get(at)?;
        }
        let high = match (pattern.get(at + 1), pattern.get(at + 2)) {
            (Some('-'), Some(high)) if *high != ']' => {
                at += 2;
                *high
            }
            _ => low,
        };
        found |= (low..=high).contains(&character);
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const RULES: &[&str] = &[
        "*.log",
        "/top.txt",
        "a/b.txt",
        "folder/",
        "!keep.log",
        "**/deep.txt",
        "x/**",
        "y/**/z.txt",
        "q?.txt",
        "[a-c]1",
        "[!a-c]2",
        "\\#hash",
        "\\!bang",
        "# comment",
        "",
        "  spaced  ",
        "end\\ ",
        "star*star*star",
        "**/mid/**/leaf",
        "[",
        "a[]b]c",
        "[\\]]s",
        "!/sub/top.txt",
        "nest/*/in.txt",
        "**",
        "!**/keep.log",
        "*",
        "!*.py",
        "/",
        "trailing/**",
    ];
    const PATHS: &[&str] = &[
        "a.log",
        "keep.log",
        "sub/keep.log",
        "top.txt",
        "sub/top.txt",
        "a/b.txt",
        "sub/a/b.txt",
        "folder/f",
        "sub/folder/f",
        "folderx",
        "deep.txt",
        "s/t/deep.txt",
        "x/1",
        "x/y/2",
        "y/z.txt",
        "y/1/2/z.txt",
        "q1.txt",
        "q.txt",
        "a1",
        "d1",
        "a2",
        "d2",
        "#hash",
        "!bang",
        "spaced",
        "  spaced",
        "end ",
        "starXstarYstar",
        "star/star",
        "mid/leaf",
        "mid/1/leaf",
        "[",
        "a]c",
        "abc",
        "]s",
        "nest/1/in.txt",
        "nest/1/2/in.txt",
        "m.py",
        "sub/m.py",
        "ünïcode.log",
        "trailing/1",
        "trailing",
    ];

    /// Walks down as the package does: what lies in an ignored folder is never asked about.
    fn ours(rules: &Rules, path: &str) -> bool {
        let parts: Vec<&str> = path.split('/').collect();
        (1..=parts.len()).any(|depth| rules.ignores(&parts[..depth], depth < parts.len()) == Some(true))
    }

    fn gits(folder: &std::path::Path, path: &str) -> bool {
        let mut git = Command::new("git");
        git.args(["-c", "core.excludesFile=/dev/null", "check-ignore", "--no-index", "-q", "--", path])
            .current_dir(folder);
        git.status().expect("git runs").success()
    }

    #[test]
    fn every_rule_ignores_what_git_ignores() {
        let folder = tempfile::tempdir().expect("a folder");
        let made = Command::new("git").args(["init", "-q"]).current_dir(folder.path()).status();
        assert!(made.expect("git runs").success());
        for sets in RULES.chunks(1).chain(RULES.chunks(5)) {
            let text = sets.join("\n");
            std::fs::write(folder.path().join(".gitignore"), &text).expect("a file");
            let rules = Rules::parse(&text);
            let mut git = Command::new("git");
            git.args([
                "-c",
                "core.excludesFile=/dev/null",
                "-c",
                "core.quotePath=false",
                "check-ignore",
                "--no-index",
                "--",
            ]);
            let output = git.args(PATHS).current_dir(folder.path()).output().expect("git runs");
            let ignored: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
            for path in PATHS {
                let theirs = if path.contains(['"', '\\']) {
                    gits(folder.path(), path)
                } else {
                    ignored.iter().any(|line| line == path)
                };
                assert_eq!(ours(&rules, path), theirs, "rules {text:?}, path {path:?}");
            }
        }
    }
}

//! What is read from the files of a project, and what is refused.

use super::*;

fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
    let project = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = project.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    project
}

fn read(files: &[(&str, &str)]) -> Requirements {
    Requirements::read(project(files).path()).unwrap()
}

fn lines(files: &[(&str, &str)]) -> Vec<String> {
    read(files).lines.into_iter().map(|line| line.text).collect()
}

#[test]
fn the_runtime_provides_the_sdk_and_requests() {
    let text = "Fivetran_Connector.SDK==2.1\nrequests[socks]>=2.30 # http\nrequests-toolbelt\t# note\n# note\n\n\
                python-dateutil[tz]==2.9 \\\n  ; python_version > '3'\nrequests ; python_version<'3.14'\n\
                x @ https://host/x-1-py3-none-any.whl#sha256=00\n";
    assert_eq!(
        lines(&[("requirements.txt", text)]),
        [
            "requests-toolbelt",
            "python-dateutil[tz]==2.9    ; python_version > '3'",
            "x @ https://host/x-1-py3-none-any.whl#sha256=00",
        ]
    );
    assert!(lines(&[]).is_empty());
}

#[test]
fn pyproject_wins_and_includes_are_inlined() {
    let pyproject = "[project]\nname = 'x'\ndependencies = ['six>=1', 'requests']\n";
    assert_eq!(lines(&[("requirements.txt", "idna\n"), ("pyproject.toml", pyproject)]), ["six>=1"]);
    assert_eq!(lines(&[("requirements.txt", "-r more.txt\nb\n"), ("more.txt", "a\n")]), ["a", "b"]);
    assert_eq!(lines(&[("requirements.txt", "-rsub/more.txt\n"), ("sub/more.txt", "-r x\n"), ("sub/x", "a")]), ["a"]);
    assert_eq!(lines(&[("requirements.txt", "a\n"), ("pyproject.toml", "[tool.x]\n")]), ["a"]);
}

#[test]
fn sources_and_indexes_of_uv_count() {
    let pyproject = "[project]\ndependencies = ['a[x]>=1; sys_platform == \"linux\"', 'b', 'c', 'd']\n\
        [tool.uv.sources]\na = { git = 'https://host/a', tag = 'v1' }\nB = { url = 'https://host/b.whl' }\n\
        c = { path = 'libs/c' }\nd = { index = 'ours' }\n\
        [[tool.uv.index]]\nname = 'ours'\nurl = 'https://host/simple'\n[[tool.uv.index]]\nurl = 'https://all/simple'\ndefault = true\n";
    let found = read(&[("pyproject.toml", pyproject), ("libs/c/pyproject.toml", "")]);
    let texts: Vec<_> = found.lines.iter().map(|line| line.text.as_str()).collect();
    let git = "a[x] @ git+https://host/a@v1 ; sys_platform == \"linux\"";
    assert_eq!(texts, [git, "b @ https://host/b.whl", "./libs/c", "d"]);
    assert!(found.lines[2].path.as_ref().unwrap().ends_with("libs/c"));
    assert_eq!(found.index_options, ["--extra-index-url https://host/simple", "--index-url https://all/simple"]);
}

#[test]
fn every_option_is_honoured() {
    let text = "-i https://one/simple\n--extra-index-url=https://two/simple\n--find-links ./wheels\n-f https://three\n\
        --no-binary a,b\n--only-binary :all:\n--pre\n--prefer-binary\n-c bounds.txt\n--trusted-host one\n-e ./own\n\
        --no-index\n--require-hashes\nsix==1 --hash=sha256:00\n";
    let files = [("requirements.txt", text), ("bounds.txt", "six<2\n"), ("wheels/x", ""), ("own/setup.py", "")];
    let found = read(&files);
    assert_eq!(
        found.index_options,
        [
            "--index-url https://one/simple",
            "--extra-index-url https://two/simple",
            "--find-links https://three",
            "--trusted-host one",
            "--no-index"
        ]
    );
    assert_eq!((found.no_binary.join(","), found.only_binary.join(",")), ("a,b".to_owned(), ":all:".to_owned()));
    assert!(found.allow_prereleases && found.prefer_binary && found.require_hashes && found.is_hashed());
    assert_eq!(found.constraints, ["six<2"]);
    assert!(found.find_links[0].ends_with("wheels"));
    assert!(found.text().contains("/own\n") && found.text().ends_with("six==1 --hash=sha256:00\n"), "{}", found.text());
    assert!(found.constraints_text().contains("fivetran-connector-sdk-core<0\nsix<2\n"));
}

#[test]
fn what_is_not_done_is_refused_with_its_line() {
    for (text, why) in [
        ("--global-option=x\n", "not known"),
        ("six --config-settings a=b\n", "one requirement"),
        ("-r absent.txt\n", "no such file"),
        ("-r ../outside.txt\n", "no such file"),
        ("-r https://host/r.txt\n", "network"),
        ("-r requirements.txt\n", "too deeply"),
        ("./absent\n", "no such file"),
        ("--find-links ./absent\n", "no such folder"),
        ("--index-url\n", "a value is missing"),
        ("--pre yes\n", "no value"),
        ("--global-option https://user:secret@host/\n", "***@host"),
    ] {
        let error = Requirements::read(project(&[("requirements.txt", text)]).path()).expect_err(text).to_string();
        assert!(error.contains(why) && error.contains("requirements.txt"), "{text}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
    for text in ["[project]\ndependencies = 'x'\n", "[project\n", "[project]\ndependencies = [1]\n"] {
        let error = Requirements::read(project(&[("pyproject.toml", text)]).path()).expect_err(text);
        assert!(error.to_string().contains("pyproject.toml"), "{error}");
    }
}

#[test]
fn files_of_any_editor_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("requirements.txt");
    let utf16: Vec<u8> = "\u{feff}six\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for bytes in [b"\xef\xbb\xbfsix\r\n".to_vec(), utf16] {
        std::fs::write(&file, bytes).unwrap();
        assert_eq!(Requirements::read(folder.path()).unwrap().lines, [Line::plain("six".to_owned())]);
    }
    std::fs::write(&file, b"six \xff\xfe").unwrap();
    assert!(matches!(Requirements::read(folder.path()), Err(Error::NotText { .. })));
}

#[test]
fn the_digest_tells_apart_what_must_be() {
    let digest = |text: &str, wheel: &str| {
        let project = project(&[("requirements.txt", text), ("a.whl", wheel)]);
        Requirements::read(project.path()).unwrap().digest().unwrap()
    };
    assert_eq!(digest("six\n", "1"), digest("six # again\n", "2"));
    assert_ne!(digest("six\n", "1"), digest("idna\n", "1"));
    assert_ne!(digest("six\n", "1"), digest("--pre\nsix\n", "1"));
    assert_ne!(digest("a.whl\n", "1"), digest("a.whl\n", "2"));
    assert_eq!(digest("a.whl\n", "1"), digest("a.whl\n", "1"));
}

#[test]
fn a_lock_belongs_to_its_requirements() {
    let found = read(&[("requirements.txt", "six\n")]);
    let lock = found.lock_text("six==1 --hash=sha256:00\n").unwrap();
    let fresh = project(&[("requirements.txt", "six\n"), (LOCK_FILE, &lock), ("wheels/x.whl", "")]);
    let lock_found = found.lock(fresh.path()).unwrap().unwrap();
    assert!(lock_found.text.ends_with("six==1 --hash=sha256:00\n"));
    assert_eq!(lock_found.wheels, Some(fresh.path().join("wheels")));
    let changed = project(&[("requirements.txt", "idna\n"), (LOCK_FILE, &lock)]);
    let changed_requirements = Requirements::read(changed.path()).unwrap();
    assert!(matches!(changed_requirements.lock(changed.path()), Err(Error::StaleLock)));
    let foreign = project(&[("requirements.txt", "six\n"), (LOCK_FILE, "six==1\n")]);
    assert_eq!(found.lock(foreign.path()).unwrap(), None);
    assert_eq!(found.lock(project(&[]).path()).unwrap(), None);
}

#[test]
fn credentials_are_hidden() {
    for (text, hidden) in [
        ("https://u:p@host/x and http://host/y", "https://***@host/x and http://host/y"),
        ("git+https://token@host/x.git@v1", "git+https://***@host/x.git@v1"),
        ("https://u:p@", "https://***@"),
        ("none", "none"),
    ] {
        assert_eq!(masked(text), hidden);
    }
}

//! Environments built by the real `venv` and `pip`, from a wheel made here: no network.

use std::fs::File;
use std::io;
use std::sync::Mutex;

use super::*;

/// A folder of packages for pip, with `requests` 2.x and `small` in it.
fn wheels() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["requests", "small"] {
        wheel(folder.path(), name);
    }
    folder
}

fn wheel(folder: &Path, name: &str) {
    let info = format!("{name}-2.5.dist-info");
    let files = [
        (format!("{name}.py"), "here = True\n".to_owned()),
        (format!("{info}/METADATA"), format!("Metadata-Version: 2.1\nName: {name}\nVersion: 2.5\n")),
        (
            format!("{info}/WHEEL"),
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n".to_owned(),
        ),
    ];
    let file = File::create(folder.join(format!("{name}-2.5-py3-none-any.whl"))).unwrap();
    let mut wheel = zip::ZipWriter::new(file);
    let mut record = String::new();
    for (path, text) in &files {
        wheel.start_file(path.as_str(), zip::write::SimpleFileOptions::default()).unwrap();
        io::Write::write_all(&mut wheel, text.as_bytes()).unwrap();
        record.push_str(&format!("{path},,\n"));
    }
    wheel.start_file(format!("{info}/RECORD"), zip::write::SimpleFileOptions::default()).unwrap();
    io::Write::write_all(&mut wheel, format!("{record}{info}/RECORD,,\n").as_bytes()).unwrap();
    wheel.finish().unwrap();
}

fn settings(cache: &Path, wheels: &Path) -> Settings {
    Settings {
        cache_dir: cache.to_owned(),
        cache_bytes_max: u64::MAX,
        search_path: "/usr/local/bin:/usr/bin:/bin".into(),
        python: None,
        variables: Vec::new(),
        index: Index { wheel_house: Some(wheels.to_owned()), ..Index::default() },
        allow_source_builds: false,
        place: Place::Agent,
    }
}

fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
    let project = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = project.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    project
}

fn imports(python: &Path, modules: &str) -> bool {
    let script = format!("import {modules}");
    std::process::Command::new(python)
        .args(["-I", "-c", &script])
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap()
        .success()
}

#[tokio::test]
async fn two_jobs_share_one_environment_and_see_it_grow() {
    let (cache, wheels) = (tempfile::tempdir().unwrap(), wheels());
    let project = project(&[("requirements.txt", "small==2.5\nfivetran-connector-sdk\n")]);
    let settings = settings(cache.path(), wheels.path());
    let told = Mutex::new(Vec::new());
    let tell = |_: LogLevel, line: &str| told.lock().unwrap().push(line.to_owned());
    let (one, two) = tokio::join!(prepare(&settings, project.path(), &tell), prepare(&settings, project.path(), &tell));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.python, two.python);
    let told = told.into_inner().unwrap();
    assert_eq!(told.iter().filter(|line| *line == "the environment is ready").count(), 1, "{told:?}");
    assert!(told.iter().any(|line| line.starts_with("Successfully installed")), "the installer's own lines: {told:?}");
    assert!(imports(&one.python, "requests, small"));
    // Whoever uses it keeps it, and afterwards it may go.
    cache::evict(cache.path(), 0, &|_, _| {});
    assert!(one.python.exists());
    drop((one.hold, two.hold));
    cache::evict(cache.path(), 0, &|_, _| {});
    assert!(!one.python.exists());
}

#[tokio::test]
async fn a_project_without_requirements_needs_no_index() {
    let (cache, wheels, empty) = (tempfile::tempdir().unwrap(), wheels(), tempfile::tempdir().unwrap());
    let (offline, project) = (settings(cache.path(), empty.path()), project(&[("requirements.txt", "requests\n")]));
    let told = Mutex::new(Vec::new());
    let tell = |level: LogLevel, line: &str| told.lock().unwrap().push((level, line.to_owned()));
    let warned = || {
        let told = std::mem::take(&mut *told.lock().unwrap());
        told.iter().any(|(level, line)| *level == LogLevel::Warning && line.contains("requests could not be installed"))
    };
    let first = prepare(&offline, project.path(), &tell).await.unwrap();
    assert!(warned() && imports(&first.python, "json") && !imports(&first.python, "requests"));
    drop(prepare(&offline, project.path(), &tell).await.unwrap());
    assert!(!warned(), "it is not tried again at once");
    // Later it is, but not while somebody uses it.
    let age = || {
        let marker = first.python.parent().unwrap().parent().unwrap().join(WITHOUT_REQUESTS);
        let past = std::time::SystemTime::now() - 2 * TRY_AGAIN;
        File::options().write(true).open(marker).unwrap().set_modified(past).unwrap();
    };
    age();
    let online = settings(cache.path(), wheels.path());
    let second = prepare(&online, project.path(), &tell).await.unwrap();
    assert!(!imports(&second.python, "requests"));
    drop((first.hold, second.hold));
    let third = prepare(&online, project.path(), &tell).await.unwrap();
    assert!(imports(&third.python, "requests"));
    // What a project asks for itself is not left out.
    let asking = self::project(&[("requirements.txt", "small\n")]);
    assert_eq!(prepare(&offline, asking.path(), &|_, _| {}).await.unwrap_err().code(), "PKG-006");
}

#[tokio::test]
async fn a_crashed_build_is_built_again() {
    let (cache, wheels, project) = (tempfile::tempdir().unwrap(), wheels(), project(&[]));
    let settings = settings(cache.path(), wheels.path());
    let python = prepare(&settings, project.path(), &|_, _| {}).await.unwrap().python;
    let home = python.parent().unwrap().parent().unwrap();
    std::fs::remove_file(home.join("ready")).unwrap();
    std::fs::write(home.join("left-over"), "").unwrap();
    assert_eq!(prepare(&settings, project.path(), &|_, _| {}).await.unwrap().python, python);
    assert!(!home.join("left-over").exists());
}

#[tokio::test]
async fn what_cannot_be_installed_says_why() {
    let (cache, wheels) = (tempfile::tempdir().unwrap(), wheels());
    std::fs::write(wheels.path().join("from_source-1.0.tar.gz"), "never opened").unwrap();
    let settings = settings(cache.path(), wheels.path());
    for wanted in ["no-such-package==1", "fivetran-connector-sdk-core", "from-source"] {
        let project = project(&[("requirements.txt", wanted)]);
        let Err(Error::Requirements { tail }) = prepare(&settings, project.path(), &|_, _| {}).await else {
            panic!("{wanted} was installed")
        };
        assert!(tail.contains(wanted.split("==").next().unwrap()), "{tail}");
    }
}

#[tokio::test]
async fn what_this_host_does_not_do_is_refused_before_anything_is_built() {
    let (cache, wheels) = (tempfile::tempdir().unwrap(), wheels());
    let settings = settings(cache.path(), wheels.path());
    let drivers: &[(&str, &str)] = &[("drivers/installation.sh", "apt-get install x")];
    let index: &[(&str, &str)] = &[("requirements.txt", "--index-url https://elsewhere.example/simple\nsmall\n")];
    let source: &[(&str, &str)] = &[("requirements.txt", "--no-binary small\nsmall\n")];
    let lock = Requirements::default().lock_text("small==2.5\n").unwrap();
    let stale: &[(&str, &str)] = &[("requirements.txt", "small\n"), ("requirements.lock", &lock)];
    for (files, code, words) in [
        (drivers, "PKG-012", "system libraries"),
        (index, "PKG-013", "elsewhere.example"),
        (source, "PKG-013", "--no-binary small"),
        (stale, "PKG-013", "requirements.lock"),
    ] {
        let error = prepare(&settings, project(files).path(), &|_, _| {}).await.unwrap_err();
        assert!(error.code() == code && error.to_string().contains(words), "{}: {error}", error.code());
    }
    for (version, words) in [("3.99", "3.99 (3.10 to 3.15 are possible) is not on this host"), ("3.15", "3.15 is not")]
    {
        let settings = Settings { python: Some(version.to_owned()), ..settings.clone() };
        let error = prepare(&settings, project(&[]).path(), &|_, _| {}).await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    let left: Vec<_> = std::fs::read_dir(cache.path()).unwrap().flatten().filter(|one| one.path().is_dir()).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Launchers of version managers take up to a second to answer.
#[tokio::test]
async fn each_interpreter_is_asked_once() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let asked = folder.path().join("asked");
    for (name, answer) in [("python3", "/x\n3.9"), ("python3.12", "/y\n3.99"), ("python3.10", "/z\n3.10")] {
        let script = format!("#!/bin/sh\necho {name} >> {}\nprintf '{answer}\\n'\n", asked.display());
        std::fs::write(folder.path().join(name), script).unwrap();
        std::fs::set_permissions(folder.path().join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let settings =
        Settings { search_path: folder.path().as_os_str().to_owned(), ..settings(folder.path(), folder.path()) };
    let builder =
        installer::Builder { settings: &settings, project: Path::new("/"), home: folder.path(), tell: &|_, _| {} };
    let found = interpreter::find(&builder).await.unwrap();
    assert_eq!(found.path, Path::new("/z"));
    assert_eq!(std::fs::read_to_string(&asked).unwrap(), "python3\npython3.12\npython3.10\n");
}

#[test]
fn a_developer_is_told_what_an_agent_refuses() {
    let told = Mutex::new(Vec::new());
    let tell = |level: LogLevel, line: &str| told.lock().unwrap().push((level, line.to_owned()));
    let lock = Requirements::default().lock_text("").unwrap();
    let files = [("drivers/installation.sh", ""), ("requirements.txt", "small\n"), ("requirements.lock", &lock)];
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { place: Place::Developer, ..settings(folder.path(), folder.path()) };
    let wish = read(&settings, project(&files).path(), &tell).unwrap();
    assert!(wish.lock.is_none());
    let told = told.into_inner().unwrap();
    assert!(told.iter().all(|(level, _)| *level == LogLevel::Warning), "{told:?}");
    assert!(told[0].1.contains("DRIVERS_NEED_IMAGE") && told[1].1.contains("requirements.lock"), "{told:?}");
}

/// A build back-end of its own, so that nothing has to be fetched to build the folder.
const BACKEND: &str = r#"
import zipfile
def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "own-1.5-py3-none-any.whl"
    info = "own-1.5.dist-info"
    files = {
        "own.py": "here = True\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: own\nVersion: 1.5\nRequires-Dist: small\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
    return name
"#;
const BUILD: &str = "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n\
                     [project]\nname = 'own'\nversion = '1.5'\n";

#[tokio::test]
async fn a_lock_pins_everything_with_hashes_and_is_installed_from_them() {
    let (cache, wheels) = (tempfile::tempdir().unwrap(), wheels());
    let files = [
        ("requirements.txt", "./lib ; python_version > '3'\n"),
        ("lib/backend.py", BACKEND),
        ("lib/pyproject.toml", BUILD),
    ];
    let project = project(&files);
    let mut settings = settings(cache.path(), wheels.path());
    settings.allow_source_builds = true;
    let folder = tempfile::tempdir().unwrap();
    let resolved = resolve(&settings, project.path(), folder.path(), &|_, _| {}).await.unwrap();
    for pin in ["own==1.5", "requests==2.5", "small==2.5"] {
        assert!(resolved.lock.contains(&format!("\n{pin} \\\n    --hash=sha256:")), "{}", resolved.lock);
    }
    assert!(resolved.lock.contains("# own 1.5: ./lib"), "{}", resolved.lock);

    std::fs::create_dir(project.path().join("wheels")).unwrap();
    for wheel in &resolved.wheels {
        std::fs::copy(wheel, project.path().join("wheels").join(wheel.file_name().unwrap())).unwrap();
    }
    std::fs::write(project.path().join("requirements.lock"), &resolved.lock).unwrap();
    settings.allow_source_builds = false;
    let prepared = prepare(&settings, project.path(), &|_, _| {}).await.unwrap();
    assert!(imports(&prepared.python, "own, small, requests"));

    // Another file of the same name and version is not what was locked.
    wheel(wheels.path(), "small");
    std::fs::OpenOptions::new()
        .append(true)
        .open(wheels.path().join("small-2.5-py3-none-any.whl"))
        .unwrap()
        .set_len(900)
        .unwrap();
    std::fs::write(project.path().join("requirements.lock"), format!("{}\n", resolved.lock)).unwrap();
    let Err(Error::Requirements { tail }) = prepare(&settings, project.path(), &|_, _| {}).await else {
        panic!("a changed wheel was installed")
    };
    assert!(tail.contains("HASHES"), "{tail}");
}

/// pip refuses repositories under `--require-hashes`: a lock holds the wheel that was built, and notes the commit.
#[tokio::test]
async fn a_repository_is_built_at_a_pinned_commit_into_a_wheel_with_a_hash() {
    let (cache, wheels) = (tempfile::tempdir().unwrap(), wheels());
    let repository = project(&[("backend.py", BACKEND), ("pyproject.toml", BUILD)]);
    let git = |arguments: &[&str]| {
        let identity = ["-c", "user.name=test", "-c", "user.email=test@example", "-c", "init.defaultBranch=main"];
        let output = std::process::Command::new("git")
            .args(identity)
            .args(arguments)
            .current_dir(repository.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    for arguments in [&["init", "-q"][..], &["add", "."], &["commit", "-q", "-m", "one"]] {
        git(arguments);
    }
    let commit = git(&["rev-parse", "HEAD"]);
    // What comes later is not what the project asks for.
    std::fs::write(repository.path().join("backend.py"), BACKEND.replace("here = True", "here = False")).unwrap();
    git(&["commit", "-q", "-a", "-m", "two"]);

    let requirement = format!("own @ git+file://localhost{}@{commit}\n", repository.path().display());
    let project = project(&[("requirements.txt", &requirement)]);
    let mut settings = settings(cache.path(), wheels.path());
    settings.allow_source_builds = true;
    let folder = tempfile::tempdir().unwrap();
    let resolved = resolve(&settings, project.path(), folder.path(), &|_, _| {}).await.unwrap();
    assert!(resolved.lock.contains("\nown==1.5 \\\n    --hash=sha256:"), "{}", resolved.lock);
    assert!(resolved.lock.contains(&commit), "{}", resolved.lock);
    assert!(!resolved.lock.lines().any(|line| !line.starts_with('#') && line.contains("git+")), "{}", resolved.lock);

    // The agent installs the wheel of the package, without the repository and without a build.
    std::fs::create_dir(project.path().join("wheels")).unwrap();
    for wheel in &resolved.wheels {
        std::fs::copy(wheel, project.path().join("wheels").join(wheel.file_name().unwrap())).unwrap();
    }
    std::fs::write(project.path().join("requirements.lock"), &resolved.lock).unwrap();
    drop(repository);
    settings.allow_source_builds = false;
    let prepared = prepare(&settings, project.path(), &|_, _| {}).await.unwrap();
    let script = "import own, small; raise SystemExit(not own.here)";
    let status = std::process::Command::new(&prepared.python).args(["-I", "-c", script]).status().unwrap();
    assert!(status.success(), "the first commit's own.py is there");
}

#[tokio::test]
async fn a_private_index_gets_its_credentials_and_the_log_does_not() {
    let (cache, wheels) = (tempfile::tempdir().unwrap(), wheels());
    let (address, asked) = private_index(wheels.path().to_owned());
    let mut settings = settings(cache.path(), wheels.path());
    settings.index = Index {
        url: Some(format!("http://{address}/simple")),
        credentials: vec![Credentials { host: "127.0.0.1".to_owned(), user_password: "me:hidden".to_owned() }],
        ..Index::default()
    };
    let told = Mutex::new(String::new());
    let tell = |_: LogLevel, line: &str| told.lock().unwrap().push_str(line);
    let project = project(&[("requirements.txt", "small\n")]);
    let prepared = prepare(&settings, project.path(), &tell).await.unwrap();
    assert!(imports(&prepared.python, "small, requests"));
    assert!(asked.load(std::sync::atomic::Ordering::SeqCst) > 0);
    assert!(!told.lock().unwrap().contains("hidden"));
}

/// Serves a folder as a package index to `me:hidden`, and 401 to everybody else; counts what it served.
fn private_index(wheels: PathBuf) -> (std::net::SocketAddr, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    use std::io::{BufRead, BufReader, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let served = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&served);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(|line| line.unwrap_or_default());
            let path = lines.next().unwrap_or_default().split(' ').nth(1).unwrap_or_default().to_owned();
            let is_me = lines.take_while(|line| !line.is_empty()).any(|line| line.ends_with("Basic bWU6aGlkZGVu"));
            let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
            let (status, body) = match std::fs::read(wheels.join(&name)) {
                _ if !is_me => ("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"", Vec::new()),
                Ok(wheel) => ("200 OK", wheel),
                Err(_) => {
                    let file = format!("{name}-2.5-py3-none-any.whl");
                    ("200 OK\r\nContent-Type: text/html", format!("<a href=\"/files/{file}\">{file}</a>").into_bytes())
                }
            };
            if is_me {
                count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            drop(stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)));
        }
    });
    (address, served)
}

#[tokio::test]
async fn hashes_of_the_projects_own_file_need_none_for_requests() {
    use sha2::{Digest, Sha256};
    let (cache, wheels) = (tempfile::tempdir().unwrap(), wheels());
    let bytes = std::fs::read(wheels.path().join("small-2.5-py3-none-any.whl")).unwrap();
    let text = format!("small==2.5 --hash=sha256:{}\n", hex::encode(Sha256::digest(bytes)));
    let settings = settings(cache.path(), wheels.path());
    let prepared = prepare(&settings, project(&[("requirements.txt", &text)]).path(), &|_, _| {}).await.unwrap();
    assert!(imports(&prepared.python, "small, requests"));
}

//! Environments built by the real `venv` and `pip`, from a wheel made here: no network.

use std::sync::Mutex;

use super::*;

/// A folder of packages for pip, with `requests` 2.x and `small` in it.
fn index() -> tempfile::TempDir {
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

fn settings(cache: &Path, index: &Path) -> Settings {
    Settings {
        cache_dir: cache.to_owned(),
        search_path: "/usr/local/bin:/usr/bin:/bin".into(),
        python: None,
        variables: vec![
            ("PIP_NO_INDEX".to_owned(), "1".to_owned()),
            ("PIP_FIND_LINKS".to_owned(), index.display().to_string()),
        ],
        allow_source_builds: false,
    }
}

fn project(requirements: &str) -> tempfile::TempDir {
    let project = tempfile::tempdir().unwrap();
    std::fs::write(project.path().join("requirements.txt"), requirements).unwrap();
    project
}

#[tokio::test]
async fn two_jobs_share_one_environment() {
    let (cache, index, project) =
        (tempfile::tempdir().unwrap(), index(), project("small==2.5\nfivetran-connector-sdk\n"));
    let settings = settings(cache.path(), index.path());
    let told = Mutex::new(Vec::new());
    let tell = |line: &str| told.lock().unwrap().push(line.to_owned());
    let (one, two) = tokio::join!(prepare(&settings, project.path(), &tell), prepare(&settings, project.path(), &tell));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one, two);
    let told = told.into_inner().unwrap();
    assert_eq!(told.iter().filter(|line| *line == "the environment is ready").count(), 1, "{told:?}");
    let imported = std::process::Command::new(&one).args(["-I", "-c", "import requests, small"]).status().unwrap();
    assert!(imported.success());
}

#[tokio::test]
async fn a_crashed_build_is_built_again() {
    let (cache, index, project) = (tempfile::tempdir().unwrap(), index(), project(""));
    let settings = settings(cache.path(), index.path());
    let python = prepare(&settings, project.path(), &|_| {}).await.unwrap();
    let home = python.parent().unwrap().parent().unwrap();
    std::fs::remove_file(home.join(READY)).unwrap();
    std::fs::write(home.join("left-over"), "").unwrap();
    assert_eq!(prepare(&settings, project.path(), &|_| {}).await.unwrap(), python);
    assert!(!home.join("left-over").exists());
}

#[tokio::test]
async fn what_cannot_be_installed_says_why() {
    let (cache, index) = (tempfile::tempdir().unwrap(), index());
    let settings = settings(cache.path(), index.path());
    for wanted in ["no-such-package==1", "fivetran-connector-sdk-core"] {
        let Err(Error::Requirements { tail }) = prepare(&settings, project(wanted).path(), &|_| {}).await else {
            panic!("{wanted} was installed")
        };
        assert!(tail.contains(wanted.split("==").next().unwrap()), "{tail}");
    }
}

#[tokio::test]
async fn a_python_that_is_not_there_is_named() {
    let (cache, index) = (tempfile::tempdir().unwrap(), index());
    let mut settings = settings(cache.path(), index.path());
    settings.python = Some("3.99".to_owned());
    let error = prepare(&settings, project("").path(), &|_| {}).await.unwrap_err();
    assert_eq!(error.to_string(), "python 3.99 is not on this host");
}

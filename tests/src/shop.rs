//! The example shop as a source: its database, its package, and packages made for one test.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use zip::write::SimpleFileOptions;

use crate::{python, root};

/// Makes the shop's database.
pub fn generate(database: &Path, rows: u64, seed: u64) {
    run(&[&database.display().to_string(), "--rows", &rows.to_string(), "--seed", &seed.to_string()]);
}

/// The same shop some weeks later.
pub fn change(database: &Path, seed: u64) {
    run(&[&database.display().to_string(), "--change", "--seed", &seed.to_string()]);
}

fn run(arguments: &[&str]) {
    let status = Command::new(python()).arg(root().join("examples/shop/generate.py")).args(arguments).status();
    assert!(status.expect("Python runs").success(), "generate.py {arguments:?} failed");
}

/// The example's package, as a person would zip it.
pub fn package() -> Vec<u8> {
    zip(&[("connector.py", &example("connector.py")), ("requirements.txt", &example("requirements.txt"))])
}

/// A file of the example.
pub fn example(name: &str) -> String {
    std::fs::read_to_string(root().join("examples/shop").join(name)).expect("the example")
}

/// A package of these files.
pub fn zip(files: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, text) in files {
        writer.start_file(*name, SimpleFileOptions::default()).expect("an entry starts");
        writer.write_all(text.as_bytes()).expect("an entry is written");
    }
    writer.finish().expect("the zip closes").into_inner()
}

/// A file that nothing else in the folder has the name of.
pub fn database(dir: &Path) -> PathBuf {
    dir.join("shop.db")
}

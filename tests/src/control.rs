//! A real control plane in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::process::Process;
use crate::rest::Rest;
use crate::{stage, wait};

const START: Duration = Duration::from_secs(30);

/// A running `inshore-control`.
#[derive(Debug)]
pub struct Control {
    dir: PathBuf,
    process: Process,
    pub https: u16,
    pub http: u16,
}

impl Control {
    /// Starts one whose state lies in `dir`; the ports are free ones, and the same ones after a restart.
    pub fn start(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).expect("its folder");
        Self::start_on(dir, 0, 0)
    }

    fn start_on(dir: &Path, https: u16, http: u16) -> Self {
        let ports = dir.join("ports.json");
        drop(std::fs::remove_file(&ports));
        let config = format!(
            "state_dir = \"{}\"\nport_file = \"{}\"\n[listen]\nhttps = \"127.0.0.1:{https}\"\nhttp = \"127.0.0.1:{http}\"\n",
            dir.join("state").display(),
            ports.display()
        );
        std::fs::write(dir.join("control.toml"), config).expect("its settings");
        let mut command = Command::new(stage().join("usr/bin/inshore-control"));
        command.arg("serve").arg("--config").arg(dir.join("control.toml"));
        let mut process = Process::start(command, &dir.join("control.log"));
        let ports = wait::until("the control plane's ports", START, || {
            assert!(process.ended().is_none(), "the control plane ended: {}", process.output());
            let text = std::fs::read_to_string(&ports).ok()?;
            serde_json::from_str::<Value>(&text).ok()
        });
        let port = |name: &str| ports[name].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
        Self { dir: dir.to_owned(), process, https: port("https"), http: port("http") }
    }

    /// SIGKILL and a new start on the same ports.
    pub fn restart(&mut self) {
        self.process.kill();
        *self = Self::start_on(&self.dir.clone(), self.https, self.http);
    }

    pub fn kill(&mut self) {
        self.process.kill();
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub fn rest(&self) -> Rest {
        Rest::new(self.http, &self.api_key())
    }

    /// `key:secret` of the first start.
    pub fn api_key(&self) -> String {
        let key = std::fs::read_to_string(self.dir.join("state/api_key")).expect("the API key of the first start");
        key.trim().to_owned()
    }

    /// The certificate that agents trust.
    pub fn certificate(&self) -> PathBuf {
        self.dir.join("state/tls/cert.pem")
    }

    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    pub fn output(&self) -> String {
        self.process.output()
    }
}

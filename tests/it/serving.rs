//! A running `joust serve` with the shipped judge, and Python beside it, as clients of other
//! trainers see them.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::binary::{arg, joust, root};
use crate::http::exchange;

/// A server that is killed where a test fails.
pub(crate) struct Server {
    pub(crate) process: Child,
    /// `127.0.0.1:PORT`
    pub(crate) address: String,
}

impl Server {
    /// Starts it with the shipped judge on a free port and waits for the line that names it.
    pub(crate) fn start(more: &[&str]) -> Self {
        Self::with_config(&root().join("configs/quickstart.toml"), more)
    }

    /// As [`Server::start`], with another config.
    pub(crate) fn with_config(config: &Path, more: &[&str]) -> Self {
        let config = arg(config);
        let mut args = vec!["serve", &config, "serve.port=0"];
        args.extend(more);
        let mut process =
            joust(&args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split("://").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        Self { process, address }
    }

    /// Sends `METHOD PATH` with a JSON body, and reads a JSON answer.
    pub(crate) fn request(&self, method_and_path: &str, body: &str) -> (u16, Value) {
        let answer = exchange(&self.address, method_and_path, &[], body.as_bytes());
        let answer = answer.expect("the server answers");
        (answer.status, serde_json::from_slice(&answer.body).unwrap())
    }

    /// Ends it as a scheduler does, with a signal, and waits until it has written everything.
    pub(crate) fn stop(&mut self) {
        let pid = self.process.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs Python in a folder of the project, with that folder on its path, and returns what it
/// printed.
pub(crate) fn python(folder: &str, args: &[&str]) -> String {
    let output = Command::new(root().join(".venv/bin/python"))
        .arg("-B")
        .args(args)
        .current_dir(root().join(folder))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

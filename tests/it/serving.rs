//! A running `joust serve` with the shipped judge, and Python beside it, as clients of other trainers see them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::binary::{arg, joust, root};

/// A server that is killed where a test fails.
pub(crate) struct Server {
    pub(crate) process: Child,
    /// `127.0.0.1:PORT`
    pub(crate) address: String,
}

impl Server {
    /// Starts it on a free port and waits for the line that names it.
    pub(crate) fn start(more: &[&str]) -> Self {
        let config = arg(&root().join("configs/quickstart.toml"));
        let mut args = vec!["serve", &config, "serve.port=0"];
        args.extend(more);
        let mut process =
            joust(&args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split("http://").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        Self { process, address }
    }

    pub(crate) fn request(&self, head: &str, body: &str) -> (u16, Value) {
        let head = format!("{head} HTTP/1.1\r\nHost: joust\r\nConnection: close");
        try_request(&self.address, &head, body).expect("the server answers")
    }
}

/// One request on a connection of its own; none where the server goes away before its answer.
pub(crate) fn try_request(address: &str, head: &str, body: &str) -> Option<(u16, Value)> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let status = text.split(' ').nth(1)?.parse().ok()?;
    Some((status, serde_json::from_str(text.split("\r\n\r\n").nth(1)?).ok()?))
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs Python in a folder of the project, with that folder on its path, and returns what it printed.
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

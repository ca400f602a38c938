//! An HTTP/2 client with prior knowledge, as frames over a socket (RFC 9113): requests with a body,
//! resets, answers with a JSON body. Headers are sent without compression (RFC 7541, literals).

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use super::client::TrainerRequest;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;

/// Number of a setting.
const MAX_CONCURRENT_STREAMS: [u8; 2] = [0, 3];

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// A connection.
pub(super) struct Http2 {
    stream: TcpStream,
    next: u32,
    /// Number of streams that the server allows at once; 1 before it has named one, as in httpx.
    pub(super) max_streams: u32,
}

impl Http2 {
    pub(super) fn connect(address: &str) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        let mut connection = Self { stream, next: 1, max_streams: 1 };
        connection.write(SETTINGS, 0, 0, &[]);
        let (kind, _, _, settings) = connection.read();
        assert_eq!(kind, SETTINGS, "the server begins with its settings");
        for setting in settings.chunks(6) {
            if setting[..2] == MAX_CONCURRENT_STREAMS {
                connection.max_streams = u32::from_be_bytes(setting[2..].try_into().unwrap());
            }
        }
        connection.write(SETTINGS, ACK, 0, &[]);
        connection
    }

    /// The next frame: kind, flags, stream, content.
    fn read(&mut self) -> (u8, u8, u32, Vec<u8>) {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).unwrap();
        (head[3], head[4], id, payload)
    }

    fn write(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [&length[1..], &[kind, flags], &id.to_be_bytes()].concat();
        self.stream.write_all(&[&head, payload].concat()).unwrap();
    }

    /// Sends a request, and returns the id of its stream.
    pub(super) fn send(&mut self, request: &TrainerRequest) -> u32 {
        // of the static table: `:method: POST`, `:scheme: http`, and the names of two literals
        let mut block = vec![0x83, 0x86];
        literal(&mut block, &[0x04], &request.route);
        literal(&mut block, &[0x01], "localhost");
        let own = ("content-type".to_owned(), "application/json".to_owned());
        for (name, value) in [&own].into_iter().chain(&request.headers) {
            let name = [&[0, name.len() as u8], name.as_bytes()].concat();
            literal(&mut block, &name, value);
        }
        let id = self.next;
        self.next += 2;
        self.write(HEADERS, END_HEADERS, id, &block);
        self.write(DATA, END_STREAM, id, request.body.as_bytes());
        id
    }

    /// Gives a request up.
    pub(super) fn reset(&mut self, id: u32) {
        const CANCEL: u32 = 8;
        self.write(RST_STREAM, 0, id, &CANCEL.to_be_bytes());
    }

    /// Reads until so many streams are answered: status and body by stream.
    pub(super) fn answers(&mut self, wanted: usize) -> BTreeMap<u32, (u16, Value)> {
        let mut statuses: BTreeMap<u32, u16> = BTreeMap::new();
        let mut bodies: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        let mut whole = BTreeMap::new();
        while whole.len() < wanted {
            let (kind, flags, id, payload) = self.read();
            match kind {
                SETTINGS if flags & ACK == 0 => self.write(SETTINGS, ACK, 0, &[]),
                PING if flags & ACK == 0 => self.write(PING, ACK, 0, &payload),
                // `:status: 200` is an entry of the static table, and stands first
                HEADERS => drop(statuses.insert(id, if payload[0] == 0x88 { 200 } else { 0 })),
                DATA => bodies.entry(id).or_default().extend(&payload),
                _ => {}
            }
            if matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 {
                let body = bodies.remove(&id).unwrap_or_default();
                whole.insert(id, (statuses[&id], serde_json::from_slice(&body).unwrap()));
            }
        }
        whole
    }
}

/// A header with a value of less than 127 bytes that is not compressed.
fn literal(block: &mut Vec<u8>, name: &[u8], value: &str) {
    block.extend(name);
    block.push(u8::try_from(value.len()).unwrap());
    block.extend(value.as_bytes());
}

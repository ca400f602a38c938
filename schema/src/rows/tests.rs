//! Data files as people and programs write them.

use std::path::PathBuf;
use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use ::parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use ::parquet::file::properties::WriterProperties;
use arrow::array::{
    Array as _, ArrayRef, BinaryArray, Decimal128Array, DictionaryArray, FixedSizeBinaryArray,
    FixedSizeListArray, Int32Array, Int64Array, Int64Builder, ListArray, MapBuilder, RecordBatch,
    StringArray, StringBuilder, StructArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field};

use super::*;
use crate::prompt::Prompt;

/// A file in a temporary folder, which is deleted with it.
struct DataFile {
    path: PathBuf,
    _dir: tempfile::TempDir,
}

fn data_file(name: &str, bytes: &[u8]) -> DataFile {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    DataFile { path, _dir: dir }
}

fn table(columns: Vec<(&str, ArrayRef)>, compression: Compression) -> DataFile {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    )
    .unwrap();
    let properties = WriterProperties::builder().set_compression(compression).build();
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    DataFile { path, _dir: dir }
}

/// The cells of one column as JSON text.
fn column(file: &DataFile, name: &str) -> Result<Vec<String>, String> {
    let cell = |row: &Row| Ok(row.get(name).map_or("-", |cell| cell.get()).to_owned());
    read_all(&file.path, &[name], cell).map_err(|error| error.to_string())
}

#[test]
fn json_lines_are_read_with_byte_order_mark_line_ends_and_blank_lines() {
    let wanted = ["\"a\"".to_owned(), "12345678901234567890123".to_owned(), "null".to_owned()];
    let rows = ["{\"x\": \"a\", \"y\": [1]}", "{\"x\": 12345678901234567890123}", "{\"x\":null}"];
    for text in [
        rows.join("\n"),
        format!("\u{feff}{}\r\n\r\n", rows.join("\r\n")),
        format!("[{}]", rows.join(",\n")),
        format!("\u{feff}\n[\n{}\n]\n", rows.join(",")),
    ] {
        for name in ["t.jsonl", "t.json", "t.data"] {
            let file = data_file(name, text.as_bytes());
            assert_eq!(column(&file, "x").unwrap(), wanted, "{name} {text:?}");
        }
    }
}

#[test]
fn errors_name_the_file_and_the_place() {
    let cases: [(&str, &[u8], &str); 16] = [
        ("t.jsonl", b"{\"x\":1}\n{\"x\":", "t.jsonl:2: invalid JSON: EOF"),
        ("t.jsonl", b"{\"x\":1}\n[2]", "t.jsonl:2: invalid type: sequence, expected one object"),
        ("t.jsonl", b"{\"x\":1,\"x\":2}", "t.jsonl:1: column `x` occurs twice"),
        ("t.jsonl", b"{\"x\":1} {\"x\":2}", "t.jsonl:1: invalid JSON: trailing characters"),
        ("t.jsonl", b"{\"x\":\"\xff\"}", "t.jsonl:1: not readable as UTF-8 text"),
        ("t.json", b"[{\"x\":1},\n 7]", "t.json: row 2: invalid type: integer `7`"),
        ("t.json", b"[{\"x\":1}", "t.json: row 2: invalid JSON: EOF"),
        ("t.json", b"[{\"x\":1}] 3", "t.json: after the end of the JSON array"),
        (
            "t.jsonl",
            b"{\"y\":1,\"x\":[NaN]}",
            "t.jsonl:1: column `x` has a number that JSON does not know",
        ),
        ("t.jsonl", b"{\"x\":-Infinity}", "are no JSON; write null"),
        ("t.json", b"[{\"x\":1},\n{\"x\":NaN}]", "t.json: row 2: column `x` has a number that"),
        ("t.json", b"[{\"x\":\"\xff\"}]", "t.json: not readable as UTF-8 text"),
        ("t.jsonl.gz", b"\x1f\x8b\x08", "is compressed by gzip; decompress it first"),
        ("t.jsonl", b"\xff\xfe{\x00", "is UTF-16 text, wanted UTF-8"),
        ("t.csv", b"x\n1", "t.csv: unknown file type"),
        ("t.parquet", b"{\"x\":1}", "t.parquet: is no Parquet file"),
    ];
    for (name, bytes, wanted) in cases {
        let message = column(&data_file(name, bytes), "x").unwrap_err();
        assert!(message.contains(wanted), "{message} {wanted}");
        assert!(!message.contains('\n'), "{message}");
    }
}

#[test]
fn cells_are_read_with_errors_that_name_the_column() {
    let file = data_file("t.jsonl", b"{\"x\": 7, \"n\": null, \"l\": [1], \"b\": true}");
    let columns = ["x", "n", "l", "b", "none"];
    let ids = |column: &str| {
        read_all(&file.path, &columns, |row| row.id(column)).map_err(|error| error.to_string())
    };
    assert_eq!(ids("x").unwrap(), [Some("7".to_owned())]);
    assert_eq!(ids("n").unwrap(), [None]);
    assert!(
        ids("l")
            .unwrap_err()
            .ends_with("t.jsonl:1: column `l` is a list, wanted a text or a number")
    );
    let required = |column: &str| {
        read_all(&file.path, &columns, |row| row.required::<String>(column))
            .unwrap_err()
            .to_string()
    };
    assert!(required("n").ends_with("t.jsonl:1: column `n` is null"));
    assert!(required("none").ends_with("column `none` is missing (there are: x, n, l, b)"));
    assert!(required("x").contains("column `x` invalid type: integer `7`"));
}

#[test]
fn parquet_text_without_annotation_is_text() {
    let texts: [Option<&[u8]>; 3] = [Some("Überschuß".as_bytes()), None, Some(b"1+1?")];
    let binary: ArrayRef = Arc::new(BinaryArray::from(texts.to_vec()));
    let roles: ArrayRef = Arc::new(BinaryArray::from(vec![Some(&b"user"[..]); 3]));
    let message = StructArray::from(vec![
        (Arc::new(Field::new("role", DataType::Binary, true)), roles),
        (Arc::new(Field::new("content", DataType::Binary, true)), binary.clone()),
    ]);
    let item = Arc::new(Field::new("item", message.data_type().clone(), true));
    let lengths = OffsetBuffer::from_lengths([1, 1, 1]);
    let messages: ArrayRef = Arc::new(ListArray::new(item, lengths, Arc::new(message), None));
    // as Arrow keeps categories, and lists of them
    let keys = Int32Array::from(vec![1, 0, 1, 0, 0, 1]);
    let values = BinaryArray::from(vec![&b"no"[..], b"yes"]);
    let words: ArrayRef = Arc::new(DictionaryArray::new(keys, Arc::new(values)));
    let field = |array: &ArrayRef| Arc::new(Field::new("item", array.data_type().clone(), true));
    let lengths = OffsetBuffer::from_lengths([1, 2, 3]);
    let lists: ArrayRef =
        Arc::new(ListArray::new(field(&words), lengths, Arc::clone(&words), None));
    let plain: ArrayRef =
        Arc::new(BinaryArray::from(vec![&b"a"[..], b"b", b"c", b"d", b"e", b"f"]));
    let pairs: ArrayRef = Arc::new(FixedSizeListArray::new(field(&plain), 2, plain, None));
    let columns =
        vec![("x", binary), ("m", messages), ("w", words.slice(0, 3)), ("l", lists), ("p", pairs)];
    let file = table(columns, Compression::SNAPPY);
    assert_eq!(column(&file, "w").unwrap(), ["\"yes\"", "\"no\"", "\"yes\""]);
    assert_eq!(column(&file, "l").unwrap()[1], "[\"no\",\"yes\"]");
    assert_eq!(column(&file, "p").unwrap()[2], "[\"e\",\"f\"]");
    assert_eq!(column(&file, "x").unwrap(), ["\"Überschuß\"", "null", "\"1+1?\""]);
    assert_eq!(column(&file, "m").unwrap()[2], "[{\"role\":\"user\",\"content\":\"1+1?\"}]");

    let bad: ArrayRef = Arc::new(BinaryArray::from(vec![&b"a"[..], &b"\xff\xfe"[..]]));
    let message = column(&table(vec![("x", bad)], Compression::UNCOMPRESSED), "x").unwrap_err();
    assert!(message.contains("t.parquet: row 2: column `x` is not readable as UTF-8"), "{message}");
    assert!(!message.contains('\n'), "{message}");
    let keys = Int32Array::from(vec![0, 0, 1]);
    let values = BinaryArray::from(vec![&b"a"[..], b"\xff"]);
    let bad: ArrayRef = Arc::new(DictionaryArray::new(keys, Arc::new(values)));
    let message = column(&table(vec![("x", bad)], Compression::UNCOMPRESSED), "x").unwrap_err();
    assert!(message.contains("t.parquet: row 3: column `x`"), "{message}");
}

#[test]
fn parquet_uuids_are_text() {
    for name in ["uuids.parquet", "plain_uuids.parquet"] {
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden");
        let path = std::path::Path::new(golden).join(name);
        let rows = |row: &Row| Ok((row.id("id")?, row.id("text")?));
        let rows = read_all(&path, &["id", "text"], rows).unwrap();
        assert_eq!(rows.len(), 6);
        assert_eq!(rows[4].0.as_deref(), Some("00000000-0000-0000-0000-000000000000"));
        for (idx, (uuid, text)) in rows.into_iter().enumerate() {
            assert_eq!(uuid, text, "{name} {idx}");
        }
        // bytes that nobody calls a UUID are none
        let refused = read_all(&path, &["bytes"], |row| row.id("bytes")).unwrap_err().to_string();
        assert!(refused.contains("column `bytes` holds values of the type"), "{refused}");
    }
}

#[test]
fn parquet_columns_that_nobody_asks_for_do_not_matter() {
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    let times: ArrayRef =
        Arc::new(TimestampMicrosecondArray::from(vec![1, 2]).with_timezone("Europe/Berlin"));
    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    map.append(true).unwrap();
    map.append(true).unwrap();
    let map: ArrayRef = Arc::new(map.finish());
    let prices: ArrayRef =
        Arc::new(Decimal128Array::from(vec![125, -5]).with_precision_and_scale(20, 2).unwrap());
    let file = table(
        vec![("x", texts), ("t", times), ("m", map), ("p", prices)],
        Compression::UNCOMPRESSED,
    );
    assert_eq!(column(&file, "x").unwrap(), ["\"a\"", "\"b\""]);
    let times = ["\"1970-01-01T00:00:00.000001Z\"", "\"1970-01-01T00:00:00.000002Z\""];
    assert_eq!(column(&file, "t").unwrap(), times);
    assert_eq!(column(&file, "m").unwrap(), ["{}", "{}"]);
    let prices = column(&file, "p").unwrap();
    assert_eq!(prices.map_to_numbers(), ["1.25", "-0.05"]);
    let missing = column(&file, "z").unwrap_err();
    assert!(missing.ends_with("none of the columns z (there are: x, t, m, p)"), "{missing}");
}

#[test]
fn parquet_chats_are_read_beside_times_and_maps_of_their_messages() {
    let texts = |values: [&str; 2]| -> ArrayRef { Arc::new(StringArray::from(values.to_vec())) };
    // the form of WildChat, with fields that have no JSON
    let times: ArrayRef =
        Arc::new(TimestampMicrosecondArray::from(vec![1, 2]).with_timezone("UTC"));
    let mut by_number = MapBuilder::new(None, Int64Builder::new(), StringBuilder::new());
    let mut by_name = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for _ in 0..2 {
        by_number.keys().append_value(1);
        by_number.values().append_value("x");
        by_number.append(true).unwrap();
        by_name.keys().append_value("score");
        by_name.values().append_value("high");
        by_name.append(true).unwrap();
    }
    let ids: ArrayRef =
        Arc::new(FixedSizeBinaryArray::try_from_iter([[1_u8, 2], [3, 4]].iter()).unwrap());
    let message = StructArray::try_from(vec![
        ("role", texts(["user", "user"])),
        ("at", times),
        ("by_number", Arc::new(by_number.finish()) as ArrayRef),
        ("content", texts(["a", "b"])),
        ("hash", Arc::clone(&ids)),
        ("by_name", Arc::new(by_name.finish()) as ArrayRef),
    ])
    .unwrap();
    let item = Arc::new(Field::new("item", message.data_type().clone(), true));
    let chats = ListArray::new(item, OffsetBuffer::from_lengths([1, 1]), Arc::new(message), None);
    let file = table(
        vec![("hash", ids), ("messages", Arc::new(chats)), ("prompt", texts(["p", "q"]))],
        Compression::UNCOMPRESSED,
    );
    let cells = column(&file, "messages").unwrap();
    let wanted = [
        r#"[{"role":"user","at":"1970-01-01T00:00:00.000001Z","content":"a","#,
        r#""by_name":{"score":"high"}}]"#,
    ];
    assert_eq!(cells[0], wanted.concat());
    let prompts = read_all(&file.path, &["prompt", MESSAGES], |row| Ok(row.prompt("prompt")?.1));
    assert_eq!(prompts.unwrap()[1], Prompt::Text("q".to_owned()));
    let message = column(&file, "hash").unwrap_err();
    assert!(message.contains("column `hash` holds values of the type"), "{message}");
}

/// Decimals may be JSON numbers or texts; both are the same answer.
trait Numbers {
    fn map_to_numbers(&self) -> Vec<String>;
}

impl Numbers for Vec<String> {
    fn map_to_numbers(&self) -> Vec<String> {
        self.iter().map(|cell| cell.trim_matches('"').to_owned()).collect()
    }
}

#[test]
fn parquet_is_read_in_every_compression_and_keeps_integers() {
    let codecs = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
        Compression::BROTLI(BrotliLevel::default()),
        Compression::ZSTD(ZstdLevel::default()),
    ];
    for codec in codecs {
        let large: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX, 9_007_199_254_740_993]));
        let signed: ArrayRef = Arc::new(Int64Array::from(vec![i64::MIN, 0]));
        let file = table(vec![("u", large), ("i", signed)], codec);
        let wanted = ["18446744073709551615", "9007199254740993"];
        assert_eq!(column(&file, "u").unwrap(), wanted, "{codec:?}");
        assert_eq!(column(&file, "i").unwrap()[0], "-9223372036854775808");
    }
}

#[test]
fn read_stops_where_the_caller_has_enough() {
    let lines = data_file("t.jsonl", b"{\"x\":1}\n{\"x\":2}\nbroken");
    let array = data_file("t.json", b"[{\"x\":1},{\"x\":2},broken");
    for file in [lines, array] {
        let mut n_rows = 0;
        read(&file.path, &["x"], &mut |row| {
            n_rows = row.place().number();
            Ok(if n_rows == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })
        .unwrap();
        assert_eq!(n_rows, 2);
    }
}

/// Reads a column of `bytes` that come through a pipe of the given name.
fn piped(name: &str, bytes: Vec<u8>) -> Result<Vec<String>, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    let (sender, receiver) = std::sync::mpsc::channel();
    let to = path.clone();
    // a reader that has enough closes the pipe
    std::thread::spawn(move || std::fs::write(to, bytes));
    std::thread::spawn(move || {
        let cell = |row: &Row| Ok(row.get("x").map_or("-", |cell| cell.get()).to_owned());
        sender.send(read_all(&path, &["x"], cell).map_err(|error| error.to_string()))
    });
    // a reader that opened the pipe again would wait for ever
    let limit = std::time::Duration::from_secs(60);
    receiver.recv_timeout(limit).expect("the pipe is read once, from its beginning to its end")
}

#[test]
fn pipes_are_read_from_their_beginning_to_their_end() {
    let wanted: Vec<String> = (0..3000).map(|number| number.to_string()).collect();
    let rows: Vec<String> = wanted.iter().map(|number| format!("{{\"x\": {number}}}")).collect();
    assert_eq!(piped("t.jsonl", rows.join("\n").into_bytes()).unwrap(), wanted);
    assert_eq!(piped("t", rows.join("\n").into_bytes()).unwrap(), wanted);
    assert_eq!(piped("t.json", format!("[{}]", rows.join(",")).into_bytes()).unwrap(), wanted);
    assert_eq!(piped("few", b"{\"x\": 7}".to_vec()).unwrap(), ["7"]);
    let large: ArrayRef = Arc::new(UInt64Array::from((0..9000).collect::<Vec<u64>>()));
    let file = table(vec![("x", large)], Compression::UNCOMPRESSED);
    let message = piped("t.parquet", std::fs::read(&file.path).unwrap()).unwrap_err();
    assert!(message.ends_with("not through a pipe; write it to a file first"), "{message}");
}

fn prompt(row: &str) -> Result<Prompt, String> {
    let file = data_file("p.jsonl", row.as_bytes());
    let prompts = read_all(&file.path, &["prompt", MESSAGES], |row| Ok(row.prompt("prompt")?.1));
    prompts.map(|mut prompts| prompts.remove(0)).map_err(|error| error.to_string())
}

#[test]
fn chats_of_files_keep_fields_that_only_templates_know() {
    let chat = r#"[{"content":"5","role":"assistant","tool_plan":"Add.","weight":0,"name":null}]"#;
    let text = serde_json::to_string(chat).unwrap();
    for row in [format!(r#"{{"messages": {chat}}}"#), format!(r#"{{"prompt": {text}}}"#)] {
        let wanted = r#"[{"role":"assistant","content":"5","tool_plan":"Add.","weight":0}]"#;
        assert_eq!(prompt(&row).unwrap().to_column(), wanted);
    }
}

#[test]
fn chats_of_files_are_refused_for_integers_that_would_lose_digits() {
    let chat = |id: &str| {
        format!(
            r#"[{{"role": "assistant", "tool_calls": [{{"arguments": {{"id": {id}}}}}], "n": 1}}]"#
        )
    };
    for fine in [
        "18446744073709551615",
        "-9223372036854775808",
        "1e25",
        "0.12345678901234567890123",
        "12345678901234567890.5",
        r#""123456789012345678901234""#,
        r#""\\\"123456789012345678901234""#,
        r#"["\\", 1]"#,
        "-0",
    ] {
        assert!(prompt(&format!(r#"{{"prompt": {}}}"#, chat(fine))).is_ok(), "{fine}");
    }
    for large in ["18446744073709551616", "-9223372036854775809", "123456789012345678901234"] {
        let text = serde_json::to_string(&chat(large)).unwrap();
        for (cell, words) in [(chat(large), ""), (text, "holds a chat: ")] {
            let message = prompt(&format!(r#"{{"prompt": {cell}}}"#)).unwrap_err();
            let wanted = format!(
                "p.jsonl:1: column `prompt` {words}has the integer {large}, beyond 64 bits; write \
                 it as a text"
            );
            assert!(message.ends_with(&wanted), "{message}");
        }
    }
    assert!(prompt(r#"{"prompt": "123456789012345678901234"}"#).is_ok());
}

#[test]
fn template_kwargs_are_tools_and_others_as_data_sets_have_them() {
    let kwargs = |prompt: &str, cells: &str| {
        let file = data_file("p.jsonl", format!(r#"{{"prompt": {prompt}{cells}}}"#).as_bytes());
        let columns = [&["prompt"], &TEMPLATE_COLUMNS[..]].concat();
        let rows =
            read_all(&file.path, &columns, |row| row.template_kwargs(&row.prompt("prompt")?.1));
        let rows = rows.map_err(|error| error.to_string().split_off(file.path.as_os_str().len()));
        rows.map(|rows| serde_json::to_string(&rows[0]).unwrap())
    };
    let chat = r#"[{"role": "user", "content": "a"}]"#;
    let tool = r#"[{"type": "function", "function": {"name": "f", "a": null}}]"#;
    let in_text = serde_json::to_string(tool).unwrap();
    for cell in [tool, &in_text] {
        let wanted = format!(r#"{{"tools":{}}}"#, tool.replace(' ', ""));
        assert_eq!(kwargs(chat, &format!(r#", "tools": {cell}"#)), Ok(wanted));
    }
    let others = r#", "tools": [], "chat_template_kwargs": {"enable_thinking": false, "x": null}"#;
    assert_eq!(kwargs(chat, others), Ok(r#"{"enable_thinking":false}"#.to_owned()));
    for none in ["", r#", "tools": null"#, r#", "tools": """#, r#", "tools": "null""#] {
        assert_eq!(kwargs(chat, none), Ok("{}".to_owned()), "{none}");
    }
    for (cells, wanted) in [
        (r#""tools": "hammer""#, ":1: column `tools` is another text, wanted a list for the chat"),
        (r#""tools": {"a": 1}"#, ":1: column `tools` is an object, wanted a list"),
        (r#""tools": "[1""#, ":1: column `tools` is unreadable JSON, wanted a list"),
        (r#""tools": [184467440737095516160]"#, "has the integer 184467440737095516160, beyond"),
        (r#""chat_template_kwargs": {"messages": []}"#, "`chat_template_kwargs` has `messages`"),
    ] {
        let message = kwargs(chat, &format!(", {cells}")).unwrap_err();
        assert!(message.contains(wanted), "{message}");
        assert_eq!(kwargs("\"a\"", &format!(", {cells}")), Ok("{}".to_owned()));
    }
}

#[test]
fn rows_are_read_whole_with_all_their_columns() {
    let whole = |file: &DataFile| {
        let mut rows = Vec::new();
        let read = read_whole(&file.path, &mut |row| {
            rows.push(row.object());
            Ok(ControlFlow::Continue(()))
        });
        read.map(|()| rows).map_err(|error| error.to_string())
    };
    let lines = data_file("a.jsonl", b"{\"b\": 0.50, \"a \\\"\": [1,  null]}\n{\"c\": {}}\n");
    let wanted = ["{\"b\":0.50,\"a \\\"\":[1,null]}", "{\"c\":{}}"];
    assert_eq!(whole(&lines).unwrap(), wanted);
    // one line each, also of a file with indented ones; texts and digits stay as they are
    let text = br#"[
        {
            "m": [ {"a b": " \\\" x"}, 36893488147419103233
            ]
        }
    ]"#;
    let indented = data_file("b.json", text);
    let wanted = ["{\"m\":[{\"a b\":\" \\\\\\\" x\"},36893488147419103233]}"];
    assert_eq!(whole(&indented).unwrap(), wanted);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("x", Arc::new(Int64Array::from(vec![1]))),
        ("y", Arc::new(StringArray::from(vec![None::<&str>]))),
    ];
    let parquet = table(columns, Compression::UNCOMPRESSED);
    assert_eq!(whole(&parquet).unwrap(), ["{\"x\":1,\"y\":null}"]);
    // a column that cannot be told is an error now
    let odd = data_file("b.jsonl", b"{\"a\": 1, \"b\": NaN}\n");
    assert!(whole(&odd).unwrap_err().contains("column `b` has a number that JSON does not know"));
}

#[test]
fn floats_that_are_no_numbers_do_not_matter_in_columns_that_nobody_reads() {
    let rows = [
        r#"{"y": NaN, "x": "NaN \"Infinity\" \u00e9\\", "z": [-Infinity, {"a": Infinity}]}"#,
        r#"{"x": "-Infinity", "y": 1}"#,
    ];
    for (name, text) in [("t.jsonl", rows.join("\n")), ("t.json", format!("[{}]", rows.join(",")))]
    {
        let file = data_file(name, text.as_bytes());
        let texts = read_all(&file.path, &["x"], |row| row.required::<String>("x")).unwrap();
        assert_eq!(texts, ["NaN \"Infinity\" \u{e9}\\", "-Infinity"]);
    }
}

#[test]
fn prompts_that_are_no_text_or_no_json_are_refused_in_words() {
    for (cell, wanted) in [
        (
            r#""a \ud83d b""#,
            r"column `prompt` has half of a surrogate pair (\ud83d), which is no text",
        ),
        (r#""\\\ud83d\ude00 \ude00""#, r"has half of a surrogate pair (\ude00), which is no text"),
        (r#""\ud83d\u0041""#, r"has half of a surrogate pair (\ud83d), which is no text"),
        (
            r#"" [{'role': 'user', 'content': 'hi'}]""#,
            "column `prompt` is a chat as Python prints it, which is no JSON",
        ),
        (r#""[{'content': 'hi', 'role': 'user'}]""#, "as Python prints it"),
    ] {
        let message = prompt(&format!(r#"{{"prompt": {cell}}}"#)).unwrap_err();
        assert!(message.contains(wanted), "{message}");
    }
    for fine in [r#""\ud83d\ude00""#, r#""\\\\ud83d""#, r#""[{'a': 1}] is a list""#] {
        assert!(prompt(&format!(r#"{{"prompt": {fine}}}"#)).is_ok(), "{fine}");
    }
}

#[test]
fn first_rows_are_read_and_what_follows_them_does_not_matter() {
    let number = |row: &Row| row.required::<u64>("x");
    let rows = ["{\"x\": 1, \"y\": \"a\"}", "{\"x\": 2}", "{\"x\": \"bad\"}", "no JSON"];
    // the text behind the second row is not readable
    let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![&b"a"[..], b"b", b"\xff", b"c"]));
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4]));
    for file in [
        data_file("t.jsonl", rows.join("\n").as_bytes()),
        data_file("t.json", format!("[{}]", rows.join(",")).as_bytes()),
        table(vec![("x", numbers), ("y", bytes)], Compression::UNCOMPRESSED),
    ] {
        let first = |n_rows| read_first(&file.path, &["x", "y"], n_rows, number);
        assert_eq!(first(1).unwrap(), [1]);
        assert_eq!(first(2).unwrap(), [1, 2]);
        assert!(first(3).is_err(), "{}", file.path.display());
        assert_eq!(columns(&file.path).unwrap(), ["x", "y"]);
    }
    assert_eq!(columns(&data_file("t.jsonl", b"\n").path).unwrap(), [""; 0]);
}

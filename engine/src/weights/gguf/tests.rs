//! GGUF files that a writer of this file makes, whole, damaged and incomplete.

use std::io::Write as _;
use std::path::Path;

use proptest::prelude::*;

use super::header::{DEFAULT_ALIGNMENT, GgufHeader, MAGIC};
use super::*;

/// A GGUF file under construction.
#[derive(Clone, Default)]
pub(crate) struct GgufWriter {
    values: Vec<u8>,
    n_values: u64,
    table: Vec<u8>,
    n_tensors: u64,
    data: Vec<u8>,
}

impl GgufWriter {
    fn text(out: &mut Vec<u8>, text: &str) {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    }

    pub(crate) fn value(mut self, key: &str, type_id: u32, bytes: &[u8]) -> Self {
        Self::text(&mut self.values, key);
        self.values.extend(type_id.to_le_bytes());
        self.values.extend(bytes);
        self.n_values += 1;
        self
    }

    pub(crate) fn u32(self, key: &str, value: u32) -> Self {
        self.value(key, 4, &value.to_le_bytes())
    }

    fn f32(self, key: &str, value: f32) -> Self {
        self.value(key, 6, &value.to_le_bytes())
    }

    pub(crate) fn str(self, key: &str, text: &str) -> Self {
        let mut bytes = Vec::new();
        Self::text(&mut bytes, text);
        self.value(key, 8, &bytes)
    }

    pub(crate) fn strings(self, key: &str, texts: &[&str]) -> Self {
        let mut bytes = 8_u32.to_le_bytes().to_vec();
        bytes.extend((texts.len() as u64).to_le_bytes());
        for text in texts {
            Self::text(&mut bytes, text);
        }
        self.value(key, 9, &bytes)
    }

    fn entry(mut self, name: &str, dims: &[u64], type_id: u32, offset: u64) -> Self {
        Self::text(&mut self.table, name);
        self.table.extend((dims.len() as u32).to_le_bytes());
        self.table.extend(dims.iter().flat_map(|dim| dim.to_le_bytes()));
        self.table.extend(type_id.to_le_bytes());
        self.table.extend(offset.to_le_bytes());
        self.n_tensors += 1;
        self
    }

    /// Adds a tensor of 32-bit floats; `dims` are innermost first.
    fn tensor(mut self, name: &str, dims: &[u64], values: &[f32]) -> Self {
        self.data.resize(self.data.len().next_multiple_of(DEFAULT_ALIGNMENT), 0);
        let offset = self.data.len() as u64;
        self.data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        self.entry(name, dims, 0, offset)
    }

    fn bytes(&self, version: u32) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(version.to_le_bytes());
        bytes.extend(self.n_tensors.to_le_bytes());
        bytes.extend(self.n_values.to_le_bytes());
        bytes.extend(&self.values);
        bytes.extend(&self.table);
        bytes.resize(bytes.len().next_multiple_of(DEFAULT_ALIGNMENT), 0);
        bytes.extend(&self.data);
        bytes
    }

    pub(crate) fn open(&self) -> GgufFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&self.bytes(3)).unwrap();
        GgufFile::open(file.path()).unwrap()
    }

    fn error(&self) -> String {
        parse(&self.bytes(3)).unwrap_err()
    }
}

fn parse(bytes: &[u8]) -> Result<GgufHeader, String> {
    GgufHeader::parse(Path::new("m.gguf"), bytes).map_err(|error| error.to_string())
}

/// A model of one layer with two heads of 4 and one key/value head.
fn model(arch: &str) -> GgufWriter {
    let key = |name: &str| format!("{arch}.{name}");
    GgufWriter::default()
        .str("general.architecture", arch)
        .u32(&key("embedding_length"), 8)
        .u32(&key("feed_forward_length"), 16)
        .u32(&key("block_count"), 1)
        .u32(&key("attention.head_count"), 2)
        .u32(&key("attention.head_count_kv"), 1)
        .u32(&key("context_length"), 64)
        .f32(&key("attention.layer_norm_rms_epsilon"), 1e-5)
        .f32(&key("rope.freq_base"), 1e6)
        .strings("tokenizer.ggml.tokens", &["a", "b", "c"])
        .u32("tokenizer.ggml.eos_token_id", 2)
        .tensor("token_embd.weight", &[8, 4], &[0.5; 32])
}

#[test]
fn gguf_open_reads_header_and_tensors() {
    let values: Vec<f32> = (0..6_u8).map(f32::from).collect();
    let writer = GgufWriter::default()
        .value("i", 5, &(-7_i32).to_le_bytes())
        .value("u", 10, &7_u64.to_le_bytes())
        .value("b", 7, &[1])
        .value("d", 12, &0.25_f64.to_le_bytes())
        .strings("list", &["x", ""])
        .str("text", "ä")
        .tensor("w", &[3, 2], &values)
        .tensor("scalar", &[], &[2.5]);
    for version in [2, 3] {
        assert!(parse(&writer.bytes(version)).is_ok());
    }
    let file = writer.open();
    assert_eq!(file.metadata("i"), Some(&GgufValue::Signed(-7)));
    assert_eq!(file.metadata("i").and_then(GgufValue::as_u64), None);
    assert_eq!(file.metadata("i").and_then(GgufValue::as_f64), Some(-7.0));
    assert_eq!(file.metadata("u").and_then(GgufValue::as_u64), Some(7));
    assert_eq!(file.metadata("b").and_then(GgufValue::as_bool), Some(true));
    assert_eq!(file.metadata("d").and_then(GgufValue::as_f64), Some(0.25));
    assert_eq!(file.metadata("text").and_then(GgufValue::as_str), Some("ä"));
    let list = file.metadata("list").and_then(GgufValue::as_array).unwrap();
    assert_eq!(list.iter().filter_map(GgufValue::as_str).collect::<Vec<_>>(), ["x", ""]);
    assert_eq!(file.metadata("absent"), None);

    let names: Vec<&str> = file.tensors().map(|info| info.name.as_str()).collect();
    assert_eq!(names, ["w", "scalar"]);
    let info = file.tensor("w").unwrap();
    assert_eq!((info.shape.as_slice(), info.n_bytes), ([2, 3].as_slice(), 24));
    assert_eq!(file.bytes(info)[4..8], 1.0_f32.to_le_bytes());
    let scalar = file.tensor("scalar").unwrap();
    assert_eq!((scalar.n_elements(), file.bytes(scalar)), (1, 2.5_f32.to_le_bytes().as_slice()));
}

#[test]
fn header_parse_refuses_a_file_truncated_anywhere() {
    let bytes = model("llama").bytes(3);
    for n in 0..bytes.len() {
        let error = parse(&bytes[..n]).unwrap_err();
        assert!(error.starts_with("m.gguf: "), "{n}: {error}");
    }
}

#[test]
fn header_parse_names_what_is_wrong() {
    let huge = u64::MAX.to_le_bytes();
    let mut huge_array = 0_u32.to_le_bytes().to_vec();
    huge_array.extend(huge);
    let cases = [
        (
            GgufWriter::default().value("k", 77, &[]),
            "metadata key k: 77 is not a value type of GGUF",
        ),
        (GgufWriter::default().value("k", 7, &[3]), "metadata key k: 3 is not a boolean"),
        (GgufWriter::default().value("k", 8, &huge), "bytes of text do not fit into"),
        (GgufWriter::default().value("k", 9, &huge_array), "array elements do not fit into"),
        (GgufWriter::default().u32("k", 1).u32("k", 1), "metadata key k appears twice"),
        (GgufWriter::default().u32("general.alignment", 3), "it must be a power of two"),
        (GgufWriter::default().entry("w", &[4, 4, 4, 4, 4], 0, 0), "has 5 dimensions"),
        (
            GgufWriter::default().entry("w", &[4], 0, 0),
            "tensor w: its 16 bytes at offset 0 end after",
        ),
        (GgufWriter::default().entry("w", &[4], 0, 8), "offset 8 is not a multiple of 32"),
        (GgufWriter::default().entry("w", &[4], 0, !31), "end after the file"),
        (GgufWriter::default().entry("w", &[1 << 40, 1 << 40], 0, 0), "overflows"),
        (GgufWriter::default().entry("w", &[33], 8, 0), "do not divide into Q8_0 blocks of 32"),
        (
            GgufWriter::default().entry("w", &[256], 10, 0),
            "tensor w: tensor type Q2_K is not supported",
        ),
        (GgufWriter::default().tensor("w", &[1], &[1.0]).entry("w", &[1], 0, 0), "w appears twice"),
    ];
    for (writer, wanted) in cases {
        let error = writer.error();
        assert!(error.contains(wanted), "{error:?} lacks {wanted:?}");
    }
    let version = |version: u32| parse(&GgufWriter::default().bytes(version)).unwrap_err();
    assert!(version(1).contains("GGUF version 1"));
    assert!(version(4).contains("GGUF version 4"));
    assert!(version(3_u32.swap_bytes()).contains("big-endian"));
    assert!(parse(b"GGML....").unwrap_err().contains("not a GGUF file"));
    let too_many = GgufWriter { n_tensors: 1 << 60, ..GgufWriter::default() };
    assert!(too_many.error().contains("tensors do not fit into"));
}

#[test]
fn header_parse_refuses_deep_nesting() {
    let mut nested = Vec::new();
    for _ in 0..10_000 {
        nested.extend(9_u32.to_le_bytes());
        nested.extend(1_u64.to_le_bytes());
    }
    let error = GgufWriter::default().value("k", 9, &nested).error();
    assert!(error.contains("nested deeper than"), "{error}");
}

proptest! {
    #[test]
    fn header_parse_does_not_panic_on_damaged_bytes(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = model("llama").bytes(3);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(header) = parse(&bytes) {
            for info in header.tensors {
                prop_assert!(info.offset + info.n_bytes <= bytes.len());
            }
        }
    }
}

#[test]
fn hf_config_of_a_llama() {
    let config = model("llama").open().hf_config().unwrap();
    let wanted = serde_json::json!({
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "hidden_act": "silu",
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1e6,
        "vocab_size": 4,
        "tie_word_embeddings": true,
        "attention_bias": false,
        "eos_token_id": 2,
    });
    assert_eq!(config, wanted);
}

#[test]
fn hf_config_of_a_qwen3_has_the_width_of_its_heads() {
    let given = model("qwen3").u32("qwen3.attention.key_length", 16).open().hf_config().unwrap();
    assert_eq!((&given["model_type"], &given["head_dim"]), (&"qwen3".into(), &16.into()));
    // as llama.cpp has it, not the default of transformers
    assert_eq!(model("qwen3").open().hf_config().unwrap()["head_dim"], 4);
}

#[test]
fn hf_config_of_a_qwen2_with_its_own_output_head() {
    let writer = model("qwen2")
        .u32("qwen2.attention.key_length", 4)
        .u32("tokenizer.ggml.eot_token_id", 1)
        .tensor("output.weight", &[8, 4], &[0.0; 32]);
    let config = writer.open().hf_config().unwrap();
    assert_eq!(config["architectures"][0], "Qwen2ForCausalLM");
    assert_eq!(config["head_dim"], 4);
    assert_eq!(config["tie_word_embeddings"], false);
    assert_eq!(config["attention_bias"], true);
    assert_eq!(config["eos_token_id"], serde_json::json!([2, 1]));
}

#[test]
fn hf_config_reads_linear_scaling_and_refuses_other_divisors() {
    let linear = model("llama").str("llama.rope.scaling.type", "linear");
    let config = linear.clone().f32("llama.rope.scaling.factor", 4.0).open().hf_config().unwrap();
    assert_eq!(config["rope_scaling"], serde_json::json!({"rope_type": "linear", "factor": 4.0}));
    let error = linear.open().hf_config().unwrap_err().to_string();
    assert!(error.contains("llama.rope.scaling.factor is missing"), "{error}");

    // the frequencies of heads of 4 with a base of 1e6 are 1 and 1e-3: the second makes 1.3 turns
    // in 8192 tokens, so its divisor lies between
    let turns = 8192.0e-3 / std::f64::consts::TAU;
    let smooth = (turns - 1.0) / 3.0;
    let between = 1.0 / ((1.0 - smooth) / 32.0 + smooth);
    let lower = model("llama").tensor("rope_freqs.weight", &[2], &[1.0, between as f32]);
    assert!(lower.open().hf_config().unwrap_err().to_string().contains("rope_freqs.weight"));
}

#[test]
fn hf_config_recovers_llama3_scaling() {
    // heads of 64 with a base of 500000, as Llama 3.2 has them
    let divisors: Vec<f32> = (0..32_i32)
        .map(|idx| {
            let frequency = 500_000.0_f64.powf(-f64::from(idx) / 32.0);
            let wavelength = std::f64::consts::TAU / frequency;
            if wavelength < 8192.0 / 4.0 {
                1.0
            } else if wavelength > 8192.0 {
                32.0
            } else {
                let smooth = (8192.0 / wavelength - 1.0) / 3.0;
                (1.0 / ((1.0 - smooth) / 32.0 + smooth)) as f32
            }
        })
        .collect();
    let writer = GgufWriter::default()
        .str("general.architecture", "llama")
        .u32("llama.embedding_length", 64)
        .u32("llama.feed_forward_length", 16)
        .u32("llama.block_count", 1)
        .u32("llama.attention.head_count", 1)
        .u32("llama.context_length", 131_072)
        .u32("llama.vocab_size", 5)
        .f32("llama.attention.layer_norm_rms_epsilon", 1e-5)
        .f32("llama.rope.freq_base", 500_000.0)
        .tensor("rope_freqs.weight", &[32], &divisors);
    let config = writer.open().hf_config().unwrap();
    let wanted = serde_json::json!({
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    });
    assert_eq!(config["rope_scaling"], wanted);
    assert_eq!((&config["num_key_value_heads"], &config["vocab_size"]), (&1.into(), &5.into()));
}

#[test]
fn hf_config_names_the_key_that_is_missing_or_unsupported() {
    let cases = [
        (GgufWriter::default(), "general.architecture is missing"),
        (model("gemma2"), "architecture gemma2 is not known (wanted qwen2, qwen3 or llama)"),
        (model("qwen3moe"), "architecture qwen3moe is not known"),
        (
            GgufWriter::default().str("general.architecture", "llama"),
            "llama.embedding_length is missing",
        ),
        (model("llama").u32("llama.expert_count", 8), "llama.expert_count is not supported"),
        (model("qwen2").u32("qwen2.rope.dimension_count", 2), "of 2 with heads of 4"),
        (model("llama").str("llama.rope.scaling.type", "yarn"), "type yarn is not supported"),
        (model("llama").str("tokenizer.ggml.bos_token_id", "x"), "is not a count"),
    ];
    for (writer, wanted) in cases {
        let error = writer.open().hf_config().unwrap_err().to_string();
        assert!(error.contains(wanted), "{error:?} lacks {wanted:?}");
    }
}

#[test]
fn hf_name_maps_llama_cpp_names() {
    let cases = [
        ("token_embd.weight", Some("model.embed_tokens.weight")),
        ("output_norm.weight", Some("model.norm.weight")),
        ("output.weight", Some("lm_head.weight")),
        ("blk.0.attn_norm.weight", Some("model.layers.0.input_layernorm.weight")),
        ("blk.12.ffn_norm.weight", Some("model.layers.12.post_attention_layernorm.weight")),
        ("blk.0.attn_q.weight", Some("model.layers.0.self_attn.q_proj.weight")),
        ("blk.0.attn_k.bias", Some("model.layers.0.self_attn.k_proj.bias")),
        ("blk.0.attn_v.bias", Some("model.layers.0.self_attn.v_proj.bias")),
        ("blk.0.attn_q_norm.weight", Some("model.layers.0.self_attn.q_norm.weight")),
        ("blk.1.attn_k_norm.weight", Some("model.layers.1.self_attn.k_norm.weight")),
        ("blk.1.attn_k_norm.bias", None),
        ("blk.0.attn_output.weight", Some("model.layers.0.self_attn.o_proj.weight")),
        ("blk.0.ffn_gate.weight", Some("model.layers.0.mlp.gate_proj.weight")),
        ("blk.0.ffn_up.weight", Some("model.layers.0.mlp.up_proj.weight")),
        ("blk.0.ffn_down.weight", Some("model.layers.0.mlp.down_proj.weight")),
        ("blk.x.ffn_down.weight", None),
        ("blk.0.attn_q.scale", None),
        ("rope_freqs.weight", None),
    ];
    for (gguf, hf) in cases {
        assert_eq!(hf_name(gguf).as_deref(), hf, "{gguf}");
    }
}

#[test]
fn unpermute_rows_restores_the_order_of_rows() {
    // two heads of 4, two columns: in a file the rows of a head stand as 0 2 1 3
    let row = |row: u8| [f32::from(row), f32::from(row) + 0.5];
    let mut data: Vec<f32> = [0, 2, 1, 3, 4, 6, 5, 7].into_iter().flat_map(row).collect();
    unpermute_rows(&mut data, 8, 2, 2).unwrap();
    assert_eq!(data, (0..8).flat_map(row).collect::<Vec<f32>>());

    // heads of 6 tell this order from its inverse
    let mut bias = vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0];
    unpermute_rows(&mut bias, 6, 1, 1).unwrap();
    assert_eq!(bias, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);

    assert!(unpermute_rows(&mut bias, 6, 1, 2).unwrap_err().contains("2 heads of an even size"));
    assert!(unpermute_rows(&mut bias, 6, 1, 0).is_err());
    assert!(unpermute_rows(&mut bias, 6, 2, 1).unwrap_err().contains("6 rows of 2"));
}

#[test]
fn hf_values_reorders_only_a_llama_file() {
    let values: Vec<f32> = (0..8_u8).map(f32::from).collect();
    for (arch, wanted) in [
        ("llama", [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]),
        ("qwen2", [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]),
    ] {
        let file = model(arch).tensor("blk.0.attn_q.bias", &[8], &values).open();
        let info = file.tensor("blk.0.attn_q.bias").unwrap();
        assert_eq!(file.hf_values(info).unwrap(), wanted);
        let info = file.tensor("token_embd.weight").unwrap();
        assert_eq!(file.hf_values(info).unwrap(), [0.5; 32]);
    }
}

/// A model with this vocabulary in which EOS is the token 0.
fn with_tokens(tokens: &[&str]) -> GgufWriter {
    GgufWriter::default()
        .str("general.architecture", "qwen2")
        .u32("qwen2.embedding_length", 8)
        .u32("qwen2.feed_forward_length", 16)
        .u32("qwen2.block_count", 1)
        .u32("qwen2.attention.head_count", 2)
        .u32("qwen2.context_length", 64)
        .f32("qwen2.attention.layer_norm_rms_epsilon", 1e-5)
        .strings("tokenizer.ggml.tokens", tokens)
        .u32("tokenizer.ggml.eos_token_id", 0)
        .tensor("token_embd.weight", &[8, 4], &[0.5; 32])
}

#[test]
fn hf_config_ends_at_every_token_with_the_name_of_an_end() {
    let ends = |writer: GgufWriter| writer.open().hf_config().unwrap()["eos_token_id"].clone();
    let all = |ids: &[u32]| serde_json::json!(ids);
    let chat = with_tokens(&["<|endoftext|>", "a", "<|im_end|>", "<|im_start|>"]);
    assert_eq!(ends(chat.clone()), all(&[0, 2]));
    assert_eq!(
        ends(with_tokens(&["<|end_of_text|>", "<|eot_id|>", "<|eom_id|>"])),
        all(&[0, 1, 2])
    );
    assert_eq!(ends(with_tokens(&["<eos>", "b", "<end_of_turn>"])), all(&[0, 2]));
    assert_eq!(ends(with_tokens(&["</s>", "<|end|>"])), all(&[0, 1]));
    assert_eq!(ends(with_tokens(&["</s>", "im_end", "<|IM_END|>"])), serde_json::json!(0));
    // by its key, whatever its name; each id once
    let by_key = chat.u32("tokenizer.ggml.eom_token_id", 1).u32("tokenizer.ggml.eot_token_id", 2);
    assert_eq!(ends(by_key), all(&[0, 2, 1]));
}

/// Two parts of a model, in a folder of their own.
fn split(n_parts: u16, second: Option<u16>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let numbered = |writer: GgufWriter, no: u16| {
        let all = 2_i32.to_le_bytes();
        let count = n_parts.to_le_bytes();
        let writer = writer.value("split.no", 2, &no.to_le_bytes());
        writer.value("split.count", 2, &count).value("split.tensors.count", 5, &all)
    };
    let write = |part: u16, writer: &GgufWriter| {
        let name = format!("m-{part:05}-of-{n_parts:05}.gguf");
        std::fs::write(dir.path().join(name), writer.bytes(3)).unwrap();
    };
    write(1, &numbered(with_tokens(&["a", "b", "c", "d"]), 0));
    if let Some(no) = second {
        let values: Vec<f32> = (0..8_u8).map(f32::from).collect();
        let writer = GgufWriter::default().tensor("output_norm.weight", &[8], &values);
        write(2, &numbered(writer, no));
    }
    dir
}

#[test]
fn gguf_open_reads_all_parts_of_a_split_model_whichever_is_named() {
    let dir = split(2, Some(1));
    for name in ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"] {
        let file = GgufFile::open(&dir.path().join(name)).unwrap();
        let norm = file.tensor("output_norm.weight").unwrap();
        assert_eq!(file.hf_values(norm).unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        let embedding = file.tensor("token_embd.weight").unwrap();
        assert_eq!(file.hf_values(embedding).unwrap(), [0.5; 32]);
        assert_eq!(file.hf_config().unwrap()["vocab_size"], 4);
    }
}

#[test]
fn gguf_open_names_the_part_of_a_split_model_that_is_missing_or_wrong() {
    let error = |dir: &tempfile::TempDir, name: &str| {
        GgufFile::open(&dir.path().join(name)).unwrap_err().to_string()
    };
    let dir = split(2, None);
    let told = error(&dir, "m-00001-of-00002.gguf");
    assert!(told.contains("m-00002-of-00002.gguf: part 2 of 2 of this model is missing"), "{told}");
    let dir = split(2, Some(0));
    let told = error(&dir, "m-00001-of-00002.gguf");
    assert!(told.contains("is part 1 of 2, by its split.no, not 2"), "{told}");
    std::fs::rename(dir.path().join("m-00001-of-00002.gguf"), dir.path().join("m.gguf")).unwrap();
    assert!(error(&dir, "m.gguf").contains("the first of 2 parts of a model, under another name"));
}

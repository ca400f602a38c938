//! The weights that a policy server holds, and what they sample. A thread has them for itself.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use joust_engine::device::{DType, DeviceChoice};
use joust_engine::weights::WeightMap;
use joust_engine::{
    Decoder, Engine, EngineConfig, Request, RequestId, Sample, SamplingParams, folder, forced,
};
use tch::{Device, Kind};
use tokio::sync::oneshot;

use super::faults::Faults;

const HEAD: &str = "lm_head.weight";

/// What is to be sampled.
pub(super) struct SampleOrder {
    pub(super) prompt: Vec<u32>,
    pub(super) params: SamplingParams,
    pub(super) wants_prompt_logprobs: bool,
}

/// What was sampled.
pub(super) struct Sampled {
    pub(super) samples: Vec<Sample>,
    /// Log-probability of each token of the prompt but the first; empty if nobody wants them.
    pub(super) prompt_logprobs: Vec<f32>,
}

enum Order {
    Sample(SampleOrder, oneshot::Sender<Result<Sampled, String>>),
    Reload(PathBuf, Faults, oneshot::Sender<Result<(), String>>),
    ForgetPrefixes(oneshot::Sender<()>),
}

/// The way to the thread with the weights.
#[derive(Clone)]
pub(super) struct ModelThread {
    orders: Sender<Order>,
}

impl ModelThread {
    pub(super) fn start(model: &Path) -> Self {
        let (orders, received) = channel();
        let model = model.to_owned();
        std::thread::spawn(move || obey(Weights::open(&model), &received));
        Self { orders }
    }

    pub(super) async fn sample(&self, order: SampleOrder) -> Result<Sampled, String> {
        let (reply, replied) = oneshot::channel();
        self.orders.send(Order::Sample(order, reply)).unwrap();
        replied.await.unwrap()
    }

    pub(super) async fn reload(&self, folder: PathBuf, faults: Faults) -> Result<(), String> {
        let (reply, replied) = oneshot::channel();
        self.orders.send(Order::Reload(folder, faults, reply)).unwrap();
        replied.await.unwrap()
    }

    pub(super) async fn forget_prefixes(&self) {
        let (reply, replied) = oneshot::channel();
        self.orders.send(Order::ForgetPrefixes(reply)).unwrap();
        replied.await.unwrap();
    }
}

fn obey(mut weights: Weights, orders: &Receiver<Order>) {
    while let Ok(order) = orders.recv() {
        // a caller that has gone away wants no reply
        match order {
            Order::Sample(order, reply) => _ = reply.send(weights.sample(order)),
            Order::Reload(folder, faults, reply) => {
                let _ = reply.send(weights.reload(&folder, &faults));
            }
            Order::ForgetPrefixes(reply) => {
                weights.forget_prefixes();
                let _ = reply.send(());
            }
        }
    }
}

/// Weights, and those before them for prompts that are still cached.
struct Weights {
    map: WeightMap,
    engine: Engine,
    known_prompts: BTreeSet<Vec<u32>>,
    before: Vec<(Engine, BTreeSet<Vec<u32>>)>,
}

impl Weights {
    fn open(model: &Path) -> Self {
        let (map, engine) = open(model, |_| {}).unwrap();
        Self { map, engine, known_prompts: BTreeSet::new(), before: Vec::new() }
    }

    fn reload(&mut self, model: &Path, faults: &Faults) -> Result<(), String> {
        let old = &self.map;
        let (map, engine) = open(model, |map| {
            let stays = |name: &str| {
                let is_missing = |part: &String| name.contains(&part[..]);
                name == HEAD && faults.keeps_old_head
                    || faults.missing_tensor.as_ref().is_some_and(is_missing)
            };
            for (name, tensor) in map.iter_mut().filter(|(name, _)| stays(name)) {
                *tensor = old[name].shallow_clone();
            }
        })?;
        let engine = std::mem::replace(&mut self.engine, engine);
        let known = std::mem::take(&mut self.known_prompts);
        if !known.is_empty() {
            self.before.push((engine, known));
        }
        self.map = map;
        Ok(())
    }

    fn forget_prefixes(&mut self) {
        self.engine.forget_prefixes();
        self.known_prompts.clear();
        self.before.clear();
    }

    fn sample(&mut self, order: SampleOrder) -> Result<Sampled, String> {
        let SampleOrder { prompt, params, wants_prompt_logprobs } = order;
        let mut prompt_logprobs = Vec::new();
        if wants_prompt_logprobs {
            let model = self.engine.model();
            let logprobs = forced::logprobs(model, &prompt[..1], &prompt[1..]);
            prompt_logprobs = logprobs.map_err(|error| error.to_string())?;
        }
        // the weights that a prompt was first seen with stay those of its prefix
        let mut before = self.before.iter_mut();
        let engine = match before.find(|(_, known)| known.contains(&prompt)) {
            Some((engine, _)) => engine,
            None => &mut self.engine,
        };
        let request = Request::new(RequestId(0), prompt.clone(), params);
        let samples = engine.generate(vec![request]).map_err(|error| error.to_string())?;
        self.known_prompts.insert(prompt);
        Ok(Sampled { samples, prompt_logprobs })
    }
}

/// The tensors of a folder, with a head of their own, and an engine of them.
fn open(model: &Path, change: impl FnOnce(&mut WeightMap)) -> Result<(WeightMap, Engine), String> {
    let told = |error: joust_engine::Error| error.to_string();
    let files = folder::open(model).map_err(told)?;
    let mut map = files.weights.read_all().map_err(told)?;
    if !map.contains_key(HEAD) {
        map.insert(HEAD.to_owned(), map["model.embed_tokens.weight"].copy());
    }
    change(&mut map);
    let mut config = files.config.clone();
    config.tie_word_embeddings = false;
    let shared = map.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone()));
    let shared = shared.collect::<WeightMap>().into();
    let decoder =
        Decoder::from_weights(&config, &shared, Device::Cpu, Kind::Float).map_err(told)?;
    let config = EngineConfig {
        device: DeviceChoice::Cpu,
        dtype: DType::F32,
        kv_memory_mib: 64,
        ..EngineConfig::default()
    };
    let engine = Engine::new(decoder, Arc::new(files.tokenizer), &config).map_err(told)?;
    Ok((map, engine))
}
